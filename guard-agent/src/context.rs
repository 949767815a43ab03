//! What `/proc` says about a stopped task, each read bounded; a task that vanishes is an error
//! value.
//!
//! The kernel's record already names the task and the object. From `/proc` come the program that
//! runs and its working directory (for the policy), and command line, cgroup, capabilities and
//! ancestors (for a person). The task is stopped, so these do not change while they are read.

use crate::aside::{Aside, Reading};
use guard_common::event::Header;
use guard_model::{ProcessContext, ProcessNode, RawText};
use std::{
    fs, io,
    io::Read as _,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Most bytes of one `/proc` file that are read: more than any line that a person reads.
const READ_MAX: u64 = 16 << 10;
/// Most arguments of one command line that are kept.
const ARGUMENTS_MAX: usize = 64;
/// Most ancestors that are listed; a chain is longer only to hide something.
const ANCESTORS_MAX: usize = 32;

/// Why `/proc` could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct ContextError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl ContextError {
    /// Whether the task is gone, so that there is nothing left to decide.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
            || self.source.raw_os_error() == Some(libc::ESRCH)
    }
}

/// Reads `/proc`; tests give it another root.
#[derive(Clone, Debug)]
pub struct Proc {
    root: PathBuf,
    command_lines: Arc<Aside>,
}

impl Default for Proc {
    fn default() -> Self {
        Self::new("/proc")
    }
}

impl Proc {
    /// With another root than `/proc`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let command_lines = Aside::new(|path| read(path).unwrap_or_default());
        Self { root: root.into(), command_lines }
    }

    /// What the policy looks at: who, which program, where. Two links are read.
    ///
    /// # Errors
    /// The task is gone, or one of the links cannot be read: then it cannot be judged (K3).
    pub fn brief(&self, header: &Header) -> Result<ProcessContext, ContextError> {
        let task = self.task(header);
        Ok(ProcessContext {
            pid: header.tgid,
            tid: header.tid,
            start_boottime_ns: header.start_boottime_ns,
            ppid: header.ppid,
            uid: header.uid,
            gid: header.gid,
            comm: comm(header),
            exe: read_link(&task.join("exe"))?,
            cwd: read_link(&task.join("cwd"))?,
            ..ProcessContext::default()
        })
    }

    /// Adds what a person is shown. What cannot be read stays empty: the policy does not look at
    /// it.
    #[must_use]
    pub fn full(
        &self,
        brief: &ProcessContext,
        is_labelled: impl Fn(u32) -> bool,
    ) -> ProcessContext {
        let process = self.process(brief.pid);
        let status = read(&process.join("status")).unwrap_or_default();
        let lines = self.command_lines.begin();
        ProcessContext {
            cmdline: self.cmdline_within(&lines, brief.pid),
            cgroup: cgroup(&read(&process.join("cgroup")).unwrap_or_default()),
            cap_eff: field(&status, "CapEff:").unwrap_or_default().to_owned(),
            ancestors: self.ancestors(&lines, brief.pid, is_labelled),
            ..brief.clone()
        }
    }

    /// The process and its ancestors, up to pid 1.
    fn ancestors(
        &self,
        lines: &Reading<'_>,
        pid: u32,
        is_labelled: impl Fn(u32) -> bool,
    ) -> Vec<ProcessNode> {
        let mut nodes = Vec::new();
        let mut next = pid;
        while next != 0 && nodes.len() < ANCESTORS_MAX {
            let process = self.process(next);
            let Ok(status) = read(&process.join("status")) else { break };
            let number = |name| field(&status, name).and_then(first_number);
            let ppid = number("PPid:").unwrap_or(0);
            nodes.push(ProcessNode {
                pid: next,
                ppid,
                uid: number("Uid:").unwrap_or(u32::MAX),
                exe: read_link(&process.join("exe")).unwrap_or_default(),
                cmdline: self.cmdline_within(lines, next),
                labelled: is_labelled(next),
            });
            next = ppid;
        }
        nodes
    }

    /// The command line of a process: its own claim. Empty if it does not come (see [`Aside`]).
    #[must_use]
    pub fn cmdline(&self, pid: u32) -> Vec<RawText> {
        self.cmdline_within(&self.command_lines.begin(), pid)
    }

    fn cmdline_within(&self, lines: &Reading<'_>, pid: u32) -> Vec<RawText> {
        let bytes = lines.read(self.process(pid).join("cmdline"));
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        if bytes.is_empty() {
            return Vec::new();
        }
        bytes.split(|byte| *byte == 0).take(ARGUMENTS_MAX).map(RawText::new).collect()
    }

    /// Path of the program that a process runs.
    ///
    /// # Errors
    /// It is gone or has no program.
    pub fn exe(&self, pid: u32) -> Result<RawText, ContextError> {
        read_link(&self.process(pid).join("exe"))
    }

    /// Whether a thread is there and has not ended: one that nobody has waited for yet has.
    #[must_use]
    pub fn has_task(&self, tid: u32) -> bool {
        let status = read(&self.root.join(tid.to_string()).join("status")).unwrap_or_default();
        field(&status, "State:").is_some_and(|state| !state.starts_with(['Z', 'X']))
    }

    /// All process ids.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn pids(&self) -> io::Result<Vec<u32>> {
        numbered(&self.root)
    }

    /// All thread ids of a process; empty if it is gone.
    #[must_use]
    pub fn tids(&self, pid: u32) -> Vec<u32> {
        numbered(&self.process(pid).join("task")).unwrap_or_default()
    }

    /// Whether the process stands still by a stop signal.
    #[must_use]
    pub fn is_stopped(&self, pid: u32) -> bool {
        let status = read(&self.process(pid).join("status")).unwrap_or_default();
        field(&status, "State:").is_some_and(|state| state.starts_with('T'))
    }

    /// Real user id of a process.
    #[must_use]
    pub fn uid(&self, pid: u32) -> Option<u32> {
        self.ids(pid).map(|(uid, _)| uid)
    }

    /// Real user and group of a process, in guard-agent's user namespace.
    #[must_use]
    pub fn ids(&self, pid: u32) -> Option<(u32, u32)> {
        let status = read(&self.process(pid).join("status")).ok()?;
        let first = |name| field(&status, name).and_then(first_number);
        Some((first("Uid:")?, first("Gid:")?))
    }

    /// The user who logged in (`/proc/PID/loginuid`), whatever `sudo` made of them since.
    #[must_use]
    pub fn login_uid(&self, pid: u32) -> Option<u32> {
        let bytes = read(&self.process(pid).join("loginuid")).ok()?;
        let uid: u32 = std::str::from_utf8(&bytes).ok()?.trim().parse().ok()?;
        (uid != u32::MAX).then_some(uid)
    }

    /// The directory of a process.
    pub(crate) fn process(&self, pid: u32) -> PathBuf {
        self.root.join(pid.to_string())
    }

    /// The directory of a task.
    pub(crate) fn task(&self, header: &Header) -> PathBuf {
        self.root.join(header.tgid.to_string()).join("task").join(header.tid.to_string())
    }
}

pub(crate) fn numbered(directory: &Path) -> io::Result<Vec<u32>> {
    let entries = fs::read_dir(directory)?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ContextError> {
    let failed = |source| ContextError { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(READ_MAX).read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok(bytes)
}

fn read_link(path: &Path) -> Result<RawText, ContextError> {
    let target =
        fs::read_link(path).map_err(|source| ContextError { path: path.to_owned(), source })?;
    Ok(RawText::new(target.as_os_str().as_bytes()))
}

/// `comm` up to its NUL.
fn comm(header: &Header) -> RawText {
    RawText::new(header.comm.split(|byte| *byte == 0).next().unwrap_or_default())
}

/// The line of the unified hierarchy (`0::/path`), else the first one's path.
fn cgroup(bytes: &[u8]) -> RawText {
    let mut lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let unified = lines.clone().find_map(|line| line.strip_prefix(b"0::"));
    let path = unified.or_else(|| lines.next()?.splitn(3, |byte| *byte == b':').nth(2));
    RawText::new(path.unwrap_or_default())
}

/// The rest of the line that starts with `name`. The kernel escapes newlines in `Name:`, so a task
/// cannot make a line of its own.
pub(crate) fn field<'a>(status: &'a [u8], name: &str) -> Option<&'a str> {
    status
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(name.as_bytes()))
        .and_then(|rest| std::str::from_utf8(rest).ok())
        .map(str::trim)
}

fn first_number(text: &str) -> Option<u32> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_header() -> Header {
        let pid = std::process::id();
        Header { tgid: pid, tid: pid, ppid: 1, uid: 7, ..Header::default() }
    }

    #[test]
    fn a_task_is_described_by_its_program_and_its_directory() {
        let context = Proc::default().brief(&own_header()).unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(context.exe.as_bytes(), exe.as_os_str().as_bytes());
        assert_eq!(context.cwd.as_bytes(), std::env::current_dir().unwrap().as_os_str().as_bytes());
        assert_eq!(context.uid, 7);
    }

    #[test]
    fn a_process_that_has_ended_and_was_not_waited_for_is_not_there() {
        let proc = Proc::default();
        assert!(proc.has_task(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while proc.has_task(child.id()) {
            assert!(std::time::Instant::now() < end);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert!(Path::new(&format!("/proc/{}", child.id())).exists());
        child.wait().unwrap();
    }

    #[test]
    fn a_person_sees_the_ancestors_up_to_the_root_of_the_tree() {
        let proc = Proc::default();
        let brief = proc.brief(&own_header()).unwrap();
        let full = proc.full(&brief, |pid| pid == std::process::id());
        let (first, last) = (full.ancestors.first().unwrap(), full.ancestors.last().unwrap());
        assert_eq!(first.pid, std::process::id());
        assert!(first.labelled && !first.cmdline.is_empty());
        assert_eq!(last.ppid, 0);
        assert!(!full.cap_eff.is_empty());
    }

    #[test]
    fn a_task_that_vanished_is_an_error_value_that_says_so() {
        let header = Header { tgid: u32::MAX, tid: u32::MAX, ..Header::default() };
        assert!(Proc::default().brief(&header).unwrap_err().is_gone());
    }

    #[test]
    fn a_long_file_is_read_up_to_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let process = directory.path().join("5");
        fs::create_dir_all(&process).unwrap();
        fs::write(process.join("cmdline"), vec![b'x'; 2 * READ_MAX as usize]).unwrap();
        let arguments = Proc::new(directory.path()).cmdline(5);
        assert_eq!(arguments[0].as_bytes().len(), READ_MAX as usize);
        fs::write(process.join("cmdline"), b"a\0".repeat(2 * ARGUMENTS_MAX)).unwrap();
        assert_eq!(Proc::new(directory.path()).cmdline(5).len(), ARGUMENTS_MAX);
    }

    #[test]
    fn the_cgroup_of_the_unified_hierarchy_is_taken() {
        assert_eq!(cgroup(b"3:cpu:/a\n0::/b/c\n"), RawText::from("/b/c"));
        assert_eq!(cgroup(b"3:cpu:/a\n"), RawText::from("/a"));
    }
}
