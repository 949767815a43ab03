//! File owners without being root: fakeroot(1) remembers them for mke2fs to see.

use crate::process;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Runs commands as root, or as fakeroot has it.
pub(crate) struct AsRoot {
    state: Option<PathBuf>,
}

impl AsRoot {
    /// `state` is where fakeroot keeps the owners between commands.
    pub(crate) fn new(state: &Path) -> Self {
        Self { state: (!is_root()).then(|| state.to_owned()) }
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let Some(state) = &self.state else { return Command::new(program) };
        let mut command = process::command("fakeroot", ["-s"]);
        command.arg(state);
        if state.exists() {
            command.arg("-i").arg(state);
        }
        command.args(["--", program]);
        command
    }
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() == 0 }
}
