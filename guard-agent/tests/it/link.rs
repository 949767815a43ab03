//! Holds, decisions and evidence between guard-agent and controller, through their restarts.

use crate::support::{Agent, FakeKernel, PATIENCE, approver, controller, open_hold, token, until};
use guard_agent::service::AgentError;
use guard_audit::Event;
use guard_common::hold::{VERDICT_ALLOW, VERDICT_DENY};
use guard_model::{HoldState, Verdict};

#[tokio::test(flavor = "multi_thread")]
async fn a_person_approves_and_the_action_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path(), None).await;
    let ann = approver(&running).await;
    let kernel = FakeKernel::default();
    let join = Some(token(&running).await);
    let agent = Agent::start(dir.path(), &kernel, running.rpc_addr, join);
    kernel.hold(1, "/usr/bin/true");
    kernel.hold(2, "/etc/shadow");
    let held = open_hold(&running.controller).await;
    assert_eq!(held.request.action.object_line(), "/etc/shadow");
    let decided = running.controller.decide(held.request.hold_id, &ann, Verdict::Allow, "needed");
    decided.await.unwrap();
    let verdicts = until(|| async {
        let verdicts = kernel.verdicts();
        (verdicts.len() == 2).then_some(verdicts)
    });
    assert_eq!(verdicts.await, [(1, VERDICT_ALLOW), (2, VERDICT_ALLOW)]);
    until(|| async {
        let hold = running.controller.hold(held.request.hold_id).await.unwrap().unwrap();
        (hold.state == HoldState::Consumed).then_some(())
    })
    .await;
    let records = agent.stop().await;
    let last = records.last().unwrap();
    let stored = running.controller.last_evidence(last.host, last.boot).await.unwrap();
    assert_eq!(stored, last.sequence, "the controller has everything at the end");
    let refused = |event: &Event| matches!(event, Event::DecisionRefused { .. });
    assert!(!records.iter().any(|record| refused(&record.event)));
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_controller_policy_goes_on_and_what_waits_is_decided_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path(), None).await;
    let ann = approver(&running).await;
    let addr = running.rpc_addr;
    let kernel = FakeKernel::default();
    let join = Some(token(&running).await);
    let agent = Agent::start(dir.path(), &kernel, addr, join);
    kernel.hold(1, "/etc/shadow");
    open_hold(&running.controller).await;
    running.shutdown().await;
    kernel.hold(2, "/usr/bin/true");
    kernel.hold(3, "/etc/gshadow");
    until(|| async { (kernel.verdicts() == [(2, VERDICT_ALLOW)]).then_some(()) }).await;
    let running = controller(dir.path(), Some(addr)).await;
    for _ in 0..2 {
        let held = open_hold(&running.controller).await;
        let id = held.request.hold_id;
        running.controller.decide(id, &ann, Verdict::Deny, "no").await.unwrap();
    }
    let verdicts = until(|| async {
        let mut verdicts = kernel.verdicts();
        verdicts.sort_unstable();
        (verdicts.len() == 3).then_some(verdicts)
    });
    let all = [(1, VERDICT_DENY), (2, VERDICT_ALLOW), (3, VERDICT_DENY)];
    assert_eq!(verdicts.await, all);
    let records = agent.stop().await;
    let last = records.last().unwrap();
    let stored = running.controller.last_evidence(last.host, last.boot).await.unwrap();
    assert_eq!(stored, last.sequence, "nothing is lost over the controller's restart");
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_guard_agent_needs_no_token_and_goes_on_with_what_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path(), None).await;
    let ann = approver(&running).await;
    let kernel = FakeKernel::default();
    let join = Some(token(&running).await);
    let agent = Agent::start(dir.path(), &kernel, running.rpc_addr, join);
    kernel.hold(1, "/etc/shadow");
    let before = open_hold(&running.controller).await;
    agent.stop().await;
    assert_eq!(kernel.verdicts(), []);
    // Decided while nobody is there to hear it.
    let id = before.request.hold_id;
    running.controller.decide(id, &ann, Verdict::Allow, "fine").await.unwrap();
    let agent = Agent::start(dir.path(), &kernel, running.rpc_addr, None);
    until(|| async { (kernel.verdicts() == [(1, VERDICT_ALLOW)]).then_some(()) }).await;
    until(|| async {
        let hold = running.controller.hold(id).await.unwrap().unwrap();
        (hold.state == HoldState::Consumed).then_some(())
    })
    .await;
    let records = agent.stop().await;
    let sequences: Vec<u64> = records.iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, (1..=records.len() as u64).collect::<Vec<_>>());
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_works_once_and_never_without_its_ca() {
    let dir = tempfile::tempdir().unwrap();
    let running = controller(dir.path(), None).await;
    let (token, pin) = token(&running).await;
    let kernel = FakeKernel::default();
    // A server with another CA than the pinned one never sees the token.
    let join = Some((token.clone(), "00".repeat(32)));
    let agent = Agent::start(&dir.path().join("a"), &kernel, running.rpc_addr, join);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert!(!dir.path().join("a/agent/identity.json").exists());
    agent.stop_unjoined().await;
    let join = Some((token, pin));
    let first = Agent::start(&dir.path().join("b"), &kernel, running.rpc_addr, join.clone());
    let identity = dir.path().join("b/agent/identity.json");
    until(|| async { identity.exists().then_some(()) }).await;
    let second = Agent::start(&dir.path().join("c"), &kernel, running.rpc_addr, join);
    let ended = tokio::time::timeout(PATIENCE, second.end()).await.unwrap();
    assert!(matches!(ended, Err(AgentError::Enrol(_))), "{ended:?}");
    first.stop_unjoined().await;
    running.shutdown().await;
}
