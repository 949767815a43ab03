//! guard-agent is killed, hung, upgraded, robbed of its pins and ended: nothing passes by that.

use crate::{
    Trouble,
    answer::How,
    canary::{self, Canary},
    command::User::{Dev, Root},
    guard::{self, Version},
    scenario::{Stage, expect, shell},
    system::OneCpu,
};
use guard_vm_wire::CanaryFigures;
use serde_json::Value;
use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

const EPERM: &str = "Operation not permitted";
const SECRET: &str = "/home/dev/held/secret";
const PINS: &str = "/sys/fs/bpf/guard";
/// Times after its start at which guard-agent is killed while it loads, ms.
const CRASHES_MS: [u64; 2] = [150, 900];
/// Attempts a second of the canary: each is a record, and later scenarios read them all. `cargo xtask canary`
/// has a thousand.
const RATE: u32 = 50;
/// A held process that is free would be through in far less.
const MOMENT: Duration = Duration::from_millis(700);
/// What another ABI held is continued for some seconds, and asked for again.
const ASKED_WITHIN: Duration = Duration::from_secs(60);
/// guard-agent looks at its pins every second; emulation is slow.
const MENDED_WITHIN: Duration = Duration::from_secs(20);

/// Links and maps with the kernel's ids.
fn objects() -> Result<Value, Trouble> {
    let objects = guard::status().get("objects").cloned().unwrap_or_default();
    let links = objects
        .as_array()
        .map_or(0, |objects| objects.iter().filter(|object| object["kind"] == "link").count());
    expect(links > 20, format!("status lists {links} links"))?;
    Ok(objects)
}

/// A session from before the upgrade is one after it, what it waited for is asked for again, starts that
/// are killed half-way change nothing, and no forbidden action passes meanwhile.
pub(super) fn upgraded(stage: &mut Stage) -> Result<(), Trouble> {
    let canary = Canary::start(stage, RATE)?;
    let played = another_abi(stage);
    canary.finish(&mut CanaryFigures::default())?;
    played
}

fn another_abi(stage: &mut Stage) -> Result<(), Trouble> {
    let mut held = stage.start(Dev, &["cat", SECRET])?;
    let asked = hold_id(&stage.wait_for_pending(1)?);
    let one = OneCpu::enter()?;
    stage.guard.kill_agent();
    stage.guard.set_version(Version::OtherAbi)?;
    for crash_ms in CRASHES_MS {
        stage.guard.start_agent()?;
        thread::sleep(Duration::from_millis(crash_ms));
        stage.guard.kill_agent();
        expect(!held.has_ended(), format!("a crash after {crash_ms} ms let the held process go"))?;
    }
    stage.guard.restart_agent()?;
    let asked = asked_anew(stage, &asked).map_err(|why| format!("after the upgrade: {why}"))?;
    let old = fs::read_dir(PINS).map_err(|error| format!("{PINS}: {error}"))?;
    let old: Vec<_> = old.flatten().map(|entry| entry.file_name()).collect();
    expect(old.len() == 2, format!("pins of the former ABI are left: {old:?}"))?;
    drop(one);
    canary::upgrade(stage, Version::Built)?;
    asked_anew(stage, &asked).map_err(|why| format!("after the way back: {why}"))?;
    expect(!held.has_ended(), "the way back let the held process go")?;
    stage.answer(How::Approve);
    held.finish()?.expect_success("the secret")
}

fn hold_id(pending: &[Value]) -> Value {
    let hold = pending.first().and_then(|hold| hold.pointer("/request/hold_id"));
    hold.cloned().unwrap_or_default()
}

/// Waits until a person is asked for another hold than `before`.
fn asked_anew(stage: &Stage, before: &Value) -> Result<Value, Trouble> {
    let deadline = Instant::now() + ASKED_WITHIN;
    loop {
        let pending = stage.pending()?;
        let now = hold_id(&pending);
        if pending.len() == 1 && now != *before {
            return Ok(now);
        }
        expect(Instant::now() < deadline, format!("{} pending, {now}", pending.len()))?;
        thread::sleep(Duration::from_millis(100));
    }
}

pub(super) fn stands_still(stage: &mut Stage) -> Result<(), Trouble> {
    let mut held = stage.start(Dev, &["cat", SECRET])?;
    stage.wait_for_pending(1)?;
    stage.guard.stop_agent_process();
    thread::sleep(MOMENT);
    let went_on = held.has_ended();
    stage.answer(How::Approve);
    thread::sleep(MOMENT);
    let went_on = went_on || held.has_ended();
    stage.guard.continue_agent_process();
    expect(!went_on, "the held process went on without guard-agent")?;
    held.finish()?.expect_success("the secret")
}

pub(super) fn pins(stage: &mut Stage) -> Result<(), Trouble> {
    stage.guard.set_protects(false);
    let played = canary::kill_and_restart(stage).and_then(|()| pins_unprotected(stage));
    stage.guard.set_protects(true);
    let again = canary::kill_and_restart(stage);
    played.and(again)
}

fn pins_unprotected(stage: &mut Stage) -> Result<(), Trouble> {
    let before = objects()?;
    let mut held = stage.start(Dev, &["cat", SECRET])?;
    stage.wait_for_pending(1)?;
    // All at once: what is removed file by file is put back meanwhile.
    shell("mv /sys/fs/bpf/guard /sys/fs/bpf/gone && rm -r /sys/fs/bpf/gone")?;
    mended()?;
    tampered(stage, "pins were removed")?;
    shell("mount -t tmpfs none /sys/fs/bpf")?;
    mended()?;
    tampered(stage, "unmounted or covered")?;
    // Both covers off again: what is below are pins of another place, and ours are put back there, too.
    shell("umount /sys/fs/bpf && umount /sys/fs/bpf")?;
    mended()?;
    expect(!held.has_ended(), "enforcement lapsed")?;
    // The pins are good: they outlive guard-agent, and the next one takes them over.
    canary::kill_and_restart(stage)?;
    expect(objects()? == before, "other links and maps than before")?;
    stage.wait_for_pending(1)?;
    stage.answer(How::Approve);
    held.finish()?.expect_success("the secret")
}

/// Waits until a whole set of pins is there.
fn mended() -> Result<(), Trouble> {
    let deadline = Instant::now() + MENDED_WITHIN;
    let whole = || {
        let found = std::process::Command::new("find").args([PINS, "-name", "complete"]).output();
        found.is_ok_and(|found| !found.stdout.is_empty())
    };
    while !whole() {
        expect(Instant::now() < deadline, "the pins are not back")?;
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn tampered(stage: &Stage, what: &str) -> Result<(), Trouble> {
    stage
        .evidence(|record| {
            record["event"] == "tampered"
                && record["mended"] == true
                && record["what"].as_str().is_some_and(|found| found.contains(what))
        })
        .map(drop)
}

pub(super) fn deliberate_end(stage: &mut Stage) -> Result<(), Trouble> {
    let stop = ["/usr/local/bin/guard-agent", "stop"];
    let with = |reason: &'static str| [&stop[..], &["--reason", reason]].concat();
    stage.start_unlabelled(Root, &stop)?.finish()?.expect_failure("--reason")?;
    stage.start_unlabelled(Root, &with(" "))?.finish()?.expect_failure("--reason needs")?;
    stage.start_unlabelled(Dev, &with("x"))?.finish()?.expect_failure("only root")?;
    let refused = stage.session(Root, How::Approve, &with("let me out"))?;
    expect(refused.code != 0, format!("a session ended enforcement: {refused:?}"))?;
    expect(Path::new(PINS).join("state-1").exists(), "the pins are gone")?;
    let held = stage.start(Dev, &["cat", SECRET])?;
    stage.wait_for_pending(1)?;
    let ended = stage.start_unlabelled(Root, &with("maintenance of the VM"))?.finish();
    let outcome = ended.and_then(|ended| ended.expect_success("has ended"));
    let denied = held.finish().and_then(|held| held.expect_failure(EPERM));
    let left = fs::read_dir(PINS).map_or(0, Iterator::count);
    let deadline = Instant::now() + MENDED_WITHIN;
    while stage.guard.agent_has_ended().is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    let status = stage.guard.agent_has_ended();
    outcome?;
    denied?;
    expect(left == 0, format!("{left} pins are left"))?;
    // A service manager starts again what failed, and this has not.
    expect(status.is_some_and(|status| status.success()), format!("it ended with {status:?}"))?;
    let record = stage.evidence(|record| record["event"] == "enforcement_ended")?;
    let told = record["by"] == "root" && record["uid"] == 0;
    expect(told && record["reason"] == "maintenance of the VM", record.to_string())
}
