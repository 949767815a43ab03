//! Running other programs: quietly if they succeed, with all they said if not.

use anyhow::{Context as _, Result, bail};
use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// Says what takes a while, to people: stdout belongs to what the user runs.
pub(crate) fn say(text: impl AsRef<str>) {
    eprintln!("xtask: {}", text.as_ref());
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// Runs to success; the error carries the end of what it said.
pub(crate) fn quietly(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{}`", shown(command)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    let from = lines.len().saturating_sub(LINES_KEPT);
    let end = lines.get(from..).unwrap_or_default().join("\n");
    bail!("`{}` failed ({}):\n{end}", shown(command), output.status)
}

/// Lines of a failed program's output that are shown.
const LINES_KEPT: usize = 40;

/// Runs with its output on our stderr; whether it succeeded.
pub(crate) fn loudly(command: &mut Command) -> Result<bool> {
    // Standard output of xtask is the VM command's own.
    let stderr = std::io::stderr();
    let to = std::os::fd::AsFd::as_fd(&stderr).try_clone_to_owned()?;
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::from(to))
        .status()
        .with_context(|| format!("cannot run `{}`", shown(command)))?;
    Ok(status.success())
}

/// Where a program is: on the PATH, or where Debian keeps the administrator's, which is not on the
/// PATH of everybody.
pub(crate) fn locate(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    directories.map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// Whether a program can be run.
pub(crate) fn have(program: &str) -> bool {
    locate(program).is_some()
}

/// A program from wherever it is.
pub(crate) fn tool(program: &str) -> Command {
    Command::new(locate(program).unwrap_or_else(|| program.into()))
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    // SAFETY: no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// A command in the repository's root.
pub(crate) fn at_root(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(crate::cache::repository());
    command
}
