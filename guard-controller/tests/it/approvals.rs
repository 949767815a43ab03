//! Deciding: who may, once, in time, with a reason; and everything else that ends a hold.

use crate::support::{Agent, actor, config, events, eventually, now_unix_ms, start};
use guard_audit::Event;
use guard_controller::{Change, Controller, DecideError, HoldFilter, Role, UserSpec};
use guard_model::{HoldState, Verdict};
use guard_proto::v1::{HoldFinished, HoldWithdrawn, from_host::Message};

#[tokio::test]
async fn a_hold_is_shown_decided_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let ann = actor(controller, "ann", &[Role::Approver]).await;
    let mut changes = controller.subscribe();
    let mut agent = Agent::linked(&running).await;
    let held = agent.request(1, 1);
    agent.held(&held).await;
    let open = controller.holds(&HoldFilter::open()).await.unwrap();
    assert_eq!(open.iter().map(|hold| &hold.request).collect::<Vec<_>>(), [&held]);
    assert_eq!(open[0].hostname, "box-1");
    controller.may_decide(&open[0], &ann).unwrap();
    let decided =
        controller.decide(held.hold_id, &ann, Verdict::Allow, " needed \n").await.unwrap();
    assert_eq!(decided.state, HoldState::Approved);
    assert_eq!(decided.decided_by.as_deref(), Some("ann"));
    assert_eq!(decided.reason.as_deref(), Some("needed"));
    assert_eq!(agent.decision().await.decision().decided_by, "ann");
    let mut states = Vec::new();
    while let Ok(change) = changes.try_recv() {
        if let Change::Hold { id, state, .. } = change {
            assert_eq!(id, held.hold_id);
            states.push(state);
        }
    }
    assert_eq!(states, [HoldState::Pending, HoldState::Approved]);
    let steps: Vec<_> = events(controller)
        .await
        .into_iter()
        .filter_map(|event| match event {
            Event::ApprovalChanged { from, to, by, reason, .. } => Some((from, to, by, reason)),
            _ => None,
        })
        .collect();
    let step = |from: &str, to: &str, by: &str, reason: &str| {
        (from.to_owned(), to.to_owned(), by.to_owned(), reason.to_owned())
    };
    assert_eq!(steps, [step("", "pending", "", ""), step("pending", "approved", "ann", "needed")]);
    running.shutdown().await;
}

#[tokio::test]
async fn nobody_decides_for_their_own_session_or_without_the_role() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let mut agent = Agent::linked(&running).await;
    let held = agent.request(1, 1);
    agent.held(&held).await;
    let named = actor(controller, "dev", &[Role::Approver, Role::Admin]).await;
    let spec = UserSpec {
        name: "bob".into(),
        roles: vec![Role::Approver],
        groups: Vec::new(),
        principals: vec!["DEV".into()],
    };
    let owner = controller.create_user(spec, "test").await.unwrap().actor();
    let admin = actor(controller, "root", &[Role::Admin]).await;
    let auditor = actor(controller, "eve", &[Role::Auditor]).await;
    let hold = controller.hold(held.hold_id).await.unwrap().unwrap();
    for person in [&named, &owner, &admin, &auditor] {
        for verdict in [Verdict::Allow, Verdict::Deny] {
            let refused = controller.decide(held.hold_id, person, verdict, "x").await.unwrap_err();
            assert!(matches!(refused, DecideError::NotAllowed(_)), "{refused}");
        }
        assert!(controller.may_decide(&hold, person).is_err());
    }
    let state = controller.hold(held.hold_id).await.unwrap().unwrap().state;
    assert_eq!(state, HoldState::Pending);
    let attempts = |event: &Event| matches!(event, Event::DecisionRefused { .. });
    assert_eq!(events(controller).await.iter().filter(|e| attempts(e)).count(), 8);
    running.shutdown().await;
}

#[tokio::test]
async fn of_two_people_who_decide_at_once_one_is_told_that_it_was_decided() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let ann = actor(controller, "ann", &[Role::Approver]).await;
    let bob = actor(controller, "bob", &[Role::Approver]).await;
    let mut agent = Agent::linked(&running).await;
    for number in 1..=20 {
        let held = agent.request(1, number);
        agent.held(&held).await;
        let (one, two) = tokio::join!(
            controller.decide(held.hold_id, &ann, Verdict::Allow, "yes"),
            controller.decide(held.hold_id, &bob, Verdict::Deny, "no"),
        );
        assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1);
        let lost = one.err().or(two.err()).unwrap();
        assert!(matches!(lost, DecideError::AlreadyDecided { .. }), "{lost}");
        let state = controller.hold(held.hold_id).await.unwrap().unwrap().state;
        let verdict = agent.decision().await.decision().verdict;
        assert_eq!(state == HoldState::Approved, verdict == Verdict::Allow);
    }
    running.shutdown().await;
}

#[tokio::test]
async fn a_decision_needs_a_hold_and_a_reason_of_bounded_length() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let ann = actor(controller, "ann", &[Role::Approver]).await;
    let mut agent = Agent::linked(&running).await;
    let held = agent.request(1, 1);
    let decide =
        async |reason: String| controller.decide(held.hold_id, &ann, Verdict::Deny, &reason).await;
    assert!(matches!(decide("x".into()).await, Err(DecideError::NotFound(_))));
    agent.held(&held).await;
    assert!(matches!(decide(" \n".into()).await, Err(DecideError::ReasonMissing)));
    let max = guard_controller::service::REASON_BYTES_MAX;
    let long = decide("x".repeat(max + 1)).await;
    assert!(matches!(long, Err(DecideError::ReasonTooLong { .. })));
    decide("x".repeat(max)).await.unwrap();
    assert_eq!(agent.decision().await.decision().reason.len(), max);
    running.shutdown().await;
}

#[tokio::test]
async fn terms_that_cannot_be_checked_forbid_approval_but_not_denial() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let ann = actor(controller, "ann", &[Role::Approver]).await;
    let mut agent = Agent::linked(&running).await;
    let mut quorum = agent.request(1, 1);
    quorum.terms.quorum = 2;
    let mut none = agent.request(1, 2);
    none.terms.quorum = 0;
    let mut stepup = agent.request(1, 3);
    stepup.terms.stepup = Some("webauthn".into());
    let mut scope = agent.request(1, 4);
    scope.terms.scope = "always".into();
    for held in [quorum, none, stepup, scope] {
        agent.held(&held).await;
        let refused = controller.decide(held.hold_id, &ann, Verdict::Allow, "x").await;
        assert!(matches!(refused, Err(DecideError::UnmetTerms(_))));
        controller.decide(held.hold_id, &ann, Verdict::Deny, "x").await.unwrap();
        assert_eq!(agent.decision().await.decision().verdict, Verdict::Deny);
    }
    running.shutdown().await;
}

#[tokio::test]
async fn a_hold_expires_at_its_deadline_and_a_later_decision_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let ann = actor(controller, "ann", &[Role::Approver]).await;
    let mut agent = Agent::linked(&running).await;
    let mut held = agent.request(1, 1);
    held.deadline_unix_ms = now_unix_ms() + 300;
    agent.held(&held).await;
    let mut past = agent.request(1, 2);
    past.deadline_unix_ms = 1;
    agent.held(&past).await;
    let late = controller.decide(past.hold_id, &ann, Verdict::Allow, "x").await.unwrap_err();
    let known = matches!(
        late,
        DecideError::TooLate | DecideError::AlreadyDecided { state: HoldState::Expired }
    );
    assert!(known, "{late}");
    let id = held.hold_id;
    eventually("it expires", || async move {
        controller.hold(id).await.unwrap().unwrap().state == HoldState::Expired
    })
    .await;
    let refused = controller.decide(id, &ann, Verdict::Allow, "x").await;
    assert!(matches!(refused, Err(DecideError::AlreadyDecided { state: HoldState::Expired })));
    running.shutdown().await;
}

#[tokio::test]
async fn what_the_host_reports_ends_a_hold() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let ann = actor(controller, "ann", &[Role::Approver]).await;
    let mut agent = Agent::linked(&running).await;
    for (number, why, state) in [
        (1, "abandoned", HoldState::Cancelled),
        (2, "expired", HoldState::Expired),
        (3, "superseded", HoldState::Superseded),
    ] {
        let held = agent.request(1, number);
        agent.held(&held).await;
        let (hold_id, why) = (held.hold_id.to_string(), why.to_owned());
        agent.send(Message::HoldWithdrawn(HoldWithdrawn { hold_id, why })).await;
        eventually("the hold ends", || async {
            controller.hold(held.hold_id).await.unwrap().unwrap().state == state
        })
        .await;
    }
    for (number, consumed, state) in [(4, true, HoldState::Consumed), (5, false, HoldState::Lapsed)]
    {
        let held = agent.request(1, number);
        agent.held(&held).await;
        controller.decide(held.hold_id, &ann, Verdict::Allow, "x").await.unwrap();
        agent.decision().await;
        let hold_id = held.hold_id.to_string();
        agent.send(Message::HoldFinished(HoldFinished { hold_id, consumed })).await;
        eventually("the hold is finished", || async {
            let hold = controller.hold(held.hold_id).await.unwrap().unwrap();
            hold.state == state && hold.finished
        })
        .await;
    }
    let odd = HoldWithdrawn { hold_id: agent.request(1, 1).hold_id.to_string(), why: "x".into() };
    agent.send(Message::HoldWithdrawn(odd)).await;
    assert!(agent.refused().await.contains("HoldWithdrawn"));
    running.shutdown().await;
}

#[tokio::test]
async fn a_session_or_host_with_too_many_pending_holds_gets_a_signed_denial() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.limits.pending_per_session = 2;
    config.limits.pending_per_host = 3;
    let running = Controller::start(config).await.unwrap();
    let mut agent = Agent::linked(&running).await;
    agent.held(&agent.request(1, 1)).await;
    agent.held(&agent.request(1, 2)).await;
    let third = agent.request(1, 3);
    agent.held(&third).await;
    let denied = agent.decision().await;
    assert_eq!(denied.decision().verdict, Verdict::Deny);
    assert!(denied.decision().reason.contains("this session has 2"));
    agent.held(&agent.request(2, 4)).await;
    agent.held(&agent.request(3, 5)).await;
    assert!(agent.decision().await.decision().reason.contains("this host has 3"));
    let hold = running.controller.hold(third.hold_id).await.unwrap().unwrap();
    assert_eq!(hold.state, HoldState::Rejected);
    assert_eq!(hold.decided_by.as_deref(), Some("guard-controller"));
    running.shutdown().await;
}

#[tokio::test]
async fn an_approval_soon_after_opening_or_without_opening_is_marked() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let ann = actor(controller, "ann", &[Role::Approver]).await;
    let mut agent = Agent::linked(&running).await;
    let (unopened, quick, slow) = (agent.request(1, 1), agent.request(1, 2), agent.request(1, 3));
    for held in [&unopened, &quick, &slow] {
        agent.held(held).await;
    }
    controller.opened(slow.hold_id, &ann).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    controller.opened(quick.hold_id, &ann).await.unwrap();
    let decide = async |id| controller.decide(id, &ann, Verdict::Allow, "x").await.unwrap();
    let (unopened, quick) = (decide(unopened.hold_id).await, decide(quick.hold_id).await);
    let slow = decide(slow.hold_id).await;
    assert_eq!((unopened.hasty, unopened.deliberation_ms), (true, None));
    assert!(quick.hasty && !slow.hasty);
    assert!(slow.deliberation_ms.unwrap() >= 1000);
    running.shutdown().await;
}

#[tokio::test]
async fn lists_are_filtered_paged_and_remember_earlier_decisions() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let ann = actor(controller, "ann", &[Role::Approver]).await;
    let mut agent = Agent::linked(&running).await;
    for number in 1..=5 {
        agent.held(&agent.request(number % 2, number)).await;
    }
    let list = async |filter: HoldFilter| {
        let holds = controller.holds(&filter).await.unwrap();
        holds.iter().map(|hold| hold.number).collect::<Vec<_>>()
    };
    assert_eq!(list(HoldFilter { limit: 2, ..HoldFilter::default() }).await, [5, 4]);
    let next = HoldFilter { limit: 2, before: Some(4), ..HoldFilter::default() };
    assert_eq!(list(next).await, [3, 2]);
    let session = Some(agent.request(0, 2).session.id);
    assert_eq!(list(HoldFilter { session, ..HoldFilter::default() }).await, [4, 2]);
    let text = |text: &str| HoldFilter { text: Some(text.into()), ..HoldFilter::default() };
    assert_eq!(list(text("SECRET/3")).await, [3]);
    assert_eq!(list(text("secret_3")).await, [] as [u64; 0], "_ is no wildcard");
    assert_eq!(list(HoldFilter::closed()).await, [] as [u64; 0]);
    assert_eq!(controller.count_holds(&HoldFilter::open()).await.unwrap(), 5);
    let first = agent.request(1, 1);
    controller.decide(first.hold_id, &ann, Verdict::Deny, "not this").await.unwrap();
    agent.decision().await;
    // The same file by another task of another session of the same principal.
    let mut same = agent.request(7, 1);
    same.hold_id = agent.request(7, 99).hold_id;
    agent.held(&same).await;
    let view = controller.hold(same.hold_id).await.unwrap().unwrap();
    let earlier = controller.earlier_decisions(&view, 10).await.unwrap();
    assert_eq!(earlier.iter().map(|hold| hold.number).collect::<Vec<_>>(), [1]);
    running.shutdown().await;
}
