//! The hold engine and the kernel's protocol as one model: tasks, guard-agent with crashes, controller and clock
//! in any order, the invariants after every step. What the model does on purpose wrongly has to be found.

use super::{
    kernel_model::{At, Fault, KernelModel, THREADS, Written, process_of},
    *,
};
use proptest::{strategy::ValueTree as _, test_runner::TestRunner};

/// What can happen.
#[derive(Clone, Debug)]
enum Step {
    Call { tid: u32, object: u64 },
    Thread { tid: u32 },
    Change { tid: u32, object: u64 },
    Continue { tid: u32 },
    Kill { tid: u32 },
    Read,
    Act,
    Crash,
    Start,
    Watch,
    Decide { nth: usize, right: bool, allow: bool },
    Link { up: bool },
    Pass { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let (tid, object, nth) = (0..THREADS, 0..4_u64, 0..4_usize);
    prop_oneof![
        6 => (tid.clone(), object.clone()).prop_map(|(tid, object)| Step::Call { tid, object }),
        24 => tid.clone().prop_map(|tid| Step::Thread { tid }),
        2 => (tid.clone(), object).prop_map(|(tid, object)| Step::Change { tid, object }),
        2 => tid.clone().prop_map(|tid| Step::Continue { tid }),
        1 => tid.prop_map(|tid| Step::Kill { tid }),
        8 => Just(Step::Read),
        12 => Just(Step::Act),
        1 => Just(Step::Crash),
        4 => Just(Step::Start),
        1 => Just(Step::Watch),
        5 => (nth, any::<bool>(), any::<bool>())
            .prop_map(|(nth, right, allow)| Step::Decide { nth, right, allow }),
        2 => any::<bool>().prop_map(|up| Step::Link { up }),
        2 => prop_oneof![0..5_u64, 0..700_u64].prop_map(|seconds| Step::Pass { seconds }),
    ]
}

struct World {
    kernel: KernelModel,
    fault: Option<Fault>,
    /// guard-agent, while it runs, and what its engine wants done.
    engine: Option<Engine>,
    commands: VecDeque<Command>,
    /// What the controller has been asked, and what it has answered: it says so again on every link.
    asked: BTreeSet<u64>,
    answered: BTreeMap<u64, Verdict>,
    ids: HashMap<HoldId, u64>,
    link_up: bool,
}

impl World {
    fn new(fault: Option<Fault>) -> Self {
        let mut world = Self {
            kernel: KernelModel::new(fault),
            fault,
            engine: None,
            commands: VecDeque::new(),
            asked: BTreeSet::new(),
            answered: BTreeMap::new(),
            ids: HashMap::new(),
            link_up: false,
        };
        world.start();
        world
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::Call { tid, object } => self.kernel.call(tid, object),
            Step::Thread { tid } => self.kernel.step(tid)?,
            Step::Change { tid, object } => self.kernel.threads[tid as usize].argument = object,
            Step::Continue { tid } => self.kernel.proceed(process_of(tid)),
            Step::Kill { tid } => self.kernel.kill(process_of(tid))?,
            Step::Read => self.read()?,
            Step::Act => self.act()?,
            Step::Crash => (self.engine, self.commands) = (None, VecDeque::new()),
            Step::Start => self.start(),
            Step::Watch => self.watch(),
            Step::Decide { nth, right, allow } => {
                let verdict = if allow { Verdict::Allow } else { Verdict::Deny };
                if let Some(&hold) = self.asked.iter().nth(nth) {
                    self.decide(hold, right, verdict);
                }
            }
            Step::Link { up } => self.link(up),
            Step::Pass { seconds } => {
                self.kernel.now_ns += seconds * SECOND;
                let now_ns = self.kernel.now_ns;
                if let Some(engine) = &mut self.engine {
                    engine.tick(now_ns);
                }
            }
        }
        self.collect();
        Ok(())
    }

    fn collect(&mut self) {
        if let Some(engine) = &mut self.engine {
            self.commands.extend(engine.take_commands());
        }
    }

    /// As the driver begins: what is held is adopted, what is of dead tasks forgotten.
    fn start(&mut self) {
        if self.engine.is_some() {
            return;
        }
        let mut engine = engine();
        if self.fault != Some(Fault::NoAdoption) {
            let holds: Vec<_> = self.kernel.holds.iter().map(|(key, hold)| (*key, *hold)).collect();
            for (key, hold) in holds {
                if self.kernel.is_alive(&key) {
                    engine.adopt(self.kernel.now_ns, key, &hold);
                } else {
                    self.kernel.forget(&key, hold.hold_id);
                }
            }
            let KernelModel { holds, grants, .. } = &mut self.kernel;
            grants.retain(|key, _| holds.contains_key(key));
        }
        if self.link_up {
            engine.link_up();
        }
        self.engine = Some(engine);
        self.collect();
    }

    fn read(&mut self) -> Result<(), String> {
        if self.engine.is_none() {
            return Ok(());
        }
        let written = self.kernel.read()?;
        let now_ns = self.kernel.now_ns;
        let Some(engine) = &mut self.engine else { return Ok(()) };
        match written {
            None => {}
            Some(Written::Outcome(outcome)) => engine.outcome(&outcome),
            Some(Written::Held(announcement)) => {
                let hold = announcement.hold;
                let object = announcement.key.object[0];
                if engine.announce(announcement) == Announced::Judge {
                    let judgement = match object {
                        0 => {
                            self.kernel.permitted.insert(hold);
                            allow(hold)
                        }
                        1 => Judgement::Deny(judged(hold)),
                        _ => ask(hold, 300_000),
                    };
                    engine.judge(now_ns, hold, judgement);
                }
            }
        }
        Ok(())
    }

    /// Carries out one command, as the driver does.
    fn act(&mut self) -> Result<(), String> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        match self.commands.pop_front() {
            Some(Command::Grant { hold, key, grant }) => {
                if grant.verdict == VERDICT_ALLOW && !self.kernel.permitted.contains(&hold) {
                    return Err(format!(
                        "H1: guard-agent grants hold {hold}, which nobody allowed"
                    ));
                }
                self.kernel.grants.insert(*key, grant);
            }
            Some(Command::Resume { hold, key }) => {
                if self.kernel.is_alive(&key) {
                    self.kernel.proceed(key.tgid);
                } else if self.kernel.ring.is_empty() {
                    engine.gone(hold);
                }
            }
            Some(Command::Forget { hold, key }) => self.kernel.forget(&key, hold),
            Some(Command::Reannounce { key, .. }) => {
                if let Some(hold) = self.kernel.holds.get_mut(&*key) {
                    hold.state = guard_common::hold::HOLD_REANNOUNCE;
                }
            }
            Some(Command::Request(request)) => {
                let hold = request.digest.0[0];
                self.ids.insert(request.hold_id, u64::from(hold));
                self.asked.insert(u64::from(hold));
            }
            Some(Command::Farewell(farewell)) => {
                if let Some(hold) = self.ids.get(&farewell.hold_id) {
                    self.asked.remove(hold);
                    self.answered.remove(hold);
                }
            }
            Some(Command::Evidence { .. }) | None => {}
        }
        Ok(())
    }

    /// Tasks that have died, once nothing more of them can come.
    fn watch(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        if self.kernel.ring.is_empty() {
            let dead = engine.tracked().filter(|(_, key)| !self.kernel.is_alive(key));
            for hold in dead.map(|(hold, _)| hold).collect::<Vec<_>>() {
                engine.gone(hold);
            }
        }
    }

    fn decide(&mut self, hold: u64, right: bool, verdict: Verdict) {
        if self.answered.contains_key(&hold) || !self.link_up {
            return;
        }
        let shown = if right { digest(hold) } else { digest(hold + 1) };
        if right {
            self.answered.insert(hold, verdict);
            if verdict == Verdict::Allow {
                self.kernel.permitted.insert(hold);
            }
        }
        let now_ns = self.kernel.now_ns;
        if let Some(engine) = &mut self.engine {
            engine.decide(now_ns, decision(hold, shown, verdict));
        }
    }

    fn link(&mut self, up: bool) {
        self.link_up = up;
        let now_ns = self.kernel.now_ns;
        let Some(engine) = &mut self.engine else { return };
        if up {
            engine.link_up();
            for (hold, verdict) in &self.answered {
                engine.decide(now_ns, decision(*hold, digest(*hold), *verdict));
            }
        } else {
            engine.link_down();
        }
    }

    /// Everybody does their work: every thread goes on or fails, long before its deadline, and nothing is left.
    fn settle(&mut self) -> Result<(), String> {
        let done = |world: &Self| {
            world.kernel.threads.iter().all(|thread| matches!(thread.at, At::User | At::Dead))
        };
        self.step(&Step::Start)?;
        self.step(&Step::Link { up: true })?;
        for _ in 0..300 {
            self.turn()?;
            if done(self) {
                break;
            }
            self.step(&Step::Pass { seconds: 1 })?;
        }
        if !done(self) {
            let left: Vec<_> = self.kernel.threads.iter().map(|thread| thread.at).collect();
            return Err(format!("H9, H13: a thread is never answered: {left:?}"));
        }
        // What its thread has left for another action ends at its own deadline.
        for _ in 0..30 {
            self.step(&Step::Pass { seconds: 60 })?;
            self.turn()?;
        }
        // A grant that is left names a hold that is gone, so it counts for nothing; the next start drops it.
        if self.kernel.holds.is_empty() {
            return Ok(());
        }
        Err(format!("{} holds are left in the kernel's table", self.kernel.holds.len()))
    }

    fn turn(&mut self) -> Result<(), String> {
        while !self.kernel.ring.is_empty() {
            self.step(&Step::Read)?;
        }
        while !self.commands.is_empty() {
            self.step(&Step::Act)?;
        }
        for hold in self.asked.clone() {
            self.decide(hold, true, Verdict::Allow);
        }
        self.collect();
        self.step(&Step::Watch)?;
        for tid in 0..THREADS {
            self.step(&Step::Thread { tid })?;
        }
        Ok(())
    }
}

/// Histories until a planted fault is given up: each was found within hundreds.
const HISTORIES_MAX: u32 = 20_000;

/// A history from start to end: what must never happen does not.
fn play_open(steps: &[Step], fault: Option<Fault>) -> Result<World, String> {
    let mut world = World::new(fault);
    for (at, step) in steps.iter().enumerate() {
        world.step(step).map_err(|problem| format!("step {at}, {step:?}: {problem}"))?;
    }
    Ok(world)
}

/// As [`play_open`]; and then what must happen does.
fn play(steps: &[Step], fault: Option<Fault>) -> Result<(), String> {
    play_open(steps, fault)?.settle()
}

fn history() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..160)
}

/// A history without stray SIGCONTs and leaps of the clock. With them, a thread that is inside of a hook just
/// then can stop behind the resume that was meant for it, and waits until its hold's deadline or, if that has
/// passed, until somebody continues it (SPECIFICATION.md).
fn calm_history() -> impl Strategy<Value = Vec<Step>> {
    let is_calm = |step: &Step| match step {
        Step::Continue { .. } => false,
        Step::Pass { seconds } => *seconds < CALM_S,
        _ => true,
    };
    history().prop_map(move |steps| steps.into_iter().filter(is_calm).collect())
}

/// Longest time that passes at once in a calm history, s.
const CALM_S: u64 = 5;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn task_guard_agent_controller_crash_and_clock_keep_the_protocol_in_any_order(
        steps in history()
    ) {
        play_open(&steps, None).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn every_thread_is_answered_and_no_hold_is_left_in_the_kernel(steps in calm_history()) {
        play(&steps, None).map_err(TestCaseError::fail)?;
    }
}

/// Whether random histories with a fault show it as a breach of the invariant. They may show it otherwise first.
fn is_found(fault: Fault, invariant: &str) -> bool {
    let mut runner = TestRunner::deterministic();
    (0..HISTORIES_MAX).any(|_| {
        let history = history().new_tree(&mut runner).map(|tree| tree.current());
        let problem = history.map(|steps| play(&steps, Some(fault)));
        matches!(problem, Ok(Err(problem)) if problem.contains(invariant))
    })
}

#[test]
fn every_planted_fault_of_the_protocol_is_found_by_its_invariant() {
    for (fault, invariant) in [
        (Fault::EventBeforeStop, "H4"),
        (Fault::GrantKept, "H2"),
        (Fault::AnyGrant, "H1"),
        (Fault::ObjectIgnored, "H1"),
        (Fault::ContinueIsAnswer, "H8"),
        (Fault::NoDeadline, "H6"),
        (Fault::ProcessStop, "H5"),
        (Fault::NoAdoption, "H9"),
        (Fault::KillWaits, "H13"),
        (Fault::ForgottenByKey, "H13"),
    ] {
        assert!(is_found(fault, invariant), "{fault:?} is never a breach of {invariant}");
    }
}
