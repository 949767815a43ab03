//! Many attempts: in a row, by threads at once, by processes at once.

use crate::one::told;
use std::{
    fs::File,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

const EPERM: i32 = 1;

/// The file of attempt `i`: every odd one is to be denied.
fn path(dir: &str, i: usize) -> String {
    if i % 2 == 1 { format!("{dir}/{i}-deny") } else { format!("{dir}/{i}") }
}

/// `Err` names any outcome but the expected one; an errno of 513 is never expected.
fn attempt(path: &str) -> Result<(), String> {
    let denied = path.contains("deny");
    match File::open(path) {
        Ok(_) if !denied => Ok(()),
        Ok(_) => Err(format!("{path}: opened, but it is to be denied")),
        Err(error) if denied && error.raw_os_error() == Some(EPERM) => Ok(()),
        Err(error) => Err(format!("{path}: {}", told(&error))),
    }
}

fn summary(n: usize, wrong: &[String]) -> Result<String, String> {
    if wrong.is_empty() {
        return Ok(format!("ok: {n} attempts, every outcome as expected"));
    }
    Err(format!("{} of {n} attempts went wrong:\n{}", wrong.len(), wrong.join("\n")))
}

/// Opens DIR/0…N-1, each once: no earlier answer can stand in for a hold. A line an attempt: start and end by `CLOCK_MONOTONIC` in ns, and the
/// errno (0: opened). Nothing is written before the last one: a write could be waited for.
pub(crate) fn timed(n: usize, dir: &str) -> Result<String, String> {
    let mut lines = String::new();
    for i in 0..n {
        let path = format!("{dir}/{i}");
        let start = monotonic_ns();
        let result = File::open(path);
        let end = monotonic_ns();
        let errno = result.err().map_or(0, |error| error.raw_os_error().unwrap_or(-1));
        lines += &format!("{start} {end} {errno}\n");
    }
    Ok(lines)
}

pub(crate) fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable, and the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Makes PATH-0…PATH-(N-1): a creation is asked about every time, an open is remembered.
pub(crate) fn in_a_row(n: usize, path: &str) -> Result<String, String> {
    let made = |i| File::create_new(format!("{path}-{i}")).err().map(|error| told(&error));
    let wrong: Vec<_> = (0..n).filter_map(made).collect();
    summary(n, &wrong)
}

/// Two events each: a fork and an exit. Says how many milliseconds it took.
pub(crate) fn forks(n: usize, per_second: usize) -> Result<String, String> {
    let begun = Instant::now();
    for i in 0..n {
        if per_second > 0 {
            let due = Duration::from_secs_f64(i as f64 / per_second as f64);
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        // SAFETY: single-threaded here; the child does nothing but leave.
        match unsafe { libc::fork() } {
            // SAFETY: no preconditions; without the parent's destructors and buffers.
            0 => unsafe { libc::_exit(0) },
            child if child > 0 => {
                // SAFETY: no status is asked for.
                unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
            }
            _ => return Err(format!("fork {i}: {}", told(&std::io::Error::last_os_error()))),
        }
    }
    Ok(begun.elapsed().as_millis().to_string())
}

pub(crate) fn threads(n: usize, dir: &str) -> Result<String, String> {
    let start = Barrier::new(n);
    let wrong: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..n)
            .map(|i| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    attempt(&path(dir, i))
                })
            })
            .collect();
        threads
            .into_iter()
            .filter_map(|thread| match thread.join() {
                Ok(outcome) => outcome.err(),
                Err(_) => Some("a thread panicked".to_owned()),
            })
            .collect()
    });
    summary(n, &wrong)
}

pub(crate) fn processes(n: usize, dir: &str) -> Result<String, String> {
    let mut children = Vec::new();
    for i in 0..n {
        // SAFETY: single-threaded here; the child only opens a file and leaves.
        match unsafe { libc::fork() } {
            0 => {
                let code = match attempt(&path(dir, i)) {
                    Ok(()) => 0,
                    Err(why) => {
                        println!("{why}");
                        1
                    }
                };
                std::process::exit(code);
            }
            child if child > 0 => children.push(child),
            _ => return Err(format!("fork {i}: {}", told(&std::io::Error::last_os_error()))),
        }
    }
    let mut wrong = Vec::new();
    for child in children {
        let mut status = 0;
        // SAFETY: `status` is writable.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        if status != 0 {
            wrong.push(format!("process {child} ended with wait status {status}"));
        }
    }
    summary(n, &wrong)
}
