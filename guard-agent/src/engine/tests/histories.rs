//! The engine's invariants after every event of random histories.

use super::*;

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
                self.engine.adopt(self.now_ns, *key, &record);
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
                Command::Forget { hold, key } => {
                    if self.held.get(&*key).is_some_and(|(held, _)| *held == hold) {
                        self.held.remove(&*key);
                    }
                    if self.granted.get(&*key).is_some_and(|grant| grant.hold_id == hold) {
                        self.granted.remove(&*key);
                    }
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
        // Beyond the limit a hold is denied and not followed: its grant stays until its thread
        // runs.
        let left = |grant: &&Grant| !world.beyond_limit.contains(&grant.hold_id);
        prop_assert_eq!(world.granted.values().find(left), None, "no grant outlives its hold");
    }
}
