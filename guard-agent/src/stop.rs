//! `guard-agent stop`: ending enforcement deliberately, as its caller sees it.

use crate::{
    kernel::load::BPFFS,
    socket::{
        client::{ClientError, ask},
        protocol::{Reply, Request},
    },
};
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Longest wait for the end: guard-agent gives held tasks [`crate::driver::STOP_TIME_MAX`] to be denied.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// Why enforcement has not ended.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// guard-agent was not reached, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It answered something else.
    #[error("guard-agent answered something else; is it another version than this command?")]
    Answer,
    /// It took the order and did not carry it out.
    #[error("guard-agent has taken the order, but {path} is still there; its log says why")]
    StillThere {
        /// The pins.
        path: PathBuf,
    },
}

/// Asks guard-agent to end enforcement, and waits until it has.
///
/// # Errors
/// [`StopError`].
pub fn stop(socket: &Path, reason: &str) -> Result<(), StopError> {
    let Reply::Ending {} = ask(socket, &Request::Stop { reason: reason.to_owned() })? else {
        return Err(StopError::Answer);
    };
    let path = Path::new(BPFFS).join("guard");
    let deadline = Instant::now() + PATIENCE;
    while fs::read_dir(&path).is_ok_and(|mut pins| pins.next().is_some()) {
        if Instant::now() > deadline {
            return Err(StopError::StillThere { path });
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
