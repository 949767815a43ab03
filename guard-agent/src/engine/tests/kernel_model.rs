//! The kernel's side of the protocol, step by step: tasks, their signals, and what `guard-ebpf/src/hold.rs` does
//! with holds, grants and the ring buffer. Every line that another CPU could run between two of its own is a step
//! of its own.

use super::*;
use guard_common::{
    event::{EVENT_REFUSED, REASON_HOLDS_FULL},
    hold::{HOLD_PENDING, HOLD_REANNOUNCE},
};

/// Threads: 0 to 3 are one process, 4 and 5 another (see `key`).
pub(super) const THREADS: u32 = 6;
/// Room in the hold table and in the ring buffer: less than the threads could need.
const HOLDS: usize = 5;
const RING: usize = 5;

/// A mistake that the model makes on purpose: each invariant has to notice its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The record is readable before the task is sent its stop (H4).
    EventBeforeStop,
    /// A grant is not deleted when it is used (H2).
    GrantKept,
    /// A grant counts for whatever hold the thread has by now (H1).
    AnyGrant,
    /// The key has the thread, not the object (H1).
    ObjectIgnored,
    /// What is continued is taken for granted (H8).
    ContinueIsAnswer,
    /// A restart does not look at the deadline (H6).
    NoDeadline,
    /// The stop is sent to the process: it is swallowed where a sibling has one pending (H5).
    ProcessStop,
    /// guard-agent starts without looking at what is held (H9).
    NoAdoption,
    /// SIGKILL waits for the hold (H13).
    KillWaits,
    /// What guard-agent forgets goes by the action alone, and a newer hold with it (H13).
    ForgottenByKey,
}

/// Where a thread is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum At {
    /// In its own code.
    User,
    /// At the hook, with nothing looked up yet.
    Hook,
    /// It has seen this grant, and this hold.
    Take(Grant, Option<HoldRecord>),
    Write(HoldRecord),
    Stop(HoldRecord),
    Submit(HoldRecord),
    StopAgain,
    /// The hook has returned.
    Leave(Left),
    /// On its way out, to be restarted when it is continued.
    Stopped,
    Dead,
}

/// What a hook has returned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Left {
    Allow { hold: u64 },
    Deny,
    Restart,
}

#[derive(Debug)]
pub(super) struct Thread {
    pub(super) at: At,
    /// What the next look at user memory finds: another thread may change it.
    pub(super) argument: u64,
    /// What the hook has read in this call of it, and when.
    checked: u64,
    checked_ns: u64,
    stop_pending: bool,
    signal_pending: bool,
    dying: bool,
}

/// A record in the ring buffer.
#[derive(Clone, Debug)]
pub(super) enum Written {
    Held(Announcement),
    Outcome(KernelOutcome),
}

pub(super) struct KernelModel {
    fault: Option<Fault>,
    pub(super) now_ns: u64,
    pub(super) threads: Vec<Thread>,
    stopped: HashMap<u32, bool>,
    pub(super) holds: HashMap<ActionKey, HoldRecord>,
    pub(super) grants: HashMap<ActionKey, Grant>,
    pub(super) ring: VecDeque<Written>,
    next_hold: u64,
    // What an onlooker knows.
    /// Which thread and object each hold was placed for, and until when.
    pub(super) placed: HashMap<u64, (u32, u64, u64)>,
    /// Holds that policy or a person allowed.
    pub(super) permitted: HashSet<u64>,
    /// Holds whose thread was sent its stop.
    stopped_for: HashSet<u64>,
    completed: HashSet<u64>,
    /// Holds that have met their deadline.
    expired: HashSet<u64>,
}

pub(super) fn process_of(tid: u32) -> u32 {
    key(tid, 0).tgid
}

impl KernelModel {
    pub(super) fn new(fault: Option<Fault>) -> Self {
        let thread = |_| Thread {
            at: At::User,
            argument: 0,
            checked: 0,
            checked_ns: 0,
            stop_pending: false,
            signal_pending: false,
            dying: false,
        };
        Self {
            fault,
            now_ns: SECOND,
            threads: (0..THREADS).map(thread).collect(),
            stopped: HashMap::new(),
            holds: HashMap::new(),
            grants: HashMap::new(),
            ring: VecDeque::new(),
            next_hold: 0,
            placed: HashMap::new(),
            permitted: HashSet::new(),
            stopped_for: HashSet::new(),
            completed: HashSet::new(),
            expired: HashSet::new(),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn thread(&mut self, tid: u32) -> &mut Thread {
        &mut self.threads[tid as usize]
    }

    fn key_of(&self, tid: u32, object: u64) -> ActionKey {
        *key(tid, if self.has(Fault::ObjectIgnored) { 0 } else { object })
    }

    fn is_stopped(&self, tid: u32) -> bool {
        self.stopped.get(&process_of(tid)).copied().unwrap_or(false)
    }

    /// A thread in its own code calls the kernel.
    pub(super) fn call(&mut self, tid: u32, object: u64) {
        let stopped = self.is_stopped(tid);
        let thread = self.thread(tid);
        if thread.at == At::User && !stopped {
            (thread.at, thread.argument) = (At::Hook, object);
        }
    }

    /// SIGCONT to a process: every stop that its threads have pending is gone, that they have looked is not.
    pub(super) fn proceed(&mut self, process: u32) {
        self.stopped.insert(process, false);
        for (tid, thread) in (0_u32..).zip(&mut self.threads) {
            if process_of(tid) == process {
                thread.stop_pending = false;
            }
        }
    }

    /// SIGKILL to a process. What is inside a hook leaves it first.
    pub(super) fn kill(&mut self, process: u32) -> Result<(), String> {
        let waits = self.has(Fault::KillWaits);
        for (tid, thread) in (0_u32..).zip(&mut self.threads) {
            if process_of(tid) == process && thread.at != At::Dead {
                thread.dying = true;
                if thread.at == At::User || (thread.at == At::Stopped && !waits) {
                    thread.at = At::Dead;
                }
                if thread.at == At::Stopped {
                    return Err(format!("H13: thread {tid} is held and does not die"));
                }
            }
        }
        Ok(())
    }

    pub(super) fn is_alive(&self, key: &ActionKey) -> bool {
        self.threads[key.tid as usize].at != At::Dead
    }

    /// What guard-agent deletes: this hold, and a grant for it.
    pub(super) fn forget(&mut self, key: &ActionKey, hold: u64) {
        let any = self.has(Fault::ForgottenByKey);
        if self.grants.get(key).is_some_and(|grant| any || grant.hold_id == hold) {
            self.grants.remove(key);
        }
        if self.holds.get(key).is_some_and(|held| any || held.hold_id == hold) {
            self.holds.remove(key);
        }
    }

    /// One step of one thread.
    pub(super) fn step(&mut self, tid: u32) -> Result<(), String> {
        let now_ns = self.now_ns;
        let thread = self.thread(tid);
        if thread.at == At::Hook {
            (thread.checked, thread.checked_ns) = (thread.argument, now_ns);
        }
        let object = thread.checked;
        let key = self.key_of(tid, object);
        let next = match self.threads[tid as usize].at {
            at @ (At::User | At::Dead) => at,
            At::Hook => {
                let hold = self.holds.get(&key).copied();
                match self.grants.get(&key).copied() {
                    Some(grant) => At::Take(grant, hold),
                    None => self.without_grant(&key, hold),
                }
            }
            At::Take(grant, hold) => self.take(&key, grant, hold),
            At::Write(hold) => self.write(&key, hold),
            At::Stop(hold) => {
                self.stop(tid);
                self.stopped_for.insert(hold.hold_id);
                if self.has(Fault::EventBeforeStop) {
                    At::Leave(Left::Restart)
                } else {
                    At::Submit(hold)
                }
            }
            At::Submit(hold) => {
                self.ring.push_back(Written::Held(Announcement {
                    hold: hold.hold_id,
                    session: hold.session,
                    key: Box::new(key),
                    deadline_ns: hold.deadline_ns,
                }));
                if self.has(Fault::EventBeforeStop) {
                    At::Stop(hold)
                } else {
                    At::Leave(Left::Restart)
                }
            }
            At::StopAgain => {
                self.stop(tid);
                At::Leave(Left::Restart)
            }
            At::Leave(left) => self.leave(tid, left)?,
            At::Stopped if self.is_stopped(tid) => At::Stopped,
            At::Stopped => At::Hook,
        };
        self.thread(tid).at = next;
        Ok(())
    }

    fn without_grant(&mut self, key: &ActionKey, hold: Option<HoldRecord>) -> At {
        match hold {
            Some(hold) if self.now_ns >= hold.deadline_ns && !self.has(Fault::NoDeadline) => {
                self.holds.remove(key);
                self.expired.insert(hold.hold_id);
                self.tell(EVENT_EXPIRED, hold.hold_id, key, VERDICT_DENY, REASON_EXPIRED);
                At::Leave(Left::Deny)
            }
            Some(hold) if hold.state == HOLD_REANNOUNCE => At::Write(hold),
            Some(hold) if self.has(Fault::ContinueIsAnswer) => {
                At::Leave(Left::Allow { hold: hold.hold_id })
            }
            Some(_) => At::StopAgain,
            None => {
                self.next_hold += 1;
                let deadline_ns = self.now_ns + TTL;
                At::Write(HoldRecord {
                    hold_id: self.next_hold,
                    session: 7,
                    created_ns: self.now_ns,
                    deadline_ns,
                    ..HoldRecord::default()
                })
            }
        }
    }

    fn take(&mut self, key: &ActionKey, grant: Grant, hold: Option<HoldRecord>) -> At {
        if !self.has(Fault::GrantKept) && self.grants.remove(key).is_none() {
            return At::Leave(Left::Deny);
        }
        let same = hold.is_some_and(|hold| hold.hold_id == grant.hold_id);
        if !same && !self.has(Fault::AnyGrant) {
            self.tell(EVENT_REFUSED, grant.hold_id, key, VERDICT_DENY, REASON_STALE_GRANT);
            return self.without_grant(key, hold);
        }
        if !self.has(Fault::GrantKept) {
            self.holds.remove(key);
        }
        // The programs read the clock once, at the hook.
        let live = self.threads[key.tid as usize].checked_ns < grant.expires_ns;
        let allow = live && grant.verdict == VERDICT_ALLOW;
        let reason = if live { REASON_GRANT } else { REASON_STALE_GRANT };
        let verdict = if allow { VERDICT_ALLOW } else { VERDICT_DENY };
        self.tell(EVENT_CONSUMED, grant.hold_id, key, verdict, reason);
        At::Leave(if allow { Left::Allow { hold: grant.hold_id } } else { Left::Deny })
    }

    fn write(&mut self, key: &ActionKey, hold: HoldRecord) -> At {
        if self.ring.len() >= RING {
            return At::Leave(Left::Deny);
        }
        if self.holds.len() >= HOLDS && !self.holds.contains_key(key) {
            self.tell(EVENT_REFUSED, 0, key, VERDICT_DENY, REASON_HOLDS_FULL);
            return At::Leave(Left::Deny);
        }
        let hold = HoldRecord { state: HOLD_PENDING, ..hold };
        self.holds.insert(*key, hold);
        let object = self.threads[key.tid as usize].checked;
        self.placed.insert(hold.hold_id, (key.tid, object, hold.deadline_ns));
        if self.has(Fault::EventBeforeStop) { At::Submit(hold) } else { At::Stop(hold) }
    }

    /// SIGSTOP to the thread itself.
    fn stop(&mut self, tid: u32) {
        let process = process_of(tid);
        let sibling = (0_u32..).zip(&self.threads).any(|(other, thread)| {
            other != tid && process_of(other) == process && thread.stop_pending
        });
        if self.has(Fault::ProcessStop) && sibling {
            return;
        }
        let thread = self.thread(tid);
        (thread.stop_pending, thread.signal_pending) = (true, true);
    }

    /// On the way to user space: signals first.
    fn leave(&mut self, tid: u32, left: Left) -> Result<At, String> {
        let interrupted = self.thread(tid).signal_pending || self.is_stopped(tid);
        let dying = self.thread(tid).dying;
        if std::mem::take(&mut self.thread(tid).stop_pending) {
            self.stopped.insert(process_of(tid), true);
        }
        self.thread(tid).signal_pending = false;
        if left == Left::Restart && !interrupted && !dying {
            return Err(format!("H5: thread {tid} sees -513"));
        }
        let (object, checked_ns) = (self.thread(tid).checked, self.thread(tid).checked_ns);
        let hold = self.holds.get(&self.key_of(tid, object));
        if let Some(hold) = hold.filter(|_| left == Left::Restart)
            && checked_ns >= hold.deadline_ns
        {
            return Err(format!("H6: hold {} is no deny after its deadline", hold.hold_id));
        }
        if let Left::Allow { hold } = left {
            self.completes(tid, hold)?;
        }
        Ok(match left {
            _ if dying => At::Dead,
            Left::Restart => At::Stopped,
            Left::Allow { .. } | Left::Deny => At::User,
        })
    }

    /// An action goes on: was it exactly this one that was permitted, once, in time?
    fn completes(&mut self, tid: u32, hold: u64) -> Result<(), String> {
        let object = self.threads[tid as usize].checked;
        let Some(&(of, what, deadline_ns)) = self.placed.get(&hold) else {
            return Err(format!("H1: thread {tid} goes on for hold {hold}, which nobody placed"));
        };
        if (of, what) != (tid, object) {
            return Err(format!("H1: {what} of thread {of} was held, {object} of {tid} goes on"));
        }
        if !self.permitted.contains(&hold) {
            return Err(format!("H1, H8: nobody allowed hold {hold} of thread {tid}"));
        }
        if self.expired.contains(&hold) {
            return Err(format!("H1: hold {hold} had ended, and its grant counts for another one"));
        }
        if !self.completed.insert(hold) {
            return Err(format!("H2: hold {hold} goes on twice"));
        }
        // What was taken in time may return late: any thread can be preempted in between.
        if self.threads[tid as usize].checked_ns >= deadline_ns + GRANT_SLACK_NS {
            return Err(format!("H6: hold {hold} goes on after its deadline"));
        }
        Ok(())
    }

    /// guard-agent reads a record.
    pub(super) fn read(&mut self) -> Result<Option<Written>, String> {
        let written = self.ring.pop_front();
        if let Some(Written::Held(announced)) = &written
            && !self.stopped_for.contains(&announced.hold)
        {
            let hold = announced.hold;
            return Err(format!("H4: hold {hold} can be answered before its thread is stopped"));
        }
        Ok(written)
    }

    fn tell(&mut self, event: u32, hold: u64, key: &ActionKey, verdict: u32, reason: u32) {
        // Without room it is lost and counted.
        if self.ring.len() < RING {
            let key = Box::new(*key);
            let session = 7;
            let outcome = KernelOutcome { hold, session, event, key, verdict, reason };
            self.ring.push_back(Written::Outcome(outcome));
        }
    }
}
