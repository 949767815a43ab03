//! A labelled process tree, and the processes in it.

use crate::{RawText, SessionId};
use serde::{Deserialize, Serialize};

/// One labelled process tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// The AI agent's name, as given to `guard run --as NAME` or by the selector.
    pub name: String,
    /// The person or service that started it: the OS user's name, or `uid:N` if it has none.
    pub principal: String,
    /// User id that started it.
    pub uid: u32,
    /// Wall clock, ms since 1970.
    pub started_unix_ms: u64,
    /// First process.
    pub root_pid: u32,
    /// What was started: the session's own claim.
    pub command: Vec<RawText>,
}

/// One process of a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessNode {
    /// Process id.
    pub pid: u32,
    /// Parent process id.
    pub ppid: u32,
    /// User id.
    pub uid: u32,
    /// Path of the program.
    pub exe: RawText,
    /// Command line: the process's own claim.
    pub cmdline: Vec<RawText>,
    /// Whether it belongs to the session (carries its label), where that is known.
    #[serde(default)]
    pub labelled: bool,
}

/// How far one action is enforced on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoverageState {
    /// Every attempt meets a program.
    Enforced,
    /// Attempts meet a program that sees or does less than it should; the reason says what.
    Degraded,
    /// No program.
    Absent,
}

/// Coverage of one program on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// The action (`exec`, `open`, `connect`) or `lineage`.
    pub action: String,
    /// The LSM hook or tracepoint.
    pub hook: String,
    /// How far.
    pub state: CoverageState,
    /// Why it is not enforced, and what would help; empty if enforced.
    pub reason: String,
}
