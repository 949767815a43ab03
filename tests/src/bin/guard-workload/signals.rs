//! Attempts that involve other processes: signals, namespaces, orphans.

use crate::one::{open, told};
use std::{fs, io, thread, time::Duration};

/// How long a child may take to be seen stopped; a VM under emulation is slow.
const PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(20);

/// Forks a child that runs `work` and exits 0 or 1.
fn child(work: impl FnOnce() -> Result<String, String>) -> Result<libc::pid_t, String> {
    // SAFETY: single-threaded here; the child runs `work` and leaves.
    match unsafe { libc::fork() } {
        0 => {
            let outcome = work();
            let code = i32::from(outcome.is_err());
            println!("child: {}", outcome.unwrap_or_else(|why| why));
            std::process::exit(code)
        }
        pid if pid > 0 => Ok(pid),
        _ => Err(told(&io::Error::last_os_error())),
    }
}

fn wait(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is writable.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    status
}

fn state(pid: libc::pid_t) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().unwrap_or_default().chars().take(1).collect()
}

fn wait_until_stopped(pid: libc::pid_t) -> Result<(), String> {
    let turns = PATIENCE.as_millis() / TICK.as_millis();
    for _ in 0..turns {
        if state(pid) == "T" {
            return Ok(());
        }
        thread::sleep(TICK);
    }
    Err(format!("the child was never seen stopped; its state is `{}`", state(pid)))
}

pub(crate) fn stray_sigcont(path: &str) -> Result<String, String> {
    let pid = child(|| open(path))?;
    wait_until_stopped(pid)?;
    for _ in 0..100 {
        // SAFETY: no pointers.
        unsafe { libc::kill(pid, libc::SIGCONT) };
    }
    let status = wait(pid);
    let wanted = i32::from(path.contains("deny"));
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == wanted {
        Ok(format!("ok: the child exited with {wanted} after 100 stray SIGCONTs"))
    } else {
        Err(format!("the child's wait status is {status}"))
    }
}

pub(crate) fn sigkill(path: &str) -> Result<String, String> {
    let pid = child(|| open(path))?;
    wait_until_stopped(pid)?;
    // SAFETY: no pointers.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    let status = wait(pid);
    if libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL {
        Ok("ok: a held child was killed".to_owned())
    } else {
        Err(format!("the child's wait status is {status}"))
    }
}

/// As fork, with more flags. Only for a process with one thread.
fn clone(flags: i32, body: impl FnOnce() -> Result<String, String>) -> Result<i32, String> {
    // SAFETY: without a stack and without CLONE_VM this is a fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) };
    match pid {
        -1 => Err(told(&io::Error::last_os_error())),
        0 => {
            let code = i32::from(body().is_err());
            // SAFETY: the child of a fork ends here.
            unsafe { libc::_exit(code) }
        }
        pid => i32::try_from(pid).map_err(|error| error.to_string()),
    }
}

pub(crate) fn pid_namespace(path: &str) -> Result<String, String> {
    let pid = clone(libc::CLONE_NEWPID, || {
        // SAFETY: no pointers.
        let own = unsafe { libc::getpid() };
        if own == 1 { open(path) } else { Err(format!("pid {own} in the new namespace")) }
    })?;
    match wait(pid) {
        0 => Ok("ok".to_owned()),
        status => Err(format!("the init of the namespace ended with wait status {status}")),
    }
}

pub(crate) fn setsid(path: &str) -> Result<String, String> {
    let (mut from, to) = io::pipe().map_err(|error| told(&error))?;
    let pid = child(|| {
        // SAFETY: no pointers.
        unsafe { libc::setsid() };
        let orphan = child(|| {
            let outcome = open(path);
            let byte = if outcome.is_ok() { b"+" } else { b"-" };
            io::Write::write_all(&mut &to, byte).map_err(|error| told(&error))?;
            outcome
        })?;
        Ok(format!("left {orphan} behind"))
    })?;
    drop(to);
    wait(pid);
    let mut said = [0];
    match io::Read::read(&mut from, &mut said) {
        Ok(1) if said == *b"+" => Ok("ok".to_owned()),
        Ok(1) => Err("the orphan's open was refused".to_owned()),
        other => Err(format!("the orphan said nothing: {other:?}")),
    }
}
