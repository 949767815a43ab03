//! What a task is: read from `/proc` while it is stopped.

use crate::RawText;
use serde::{Deserialize, Serialize};

/// The task that attempts an action, read from `/proc` while it is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessContext {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Start of the thread, ns since boot.
    pub start_boottime_ns: u64,
    /// Parent process id.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// What the task calls itself: its own claim.
    pub comm: RawText,
    /// Path of the program that it runs (`/proc/PID/exe`).
    pub exe: RawText,
    /// Its command line: its own claim.
    pub cmdline: Vec<RawText>,
    /// Working directory.
    pub cwd: RawText,
    /// cgroup path.
    pub cgroup: RawText,
    /// Effective capabilities, `/proc/PID/status` CapEff, hexadecimal.
    pub cap_eff: String,
    /// The process and its ancestors, itself first, up to pid 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<crate::ProcessNode>,
}
