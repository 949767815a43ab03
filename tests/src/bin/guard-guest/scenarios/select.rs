//! Sessions that nobody starts with `guard run`: the kernel labels what a selector names.

use crate::{
    Trouble,
    answer::How,
    command::User::{Dev, Root},
    scenario::{Outcome, Stage, expect},
    system::install,
};
use serde_json::Value;
use std::{fs, path::Path};

const EPERM: &str = "Operation not permitted";
const SECRET: &str = "/home/dev/held/secret";
/// What every session may open.
const PLAIN: &str = "/home/dev/plain/secret";
/// A copy of cat: an inode of its own.
const TOOL: &str = "/usr/local/bin/selected-cat";
/// A user that no other scenario has.
const UID: &str = "1777";
const CGROUP: &str = "/sys/fs/cgroup/selected";

pub(super) fn program(stage: &mut Stage) -> Result<(), Trouble> {
    install(Path::new("/usr/bin/cat"), Path::new(TOOL))?;
    stage.guard.select(&["program=/usr/local/bin/selected-cat,as=by-program"])?;
    denied_and_approved(stage, "by-program", &[TOOL, SECRET])
}

/// A file that is open already: reading it asks nobody.
pub(super) fn handed(stage: &mut Stage) -> Result<(), Trouble> {
    install(Path::new("/usr/bin/cat"), Path::new(TOOL))?;
    stage.guard.select(&["program=/usr/local/bin/selected-cat,as=handed"])?;
    let guarded = |path: &str| format!("exec guard run --as handed -- sh -c 'cat <&3' 3< {path}");
    let selected = |path: &str| format!("exec {TOOL} < {path}");
    for command in [guarded(PLAIN), selected(PLAIN)] {
        let argv = ["sh", "-c", &command];
        unlabelled(stage, How::Nothing, &argv)?.expect_success("the secret")?;
    }
    let refused = unlabelled(stage, How::Approve, &["sh", "-c", &guarded(SECRET)])?;
    let names_it = refused.err.contains("descriptor 3") && refused.err.contains(SECRET);
    expect(names_it && refused.out.is_empty(), format!("{refused:?}"))?;
    let killed = unlabelled(stage, How::Approve, &["sh", "-c", &selected(SECRET)])?;
    expect(killed.out.is_empty() && killed.code != 0, format!("{killed:?}"))?;
    for name in ["/usr/local/bin/guard", TOOL] {
        stage.evidence(|record| {
            let at = |path| record.pointer(path).and_then(Value::as_str).unwrap_or_default();
            is(record, "blocked")
                && at("/action/action") == "receive"
                && at("/action/file/path") == SECRET
                && at("/process/exe") == name
        })?;
    }
    Ok(())
}

pub(super) fn user(stage: &mut Stage) -> Result<(), Trouble> {
    stage.guard.select(&["uid=1777,as=by-user"])?;
    let (uid, gid) = (format!("--reuid={UID}"), format!("--regid={UID}"));
    let argv = ["setpriv", &uid, &gid, "--clear-groups", "cat", SECRET];
    denied_and_approved(stage, "by-user", &argv)
}

pub(super) fn cgroup(stage: &mut Stage) -> Result<(), Trouble> {
    fs::create_dir_all(CGROUP).map_err(|error| format!("{CGROUP}: {error}"))?;
    stage.guard.select(&["cgroup=/selected,as=by-cgroup"])?;
    let enter = format!("echo $$ > {CGROUP}/cgroup.procs && exec cat {SECRET}");
    denied_and_approved(stage, "by-cgroup", &["sh", "-c", &enter])
}

/// The command, started outside of every session, is one: its open is held, and what its loader opens
/// before its own first instruction is in evidence already.
fn denied_and_approved(stage: &Stage, name: &str, argv: &[&str]) -> Result<(), Trouble> {
    unlabelled(stage, How::Deny, argv)?.expect_failure(EPERM)?;
    unlabelled(stage, How::Approve, argv)?.expect_success("the secret")?;
    let started = stage.evidence(|record| {
        is(record, "session_started")
            && record.pointer("/info/name").is_some_and(|found| found == name)
    })?;
    let session = started.get("session").cloned().unwrap_or_default();
    expect(session.is_string(), format!("no session id in {started}"))?;
    stage
        .evidence(|record| {
            let path = record.pointer("/action/file/path");
            is(record, "decided")
                && record.get("session") == Some(&session)
                && path.is_some_and(|path| path == "/etc/ld.so.cache")
        })
        .map_err(|error| format!("the loader's first open is not in evidence: {error}"))?;
    stage
        .evidence(|record| {
            is(record, "held") && record.pointer("/request/session/name").is_some_and(|n| n == name)
        })
        .map(drop)
}

pub(super) fn unselected(stage: &mut Stage) -> Result<(), Trouble> {
    install(Path::new("/usr/bin/cat"), Path::new(TOOL))?;
    let by_program = "program=/usr/local/bin/selected-cat,as=by-program";
    stage.guard.select(&[by_program, "uid=1777,as=by-user"])?;
    // Another program, another user, nobody to answer: it does not wait.
    unlabelled(stage, How::Nothing, &["cat", SECRET])?.expect_success("the secret")?;
    unlabelled(stage, How::Deny, &[TOOL, SECRET])?.expect_failure(EPERM)?;
    stage.guard.select(&[])?;
    unlabelled(stage, How::Nothing, &[TOOL, SECRET])?.expect_success("the secret")
}

pub(super) fn meanwhile(stage: &mut Stage) -> Result<(), Trouble> {
    install(Path::new("/usr/bin/cat"), Path::new(TOOL))?;
    stage.guard.select(&["program=/usr/local/bin/selected-cat,as=meanwhile"])?;
    stage.guard.kill_agent();
    let mut running = stage.start_unlabelled(Dev, &[TOOL, SECRET])?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    expect(!running.has_ended(), "it was not held while guard-agent was away")?;
    stage.guard.restart_agent()?;
    let pending = stage.wait_for_pending(1)?;
    let name = pending.first().and_then(|hold| hold.pointer("/request/session/name").cloned());
    let named = name.as_ref().is_some_and(|name| name == "meanwhile");
    expect(named, format!("the session is called {name:?}"))?;
    stage.answer(How::Approve);
    running.finish()?.expect_success("the secret")?;
    stage.guard.select(&[])
}

fn unlabelled(stage: &Stage, how: How, argv: &[&str]) -> Result<Outcome, Trouble> {
    // Root, because it takes root to become somebody else or to enter a cgroup.
    stage.answered(how, || stage.start_unlabelled(Root, argv))
}

fn is(record: &Value, event: &str) -> bool {
    record.get("event").is_some_and(|found| found == event)
}
