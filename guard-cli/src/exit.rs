//! From a result to an exit code: total, and documented in `guard --help`.

use guard_agent::service::AgentError;
use std::{
    io::{self, Write as _},
    process::ExitCode,
};

/// The command line is right, but it could not be done, or was refused.
pub(crate) const FAILED: u8 = 1;
/// `guard audit verify`: nothing was verified, as there is no key or no log.
pub(crate) const NOT_VERIFIED: u8 = 2;
/// This machine cannot enforce.
pub(crate) const CANNOT_ENFORCE: u8 = 3;
/// `guard run`: no session, the command was not executed.
pub(crate) const NO_SESSION: u8 = 125;
/// `guard run`: the command cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// `guard run`: there is no such command.
pub(crate) const NO_COMMAND: u8 = 127;

/// An error with an exit code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub(crate) struct WithCode {
    pub(crate) code: u8,
    pub(crate) error: String,
}

/// Prints the error, if there is one.
pub(crate) fn of(result: anyhow::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            let code = code_of(&error);
            if code != 0 {
                // Nothing more can be said if stderr is gone as well.
                let _ = writeln!(io::stderr(), "guard: {error:#}");
            }
            ExitCode::from(code)
        }
    }
}

fn code_of(error: &anyhow::Error) -> u8 {
    let pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    // Whoever read our output (`head`, a pager) has seen enough.
    if error.downcast_ref::<io::Error>().is_some_and(|error| pipe(error)) {
        return 0;
    }
    if let Some(own) = error.downcast_ref::<WithCode>() {
        return own.code;
    }
    error.downcast_ref::<AgentError>().map_or(FAILED, AgentError::exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(code_of(&pipe.into()), 0);
        assert_eq!(code_of(&io::Error::from(io::ErrorKind::NotFound).into()), FAILED);
    }

    #[test]
    fn an_error_keeps_its_own_code() {
        let error = WithCode { code: NO_COMMAND, error: "no such command".into() };
        assert_eq!(code_of(&error.into()), NO_COMMAND);
    }
}
