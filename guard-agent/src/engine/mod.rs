//! The hold engine: which hold is answered how, and when. Sans-I/O.
//!
//! Methods are what happens (with the time of day, `CLOCK_BOOTTIME` ns); [`Engine::take_commands`]
//! is what must be done about it. The engine reads no clock, no file and no socket, so the same
//! code runs under the property tests, which check its invariants after every event.
//!
//! Architecture invariant: an allow leaves this module only as [`state::Ruling::Allow`], which
//! needs a proof from the policy or from a verified decision on exactly this hold and action.

mod command;
mod end;
mod limits;
mod state;
#[cfg(test)]
mod tests;

pub use command::{Command, Farewell, HoldEnd};
pub use end::{KernelOutcome, reason_name};
pub use limits::{GRANT_SLACK_NS, Limits, NUDGE_FIRST_NS, NUDGES_MAX};

use crate::decide::{Judged, Judgement, own_statement};
use guard_audit::Event;
use guard_common::hold::{ActionKey, Grant, HoldRecord, VERDICT_DENY};
use guard_model::{BootId, HoldId, HoldRequest, HostId, SessionId, Tier, Verdict};
use guard_proto::decision::VerifiedDecision;
use state::{Answer, Hold, MatchedAllow, Permit, Ruling, State};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// A hold that the kernel announced.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// The kernel's number of it.
    pub hold: u64,
    /// The kernel's handle of the session.
    pub session: u64,
    /// Exactly which action.
    pub key: Box<ActionKey>,
    /// `CLOCK_BOOTTIME`, ns.
    pub deadline_ns: u64,
}

/// What the driver does about an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Announced {
    /// Judge it, then call [`Engine::judge`].
    Judge,
    /// Nothing: it is known, or answered already.
    Known,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Engine {
    host: HostId,
    boot: BootId,
    limits: Limits,
    holds: BTreeMap<u64, Hold>,
    by_id: HashMap<HoldId, u64>,
    /// A thread has one action at a time; a second one supersedes the first.
    by_thread: HashMap<(u32, u64), u64>,
    by_process: HashMap<u32, BTreeSet<u64>>,
    timers: BTreeSet<(u64, u64)>,
    /// Session handle → holds that wait for a person.
    waiting: HashMap<u64, u32>,
    /// Processes to resume at the end of this turn, with a hold that names the process: two hundred
    /// decisions for one process are one SIGCONT (H13).
    resume: BTreeMap<u32, (u64, Box<ActionKey>)>,
    link_up: bool,
    spool_full: bool,
    ending: bool,
    /// What the controller has not been told, because the link was down.
    unsaid: VecDeque<Farewell>,
    /// What it was told, in case it asks again.
    said: VecDeque<Farewell>,
    out: Vec<Command>,
}

impl Engine {
    /// An engine without holds, for `boot` of `host`.
    #[must_use]
    pub fn new(host: HostId, boot: BootId, limits: Limits) -> Self {
        Self {
            host,
            boot,
            limits,
            holds: BTreeMap::new(),
            by_id: HashMap::new(),
            by_thread: HashMap::new(),
            by_process: HashMap::new(),
            timers: BTreeSet::new(),
            waiting: HashMap::new(),
            resume: BTreeMap::new(),
            link_up: false,
            spool_full: false,
            ending: false,
            unsaid: VecDeque::new(),
            said: VecDeque::new(),
            out: Vec::new(),
        }
    }

    /// Takes over a hold of an earlier guard-agent (H9). The kernel announces it again when its
    /// thread restarts; until then only its deadline and the task's death can end it.
    pub fn adopt(&mut self, now_ns: u64, key: ActionKey, record: &HoldRecord) {
        let announcement = Announcement {
            hold: record.hold_id,
            session: record.session,
            key: Box::new(key),
            deadline_ns: record.deadline_ns,
        };
        if self.holds.contains_key(&record.hold_id) {
            return;
        }
        let thread = (announcement.key.tid, announcement.key.start_boottime_ns);
        if self.by_thread.get(&thread).is_some_and(|newer| *newer > record.hold_id) {
            // The thread had left it before, and nobody was there to notice.
            let Announcement { hold, key, .. } = announcement;
            return self.out.push(Command::Forget { hold, key });
        }
        self.supersede(&announcement);
        if !self.has_room(&announcement) {
            return;
        }
        self.track(announcement, State::Adopted { early: None });
        self.ask_again(now_ns, record.hold_id);
    }

    /// Asks the kernel to announce an adopted hold, every second until it does: a thread that is on its way
    /// to a stop when it is resumed misses that.
    fn ask_again(&mut self, now_ns: u64, hold: u64) {
        let Some(tracked) = self.holds.get(&hold) else { return };
        let (key, deadline_ns) = (tracked.key.clone(), tracked.deadline_ns);
        self.out.push(Command::Reannounce { hold, key: key.clone() });
        self.resume.insert(key.tgid, (hold, key));
        self.set_timer(hold, now_ns.saturating_add(NUDGE_FIRST_NS).min(deadline_ns));
    }

    /// The kernel placed a hold, or announced one again.
    pub fn announce(&mut self, announcement: Announcement) -> Announced {
        let hold = announcement.hold;
        match self.holds.get_mut(&hold) {
            None => {
                self.supersede(&announcement);
                if !self.has_room(&announcement) {
                    return Announced::Known;
                }
                self.track(announcement, State::Announced { early: None });
                Announced::Judge
            }
            Some(Hold { state, deadline_ns, .. }) => match state {
                State::Adopted { early } => {
                    *state = State::Announced { early: early.take() };
                    let deadline_ns = *deadline_ns;
                    self.set_timer(hold, deadline_ns);
                    Announced::Judge
                }
                State::Announced { .. } => Announced::Judge,
                State::Waiting { .. } => Announced::Known,
                // The grant may have been lost with the map of an earlier generation.
                State::Answered(_) => {
                    self.send_grant(hold);
                    Announced::Known
                }
            },
        }
    }

    /// The second tier has judged an announced hold.
    pub fn judge(&mut self, now_ns: u64, hold: u64, judgement: Judgement) {
        let Some(tracked) = self.holds.get_mut(&hold) else { return };
        let State::Announced { early } = &mut tracked.state else { return };
        let (early, session) = (early.take(), tracked.session);
        match judgement {
            Judgement::Allow(..) if refuses(early.as_deref()) => {
                // The policy has changed since a person said no: the stricter word counts.
                if let Some(decision) = early {
                    self.answer_for_person(now_ns, hold, &decision, Ruling::Deny);
                }
            }
            Judgement::Allow(proof, judged) => {
                let permit = Permit::Policy { proof };
                self.settle(now_ns, hold, Ruling::Allow(permit), *judged, early.is_some());
            }
            Judgement::Deny(judged) => {
                self.settle(now_ns, hold, Ruling::Deny, *judged, early.is_some())
            }
            Judgement::Person(request) => {
                if let Some(why) = self.cannot_wait(session) {
                    self.settle(
                        now_ns,
                        hold,
                        Ruling::Deny,
                        refused(*request, why),
                        early.is_some(),
                    );
                } else {
                    self.wait(hold, now_ns, request);
                    if let Some(decision) = early {
                        self.decide(now_ns, *decision);
                    }
                }
            }
        }
    }

    /// Why a session's action may not wait for a person now.
    fn cannot_wait(&self, session: u64) -> Option<&'static str> {
        if self.spool_full {
            return Some("evidence cannot be kept: guard-agent's spool is full");
        }
        if self.ending {
            return Some("enforcement is being ended");
        }
        let waiting = self.waiting.get(&session).copied().unwrap_or(0);
        (waiting >= self.limits.waiting_per_session)
            .then_some("too many actions of this session wait for a person")
    }

    fn wait(&mut self, hold: u64, now_ns: u64, request: Box<HoldRequest>) {
        let Some(tracked) = self.holds.get_mut(&hold) else { return };
        let ttl_ns = request.terms.ttl_ms.saturating_mul(1_000_000);
        let until_ns = now_ns.saturating_add(ttl_ns).min(tracked.deadline_ns);
        *self.waiting.entry(tracked.session).or_default() += 1;
        let session = tracked.session_id;
        tracked.state = State::Waiting { request: request.clone(), until_ns };
        self.set_timer(hold, until_ns);
        self.evidence(Some(session), Event::Held { request: request.clone() });
        if self.link_up {
            self.out.push(Command::Request(request));
        }
    }

    fn settle(
        &mut self,
        now_ns: u64,
        hold: u64,
        ruling: Ruling,
        judged: Judged,
        known_above: bool,
    ) {
        let Some(tracked) = self.holds.get(&hold) else { return };
        let verdict = verdict_of(&ruling);
        let Judged { digest, process, action, statements } = judged;
        let event = Event::Decided {
            hold_id: tracked.id,
            digest,
            process,
            action,
            verdict,
            tier: Tier::Agent,
            statements,
        };
        let session = tracked.session_id;
        self.answer(now_ns, hold, ruling, (known_above, false));
        self.evidence(Some(session), event);
    }

    /// A person decided, and the signature, host and boot are right.
    pub fn decide(&mut self, now_ns: u64, decision: VerifiedDecision) {
        let id = decision.decision().hold_id;
        let Some(&hold) = self.by_id.get(&id) else { return self.decide_unknown(id) };
        let Some(tracked) = self.holds.get_mut(&hold) else { return };
        match &mut tracked.state {
            State::Adopted { early } | State::Announced { early } => {
                *early = Some(Box::new(decision));
            }
            State::Waiting { request, until_ns } => {
                if request.digest != decision.decision().digest {
                    let why = "its action digest is another action's";
                    return self.refuse_decision(Some(id), why);
                }
                if now_ns >= *until_ns {
                    return self.expire(now_ns, hold);
                }
                let ruling = match MatchedAllow::new(&decision, id, request.digest) {
                    Some(proof) => Ruling::Allow(Permit::Person { _proof: proof }),
                    None => Ruling::Deny,
                };
                self.answer_for_person(now_ns, hold, &decision, ruling);
            }
            // The controller re-sends until it hears the end: the same word again is no news.
            State::Answered(answer) => {
                let said = match decision.decision().verdict {
                    Verdict::Allow => guard_common::hold::VERDICT_ALLOW,
                    Verdict::Deny => VERDICT_DENY,
                };
                if !answer.by_person || answer.grant.verdict != said {
                    self.refuse_decision(Some(id), "the hold is answered already");
                }
            }
        }
    }

    fn answer_for_person(
        &mut self,
        now_ns: u64,
        hold: u64,
        decision: &VerifiedDecision,
        ruling: Ruling,
    ) {
        let Some(tracked) = self.holds.get(&hold) else { return };
        let (session, verdict) = (tracked.session_id, verdict_of(&ruling));
        let decision = decision.decision();
        let event = Event::PersonDecided {
            hold_id: decision.hold_id,
            digest: decision.digest,
            verdict,
            decided_by: decision.decided_by.clone(),
            reason: decision.reason.clone(),
        };
        self.answer(now_ns, hold, ruling, (true, true));
        self.evidence(Some(session), event);
    }

    fn decide_unknown(&mut self, id: HoldId) {
        let ended = |farewell: &&Farewell| farewell.hold_id == id;
        let known = self.said.iter().chain(&self.unsaid).find(ended).copied();
        if known.is_none() {
            self.refuse_decision(Some(id), "this host holds no such action");
        }
        let end = known.map_or(HoldEnd::Finished { consumed: false }, |farewell| farewell.end);
        if self.link_up {
            self.out.push(Command::Farewell(Farewell { hold_id: id, end }));
        }
    }

    /// Something that claimed to be a decision was refused, here or before it came here.
    pub fn refuse_decision(&mut self, hold_id: Option<HoldId>, why: impl Into<String>) {
        let session = hold_id
            .and_then(|id| self.by_id.get(&id))
            .and_then(|hold| self.holds.get(hold))
            .map(|hold| hold.session_id);
        self.evidence(session, Event::DecisionRefused { hold_id, why: why.into() });
    }

    /// The map refused a grant: the hold stays unanswered in the kernel, and is tried again.
    pub fn grant_failed(&mut self, hold: u64) {
        if let Some(Hold { state: State::Answered(answer), .. }) = self.holds.get_mut(&hold) {
            answer.written = false;
        }
    }

    /// The controller can be spoken to: everything that it may not know is said again.
    pub fn link_up(&mut self) {
        self.link_up = true;
        for hold in self.holds.values() {
            if let State::Waiting { request, .. } = &hold.state {
                self.out.push(Command::Request(request.clone()));
            }
        }
        while let Some(farewell) = self.unsaid.pop_front() {
            self.say(farewell);
        }
    }

    /// It cannot. Nothing is decided by that (H10): what waits goes on waiting to its deadline.
    pub fn link_down(&mut self) {
        self.link_up = false;
    }

    /// Whether evidence can be kept; if not, nothing new may wait for a person.
    pub fn set_spool_full(&mut self, full: bool) {
        self.spool_full = full;
    }

    /// Holds that the controller should not withdraw, for `Hello`: at most as many as there can be,
    /// which is also what a controller takes.
    #[must_use]
    pub fn pending_ids(&self) -> Vec<HoldId> {
        let open = self.holds.values().filter(|hold| match &hold.state {
            State::Adopted { .. } | State::Announced { .. } | State::Waiting { .. } => true,
            State::Answered(answer) => answer.known_above,
        });
        open.map(|hold| hold.id)
            .chain(self.unsaid.iter().map(|said| said.hold_id))
            .take(self.limits.holds)
            .collect()
    }

    /// Holds that wait for a person.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.values().map(|count| *count as usize).sum()
    }

    /// All tracked holds, with their actions: whose tasks must be watched.
    pub fn tracked(&self) -> impl Iterator<Item = (u64, &ActionKey)> {
        self.holds.iter().map(|(hold, tracked)| (*hold, tracked.key.as_ref()))
    }

    /// Whether a thread of the process is held.
    #[must_use]
    pub fn holds_process(&self, tgid: u32) -> bool {
        self.by_process.contains_key(&tgid)
    }

    /// Denies everything that is held, and from now on whatever would wait for a person: enforcement is
    /// about to end, and nothing that was held may go on because of it.
    pub fn deny_all(&mut self, now_ns: u64) {
        self.ending = true;
        let is_open = |hold: &&u64| {
            let state = self.holds.get(hold).map(|tracked| &tracked.state);
            !matches!(state, None | Some(State::Answered(_)))
        };
        let open: Vec<u64> = self.holds.keys().filter(is_open).copied().collect();
        for hold in open {
            self.expire(now_ns, hold);
        }
    }

    /// When [`Engine::tick`] has to be called, `CLOCK_BOOTTIME` ns.
    #[must_use]
    pub fn next_timer_ns(&self) -> Option<u64> {
        self.timers.first().map(|(at_ns, _)| *at_ns)
    }

    /// Handles every timer that is due.
    pub fn tick(&mut self, now_ns: u64) {
        while let Some(&(at_ns, hold)) = self.timers.first() {
            if at_ns > now_ns {
                return;
            }
            self.timers.pop_first();
            match self.holds.get(&hold).map(|tracked| (&tracked.state, tracked.deadline_ns)) {
                None => {}
                Some((State::Answered(_), _)) => self.nudge(now_ns, hold),
                Some((State::Adopted { .. }, deadline_ns)) if now_ns < deadline_ns => {
                    self.ask_again(now_ns, hold);
                }
                Some(_) => self.expire(now_ns, hold),
            }
        }
    }

    /// What must be done, in order: a process is resumed after all of its decisions are written, and
    /// before anything is said of them, which it need not wait for.
    pub fn take_commands(&mut self) -> Vec<Command> {
        let resume = std::mem::take(&mut self.resume);
        self.out.extend(resume.into_values().map(|(hold, key)| Command::Resume { hold, key }));
        let mut commands = std::mem::take(&mut self.out);
        commands.sort_by_key(Command::turn);
        commands
    }

    fn answer(
        &mut self,
        now_ns: u64,
        hold: u64,
        ruling: Ruling,
        (known_above, by_person): (bool, bool),
    ) {
        let Some(tracked) = self.holds.get_mut(&hold) else { return };
        let waited = matches!(tracked.state, State::Waiting { .. });
        let (session, known_above) = (tracked.session, known_above || waited);
        let grant = Grant {
            hold_id: hold,
            expires_ns: tracked.deadline_ns.saturating_add(GRANT_SLACK_NS),
            verdict: ruling.verdict(),
            flags: ruling.grant_flags(),
        };
        let answer = Answer { grant, written: false, known_above, by_person, nudges: 0 };
        tracked.state = State::Answered(answer);
        if waited {
            self.stop_waiting(session);
        }
        self.set_timer(hold, now_ns.saturating_add(NUDGE_FIRST_NS));
        self.send_grant(hold);
    }

    fn send_grant(&mut self, hold: u64) {
        let Some(tracked) = self.holds.get_mut(&hold) else { return };
        let State::Answered(answer) = &mut tracked.state else { return };
        answer.written = true;
        let (key, grant) = (tracked.key.clone(), answer.grant);
        self.resume.insert(key.tgid, (hold, key.clone()));
        self.out.push(Command::Grant { hold, key, grant });
    }

    fn evidence(&mut self, session: Option<SessionId>, event: Event) {
        self.out.push(Command::Evidence { session, event: Box::new(event) });
    }
}

fn refuses(decision: Option<&VerifiedDecision>) -> bool {
    decision.is_some_and(|decision| decision.decision().verdict == Verdict::Deny)
}

fn verdict_of(ruling: &Ruling) -> Verdict {
    match ruling {
        Ruling::Allow(_) => Verdict::Allow,
        Ruling::Deny => Verdict::Deny,
    }
}

/// What would have waited for a person, denied for Guard's own reason.
fn refused(request: HoldRequest, why: &str) -> Judged {
    let mut statements = request.statements;
    statements.push(own_statement("cannot-wait", why));
    Judged { digest: request.digest, process: request.process, action: request.action, statements }
}
