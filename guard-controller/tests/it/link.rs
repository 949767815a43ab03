//! The link: hello first, one per host, bounded, and a host is believed about itself only.

use crate::support::{Agent, actor, boot, config, enrolled, events, eventually, hello, start};
use guard_audit::Event;
use guard_controller::{Controller, Role};
use guard_model::{ActionDigest, HoldState, HostId, Verdict};
use guard_proto::{
    MESSAGE_BYTES_MAX,
    v1::{
        HoldFinished, HoldRequested, HoldWithdrawn, from_controller::Message as ToHost,
        from_host::Message,
    },
};
use tonic::Code;
use uuid::Uuid;

#[tokio::test]
async fn a_second_link_of_a_host_ends_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut first = Agent::linked(&running).await;
    let id = first.enrolled.host;
    let second = Agent::link(running.rpc_addr, &first.enrolled, first.boot, &[]).await;
    assert_eq!(first.end().await.code(), Code::Aborted);
    assert!(running.controller.host(id).await.unwrap().unwrap().link_up);
    drop(second);
    let controller = &running.controller;
    eventually("the link is down", || async move {
        !controller.host(id).await.unwrap().unwrap().link_up
    })
    .await;
    running.shutdown().await;
}

#[tokio::test]
async fn a_link_that_does_not_begin_with_a_valid_hello_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.limits.hello_timeout_ms = 200;
    let running = Controller::start(config).await.unwrap();
    let host = enrolled(&running).await;
    let mut silent = Agent::silent(running.rpc_addr, &host, boot()).await.unwrap();
    assert_eq!(silent.end().await.code(), Code::DeadlineExceeded);
    let mut rude = Agent::silent(running.rpc_addr, &host, boot()).await.unwrap();
    rude.send(Message::HoldFinished(HoldFinished::default())).await;
    assert_eq!(rude.end().await.code(), Code::FailedPrecondition);
    for change in [
        |hello: &mut guard_proto::v1::Hello| hello.boot_id = "x".into(),
        |hello: &mut guard_proto::v1::Hello| hello.coverage_json = "{".into(),
        |hello: &mut guard_proto::v1::Hello| hello.hostname = "x".repeat(254),
        |hello: &mut guard_proto::v1::Hello| hello.pending_hold_ids = vec!["x".into()],
        |hello: &mut guard_proto::v1::Hello| {
            hello.pending_hold_ids = vec![Uuid::nil().to_string(); 16_385];
        },
        |hello: &mut guard_proto::v1::Hello| {
            hello.coverage_json = format!("[{}]", " ".repeat(64 << 10));
        },
        |hello: &mut guard_proto::v1::Hello| hello.kernel = "x".repeat(257),
    ] {
        let mut agent = Agent::silent(running.rpc_addr, &host, boot()).await.unwrap();
        let mut bad = hello(agent.boot, &[]);
        change(&mut bad);
        agent.send(Message::Hello(bad)).await;
        assert_eq!(agent.end().await.code(), Code::InvalidArgument);
    }
    running.shutdown().await;
}

#[tokio::test]
async fn links_beyond_the_limit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.limits.links = 1;
    let running = Controller::start(config).await.unwrap();
    let _first = Agent::linked(&running).await;
    let host = enrolled(&running).await;
    let mut second = Agent::silent(running.rpc_addr, &host, boot()).await.unwrap();
    second.send(Message::Hello(hello(second.boot, &[]))).await;
    assert_eq!(second.end().await.code(), Code::ResourceExhausted);
    running.shutdown().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    // Twice as many connections as links.
    config.limits.links = 1;
    let running = Controller::start(config).await.unwrap();
    let host = enrolled(&running).await;
    let connect = || tokio::net::TcpStream::connect(running.rpc_addr);
    let (_one, two) = (connect().await.unwrap(), connect().await.unwrap());
    let linking = Agent::silent(running.rpc_addr, &host, boot());
    tokio::pin!(linking);
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut linking).await;
    assert!(early.is_err(), "there was a third place");
    drop(two);
    assert!(linking.await.is_ok());
    running.shutdown().await;
}

#[tokio::test]
async fn a_hold_of_another_host_boot_or_action_is_refused_with_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut agent = Agent::linked(&running).await;
    let good = agent.request(1, 1);
    let mut other_host = good.clone();
    other_host.host = HostId(Uuid::new_v4());
    let mut other_boot = good.clone();
    other_boot.boot = boot();
    let mut other_digest = good.clone();
    other_digest.digest = ActionDigest([7; 32]);
    let mut no_principal = good.clone();
    no_principal.session.principal = String::new();
    for (bad, word) in [
        (other_host, "host"),
        (other_boot, "boot"),
        (other_digest, "digest"),
        (no_principal, "session.principal"),
    ] {
        agent.hold(&bad).await;
        let refused = agent.refused().await;
        assert!(refused.contains(word), "{refused}");
    }
    let id = good.hold_id.to_string();
    let request_json = "x".repeat(guard_controller::service::REQUEST_BYTES_MAX + 1);
    agent.send(Message::HoldRequested(HoldRequested { hold_id: id, request_json })).await;
    assert!(agent.refused().await.contains("bytes"));
    assert_eq!(running.controller.hold(good.hold_id).await.unwrap(), None);
    let host = agent.enrolled.host;
    let is_refusal =
        |event: &Event| matches!(event, Event::HostRefused { refused, .. } if *refused == host);
    let count = events(&running.controller).await.iter().filter(|e| is_refusal(e)).count();
    assert_eq!(count, 5);
    agent.held(&good).await;
    running.shutdown().await;
}

#[tokio::test]
async fn a_host_cannot_touch_another_hosts_hold_or_session() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut victim = Agent::linked(&running).await;
    let held = victim.request(1, 1);
    victim.held(&held).await;
    let mut attacker = Agent::linked(&running).await;
    let id = held.hold_id;
    let why = "abandoned".into();
    attacker.send(Message::HoldWithdrawn(HoldWithdrawn { hold_id: id.to_string(), why })).await;
    let finished = HoldFinished { hold_id: id.to_string(), consumed: true };
    attacker.send(Message::HoldFinished(finished)).await;
    assert!(attacker.refused().await.contains("not decided here"));
    let mut takeover = attacker.request(1, 1);
    takeover.hold_id = id;
    attacker.hold(&takeover).await;
    assert!(attacker.refused().await.contains("another action"));
    let mut in_their_session = attacker.request(1, 2);
    in_their_session.session = held.session.clone();
    in_their_session.digest = ActionDigest::of(
        in_their_session.host,
        in_their_session.boot,
        held.session.id,
        &in_their_session.process,
        &in_their_session.action,
    );
    attacker.hold(&in_their_session).await;
    assert!(attacker.refused().await.contains("another host's"));
    let hold = running.controller.hold(id).await.unwrap().unwrap();
    assert_eq!((hold.state, hold.request), (HoldState::Pending, held));
    running.shutdown().await;
}

#[tokio::test]
async fn a_host_that_sends_nothing_but_refusals_loses_its_link() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut agent = Agent::linked(&running).await;
    for _ in 0..=100 {
        agent.send(Message::HoldFinished(HoldFinished::default())).await;
    }
    assert_eq!(agent.end().await.code(), Code::ResourceExhausted);
    running.shutdown().await;
}

#[tokio::test]
async fn an_oversize_message_ends_the_link_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut agent = Agent::linked(&running).await;
    let request_json = "x".repeat(MESSAGE_BYTES_MAX + 1);
    let hold_id = String::new();
    agent.send(Message::HoldRequested(HoldRequested { hold_id, request_json })).await;
    assert_eq!(agent.end().await.code(), Code::OutOfRange);
    let mut again = Agent::link(running.rpc_addr, &agent.enrolled, agent.boot, &[]).await;
    assert_eq!(again.evidence_ack().await, 0);
    running.shutdown().await;
}

#[tokio::test]
async fn a_decision_is_sent_again_after_each_reconnect_until_the_hold_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let ann = actor(&running.controller, "ann", &[Role::Approver]).await;
    let mut agent = Agent::linked(&running).await;
    let held = agent.request(1, 1);
    let id = held.hold_id;
    agent.held(&held).await;
    running.controller.decide(id, &ann, Verdict::Allow, "needed").await.unwrap();
    let first = agent.decision().await;
    assert_eq!(first.decision().digest, held.digest);
    assert_eq!(first.decision().verdict, Verdict::Allow);
    let mut agent = Agent::link(running.rpc_addr, &agent.enrolled, agent.boot, &[id]).await;
    assert_eq!(agent.evidence_ack().await, 0);
    assert_eq!(agent.decision().await, first, "by hello");
    agent.held(&held).await;
    assert_eq!(agent.decision().await, first, "by the request sent again");
    let finished = HoldFinished { hold_id: id.to_string(), consumed: true };
    agent.send(Message::HoldFinished(finished)).await;
    let controller = &running.controller;
    eventually("the hold is consumed", || async move {
        controller.hold(id).await.unwrap().unwrap().state == HoldState::Consumed
    })
    .await;
    let mut agent = Agent::link(running.rpc_addr, &agent.enrolled, agent.boot, &[id]).await;
    agent.evidence_ack().await;
    agent.held(&held).await;
    let other = agent.request(1, 2);
    agent.hold(&other).await;
    assert!(matches!(agent.next().await, ToHost::HoldAck(_)), "and not the old decision");
    running.shutdown().await;
}

#[tokio::test]
async fn a_decision_taken_while_the_host_is_away_reaches_it_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let ann = actor(&running.controller, "ann", &[Role::Approver]).await;
    let mut agent = Agent::linked(&running).await;
    let held = agent.request(1, 1);
    agent.held(&held).await;
    let (enrolled, boot) = (agent.enrolled.clone(), agent.boot);
    drop(agent);
    running.controller.decide(held.hold_id, &ann, Verdict::Deny, "no").await.unwrap();
    let mut back = Agent::link(running.rpc_addr, &enrolled, boot, &[held.hold_id]).await;
    back.evidence_ack().await;
    assert_eq!(back.decision().await.decision().verdict, Verdict::Deny);
    running.shutdown().await;
}

#[tokio::test]
async fn holds_that_a_hello_does_not_list_and_holds_of_earlier_boots_are_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut agent = Agent::linked(&running).await;
    let (kept, dropped) = (agent.request(1, 1), agent.request(1, 2));
    agent.held(&kept).await;
    agent.held(&dropped).await;
    let state = async |id| running.controller.hold(id).await.unwrap().unwrap().state;
    let mut same =
        Agent::link(running.rpc_addr, &agent.enrolled, agent.boot, &[kept.hold_id]).await;
    same.evidence_ack().await;
    assert_eq!(state(kept.hold_id).await, HoldState::Pending);
    assert_eq!(state(dropped.hold_id).await, HoldState::Cancelled);
    same.held(&dropped).await;
    assert_eq!(state(dropped.hold_id).await, HoldState::Pending, "held after all");
    let ids = [kept.hold_id, dropped.hold_id];
    let mut rebooted = Agent::link(running.rpc_addr, &agent.enrolled, boot(), &ids).await;
    rebooted.evidence_ack().await;
    assert_eq!(state(kept.hold_id).await, HoldState::Cancelled);
    assert_eq!(state(dropped.hold_id).await, HoldState::Cancelled);
    running.shutdown().await;
}
