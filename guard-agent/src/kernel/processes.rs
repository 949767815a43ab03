//! Held threads: whether they are still there, and their processes' SIGCONT.
//!
//! The same few threads are held again and again, so what was found out about them is kept: a pidfd that is
//! known to be of the thread's own process. It names no other process for as long as it is open, so nothing
//! has to be looked at again, and nothing makes it wrong but the end of the process, which it tells.

use super::{
    KernelError,
    sys::{failed, pidfd_open, pidfd_send_signal},
};
use guard_common::hold::ActionKey;
use std::{collections::VecDeque, fs, io, os::fd::OwnedFd};

/// Most threads that are remembered: each is an open file of guard-agent's, which has 1,024 by default.
const KNOWN_MAX: usize = 64;
/// Kernel ticks per second in `/proc/*/stat`; fixed to 100 in every Linux ABI.
const USER_HZ: u64 = 100;
/// Most of `/proc/*/stat` that is read; a line is below 1 KiB.
const STAT_BYTES_MAX: u64 = 4096;

/// Which thread: process id, thread id, start.
type Thread = (u32, u32, u64);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Processes {
    /// The latest last.
    known: VecDeque<(Thread, OwnedFd)>,
}

impl Processes {
    /// Sends SIGCONT to the process of the key's thread. False: it is gone, or was when it was last looked at.
    pub(super) fn resume(&mut self, key: &ActionKey) -> Result<bool, KernelError> {
        let thread = (key.tgid, key.tid, key.start_boottime_ns);
        let at = self.known.iter().rposition(|(known, _)| *known == thread);
        if let Some((_, pidfd)) = at.and_then(|at| self.known.get(at)) {
            let sent = send_continue(pidfd, key.tgid);
            if !matches!(sent, Ok(true)) {
                self.known.retain(|(known, _)| *known != thread);
            }
            return sent;
        }
        // The pidfd first: from then on the process cannot become another one under the check.
        let pidfd = match pidfd_open(key.tgid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(false),
            Err(error) => return Err(failed(format!("pidfd_open({})", key.tgid))(error)),
        };
        if !is_same_thread(key) {
            return Ok(false);
        }
        let sent = send_continue(&pidfd, key.tgid)?;
        if sent {
            if self.known.len() >= KNOWN_MAX {
                self.known.pop_front();
            }
            self.known.push_back((thread, pidfd));
        }
        Ok(sent)
    }
}

fn send_continue(pidfd: &OwnedFd, tgid: u32) -> Result<bool, KernelError> {
    match pidfd_send_signal(pidfd, libc::SIGCONT) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(failed(format!("send SIGCONT to {tgid}"))(error)),
    }
}

/// Whether the thread of `key` is still that thread: same ids, same start, not dead.
pub(super) fn is_same_thread(key: &ActionKey) -> bool {
    let path = format!("/proc/{}/task/{}/stat", key.tgid, key.tid);
    let Ok(file) = fs::File::open(path) else { return false };
    let mut stat = Vec::new();
    if io::Read::read_to_end(&mut io::Read::take(file, STAT_BYTES_MAX), &mut stat).is_err() {
        return false;
    }
    // The name in parentheses may hold anything: fields count from behind its last parenthesis.
    let Some(end) = stat.iter().rposition(|byte| *byte == b')') else { return false };
    let rest = String::from_utf8_lossy(stat.get(end + 1..).unwrap_or_default());
    let mut fields = rest.split_ascii_whitespace();
    // Field 3 (state) is the first here; field 22 (start time in ticks since boot) the twentieth.
    let Some(state) = fields.next() else { return false };
    let start: Option<u64> = fields.nth(18).and_then(|field| field.parse().ok());
    !matches!(state, "Z" | "X" | "x")
        && start == Some(key.start_boottime_ns / (1_000_000_000 / USER_HZ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Proc;
    use guard_common::hold::OBJECT_WORDS;
    use std::{
        process::{Child, Command, Stdio},
        time::{Duration, Instant},
    };

    /// A process that waits for its input, and the key of an action by its only thread.
    fn waiting() -> (Child, ActionKey) {
        let child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        let ticks: u64 =
            stat.rsplit(')').next().unwrap().split(' ').nth(20).unwrap().parse().unwrap();
        let key = ActionKey {
            start_boottime_ns: ticks * (1_000_000_000 / USER_HZ),
            tgid: child.id(),
            tid: child.id(),
            kind: 0,
            access: 0,
            flags: 0,
            object_len: 0,
            object: [0; OBJECT_WORDS],
        };
        (child, key)
    }

    fn stop(child: &Child) {
        let pidfd = pidfd_open(child.id()).unwrap();
        pidfd_send_signal(&pidfd, libc::SIGSTOP).unwrap();
        await_stopped(child, true);
    }

    fn await_stopped(child: &Child, stopped: bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while Proc::default().is_stopped(child.id()) != stopped {
            assert!(Instant::now() < end, "{stopped}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn finish(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_goes_on_however_often_it_is_resumed() {
        let mut processes = Processes::default();
        let (child, key) = waiting();
        for _ in 0..3 {
            stop(&child);
            assert!(processes.resume(&key).unwrap());
            await_stopped(&child, false);
            assert_eq!(processes.known.len(), 1);
        }
        finish(child);
    }

    #[test]
    fn a_process_that_has_ended_is_gone_and_forgotten() {
        let mut processes = Processes::default();
        let (child, key) = waiting();
        assert!(processes.resume(&key).unwrap());
        finish(child);
        assert!(!processes.resume(&key).unwrap());
        assert_eq!(processes.known.len(), 0);
        assert!(!processes.resume(&key).unwrap());
    }

    #[test]
    fn a_thread_that_started_at_another_time_is_another_one_and_its_process_is_left_alone() {
        let mut processes = Processes::default();
        let (child, key) = waiting();
        assert!(processes.resume(&key).unwrap());
        stop(&child);
        let earlier = ActionKey { start_boottime_ns: key.start_boottime_ns - 1_000_000_000, ..key };
        assert!(!processes.resume(&earlier).unwrap());
        await_stopped(&child, true);
        finish(child);
    }

    #[test]
    fn no_more_threads_are_remembered_than_there_is_room_for_and_the_first_goes() {
        let mut processes = Processes::default();
        let all: Vec<_> = (0..=KNOWN_MAX).map(|_| waiting()).collect();
        for (_, key) in &all {
            assert!(processes.resume(key).unwrap());
        }
        assert_eq!(processes.known.len(), KNOWN_MAX);
        assert!(processes.known.iter().all(|((tgid, ..), _)| *tgid != all[0].1.tgid));
        assert!(processes.resume(&all[0].1).unwrap());
        for (child, _) in all {
            finish(child);
        }
    }
}
