//! What disturbs a session's processes from outside of it: signals that stop, continue and kill, and tracers
//! that come and go. It leaves no stop of its own behind, so who still stands afterwards was forgotten by Guard.

use crate::{
    noisy::{QUIET, WORKER, mix},
    one::told,
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Turns between two looks for processes.
const LOOK_EVERY: u64 = 12;
/// Longest wait for a thread that is traced to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// Most signals that a tracer hands on before it leaves.
const HANDED_ON: usize = 4;

/// Until the session says that it is done. What was done, by kind, as JSON.
pub(crate) fn run(seed: usize, dir: &str) -> Result<String, String> {
    let quiet = format!("{dir}/{QUIET}");
    let mut noise = Noise { seed: seed as u64, drawn: 0, done: BTreeMap::new() };
    let mut targets = Vec::new();
    let mut turn = 0_u64;
    while !Path::new(&quiet).exists() {
        if turn.is_multiple_of(LOOK_EVERY) || targets.is_empty() {
            targets = workers();
        }
        turn += 1;
        if let Some(&pid) = noise.pick(&targets) {
            noise.disturb(pid)?;
        }
        let pause = noise.draw(10_000);
        thread::sleep(Duration::from_micros(pause));
    }
    serde_json::to_string(&noise.done).map_err(|error| error.to_string())
}

/// Processes that are there to be disturbed.
fn workers() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_worker = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == WORKER)
    };
    pids.filter(is_worker).collect()
}

fn threads(pid: i32) -> Vec<i32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

struct Noise {
    seed: u64,
    drawn: u64,
    done: BTreeMap<&'static str, u64>,
}

impl Noise {
    /// A number below `n`.
    fn draw(&mut self, n: u64) -> u64 {
        self.drawn += 1;
        mix(self.drawn, self.seed ^ 0x006e_6f69_7365) % n
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.draw(from.len().max(1) as u64);
        from.get(usize::try_from(at).ok()?)
    }

    fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn disturb(&mut self, pid: i32) -> Result<(), String> {
        match self.draw(100) {
            0..40 => {
                for _ in 0..=self.draw(4) {
                    kill(pid, libc::SIGCONT);
                    self.count("SIGCONT");
                }
            }
            40..55 => {
                kill(pid, libc::SIGSTOP);
                self.pause();
                kill(pid, libc::SIGCONT);
                self.count("SIGSTOP and SIGCONT");
            }
            55..70 => {
                let Some(&tid) = self.pick(&threads(pid)) else { return Ok(()) };
                thread_kill(pid, tid, libc::SIGSTOP);
                self.pause();
                thread_kill(pid, tid, libc::SIGCONT);
                self.count("SIGSTOP and SIGCONT of a thread");
            }
            70..73 => {
                kill(pid, libc::SIGKILL);
                self.count("SIGKILL");
            }
            73..88 => {
                let Some(&tid) = self.pick(&threads(pid)) else { return Ok(()) };
                self.seize(tid)?;
            }
            _ => {
                let Some(&tid) = self.pick(&threads(pid)) else { return Ok(()) };
                self.attach(pid, tid)?;
            }
        }
        Ok(())
    }

    fn pause(&mut self) {
        let pause = self.draw(3_000);
        thread::sleep(Duration::from_micros(pause));
    }

    /// A tracer that interrupts, and leaves.
    fn seize(&mut self, tid: i32) -> Result<(), String> {
        if !ptrace(libc::PTRACE_SEIZE, tid, 0) {
            return Ok(());
        }
        self.count("ptrace: seized");
        ptrace(libc::PTRACE_INTERRUPT, tid, 0);
        if stopped(tid)?.is_some() {
            self.pause();
            ptrace(libc::PTRACE_DETACH, tid, 0);
        }
        Ok(())
    }

    /// A tracer of the old kind: it stops the thread with a SIGSTOP, hands on other signals, and leaves. What it
    /// has stopped it continues.
    fn attach(&mut self, pid: i32, tid: i32) -> Result<(), String> {
        if !ptrace(libc::PTRACE_ATTACH, tid, 0) {
            return Ok(());
        }
        self.count("ptrace: attached");
        for turn in 0..=HANDED_ON {
            let Some(signal) = stopped(tid)? else { return Ok(()) };
            if signal == libc::SIGSTOP || turn == HANDED_ON {
                self.pause();
                ptrace(libc::PTRACE_DETACH, tid, 0);
                break;
            }
            // The trap of an exec is the tracer's own.
            let handed_on = if signal == libc::SIGTRAP { 0 } else { signal };
            ptrace(libc::PTRACE_CONT, tid, handed_on);
        }
        kill(pid, libc::SIGCONT);
        Ok(())
    }
}

/// Waits until the traced thread stops, with which signal; `None`: it is gone.
fn stopped(tid: i32) -> Result<Option<i32>, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut status = 0;
        // SAFETY: `status` is writable.
        match unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | libc::WNOHANG) } {
            0 if Instant::now() > deadline => {
                return Err(format!("the traced thread {tid} did not stop"));
            }
            0 => thread::sleep(Duration::from_micros(500)),
            found if found == tid && libc::WIFSTOPPED(status) => {
                return Ok(Some(libc::WSTOPSIG(status)));
            }
            _ if io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            _ => return Ok(None),
        }
    }
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: no pointers.
    unsafe { libc::kill(pid, signal) };
}

fn thread_kill(pid: i32, tid: i32, signal: i32) {
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, signal) };
}

/// Whether it was done: a thread that has ended meanwhile is nobody's fault.
fn ptrace(request: libc::c_uint, tid: i32, data: i32) -> bool {
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: none of these requests uses an address, and `data` is a signal or flags.
    let result = unsafe { libc::ptrace(request, tid, null, data as usize) };
    if result < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ESRCH) && error.raw_os_error() != Some(libc::EPERM) {
            eprintln!("ptrace {request} of {tid}: {}", told(&error));
        }
    }
    result >= 0
}
