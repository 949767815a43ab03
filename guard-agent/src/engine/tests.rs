//! The engine's promises, one by one, and its invariants after every event of random histories.

use super::*;
use crate::decide::PolicyAllow;
use guard_common::{
    event::{EVENT_CONSUMED, EVENT_EXPIRED, REASON_EXPIRED, REASON_GRANT, REASON_STALE_GRANT},
    hold::{KIND_OPEN, VERDICT_ALLOW},
};
use guard_model::{
    Action, ActionDigest, Decision, DecisionTerms, FileAccess, FileRef, ProcessContext,
    SessionInfo, Withdrawal,
};
use guard_proto::decision::{DecisionVerifier, sign};
use proptest::prelude::*;
use std::collections::HashSet;
use uuid::Uuid;

const HOST: HostId = HostId(Uuid::from_u128(1));
const BOOT: BootId = BootId(Uuid::from_u128(2));
const SECOND: u64 = 1_000_000_000;
/// The kernel's deadline in these tests.
const TTL: u64 = 600 * SECOND;

fn limits() -> Limits {
    Limits { holds: 8, waiting_per_session: 3, farewells: 4 }
}

fn engine() -> Engine {
    Engine::new(HOST, BOOT, limits())
}

fn key(tid: u32, object: u64) -> Box<ActionKey> {
    let mut words = [0; guard_common::hold::OBJECT_WORDS];
    words[0] = object;
    Box::new(ActionKey {
        start_boottime_ns: u64::from(tid),
        tgid: 100 + tid / 4,
        tid,
        kind: KIND_OPEN,
        access: 1,
        flags: 0,
        object_len: 40,
        object: words,
    })
}

fn announcement(hold: u64, tid: u32, object: u64, now_ns: u64) -> Announcement {
    Announcement { hold, session: 7, key: key(tid, object), deadline_ns: now_ns + TTL }
}

fn digest(hold: u64) -> ActionDigest {
    ActionDigest([u8::try_from(hold % 251).unwrap(); 32])
}

fn action() -> Action {
    let file = FileRef {
        path: "/a".into(),
        path_error: None,
        dev: 1,
        ino: 2,
        generation: 0,
        owner_uid: 0,
        mode: 0o100_644,
    };
    Action::Open { file, access: FileAccess::default() }
}

fn judged(hold: u64) -> Box<Judged> {
    let (process, action) = (ProcessContext::default(), action());
    Box::new(Judged { digest: digest(hold), process, action, statements: vec![] })
}

fn allow(hold: u64) -> Judgement {
    Judgement::Allow(PolicyAllow::for_tests(), judged(hold))
}

fn ask(hold: u64, ttl_ms: u64) -> Judgement {
    Judgement::Person(Box::new(HoldRequest {
        hold_id: HoldId::derive(HOST, BOOT, hold),
        host: HOST,
        boot: BOOT,
        session: SessionInfo {
            id: SessionId::derive(HOST, BOOT, 7),
            name: "bot".into(),
            principal: "dev".into(),
            uid: 1000,
            started_unix_ms: 0,
            root_pid: 1,
            command: vec![],
        },
        process: ProcessContext::default(),
        action: action(),
        digest: digest(hold),
        statements: vec![],
        terms: DecisionTerms {
            approver_groups: vec![],
            quorum: 1,
            ttl_ms,
            scope: "once".into(),
            stepup: None,
        },
        recent: vec![],
        held_at_unix_ms: 0,
        deadline_unix_ms: 0,
    }))
}

fn decision(hold: u64, digest: ActionDigest, verdict: Verdict) -> VerifiedDecision {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let signed = sign(
        &key,
        &Decision {
            host: HOST,
            boot: BOOT,
            hold_id: HoldId::derive(HOST, BOOT, hold),
            digest,
            verdict,
            decided_by: "ann".into(),
            reason: "because".into(),
            decided_at_unix_ms: 0,
        },
    );
    let verifier = DecisionVerifier::new(key.verifying_key().to_bytes(), HOST, BOOT).unwrap();
    verifier.verify(&signed).unwrap()
}

fn outcome(hold: u64, key: Box<ActionKey>, event: u32, verdict: u32, reason: u32) -> KernelOutcome {
    KernelOutcome { hold, session: 7, event, key, verdict, reason }
}

/// Verdicts of the grants among some commands.
fn grants(commands: &[Command]) -> Vec<(u64, u32)> {
    let grant = |command: &Command| match command {
        Command::Grant { hold, grant, .. } => Some((*hold, grant.verdict)),
        _ => None,
    };
    commands.iter().filter_map(grant).collect()
}

fn farewells(commands: &[Command]) -> Vec<HoldEnd> {
    let end = |command: &Command| match command {
        Command::Farewell(farewell) => Some(farewell.end),
        _ => None,
    };
    commands.iter().filter_map(end).collect()
}

fn refusals(commands: &[Command]) -> usize {
    let refused = |command: &&Command| {
        matches!(command, Command::Evidence { event, .. }
            if matches!(**event, Event::DecisionRefused { .. }))
    };
    commands.iter().filter(refused).count()
}

fn requests(commands: &[Command]) -> usize {
    commands.iter().filter(|command| matches!(command, Command::Request(_))).count()
}

/// An engine with the link up and hold 1 of thread 4 waiting for a person for 60 s.
fn waiting() -> Engine {
    let mut engine = engine();
    engine.link_up();
    assert_eq!(engine.announce(announcement(1, 4, 0, 0)), Announced::Judge);
    engine.judge(0, 1, ask(1, 60_000));
    assert_eq!(requests(&engine.take_commands()), 1);
    engine
}

#[test]
fn a_policy_allow_is_granted_and_resumed_at_once() {
    let mut engine = engine();
    assert_eq!(engine.announce(announcement(1, 4, 0, 0)), Announced::Judge);
    engine.judge(0, 1, allow(1));
    let commands = engine.take_commands();
    assert_eq!(grants(&commands), [(1, VERDICT_ALLOW)]);
    assert!(matches!(commands.last(), Some(Command::Resume { hold: 1, .. })));
}

#[test]
fn a_person_allows_exactly_the_action_that_was_shown() {
    let mut engine = waiting();
    engine.decide(1, decision(1, digest(2), Verdict::Allow));
    let commands = engine.take_commands();
    assert_eq!((grants(&commands).len(), refusals(&commands)), (0, 1));
    engine.decide(2, decision(1, digest(1), Verdict::Allow));
    assert_eq!(grants(&engine.take_commands()), [(1, VERDICT_ALLOW)]);
}

#[test]
fn a_decision_for_a_hold_that_is_not_here_is_refused_with_evidence() {
    let mut engine = waiting();
    engine.decide(1, decision(9, digest(9), Verdict::Allow));
    let commands = engine.take_commands();
    assert_eq!((grants(&commands).len(), refusals(&commands)), (0, 1));
    // The controller must not go on re-sending it.
    assert_eq!(farewells(&commands), [HoldEnd::Finished { consumed: false }]);
}

#[test]
fn a_decision_counts_once_and_cannot_be_changed() {
    let mut engine = waiting();
    engine.decide(1, decision(1, digest(1), Verdict::Deny));
    assert_eq!(grants(&engine.take_commands()), [(1, VERDICT_DENY)]);
    engine.decide(2, decision(1, digest(1), Verdict::Allow));
    let commands = engine.take_commands();
    assert_eq!((grants(&commands).len(), refusals(&commands)), (0, 1));
    // The same word again, after a reconnect, is no news.
    engine.decide(3, decision(1, digest(1), Verdict::Deny));
    assert_eq!(engine.take_commands(), []);
}

#[test]
fn a_hold_that_nobody_answers_expires_to_deny_at_the_policys_time() {
    let mut engine = waiting();
    engine.tick(60 * SECOND - 1);
    assert_eq!(engine.take_commands(), []);
    engine.tick(60 * SECOND);
    let commands = engine.take_commands();
    assert_eq!(grants(&commands), [(1, VERDICT_DENY)]);
    assert_eq!(farewells(&commands), [HoldEnd::Withdrawn(Withdrawal::Expired)]);
    engine.decide(61 * SECOND, decision(1, digest(1), Verdict::Allow));
    assert_eq!(grants(&engine.take_commands()), []);
}

#[test]
fn the_kernels_deadline_wins_over_a_longer_time_of_the_policy() {
    let mut engine = engine();
    let _ = engine.announce(announcement(1, 4, 0, 0));
    engine.judge(0, 1, ask(1, 10 * TTL / 1_000_000));
    engine.take_commands();
    engine.decide(TTL, decision(1, digest(1), Verdict::Allow));
    assert_eq!(grants(&engine.take_commands()), [(1, VERDICT_DENY)]);
}

#[test]
fn losing_the_link_decides_nothing_and_gaining_it_asks_again() {
    let mut engine = waiting();
    engine.link_down();
    engine.tick(SECOND);
    assert_eq!(engine.take_commands(), []);
    assert_eq!(engine.pending_ids(), [HoldId::derive(HOST, BOOT, 1)]);
    engine.link_up();
    assert_eq!(requests(&engine.take_commands()), 1);
}

#[test]
fn an_end_while_the_link_is_down_is_told_when_it_is_up() {
    let mut engine = waiting();
    engine.link_down();
    engine.gone(1);
    assert_eq!(farewells(&engine.take_commands()), []);
    assert_eq!(engine.pending_ids(), [HoldId::derive(HOST, BOOT, 1)]);
    engine.link_up();
    let end = HoldEnd::Withdrawn(Withdrawal::Abandoned);
    assert_eq!(farewells(&engine.take_commands()), [end]);
    // It was said, and the controller asks again: it hears the same.
    engine.decide(1, decision(1, digest(1), Verdict::Allow));
    let commands = engine.take_commands();
    assert_eq!((farewells(&commands), refusals(&commands)), (vec![end], 0));
}

#[test]
fn a_hold_announced_again_is_not_asked_again_but_its_lost_grant_is_written_again() {
    let mut engine = waiting();
    assert_eq!(engine.announce(announcement(1, 4, 0, 0)), Announced::Known);
    assert_eq!(engine.take_commands(), []);
    engine.decide(1, decision(1, digest(1), Verdict::Allow));
    engine.take_commands();
    assert_eq!(engine.announce(announcement(1, 4, 0, 0)), Announced::Known);
    assert_eq!(grants(&engine.take_commands()), [(1, VERDICT_ALLOW)]);
}

#[test]
fn an_adopted_hold_keeps_an_early_decision_until_its_digest_can_be_compared() {
    for (shown, granted) in [(digest(1), vec![(1, VERDICT_ALLOW)]), (digest(2), vec![])] {
        let mut engine = engine();
        let record =
            HoldRecord { hold_id: 1, session: 7, deadline_ns: TTL, ..HoldRecord::default() };
        engine.adopt(*key(4, 0), &record);
        let commands = engine.take_commands();
        assert!(matches!(commands[0], Command::Reannounce { hold: 1, .. }));
        assert!(matches!(commands[1], Command::Resume { hold: 1, .. }));
        engine.decide(1, decision(1, shown, Verdict::Allow));
        assert_eq!(grants(&engine.take_commands()), []);
        assert_eq!(engine.announce(announcement(1, 4, 0, 0)), Announced::Judge);
        engine.judge(2, 1, ask(1, 60_000));
        assert_eq!(grants(&engine.take_commands()), granted);
    }
}

#[test]
fn an_early_no_outlives_a_policy_that_now_says_yes() {
    let mut engine = engine();
    let record = HoldRecord { hold_id: 1, session: 7, deadline_ns: TTL, ..HoldRecord::default() };
    engine.adopt(*key(4, 0), &record);
    engine.decide(1, decision(1, digest(1), Verdict::Deny));
    let _ = engine.announce(announcement(1, 4, 0, 0));
    engine.judge(2, 1, allow(1));
    assert_eq!(grants(&engine.take_commands()), [(1, VERDICT_DENY)]);
}

#[test]
fn another_action_of_the_same_thread_supersedes_the_first() {
    let mut engine = waiting();
    assert_eq!(engine.announce(announcement(2, 4, 9, 1)), Announced::Judge);
    let commands = engine.take_commands();
    assert!(commands.iter().any(|c| matches!(c, Command::Forget { key: k } if *k == key(4, 0))));
    assert_eq!(farewells(&commands), [HoldEnd::Withdrawn(Withdrawal::Superseded)]);
    engine.decide(1, decision(1, digest(1), Verdict::Allow));
    assert_eq!(grants(&engine.take_commands()), []);
}

#[test]
fn decisions_for_many_threads_of_one_process_are_one_resume() {
    let mut engine = engine();
    for hold in 0..4 {
        let _ = engine.announce(announcement(hold + 1, u32::try_from(hold).unwrap(), 0, 0));
        engine.judge(0, hold + 1, allow(hold + 1));
    }
    let commands = engine.take_commands();
    let resumes = commands.iter().filter(|c| matches!(c, Command::Resume { .. })).count();
    assert_eq!((grants(&commands).len(), resumes), (4, 1));
    assert!(matches!(commands.last(), Some(Command::Resume { .. })));
}

#[test]
fn a_dead_thread_hands_its_resume_to_a_decided_sibling() {
    let mut engine = engine();
    for hold in [1, 2] {
        let _ = engine.announce(announcement(hold, u32::try_from(hold).unwrap(), 0, 0));
        engine.judge(0, hold, allow(hold));
    }
    let commands = engine.take_commands();
    let Some(Command::Resume { hold, .. }) = commands.last() else { panic!("{commands:?}") };
    let sibling = 3 - hold;
    engine.gone(*hold);
    let commands = engine.take_commands();
    assert!(matches!(commands.last(), Some(Command::Resume { hold, .. }) if *hold == sibling));
}

#[test]
fn a_grant_outlives_the_siblings_that_keep_its_thread_stopped() {
    let mut engine = engine();
    let _ = engine.announce(announcement(1, 1, 0, 0));
    engine.judge(0, 1, allow(1));
    let commands = engine.take_commands();
    let Some(Command::Grant { grant, .. }) =
        commands.iter().find(|c| matches!(c, Command::Grant { .. }))
    else {
        panic!("{commands:?}")
    };
    // A sibling that is held a moment later stops the process up to its own deadline.
    let sibling_deadline_ns = SECOND + TTL;
    assert!(grant.expires_ns > sibling_deadline_ns);
    assert!(grant.expires_ns <= TTL + GRANT_SLACK_NS);
}

#[test]
fn a_grant_that_the_map_refused_is_written_again() {
    let mut engine = engine();
    let _ = engine.announce(announcement(1, 1, 0, 0));
    engine.judge(0, 1, allow(1));
    engine.take_commands();
    engine.grant_failed(1);
    engine.tick(NUDGE_FIRST_NS);
    assert_eq!(grants(&engine.take_commands()), [(1, VERDICT_ALLOW)]);
}

#[test]
fn an_answer_that_is_not_consumed_is_resumed_again_a_few_times_and_then_forgotten() {
    let mut engine = engine();
    let _ = engine.announce(announcement(1, 1, 0, 0));
    engine.judge(0, 1, allow(1));
    engine.take_commands();
    let mut resumes = 0;
    for second in 1..TTL / SECOND + 31 {
        engine.tick(second * SECOND);
        let commands = engine.take_commands();
        assert_eq!(grants(&commands), []);
        resumes += commands.iter().filter(|c| matches!(c, Command::Resume { .. })).count();
    }
    assert_eq!(resumes, NUDGES_MAX as usize);
    assert_eq!(engine.tracked().count(), 0);
}

#[test]
fn one_hold_too_many_is_denied_at_once() {
    let mut engine = engine();
    for hold in 0..limits().holds as u64 {
        let _ = engine.announce(announcement(hold + 1, u32::try_from(hold).unwrap(), 0, 0));
    }
    assert_eq!(engine.announce(announcement(99, 99, 0, 0)), Announced::Known);
    let commands = engine.take_commands();
    assert_eq!(grants(&commands), [(99, VERDICT_DENY)]);
    assert!(matches!(commands.last(), Some(Command::Resume { hold: 99, .. })));
}

#[test]
fn a_session_cannot_bury_approvers_under_prompts() {
    let mut engine = engine();
    engine.link_up();
    let max = u64::from(limits().waiting_per_session);
    for hold in 1..=max + 1 {
        let _ = engine.announce(announcement(hold, u32::try_from(hold).unwrap(), 0, 0));
        engine.judge(0, hold, ask(hold, 60_000));
    }
    let commands = engine.take_commands();
    assert_eq!(grants(&commands), [(max + 1, VERDICT_DENY)]);
    assert_eq!(requests(&commands) as u64, max);
    // One ends, one more fits.
    engine.gone(1);
    let _ = engine.announce(announcement(50, 50, 0, 0));
    engine.judge(0, 50, ask(50, 60_000));
    assert_eq!(requests(&engine.take_commands()), 1);
}

#[test]
fn with_a_full_spool_nothing_new_waits_for_a_person() {
    let mut engine = engine();
    engine.set_spool_full(true);
    let _ = engine.announce(announcement(1, 1, 0, 0));
    engine.judge(0, 1, ask(1, 60_000));
    let _ = engine.announce(announcement(2, 2, 0, 0));
    engine.judge(0, 2, allow(2));
    let granted = grants(&engine.take_commands());
    assert_eq!(granted, [(1, VERDICT_DENY), (2, VERDICT_ALLOW)]);
}

#[test]
fn the_controller_hears_whether_a_persons_decision_was_carried_out() {
    for (reason, consumed) in [(REASON_GRANT, true), (REASON_STALE_GRANT, false)] {
        let mut engine = waiting();
        engine.decide(1, decision(1, digest(1), Verdict::Allow));
        engine.take_commands();
        engine.outcome(&outcome(1, key(4, 0), EVENT_CONSUMED, VERDICT_ALLOW, reason));
        let commands = engine.take_commands();
        assert_eq!(farewells(&commands), [HoldEnd::Finished { consumed }]);
        assert_eq!(engine.tracked().count(), 0);
    }
}

#[test]
fn a_grant_of_an_earlier_guard_agent_is_told_only_to_a_controller_that_asks() {
    let mut engine = engine();
    engine.link_up();
    let record = HoldRecord { hold_id: 1, session: 7, deadline_ns: TTL, ..HoldRecord::default() };
    engine.adopt(*key(4, 0), &record);
    engine.outcome(&outcome(1, key(4, 0), EVENT_CONSUMED, VERDICT_ALLOW, REASON_GRANT));
    assert_eq!(farewells(&engine.take_commands()), []);
    engine.decide(1, decision(1, digest(1), Verdict::Allow));
    let commands = engine.take_commands();
    assert_eq!(farewells(&commands), [HoldEnd::Finished { consumed: true }]);
    assert_eq!((refusals(&commands), grants(&commands)), (0, vec![]));
}

#[test]
fn a_hold_that_the_kernel_expired_is_withdrawn() {
    let mut engine = waiting();
    engine.outcome(&outcome(1, key(4, 0), EVENT_EXPIRED, VERDICT_DENY, REASON_EXPIRED));
    let end = HoldEnd::Withdrawn(Withdrawal::Expired);
    assert_eq!(farewells(&engine.take_commands()), [end]);
}

/// What can happen.
#[derive(Clone, Debug)]
enum Step {
    Hold { tid: u32, object: u64, judgement: u8, ttl_s: u64 },
    Announce { nth: usize },
    Decide { nth: usize, right: bool, allow: bool },
    Consume { nth: usize },
    Gone { nth: usize },
    Pass { seconds: u64 },
    Link { up: bool },
    Spool { full: bool },
    MapFull { full: bool },
    Adopt { tid: u32, object: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let (tid, object, nth) = (0..9_u32, 0..3_u64, 0..12_usize);
    prop_oneof![
        6 => (tid.clone(), object.clone(), 0..4_u8, 1..700_u64).prop_map(
            |(tid, object, judgement, ttl_s)| Step::Hold { tid, object, judgement, ttl_s }),
        2 => nth.clone().prop_map(|nth| Step::Announce { nth }),
        5 => (nth.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(nth, right, allow)| Step::Decide { nth, right, allow }),
        4 => nth.clone().prop_map(|nth| Step::Consume { nth }),
        1 => nth.prop_map(|nth| Step::Gone { nth }),
        3 => (0..200_u64).prop_map(|seconds| Step::Pass { seconds }),
        2 => any::<bool>().prop_map(|up| Step::Link { up }),
        1 => any::<bool>().prop_map(|full| Step::Spool { full }),
        1 => any::<bool>().prop_map(|full| Step::MapFull { full }),
        1 => (tid, object).prop_map(|(tid, object)| Step::Adopt { tid, object }),
    ]
}

/// The kernel side and the rest of the world, as far as the engine can tell, and what it may do.
struct World {
    engine: Engine,
    now_ns: u64,
    next_hold: u64,
    /// Every hold ever placed, oldest first.
    placed: Vec<(u64, Box<ActionKey>, u64)>,
    held: HashMap<ActionKey, (u64, u64)>,
    granted: HashMap<ActionKey, Grant>,
    /// Holds that may be allowed: policy or person said so in time.
    may_allow: HashSet<u64>,
    /// Holds that wait for a person, and until when.
    waits: HashMap<u64, u64>,
    verdicts: HashMap<u64, u32>,
    asked: HashSet<HoldId>,
    beyond_limit: HashSet<u64>,
    link_up: bool,
    map_full: bool,
}

impl World {
    fn new() -> Self {
        Self {
            engine: engine(),
            now_ns: SECOND,
            next_hold: 0,
            placed: vec![],
            held: HashMap::new(),
            granted: HashMap::new(),
            may_allow: HashSet::new(),
            waits: HashMap::new(),
            verdicts: HashMap::new(),
            asked: HashSet::new(),
            beyond_limit: HashSet::new(),
            link_up: false,
            map_full: false,
        }
    }

    fn nth(&self, nth: usize) -> Option<(u64, Box<ActionKey>, u64)> {
        self.placed.get(self.placed.len().checked_sub(nth + 1)?).cloned()
    }

    fn place(&mut self, tid: u32, object: u64) -> Option<(u64, Box<ActionKey>, u64)> {
        let key = key(tid, object);
        if self.held.contains_key(&*key) {
            return None;
        }
        self.next_hold += 1;
        let placed = (self.next_hold, key.clone(), self.now_ns + TTL);
        self.held.insert(*key, (placed.0, placed.2));
        self.placed.push(placed.clone());
        Some(placed)
    }

    fn step(&mut self, step: &Step) {
        let now_ns = self.now_ns;
        match *step {
            Step::Hold { tid, object, judgement, ttl_s } => {
                let Some((hold, key, deadline_ns)) = self.place(tid, object) else { return };
                self.announce(hold, key, deadline_ns, judgement, ttl_s);
            }
            Step::Announce { nth } => {
                let Some((hold, key, deadline_ns)) = self.nth(nth) else { return };
                if self.held.get(&*key).is_some_and(|(held, _)| *held == hold) {
                    self.announce(hold, key, deadline_ns, 2, 60);
                }
            }
            Step::Decide { nth, right, allow } => {
                let Some((hold, ..)) = self.nth(nth) else { return };
                let verdict = if allow { Verdict::Allow } else { Verdict::Deny };
                let shown = if right { digest(hold) } else { digest(hold + 1) };
                if right && allow && self.waits.get(&hold).is_some_and(|until| now_ns < *until) {
                    self.may_allow.insert(hold);
                }
                // What is adopted and not yet announced is compared later.
                if right && allow && self.is_unannounced(hold) {
                    self.may_allow.insert(hold);
                }
                self.engine.decide(now_ns, decision(hold, shown, verdict));
            }
            Step::Consume { nth } => self.restart(nth),
            Step::Gone { nth } => {
                let Some((hold, ..)) = self.nth(nth) else { return };
                self.engine.gone(hold);
            }
            Step::Pass { seconds } => {
                self.now_ns += seconds * SECOND;
                self.engine.tick(self.now_ns);
            }
            Step::Link { up } => {
                self.link_up = up;
                self.asked.clear();
                if up { self.engine.link_up() } else { self.engine.link_down() }
            }
            Step::Spool { full } => self.engine.set_spool_full(full),
            Step::MapFull { full } => self.map_full = full,
            Step::Adopt { tid, object } => {
                let Some((hold_id, key, deadline_ns)) = self.place(tid, object) else { return };
                let record =
                    HoldRecord { hold_id, session: 7, deadline_ns, ..HoldRecord::default() };
                self.engine.adopt(*key, &record);
            }
        }
    }

    fn is_unannounced(&self, hold: u64) -> bool {
        matches!(
            self.engine.holds.get(&hold).map(|tracked| &tracked.state),
            Some(State::Adopted { .. })
        )
    }

    fn announce(
        &mut self,
        hold: u64,
        key: Box<ActionKey>,
        deadline_ns: u64,
        judgement: u8,
        ttl_s: u64,
    ) {
        let announcement = Announcement { hold, session: 7, key, deadline_ns };
        if self.engine.announce(announcement) == Announced::Known {
            return;
        }
        let judgement = match judgement {
            0 => {
                self.may_allow.insert(hold);
                allow(hold)
            }
            1 => Judgement::Deny(judged(hold)),
            _ => {
                self.waits.insert(hold, deadline_ns.min(self.now_ns + ttl_s * SECOND));
                ask(hold, ttl_s * 1000)
            }
        };
        self.engine.judge(self.now_ns, hold, judgement);
    }

    /// The thread runs again, as after SIGCONT: what the kernel does then.
    fn restart(&mut self, nth: usize) {
        let Some((hold, key, deadline_ns)) = self.nth(nth) else { return };
        if self.held.get(&*key).is_none_or(|(held, _)| *held != hold) {
            return;
        }
        if let Some(grant) = self.granted.remove(&*key) {
            assert_eq!(grant.hold_id, hold);
            self.held.remove(&*key);
            let live = self.now_ns < grant.expires_ns;
            let verdict = if live { grant.verdict } else { VERDICT_DENY };
            let reason = if live { REASON_GRANT } else { REASON_STALE_GRANT };
            self.engine.outcome(&outcome(hold, key, EVENT_CONSUMED, verdict, reason));
        } else if self.now_ns >= deadline_ns {
            self.held.remove(&*key);
            let reason = REASON_EXPIRED;
            self.engine.outcome(&outcome(hold, key, EVENT_EXPIRED, VERDICT_DENY, reason));
        }
    }

    /// Carries the commands out as the driver would, and checks each.
    fn check(&mut self, step: &Step) {
        let commands = self.engine.take_commands();
        let mut unresumed: HashSet<u32> = HashSet::new();
        let mut resumed = HashSet::new();
        for command in commands {
            match command {
                Command::Grant { hold, key, grant } => {
                    self.check_grant(step, hold, &grant);
                    unresumed.insert(key.tgid);
                    if self.map_full {
                        self.engine.grant_failed(hold);
                    } else if self.held.get(&*key).is_some_and(|(held, _)| *held == hold) {
                        self.granted.insert(*key, grant);
                    }
                }
                Command::Resume { key, .. } => {
                    unresumed.remove(&key.tgid);
                    assert!(resumed.insert(key.tgid), "one SIGCONT for one process and turn");
                }
                Command::Forget { key } => {
                    self.held.remove(&*key);
                    self.granted.remove(&*key);
                }
                Command::Request(request) => {
                    assert!(self.link_up, "nothing is sent on a link that is down");
                    assert!(
                        self.asked.insert(request.hold_id),
                        "one request for one hold and link"
                    );
                }
                Command::Farewell(_) => assert!(self.link_up),
                Command::Reannounce { .. } | Command::Evidence { .. } => {}
            }
        }
        assert!(unresumed.is_empty(), "every grant is followed by a SIGCONT");
        self.check_state();
    }

    fn check_grant(&mut self, step: &Step, hold: u64, grant: &Grant) {
        assert!(!matches!(step, Step::Link { up: false }), "nothing is decided by losing the link");
        assert_eq!(grant.hold_id, hold);
        if !self.engine.holds.contains_key(&hold) {
            assert_eq!(grant.verdict, VERDICT_DENY, "what is not followed is denied");
            self.beyond_limit.insert(hold);
        }
        if grant.verdict == VERDICT_ALLOW {
            assert!(self.may_allow.contains(&hold), "hold {hold} was allowed by nobody");
        }
        let earlier = *self.verdicts.entry(hold).or_insert(grant.verdict);
        assert_eq!(earlier, grant.verdict, "hold {hold} was answered twice");
    }

    fn check_state(&self) {
        let engine = &self.engine;
        assert!(engine.holds.len() <= limits().holds);
        assert!(engine.waiting() <= limits().waiting_per_session as usize);
        assert!(engine.unsaid.len() <= limits().farewells);
        assert!(engine.said.len() <= limits().farewells);
        assert_eq!(engine.by_id.len(), engine.holds.len());
        assert_eq!(engine.by_thread.len(), engine.holds.len(), "one hold for one thread");
        assert_eq!(engine.timers.len(), engine.holds.len(), "every hold has its timer");
        assert_eq!(
            engine.by_process.values().map(BTreeSet::len).sum::<usize>(),
            engine.holds.len()
        );
        let waits = |hold: &&Hold| matches!(hold.state, State::Waiting { .. });
        assert_eq!(engine.holds.values().filter(waits).count(), engine.waiting());
        for (hold, tracked) in &engine.holds {
            assert!(engine.timers.contains(&(tracked.timer_ns, *hold)));
            match &tracked.state {
                State::Answered(answer) => {
                    assert!(answer.grant.expires_ns <= tracked.deadline_ns + GRANT_SLACK_NS);
                }
                _ => assert!(tracked.timer_ns <= tracked.deadline_ns),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_invariants_hold_after_every_event(
        steps in proptest::collection::vec(step(), 1..80)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check(step);
            world.step(&Step::Pass { seconds: 0 });
            world.check(step);
            let now_ns = world.now_ns;
            for tracked in world.engine.holds.values() {
                let open = !matches!(tracked.state, State::Answered(_));
                prop_assert!(!open || tracked.timer_ns > now_ns, "open past its deadline");
            }
        }
        // Every hold ends, whether its thread ever runs again or not.
        world.map_full = false;
        for _ in 0..40 {
            let step = Step::Pass { seconds: 60 };
            world.step(&step);
            world.check(&step);
        }
        prop_assert_eq!(world.engine.tracked().count(), 0);
        // Beyond the limit a hold is denied and not followed: its grant stays until its thread runs.
        let left = |grant: &&Grant| !world.beyond_limit.contains(&grant.hold_id);
        prop_assert_eq!(world.granted.values().find(left), None, "no grant outlives its hold");
    }
}
