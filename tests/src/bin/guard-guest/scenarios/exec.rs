//! What belongs to an exec besides the file: arguments, variables, the loader, other ids, the content.

use crate::{
    Trouble,
    answer::How,
    command::User::{Dev, Root},
    evidence,
    scenario::{Running, Stage, expect, shell, write},
};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

const WORKLOAD: &str = "/usr/local/bin/guard-workload";
const EPERM: &str = "Operation not permitted";
/// Longest wait for a workload to be where it is wanted.
const PATIENCE: Duration = Duration::from_secs(120);
/// Attempts of a race. In some of them the kernel has copied another text than was decided.
const RACES: &str = "60";
/// Most rounds of a race that nobody wins. One was enough on an idle machine; seen: none of 60 with another VM beside.
const RACE_ROUNDS: usize = 12;

pub(super) fn edited(stage: &mut Stage) -> Result<(), Trouble> {
    let path = Path::new("/home/dev/plain/late.sh");
    let script = |text: &str| {
        write(path, &format!("#!/bin/sh\necho {text}\n"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())
    };
    script("shown")?;
    let running = stage.start(Dev, &["sh", "-c", "/home/dev/plain/late.sh"])?;
    let shown = stage.wait_for_pending(1)?;
    script("changed")?;
    asked_again_and_denied(stage, running, &shown[0])
}

/// Approves what is held, which has changed since: that ends with its grant unused, and the next hold is another.
fn asked_again_and_denied(stage: &Stage, running: Running, shown: &Value) -> Result<(), Trouble> {
    stage.answer(How::Approve);
    let next = stage.wait_for_another(shown).map(drop);
    next.map_err(|error| format!("what was changed was not asked about: {error}"))?;
    stage.answer(How::Deny);
    let outcome = running.finish()?;
    expect(outcome.out.is_empty(), format!("it ran: {outcome:?}"))?;
    outcome.expect_failure(EPERM)
}

/// On a file system in memory a change need not leave a time behind; that it was opened for it counts.
pub(super) fn edited_unseen(stage: &mut Stage) -> Result<(), Trouble> {
    const PROGRAM: &str = "/dev/shm/late";
    shell(&format!("cp /bin/echo {PROGRAM} && chown dev {PROGRAM}"))?;
    let running = stage.start(Dev, &["sh", "-c", &format!("{PROGRAM} shown")])?;
    let shown = stage.wait_for_pending(1)?;
    let change = ["python3", "-c", super::content::CHANGE, PROGRAM];
    stage.session(Dev, How::Nothing, &change)?.expect_success("unseen")?;
    asked_again_and_denied(stage, running, &shown[0])?;
    // To look at it is no change.
    let running = stage.start(Dev, &["sh", "-c", &format!("{PROGRAM} shown")])?;
    stage.wait_for_pending(1)?;
    shell(&format!("stat {PROGRAM} && sha256sum {PROGRAM}"))?;
    stage.answer(How::Approve);
    running.finish_within(PATIENCE)?.expect_success("shown")
}

/// Capabilities that the file has as an attribute are asked about once, after the image, which is not asked about
/// again: approving both is two decisions.
pub(super) fn file_capabilities(stage: &mut Stage) -> Result<(), Trouble> {
    const INSTALLED: &str = "/usr/local/bin/capable-grep";
    const OWN: &str = "/home/dev/plain/capable-grep";
    // CAP_NET_RAW.
    const GAINED: &str = "0000000000002000";
    let print = |program: &str| format!("{program} CapEff /proc/self/status");
    give_net_raw(INSTALLED)?;
    let command = print(INSTALLED);
    let argv = ["sh", "-c", &command];
    stage.session_named("gains", Dev, How::Deny, &argv)?.expect_failure(EPERM)?;
    expect_held(INSTALLED, 1)?;
    stage.session_named("gains", Dev, How::Approve, &argv)?.expect_success(GAINED)?;
    expect_held(INSTALLED, 2)?;
    // Who has the capabilities already gains nothing by it.
    stage.session_named("gains", Root, How::Nothing, &argv)?.expect_success("CapEff")?;
    // An image that the session could have written is held for a reason of its own.
    give_net_raw(OWN)?;
    let command = print(OWN);
    let argv = ["sh", "-c", &command];
    stage.session_named("gains", Dev, How::Approve, &argv)?.expect_success(GAINED)?;
    expect_held(OWN, 2)
}

/// A copy of `grep` that gives whoever runs it CAP_NET_RAW, and belongs to whom the directory does.
fn give_net_raw(path: &str) -> Result<(), Trouble> {
    let attribute = "bytes([1,0,0,2, 0,0x20,0,0] + [0] * 12)";
    shell(&format!(
        "cp /usr/bin/grep {path} && chown --reference=$(dirname {path}) {path} && \
         python3 -c \"import os; os.setxattr('{path}', 'security.capability', {attribute})\""
    ))
}

/// Whether execs of this program were held for a person so often, in all.
fn expect_held(path: &str, times: usize) -> Result<(), Trouble> {
    let held = evidence::count(|record| {
        record["event"] == "held" && record["request"]["action"]["program"]["file"]["path"] == path
    });
    expect(held == times, format!("{path} was held {held} times instead of {times}"))
}

pub(super) fn raced_argv(stage: &mut Stage) -> Result<(), Trouble> {
    raced(stage, "race-argv", "good-argument", "evil")
}

pub(super) fn raced_environment(stage: &mut Stage) -> Result<(), Trouble> {
    raced(stage, "race-environment", "XX_PRELOAD", "LD_PRELOAD=")
}

/// What is read of a caller's memory can be kept away for as long as another thread likes. No record may be open
/// meanwhile: guard-agent reads them in order, and would see none of what the whole host does after it.
pub(super) fn stalled_argv(stage: &mut Stage) -> Result<(), Trouble> {
    const READY: &str = "/home/dev/plain/stalled";
    const GO: &str = "/home/dev/plain/go-on";
    let stalled = stage.start(Root, &[WORKLOAD, "stall-argv", READY, GO])?;
    let deadline = Instant::now() + PATIENCE;
    while fs::metadata(READY).map_or(0, |file| file.len()) == 0 {
        expect(Instant::now() < deadline, "nobody read the arguments a second time")?;
        thread::sleep(Duration::from_millis(50));
    }
    let read = ["cat", "/home/dev/held/secret"];
    let answered = stage.session(Dev, How::Approve, &read);
    write(Path::new(GO), "")?;
    let ended = stalled.finish()?;
    answered?.expect_success("the secret")?;
    expect(ended.code == 0, format!("{ended:?}"))
}

/// The harmless text was seen, the forbidden one never, and the race was there: on a machine whose processors
/// have other work, whoever changes the text may not once come between the two looks of a round.
fn raced(stage: &Stage, command: &str, good: &str, evil: &str) -> Result<(), Trouble> {
    for _ in 0..RACE_ROUNDS {
        let argv = [WORKLOAD, command, RACES];
        let outcome = stage.session_named("raced", Dev, How::Nothing, &argv)?;
        outcome.expect_success(good)?;
        expect(!outcome.out.contains(evil), format!("{evil} ran: {outcome:?}"))?;
        if !outcome.out.contains("killed 0") {
            stage.evidence(|record| record["reason"] == "argv_changed")?;
            return Ok(());
        }
    }
    Err(format!("no race to speak of in {RACE_ROUNDS} rounds"))
}

/// The check at commit has to find what it looks for, every time: also where a text is empty, or ends
/// where a piece of it does that is read at a time (63 bytes).
pub(super) fn in_a_row(stage: &mut Stage) -> Result<(), Trouble> {
    let script = "x=$(printf %063d 0) y=$(printf %0126d 0); export EMPTY= X=${x:2} Y=$y; \
                  for i in $(seq 60); do /bin/true one '' $x $y \"$i\" || echo \"$i: $?\"; done; \
                  echo done";
    let outcome = stage.session_named("raced", Dev, How::Nothing, &["bash", "-c", script])?;
    expect(outcome.code == 0 && outcome.out == "done\n", format!("{outcome:?}"))
}

/// As long as the loader's own path, which it replaces in the file.
const OWN_LOADER: &str = "/home/dev/plain/own-ld.so.2";
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

pub(super) fn loader(stage: &mut Stage) -> Result<(), Trouble> {
    shell(&format!("cp -L {LOADER} {OWN_LOADER} && chown dev {OWN_LOADER}"))?;
    let program = Path::new("/usr/local/bin/own-loaded");
    let mut bytes = fs::read("/bin/true").map_err(|error| error.to_string())?;
    let at = bytes.windows(LOADER.len()).position(|window| window == LOADER.as_bytes());
    let at = at.ok_or("/bin/true names another loader")?;
    bytes[at..at + LOADER.len()].copy_from_slice(OWN_LOADER.as_bytes());
    fs::write(program, bytes).map_err(|error| error.to_string())?;
    shell("chmod 755 /usr/local/bin/own-loaded")?;
    let argv = ["sh", "-c", "/usr/local/bin/own-loaded"];
    stage.session(Dev, How::Deny, &argv)?.expect_failure(EPERM)?;
    stage.evidence(|record| {
        let action = &record["request"]["action"];
        record["event"] == "held" && action["loader"] == true
    })?;
    stage.session(Dev, How::Approve, &argv)?.expect_success("")
}

pub(super) fn gains(stage: &mut Stage) -> Result<(), Trouble> {
    shell("cp /usr/bin/id /usr/local/bin/other-id && chmod 4755 /usr/local/bin/other-id")?;
    let argv = ["sh", "-c", "/usr/local/bin/other-id"];
    stage.session_named("gains", Dev, How::Deny, &argv)?.expect_failure(EPERM)?;
    stage.session_named("gains", Dev, How::Approve, &argv)?.expect_success("euid=0")
}
