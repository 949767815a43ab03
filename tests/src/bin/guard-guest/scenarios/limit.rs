//! What cannot be held, has no room, or takes too long is denied, and said.

use crate::{
    Trouble,
    answer::How,
    command::User::Dev,
    scenario::{Stage, expect, wait_for_file},
};
use serde_json::Value;
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

const WORKLOAD: &str = "/usr/local/bin/guard-workload";
/// More outcome records than the ring buffer has room for (2 MiB of about 280 bytes).
const FLOOD: &str = "12000";

fn outcome_with(record: &Value, reason: &str) -> bool {
    record.get("event").is_some_and(|event| event == "outcome")
        && record.get("reason").is_some_and(|found| found == reason)
}

pub(super) fn uring(stage: &mut Stage) -> Result<(), Trouble> {
    let path = "/home/dev/held/secret";
    stage.session(Dev, How::Approve, &[WORKLOAD, "uring", path])?.expect_success("ok: EPERM")?;
    stage.evidence(|record| outcome_with(record, "not_restartable"))?;
    Ok(())
}

pub(super) fn long_path(stage: &mut Stage) -> Result<(), Trouble> {
    let open = [WORKLOAD, "long-path", "/home/dev/plain"];
    // The session gets as far as to the directory whose path is too long to walk.
    stage.session(Dev, How::Deny, &open)?.expect_failure("errno 1:")?;
    path_error(stage, "walked")?;
    // Where they exist already, it is the open that is refused.
    stage.start_unlabelled(Dev, &open)?.finish()?.expect_success("ok")?;
    stage.session(Dev, How::Deny, &open)?.expect_failure("errno 1:")?;
    path_error(stage, "longer")
}

/// Waits until evidence has an action whose path is unknown for this reason.
fn path_error(stage: &Stage, why: &str) -> Result<(), Trouble> {
    stage.evidence(|record| {
        let error = record.pointer("/request/action/file/path_error");
        let error = error.or(record.pointer("/action/file/path_error"));
        error.and_then(Value::as_str).is_some_and(|error| error.contains(why))
    })?;
    Ok(())
}

pub(super) fn deadline(stage: &mut Stage) -> Result<(), Trouble> {
    let start = Instant::now();
    let outcome = stage.session(Dev, How::Nothing, &["cat", "/home/dev/brief/secret"])?;
    outcome.expect_failure("Operation not permitted")?;
    let took = start.elapsed();
    expect(took >= Duration::from_secs(2), format!("denied after {took:?}, the ttl is 2 s"))?;
    stage.evidence(|record| {
        record.get("event").is_some_and(|event| event == "withdrawn")
            && record.get("why").is_some_and(|why| why == "expired")
    })?;
    Ok(())
}

pub(super) fn ring_full(stage: &mut Stage) -> Result<(), Trouble> {
    // The flood itself must be under way before guard-agent stands still.
    let running = stage.start(Dev, &[WORKLOAD, "flood", FLOOD, "/home/dev/plain"])?;
    wait_for_file("/home/dev/plain/flooding")?;
    stage.guard.stop_agent_process();
    std::fs::write("/home/dev/plain/go", "").map_err(|error| error.to_string())?;
    let outcome = running.finish();
    stage.guard.continue_agent_process();
    outcome?.expect_success("ok: every attempt failed with EPERM, the open after them too")?;
    stage
        .evidence(|record| {
            record.get("event").is_some_and(|event| event == "lost")
                && record.get("counter").is_some_and(|counter| counter == "events_lost")
        })
        .map_err(|error| format!("the loss was not recorded: {error}"))?;
    // And everything works again.
    stage
        .session(Dev, How::Approve, &["cat", "/home/dev/held/secret"])?
        .expect_success("the secret")
}

pub(super) fn nested(stage: &mut Stage) -> Result<(), Trouble> {
    let argv = ["guard", "run", "--as", "inner", "--", "true"];
    let outcome = stage.session(Dev, How::Approve, &argv)?;
    expect(outcome.code != 0, format!("a session started another one: {outcome:?}"))
}

pub(super) fn malformed(_: &mut Stage) -> Result<(), Trouble> {
    for line in ["", "{", "[1,2", "{\"request\":\"sudo\"}", "\u{0}\u{1}"] {
        let answer = ask(line).map_err(|error| format!("{line:?}: {error}"))?;
        expect(answer.contains("\"error\""), format!("{line:?} was answered {answer:?}"))?;
    }
    let long = "x".repeat(1 << 20);
    // Too long to be read whole: an error line or an end, but guard-agent lives.
    let _ = ask(&long);
    let answer = ask("{\"request\":\"status\"}").map_err(|error| error.to_string())?;
    expect(answer.contains("\"status\""), format!("status was answered {answer:?}"))
}

fn ask(line: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect("/run/guard/agent.sock")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(line.as_bytes())?;
    stream.write_all(b"\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
