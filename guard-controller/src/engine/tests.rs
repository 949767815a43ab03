//! Invariants of the approval state machine, checked after each of many random events.

use super::*;
use proptest::prelude::*;
use uuid::Uuid;

const DEADLINE: u64 = 1000;

fn facts() -> Facts {
    Facts {
        hold_id: HoldId(Uuid::from_u128(1)),
        host: HostId(Uuid::from_u128(2)),
        boot: BootId(Uuid::from_u128(3)),
        digest: ActionDigest([4; 32]),
        deadline_unix_ms: DEADLINE,
    }
}

fn pending() -> Approval {
    Approval::Pending(Pending::new(facts()))
}

fn decide(verdict: Verdict, now_unix_ms: u64) -> Event {
    let permit = Permit::for_test(facts().hold_id, "ann", verdict);
    Event::Decide { permit, reason: "because".into(), now_unix_ms }
}

fn after(events: impl IntoIterator<Item = Event>) -> Approval {
    events.into_iter().fold(pending(), |approval, event| match approval.clone().apply(event) {
        Ok(applied) => applied.approval,
        Err(_) => approval,
    })
}

/// What a random event is made from: events themselves cannot be cloned, because permits cannot.
#[derive(Clone, Debug)]
enum Step {
    Requested,
    Decide(Verdict),
    Tick,
    Withdrawn(Withdrawal),
    Unlisted,
    Finished(bool),
}

impl Step {
    fn event(&self, now_unix_ms: u64) -> Event {
        match self {
            Self::Requested => Event::Requested { now_unix_ms },
            Self::Decide(verdict) => decide(*verdict, now_unix_ms),
            Self::Tick => Event::Tick { now_unix_ms },
            Self::Withdrawn(why) => Event::Withdrawn(*why),
            Self::Unlisted => Event::Unlisted,
            Self::Finished(consumed) => Event::Finished { consumed: *consumed },
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
    let step = prop_oneof![
        2 => Just(Step::Requested),
        2 => Just(Step::Decide(Verdict::Allow)),
        1 => Just(Step::Decide(Verdict::Deny)),
        2 => Just(Step::Tick),
        1 => Just(Step::Withdrawn(Withdrawal::Abandoned)),
        1 => Just(Step::Withdrawn(Withdrawal::Expired)),
        1 => Just(Step::Withdrawn(Withdrawal::Superseded)),
        2 => Just(Step::Unlisted),
        2 => any::<bool>().prop_map(Step::Finished),
    ];
    proptest::collection::vec((step, 0_u64..300), 0..24)
}

/// Everything that must hold after each event, whatever came before.
fn check(before: &Approval, step: &Step, now: u64, result: &Result<Applied, Refusal>) {
    let (now_state, send) = match result {
        Ok(applied) => (&applied.approval, applied.send.as_ref()),
        Err(_) => (before, None),
    };
    let allowed = |approval: &Approval| {
        matches!(approval.state(), HoldState::Approved | HoldState::Consumed | HoldState::Lapsed)
    };
    if allowed(now_state) && !allowed(before) {
        assert_eq!(before.state(), HoldState::Pending);
        assert!(matches!(step, Step::Decide(Verdict::Allow)) && now < DEADLINE);
    }
    if let Some(decision) = before.decision() {
        assert_eq!(now_state.decision(), Some(decision), "a decision is never changed or lost");
    }
    if let Some(decision) = now_state.decision() {
        let Facts { hold_id, host, boot, digest, .. } = facts();
        assert_eq!((decision.hold_id, decision.host), (hold_id, host));
        assert_eq!((decision.boot, decision.digest), (boot, digest));
        assert!(decision.decided_at_unix_ms < DEADLINE);
    }
    if let Some(sent) = send {
        assert_eq!(now_state.decision(), Some(sent), "only the stored decision is sent");
    }
    let reopened = before.state() == HoldState::Cancelled && now_state.state().is_open();
    if reopened {
        assert!(matches!(step, Step::Requested) && now < DEADLINE && !before.finished());
    } else if matches!(before, Approval::Ended(_)) {
        assert_eq!(now_state.state(), before.state(), "what ended stays so");
    }
    let restored = Approval::restore(
        facts(),
        now_state.state(),
        now_state.decision().cloned(),
        now_state.finished(),
    );
    assert_eq!(restored.as_ref(), Ok(now_state), "every state can be stored and put back");
}

proptest! {
    #[test]
    fn every_invariant_holds_after_each_of_many_random_events(steps in steps()) {
        let mut now = 0;
        let mut approval = pending();
        for (step, passed_ms) in steps {
            now += passed_ms;
            let result = approval.clone().apply(step.event(now));
            check(&approval, &step, now, &result);
            approval = match result {
                Ok(applied) => applied.approval,
                Err(_) => approval,
            };
        }
    }
}

#[test]
fn a_second_decision_is_refused_and_the_first_stands() {
    let approved = after([decide(Verdict::Allow, 1)]);
    let refusal = approved.apply(decide(Verdict::Deny, 2)).unwrap_err();
    assert_eq!(refusal, Refusal::Already(HoldState::Approved));
}

#[test]
fn a_decision_at_the_deadline_is_too_late() {
    let refusal = pending().apply(decide(Verdict::Allow, DEADLINE)).unwrap_err();
    assert_eq!(refusal, Refusal::TooLate);
    assert_eq!(after([decide(Verdict::Allow, DEADLINE - 1)]).state(), HoldState::Approved);
}

#[test]
fn the_deadline_expires_a_pending_request() {
    assert_eq!(after([Event::Tick { now_unix_ms: DEADLINE - 1 }]).state(), HoldState::Pending);
    assert_eq!(after([Event::Tick { now_unix_ms: DEADLINE }]).state(), HoldState::Expired);
}

#[test]
fn a_request_sent_again_gets_its_decision_again_until_the_host_has_finished() {
    let approved = after([decide(Verdict::Allow, 1)]);
    let applied = approved.apply(Event::Requested { now_unix_ms: 2 }).unwrap();
    assert_eq!(applied.send.as_ref(), applied.approval.decision());
    assert!(applied.send.is_some());
    let consumed = applied.approval.apply(Event::Finished { consumed: true }).unwrap();
    assert_eq!(consumed.approval.state(), HoldState::Consumed);
    let again = consumed.approval.apply(Event::Requested { now_unix_ms: 3 }).unwrap();
    assert_eq!(again.send, None, "a consumed decision is never given out again");
}

#[test]
fn a_hold_that_was_merely_not_listed_comes_back_when_it_is_sent_again() {
    let cancelled = after([Event::Unlisted]);
    assert_eq!(cancelled.state(), HoldState::Cancelled);
    let reopened = cancelled.apply(Event::Requested { now_unix_ms: 5 }).unwrap().approval;
    assert_eq!(reopened.state(), HoldState::Pending);
    let dead = after([Event::Withdrawn(Withdrawal::Abandoned)]);
    let same = dead.apply(Event::Requested { now_unix_ms: 5 }).unwrap().approval;
    assert_eq!(same.state(), HoldState::Cancelled, "a dead task's hold does not");
}

#[test]
fn an_approval_that_the_host_lists_no_more_is_settled_by_its_evidence() {
    let unlisted = after([decide(Verdict::Allow, 1), Event::Unlisted]);
    assert_eq!((unlisted.state(), unlisted.finished()), (HoldState::Approved, true));
    let settled = unlisted.apply(Event::Finished { consumed: true }).unwrap().approval;
    assert_eq!(settled.state(), HoldState::Consumed);
}

#[test]
fn the_controller_by_itself_can_only_deny() {
    let denied = Pending::new(facts()).deny_by_controller("too many".into(), 1);
    assert_eq!(denied.state(), HoldState::Rejected);
    assert_eq!(denied.decision().unwrap().decided_by, CONTROLLER);
}

#[test]
#[should_panic(expected = "a permit is for one hold")]
fn a_permit_for_another_hold_is_never_accepted() {
    let permit = Permit::for_test(HoldId(Uuid::from_u128(99)), "ann", Verdict::Allow);
    let _ = Pending::new(facts()).decide(permit, "x".into(), 1);
}
