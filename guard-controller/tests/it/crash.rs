//! kill -9 of the real program at bad moments: nothing that anybody has heard of is lost.

use crate::{
    program::{Program, linked},
    support::{Agent, PATIENCE, config, eventually},
};
use guard_audit::Event;
use guard_controller::{Controller, EvidenceFilter, HoldFilter, Role, Running, UserSpec};
use guard_model::{HoldState, Verdict};
use std::{path::Path, time::Duration};
use tokio::{process::Command, time::timeout};

/// What the program left, opened by this process: the same code, with hands on it.
async fn reopen(dir: &Path) -> Running {
    Controller::start(config(dir)).await.unwrap()
}

#[tokio::test]
async fn an_acknowledged_hold_survives_kill_9_and_is_decided_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path()).await;
    let mut agent = linked(&program, dir.path()).await;
    let held = agent.request(1, 1);
    agent.held(&held).await;
    program.kill().await;
    let running = reopen(dir.path()).await;
    let open = running.controller.holds(&HoldFilter::open()).await.unwrap();
    assert_eq!(open.iter().map(|hold| &hold.request).collect::<Vec<_>>(), [&held]);
    let ids = [held.hold_id];
    let mut back = Agent::link(running.rpc_addr, &agent.enrolled, agent.boot, &ids).await;
    back.evidence_ack().await;
    let spec = UserSpec { name: "ann".into(), roles: vec![Role::Approver], ..UserSpec::default() };
    let ann = running.controller.create_user(spec, "test").await.unwrap().actor();
    running.controller.decide(held.hold_id, &ann, Verdict::Allow, "x").await.unwrap();
    assert_eq!(back.decision().await.decision().verdict, Verdict::Allow);
    running.shutdown().await;
}

#[tokio::test]
async fn a_decision_that_somebody_was_told_of_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    // First run in this process, to decide; dropped without a word, as a crash would.
    let running = reopen(dir.path()).await;
    let token = running.controller.new_join_token().await.unwrap().token;
    std::fs::write(dir.path().join("token"), token).unwrap();
    let program = Program { child: Command::new("true").spawn().unwrap(), rpc: running.rpc_addr };
    let mut agent = linked(&program, dir.path()).await;
    let held = agent.request(1, 1);
    agent.held(&held).await;
    let spec = UserSpec { name: "ann".into(), roles: vec![Role::Approver], ..UserSpec::default() };
    let ann = running.controller.create_user(spec, "test").await.unwrap().actor();
    running.controller.decide(held.hold_id, &ann, Verdict::Allow, "x").await.unwrap();
    let decided = agent.decision().await;
    drop(running);
    let program = Program::start(dir.path()).await;
    let ids = [held.hold_id];
    let mut back = Agent::link(program.rpc, &agent.enrolled, agent.boot, &ids).await;
    back.evidence_ack().await;
    assert_eq!(back.decision().await, decided, "the very same decision");
    program.kill().await;
    let running = reopen(dir.path()).await;
    let hold = running.controller.hold(held.hold_id).await.unwrap().unwrap();
    assert_eq!((hold.state, hold.decided_by.as_deref()), (HoldState::Approved, Some("ann")));
    running.shutdown().await;
}

#[tokio::test]
async fn acknowledged_evidence_survives_kill_9_at_random_moments_without_gap_or_duplicate() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::start(dir.path()).await;
    let mut agent = linked(&program, dir.path()).await;
    let enrolled = agent.enrolled.clone();
    let this_boot = agent.boot;
    let mut acked = 0;
    for round in 0..5_u64 {
        let mut next = acked + 1;
        // Somewhere among these, the program dies.
        let death = tokio::time::sleep(Duration::from_millis(20 + 37 * round));
        tokio::pin!(death);
        loop {
            let event = |n| agent.record(n, Event::Lost { counter: "x".into(), count: n });
            let batch: Vec<_> = (next..next + 10).map(event).collect();
            agent.evidence(&batch).await;
            tokio::select! {
                ack = agent.evidence_ack() => {
                    assert_eq!(ack, next + 9);
                    acked = ack;
                    next = ack + 1;
                }
                () = &mut death => break,
            }
        }
        program.kill().await;
        program = Program::start(dir.path()).await;
        agent = Agent::link(program.rpc, &enrolled, this_boot, &[]).await;
        let durable = agent.evidence_ack().await;
        assert!(durable >= acked, "acknowledged {acked}, found {durable}");
        acked = durable;
    }
    program.kill().await;
    let running = reopen(dir.path()).await;
    let mut after = 0;
    let mut sequences = Vec::new();
    loop {
        let filter =
            EvidenceFilter { host: Some(enrolled.host), after, ..EvidenceFilter::default() };
        let page = running.controller.evidence(&filter).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.position;
        sequences.extend(page.iter().map(|stored| stored.record.sequence));
    }
    assert_eq!(sequences, (1..=acked).collect::<Vec<_>>());
    assert!(acked > 0);
    running.shutdown().await;
}

#[tokio::test]
async fn the_program_stops_in_order_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let mut program = Program::start(dir.path()).await;
    let agent = linked(&program, dir.path()).await;
    let pid = nix::unistd::Pid::from_raw(program.child.id().unwrap().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = timeout(PATIENCE, program.child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    let running = reopen(dir.path()).await;
    let controller = &running.controller;
    let host = agent.enrolled.host;
    eventually("the link's end and the stop are evidence", || async move {
        let events = crate::support::events(controller).await;
        events.iter().any(|e| matches!(e, Event::Stopped { .. }))
            && events.contains(&Event::HostLink { linked: host, up: false })
    })
    .await;
    running.shutdown().await;
}
