//! Forbidden actions up to a thousand times a second, judged by their effect: what was read, made or signalled.
//!
//! Three ways at once. What the kernel refuses at once (through io_uring, and signals out of the session)
//! goes on while guard-agent is dead, so many attempts a second meet every instant of a restart. A
//! plain open is held instead until somebody answers: it shows that what was held is denied in the end.

use crate::{
    one::told,
    uring::{Ring, opened},
};
use std::{
    ffi::CString,
    fs, io,
    time::{Duration, Instant},
};

/// What one process of the canary saw.
#[derive(Default)]
struct Seen {
    attempts: u64,
    passes: u64,
    /// Other errors than `EPERM`: none is to be seen, errno 513 least of all.
    others: Vec<String>,
}

impl Seen {
    /// Counts one attempt: `None` is a pass.
    fn count(&mut self, what: &str, error: Option<i32>) {
        self.attempts += 1;
        match error {
            Some(libc::EPERM) => {}
            None => {
                self.passes += 1;
                println!("PASS {what} at attempt {}", self.attempts);
            }
            Some(other) if self.others.len() < 10 => self.others.push(format!("{what}: {other}")),
            Some(_) => {}
        }
    }

    fn told(&self, who: &str) -> Result<String, String> {
        let Self { attempts, passes, others } = self;
        let text = format!("canary {who}: {attempts} attempts, {passes} passes, others {others:?}");
        if *passes == 0 && others.is_empty() { Ok(text) } else { Err(text) }
    }
}

/// Goes on until `DIR/stop` is there. `DIR/forbidden` must not be read, `DIR/made-*` not be made, `victim`
/// not be signalled.
pub(crate) fn run(dir: &str, victim: &str, rate: usize) -> Result<String, String> {
    let period = Duration::from_secs(1) / u32::try_from(rate).unwrap_or(1).max(1);
    let victim: i32 = victim.parse().map_err(|_| format!("`{victim}` is no process id"))?;
    // SAFETY: single-threaded here; the child runs its loop and leaves.
    match unsafe { libc::fork() } {
        0 => {
            let outcome = held(dir);
            let code = i32::from(outcome.is_err());
            println!("{}", outcome.unwrap_or_else(|why| why));
            std::process::exit(code)
        }
        pid if pid > 0 => {
            let fast = fast(dir, victim, period);
            let mut status = 0;
            // SAFETY: `status` is writable.
            unsafe { libc::waitpid(pid, &raw mut status, 0) };
            let fast = fast?;
            if status == 0 { Ok(fast) } else { Err(format!("{fast}; wait status {status}")) }
        }
        _ => Err(told(&io::Error::last_os_error())),
    }
}

/// Looking at a name is no action: nothing is held here.
fn is_over(dir: &str) -> bool {
    fs::metadata(format!("{dir}/stop")).is_ok()
}

fn fast(dir: &str, victim: i32, period: Duration) -> Result<String, String> {
    let ring = Ring::new()?;
    let c = |name: &str| CString::new(format!("{dir}/{name}")).map_err(|error| error.to_string());
    let (forbidden, made) = (c("forbidden")?, c("made-by-ring")?);
    let mut seen = Seen::default();
    let begun = Instant::now();
    while !is_over(dir) {
        match seen.attempts % 3 {
            0 => seen.count("read", errno(opened(&ring, &forbidden, libc::O_RDONLY)?)),
            1 => seen.count("create", errno(opened(&ring, &made, libc::O_CREAT | libc::O_WRONLY)?)),
            _ => {
                // SAFETY: no pointers.
                let sent = unsafe { libc::kill(victim, libc::SIGUSR1) };
                let error = io::Error::last_os_error().raw_os_error();
                seen.count("signal", (sent != 0).then_some(error.unwrap_or(0)));
            }
        }
        let due = period * u32::try_from(seen.attempts).unwrap_or(u32::MAX);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
    }
    let rate = seen.attempts as f64 / begun.elapsed().as_secs_f64();
    seen.told(&format!("at once ({rate:.0} a second)"))
}

fn errno(result: i32) -> Option<i32> {
    (result < 0).then_some(-result)
}

fn held(dir: &str) -> Result<String, String> {
    let (forbidden, made) = (format!("{dir}/forbidden"), format!("{dir}/made-plainly"));
    let mut seen = Seen::default();
    while !is_over(dir) {
        let read = fs::read(&forbidden);
        seen.count("plain read", read.err().map(|error| error.raw_os_error().unwrap_or(0)));
        let created = fs::File::create_new(&made);
        seen.count("plain create", created.err().map(|error| error.raw_os_error().unwrap_or(0)));
    }
    seen.told("held")
}
