//! `guard run`: this process becomes a session, then the command.
//!
//! The label is given to the process that asks, before it executes anything; so there is no instant
//! in which the command runs unlabelled, and no process in between that could be left behind.

use crate::{
    exit::{NO_COMMAND, NO_SESSION, NOT_EXECUTABLE, WithCode},
    local::{LocalSocket, unexpected},
};
use anyhow::Result;
use clap::Args;
use guard_agent::socket::protocol::{Reply, Request};
use guard_model::RawText;
use nix::unistd::{AccessFlags, access};
use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// Run a command as a session: it and everything that it starts is guarded until the last one
/// exits.
///
/// Needs no root; guard-agent must run (`guard up`). The command takes this process's place: same
/// process id, terminal, environment and user.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  guard run --as claude -- claude\n  \
    guard run --as nightly-bot -- sh -c 'git pull && make'")]
pub(crate) struct Run {
    /// The AI agent's name, as approvers and policies see it: 1 to 64 of A-Z a-z 0-9 . _ -
    #[arg(long = "as", value_name = "NAME")]
    name: String,
    #[command(flatten)]
    local: LocalSocket,
    /// The command and its arguments.
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Run {
    pub(crate) fn execute(&self) -> Result<ExitCode> {
        let [program, arguments @ ..] = self.command.as_slice() else {
            return Err(unexpected());
        };
        // A command that is not there is no reason to start a session.
        let path = find(program)?;
        let command = self.command.iter().map(|word| RawText::new(word.as_bytes())).collect();
        let reply = self.local.ask(&Request::Run { name: self.name.clone(), command });
        match reply {
            Ok(Reply::Running { .. }) => {}
            Ok(_) => return Err(unexpected()),
            Err(error) => {
                let error = format!("no session: {:#}", anyhow::Error::new(error));
                return Err(WithCode { code: NO_SESSION, error }.into());
            }
        }
        let error = Command::new(&path).arg0(program).args(arguments).exec();
        Err(not_executed(&path, &error).into())
    }
}

fn not_executed(path: &Path, error: &io::Error) -> WithCode {
    let advice = match error.raw_os_error() {
        Some(libc::EPERM) => "; Guard may have denied it: `guard why` in a session says why",
        _ => "",
    };
    WithCode { code: NOT_EXECUTABLE, error: format!("{}: {error}{advice}", path.display()) }
}

/// The file that a shell would execute.
fn find(program: &OsStr) -> Result<PathBuf, WithCode> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    find_in(program, &path)
}

fn find_in(program: &OsStr, search: &OsStr) -> Result<PathBuf, WithCode> {
    let candidates: Vec<PathBuf> = if program.as_bytes().contains(&b'/') {
        vec![program.into()]
    } else {
        // An empty entry means the working directory, as for a shell.
        let join = |dir: PathBuf| if dir.as_os_str().is_empty() { ".".into() } else { dir };
        std::env::split_paths(search).map(|dir| join(dir).join(program)).collect()
    };
    let is_file = |path: &&PathBuf| path.is_file();
    let executable = |path: &&PathBuf| access(path.as_path(), AccessFlags::X_OK).is_ok();
    if let Some(found) = candidates.iter().filter(is_file).find(executable) {
        return Ok(found.clone());
    }
    let shown = RawText::new(program.as_bytes());
    Err(if candidates.iter().any(|path| path.exists()) {
        WithCode { code: NOT_EXECUTABLE, error: format!("{shown} is not an executable file") }
    } else {
        WithCode { code: NO_COMMAND, error: format!("there is no command {shown}") }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    #[test]
    fn a_command_is_found_as_a_shell_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        for folder in [&first, &second] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("tool"), "").unwrap();
        }
        let search = std::env::join_paths([&first, &second]).unwrap();
        let find = |name: &str| find_in(OsStr::new(name), &search);
        assert_eq!(find("tool").unwrap_err().code, NOT_EXECUTABLE);
        fs::set_permissions(second.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("tool").unwrap(), second.join("tool"));
        assert_eq!(find("nothing").unwrap_err().code, NO_COMMAND);
        assert_eq!(find(first.to_str().unwrap()).unwrap_err().code, NOT_EXECUTABLE);
        let exact = second.join("tool");
        assert_eq!(find(exact.to_str().unwrap()).unwrap(), exact);
    }
}
