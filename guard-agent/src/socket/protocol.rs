//! The local socket's protocol: one JSON line in, one JSON line out, then the connection ends.
//!
//! ```text
//! {"request":"run","name":"bot","command":["claude"]}   → {"reply":"running","session":"…"}
//! {"request":"status"}                                  → {"reply":"status", …}
//! {"request":"why"}                                     → {"reply":"why","entries":[…]}
//! {"request":"stop","reason":"maintenance"}             → {"reply":"ending"}
//! anything else                                         → {"reply":"error","message":"…"}
//! ```

use crate::{kernel::KernelObject, session::why::WhyEntry};
use guard_model::{BootId, Coverage, HostId, RawText, SessionId, SessionInfo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest request, bytes with its newline: a command line that a person reads.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Longest reply that a client reads, bytes.
pub const REPLY_BYTES_MAX: u64 = 16 << 20;
/// Longest session name.
pub const NAME_MAX: usize = 64;
/// Longest reason for ending enforcement, bytes: a sentence or two.
pub const REASON_MAX: usize = 1000;
/// Most arguments of a command.
pub const COMMAND_MAX: usize = 1024;

/// What may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Make the caller a session of its own. Refused from inside a session.
    Run {
        /// The AI agent's name.
        name: String,
        /// What the caller is about to execute: its own claim.
        #[serde(default)]
        command: Vec<RawText>,
    },
    /// What guard-agent does. Refused from inside a session.
    Status {},
    /// The latest holds and denials of the caller's own session.
    Why {},
    /// End enforcement. Root's, from outside of every session.
    Stop {
        /// Why.
        reason: String,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The caller is a session now.
    Running {
        /// Which.
        session: SessionId,
    },
    /// What guard-agent does.
    Status(Box<Status>),
    /// The latest holds and denials of the caller's session, oldest first.
    Why {
        /// The session.
        session: SessionInfo,
        /// They.
        entries: Vec<WhyEntry>,
    },
    /// Enforcement is being ended: the evidence of it is durable.
    Ending {},
    /// It cannot be done; why, and what to do.
    Error {
        /// For people.
        message: String,
    },
}

/// What guard-agent does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of guard-agent.
    pub version: String,
    /// This host, as its controller knows it.
    pub host: HostId,
    /// This boot.
    pub boot: BootId,
    /// `up`, `down`, or `none` where there is no controller.
    pub link: String,
    /// SHA-256 of the policy in force.
    pub policy_digest: String,
    /// Its files.
    pub policy_files: Vec<String>,
    /// What is enforced here.
    pub coverage: Vec<Coverage>,
    /// Running sessions.
    pub sessions: Vec<SessionInfo>,
    /// Actions that wait for a person.
    pub pending_holds: usize,
    /// Whether evidence cannot be kept now.
    pub spool_full: bool,
    /// The kernel's counters since its programs were loaded.
    pub counters: BTreeMap<String, u64>,
    /// The links and maps that enforce, by the kernel's ids: the same before and after guard-agent was
    /// killed and started again.
    #[serde(default)]
    pub objects: Vec<KernelObject>,
}

/// A request that is not one.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRequest {
    /// Not one of the requests.
    #[error("not a request: {0}; expected one JSON line such as {{\"request\":\"status\"}}")]
    Json(#[from] serde_json::Error),
    /// The name is none that Guard shows unescaped.
    #[error("a session's name must be 1 to {NAME_MAX} of A-Z a-z 0-9 . _ -")]
    Name,
    /// Too many arguments.
    #[error("a command of {0} arguments, at most {COMMAND_MAX} are kept")]
    Command(usize),
}

/// Whether a session may be called that: nothing that looks like something else.
#[must_use]
pub fn is_session_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(allowed)
}

impl Request {
    /// Reads one line.
    ///
    /// # Errors
    /// [`InvalidRequest`] says what was expected.
    pub fn parse(line: &[u8]) -> Result<Self, InvalidRequest> {
        let request: Self = serde_json::from_slice(line)?;
        if let Self::Run { name, command } = &request {
            if !is_session_name(name) {
                return Err(InvalidRequest::Name);
            }
            if command.len() > COMMAND_MAX {
                return Err(InvalidRequest::Command(command.len()));
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_could_deceive_is_refused() {
        let parse = |name: &str| {
            let command = vec![];
            let run = Request::Run { name: name.into(), command };
            Request::parse(&serde_json::to_vec(&run).unwrap())
        };
        assert!(parse("claude-code_1.0").is_ok());
        for bad in ["", "a b", "a\n", "\u{202e}x", "a/b", &"x".repeat(NAME_MAX + 1)] {
            assert!(matches!(parse(bad), Err(InvalidRequest::Name)), "{bad:?}");
        }
    }

    #[test]
    fn what_is_not_a_request_is_refused_in_words() {
        for bad in ["", "{", "[]", "{}", "{\"request\":\"sudo\"}", "{\"request\":\"why\",\"x\":1}"]
        {
            let error = Request::parse(bad.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("expected one JSON line"), "{error}");
        }
        let command = vec![RawText::default(); COMMAND_MAX + 1];
        let run = Request::Run { name: "a".into(), command };
        let error = Request::parse(&serde_json::to_vec(&run).unwrap()).unwrap_err();
        assert!(matches!(error, InvalidRequest::Command(_)));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Request::parse(&bytes);
        }

        #[test]
        fn parsing_something_like_a_request_never_panics(
            line in "\\{\"request\":\"(run|why|status|x)\"(,\"(name|command)\":(\"[a-z\\\\]{0,5}\"|[0-9]|\\[\"\\\\\\\\x?[0-9a-z]{0,3}\"\\]))*\\}?"
        ) {
            let _ = Request::parse(line.as_bytes());
        }

        #[test]
        fn a_request_is_read_as_it_was_written(
            name in "[A-Za-z0-9._-]{1,64}",
            command in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..5)
        ) {
            let command = command.into_iter().map(RawText::new).collect();
            let run = Request::Run { name, command };
            prop_assert_eq!(Request::parse(&serde_json::to_vec(&run).unwrap()).unwrap(), run);
        }
    }
}
