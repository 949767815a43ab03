//! Something of ours dies; what was held stays held, and nothing is lost.

use crate::{
    Trouble,
    answer::How,
    command::User::Dev,
    guard,
    scenario::{Stage, expect},
};
use serde_json::Value;
use std::{collections::BTreeMap, thread, time::Duration};

pub(super) fn controller_killed(stage: &mut Stage) -> Result<(), Trouble> {
    let mut running = stage.start(Dev, &["cat", "/home/dev/held/secret"])?;
    let before = stage.wait_for_pending(1)?;
    stage.guard.kill_controller();
    thread::sleep(Duration::from_secs(1));
    expect(!running.has_ended(), "the held process did not wait")?;
    stage.guard.restart_controller()?;
    let after = stage.wait_for_pending(1)?;
    let id =
        |holds: &[Value]| holds.first().and_then(|hold| hold.pointer("/request/hold_id")).cloned();
    expect(id(&before) == id(&after), "the hold has another id after the restart")?;
    // The link takes a moment to come back; a decision made before it does must still arrive.
    stage.answer(How::Approve);
    running.finish()?.expect_success("the secret")
}

pub(super) fn agent_killed(stage: &mut Stage) -> Result<(), Trouble> {
    let mut running = stage.start(Dev, &["cat", "/home/dev/held/secret"])?;
    stage.wait_for_pending(1)?;
    stage.guard.kill_agent();
    let pid = i32::try_from(running.pid()).unwrap_or(i32::MAX);
    for _ in 0..20 {
        // SAFETY: no pointers. A stray SIGCONT while nobody watches.
        unsafe { libc::kill(pid, libc::SIGCONT) };
        thread::sleep(Duration::from_millis(50));
    }
    expect(!running.has_ended(), "the held process got past its hold without guard-agent")?;
    stage.guard.restart_agent()?;
    stage.wait_for_pending(1)?;
    stage.answer(How::Approve);
    running.finish()?.expect_success("the secret")
}

pub(super) fn no_gap(_: &mut Stage) -> Result<(), Trouble> {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    // As it stands, not as it was read before.
    let text = guard::agent_evidence();
    let records: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    let records = records.map_err(|error| error.to_string())?;
    for record in &records {
        let boot = record.get("boot").and_then(Value::as_str).unwrap_or_default().to_owned();
        let sequence = record.get("sequence").and_then(Value::as_u64).unwrap_or_default();
        let previous = last.insert(boot, sequence).unwrap_or(0);
        expect(sequence == previous + 1, format!("record {sequence} follows record {previous}"))?;
    }
    expect(records.len() > 100, format!("only {} records", records.len()))
}
