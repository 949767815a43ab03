//! A grant that nobody consumed is worth nothing to the next process with the same number.

use crate::{
    Trouble,
    answer::How,
    command::User::Dev,
    scenario::{Stage, expect, shell, wait_for_file, write},
};
use std::{fs, path::Path, thread, time::Duration};

const SCRIPT: &str = "/home/dev/plain/reuse.py";
/// The number of the first child, by itself.
const FIRST: &str = "/home/dev/plain/reuse-first";
/// A frozen task takes no signal but SIGKILL: it is continued, and consumes nothing.
const FREEZER: &str = "/sys/fs/cgroup/reuse";
/// Forks until a child has the number that the first one had, which the scenario sees to. Python's own `fork` opens a
/// file, which nobody could answer; a fork alone needs no guard-agent.
const REUSE: &str = "import ctypes, os, time
fork = ctypes.CDLL(None).fork
def look():
    try: print('read', open('/home/dev/held/secret').read().strip(), flush=True)
    except OSError as error: print('errno', error.errno, flush=True)
first = fork()
if first == 0: look(); os._exit(0)
open('/home/dev/plain/reuse-first.new', 'w').write(str(first))
os.rename('/home/dev/plain/reuse-first.new', '/home/dev/plain/reuse-first')
os.waitpid(first, 0)
child = 0
while child != first:
    time.sleep(0.01)
    child = fork()
    if child == 0:
        if os.getpid() == first: look()
        os._exit(0)
    os.waitpid(child, 0)
";
/// Another fork of the machine may come between.
const TRIES: u32 = 200;
/// A process that is free would be through in far less.
const MOMENT: Duration = Duration::from_secs(1);

pub(super) fn by_pid(stage: &mut Stage) -> Result<(), Trouble> {
    let _ = fs::remove_file(FIRST);
    write(Path::new(SCRIPT), REUSE)?;
    let mut running = stage.start(Dev, &["python3", SCRIPT])?;
    wait_for_file(FIRST)?;
    let first = fs::read_to_string(FIRST).map_err(|error| format!("{FIRST}: {error}"))?;
    let first: i32 = first.parse().map_err(|error| format!("{first}: {error}"))?;
    let hold = stage.wait_for_pending(1)?.swap_remove(0);
    shell(&format!(
        "mkdir -p {FREEZER} && echo {first} > {FREEZER}/cgroup.procs && \
         echo 1 > {FREEZER}/cgroup.freeze"
    ))?;
    stage.answer(How::Approve);
    let id = hold.pointer("/request/hold_id").cloned();
    stage.evidence(|record| {
        record["event"] == "person_decided" && record.get("hold_id") == id.as_ref()
    })?;
    // Nobody clears up after the process: what it was granted is still there.
    stage.guard.stop_agent_process();
    let reused = reuse(first);
    thread::sleep(MOMENT);
    let has_ended = running.has_ended();
    stage.guard.continue_agent_process();
    reused?;
    expect(!has_ended, "the next process with the number consumed the grant")?;
    let next = stage.wait_for_another(&hold)?;
    expect(next.pointer("/request/process/pid") == Some(&first.into()), format!("{next}"))?;
    stage.answer(How::Deny);
    let outcome = running.finish()?;
    expect(outcome.out == "errno 1\n", format!("{outcome:?}"))?;
    shell(&format!("rmdir {FREEZER}"))
}

/// Kills the process and sees to it that another one of the session gets its number.
fn reuse(pid: i32) -> Result<(), Trouble> {
    // SAFETY: no pointers.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    for _ in 0..TRIES {
        // The next number is the one after the last.
        shell(&format!("echo {} > /proc/sys/kernel/ns_last_pid", pid - 1))?;
        thread::sleep(Duration::from_millis(100));
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if stat.contains(") T ") {
            return Ok(());
        }
    }
    Err(format!("no process with the number {pid} was held in {TRIES} tries"))
}
