//! The hold protocol: consume a grant for exactly this action, or hold it.
//!
//! Order matters (H4): reserve the record, write down the hold, stop the task, submit the record. With
//! the record first, the answer's SIGCONT can come before the stop, and the task sleeps for ever.

use crate::{
    cache,
    kernel::{Task, boot_ns, stop_current, uid_gid},
    maps::{EVENTS, GRANTS, HOLDS, STANDING, config, count},
    record::{self, ActionBody, Record, fill_header},
    verdict::Verdict,
};
use core::ptr::addr_of_mut;
use guard_common::{
    counter,
    event::{
        EVENT_BLOCKED, EVENT_CONSUMED, EVENT_EXPIRED, EVENT_HELD, EVENT_REFUSED, REASON_EXPIRED,
        REASON_GRANT, REASON_HOLDS_FULL, REASON_NO_STOP, REASON_NOT_HOLDABLE,
        REASON_NOT_RESTARTABLE, REASON_STALE_GRANT, REASON_UNREADABLE,
    },
    hold::{
        ActionKey, DecisionKey, GRANT_CACHEABLE, HOLD_PENDING, HOLD_REANNOUNCE,
        HOLD_TTL_DEFAULT_NS, HoldRecord, StandingKey, VERDICT_ALLOW, VERDICT_DENY,
    },
    label::Label,
};

/// What the protocol knows about an action before anything is announced.
enum Ruling {
    /// It is decided: by a grant, by a deadline, or because it cannot be held.
    Decided(Verdict),
    /// It has to be announced: the caller fills a record and calls [`Pending::place`].
    Announce(Pending),
}

/// A hold that is about to be placed (or announced again).
struct Pending {
    hold_id: u64,
    deadline_ns: u64,
    created_ns: u64,
}

/// Looks the action up: hold, what is remembered at `cached`, grant, then new.
///
/// What is remembered counts for an action that is not held: one that is is ended by its own grant. A grant without a
/// hold is worth nothing, so it is not looked for then; guard-agent, which wrote it, removes it.
#[inline(always)]
fn rule(task: Task, label: &Label, key: &ActionKey, cached: Option<&DecisionKey>) -> Ruling {
    let now = boot_ns();
    // SAFETY: the value is copied at once; a concurrent change is a change before or after.
    let hold = unsafe { HOLDS.get(key) }.copied();
    if hold.is_none() && cached.is_some_and(|at| cache::allows(at, now)) {
        return Ruling::Decided(Verdict::Allow);
    }
    // SAFETY: as above.
    if let Some(grant) = unsafe { GRANTS.get(key) }.copied() {
        // Whoever deletes the grant has consumed it (H2).
        if GRANTS.remove(key).is_err() {
            return Ruling::Decided(Verdict::Deny);
        }
        let hold_id = hold.map_or(0, |hold| hold.hold_id);
        if grant.hold_id != 0 && grant.hold_id == hold_id {
            let _ = HOLDS.remove(key);
            let verdict = consume(task, label, key, &grant, now);
            if let (Verdict::Allow, Some(at)) = (&verdict, cached)
                && grant.flags & GRANT_CACHEABLE != 0
            {
                cache::remember(at);
            }
            return Ruling::Decided(verdict);
        }
        // For an earlier hold of the same action: worth nothing, and said so. What follows holds anew.
        record::outcome(
            EVENT_REFUSED,
            task,
            label,
            grant.hold_id,
            key,
            VERDICT_DENY,
            REASON_STALE_GRANT,
        );
    }
    match hold {
        Some(hold) if now >= hold.deadline_ns => {
            let _ = HOLDS.remove(key);
            count(counter::EXPIRED);
            let id = hold.hold_id;
            record::outcome(EVENT_EXPIRED, task, label, id, key, VERDICT_DENY, REASON_EXPIRED);
            Ruling::Decided(Verdict::Deny)
        }
        Some(hold) if hold.state == HOLD_REANNOUNCE => Ruling::Announce(Pending {
            hold_id: hold.hold_id,
            deadline_ns: hold.deadline_ns,
            created_ns: hold.created_ns,
        }),
        Some(_) => Ruling::Decided(stop_again(task, label, key)),
        None => new(task, label, key, now),
    }
}

#[inline(always)]
fn consume(
    task: Task,
    label: &Label,
    key: &ActionKey,
    grant: &guard_common::hold::Grant,
    now: u64,
) -> Verdict {
    let live = now < grant.expires_ns;
    let allow = live && grant.verdict == VERDICT_ALLOW;
    let (verdict, which) = if allow {
        (VERDICT_ALLOW, counter::CONSUMED_ALLOW)
    } else {
        (VERDICT_DENY, counter::CONSUMED_DENY)
    };
    count(which);
    let reason = if live { REASON_GRANT } else { REASON_STALE_GRANT };
    record::outcome(EVENT_CONSUMED, task, label, grant.hold_id, key, verdict, reason);
    if allow { Verdict::Allow } else { Verdict::Deny }
}

/// Somebody else's SIGCONT (H8): stop again, say nothing, count.
#[inline(always)]
fn stop_again(task: Task, label: &Label, key: &ActionKey) -> Verdict {
    count(counter::STRAY_CONTINUES);
    if task.is_restartable() && stop_current() {
        return Verdict::Restart;
    }
    refuse(task, label, key, counter::DENIED_NO_STOP, REASON_NO_STOP)
}

#[inline(always)]
fn new(task: Task, label: &Label, key: &ActionKey, now: u64) -> Ruling {
    // Only a system call of an ordinary thread is restarted; anywhere else -513 would leak (H5).
    if !task.is_restartable() {
        let which = counter::DENIED_NOT_RESTARTABLE;
        return Ruling::Decided(refuse(task, label, key, which, REASON_NOT_RESTARTABLE));
    }
    let ttl_ns = config().map_or(HOLD_TTL_DEFAULT_NS, |config| config.hold_ttl_ns);
    Ruling::Announce(Pending {
        hold_id: count(counter::HOLD_IDS),
        deadline_ns: now.saturating_add(ttl_ns),
        created_ns: now,
    })
}

impl Pending {
    /// Announces the hold with a record whose body `fill` completes, and stops the task.
    #[inline(always)]
    fn place<B: ActionBody>(
        &self,
        task: Task,
        label: &Label,
        key: &ActionKey,
        fill: impl FnOnce(*mut B),
    ) -> Verdict {
        let Some(mut entry) = EVENTS.reserve::<Record<B>>(0) else {
            return refuse_unannounced();
        };
        let record = entry.as_mut_ptr();
        // SAFETY: a fresh reservation of exactly this type.
        fill(unsafe { addr_of_mut!((*record).body) });
        // SAFETY: as above.
        unsafe {
            let len = size_of::<Record<B>>();
            let header = addr_of_mut!((*record).header);
            fill_header(header, EVENT_HELD, len, task, label, self.hold_id);
            B::set_action(addr_of_mut!((*record).body), key, self.deadline_ns);
        }
        match self.commit(label, key) {
            Ok(()) => {
                entry.submit(0);
                Verdict::Restart
            }
            Err(why) => {
                entry.discard(0);
                why.refuse(task, label, key)
            }
        }
    }

    /// Writes the hold down and stops the task.
    #[inline(always)]
    fn commit(&self, label: &Label, key: &ActionKey) -> Result<(), Uncommitted> {
        let hold = HoldRecord {
            hold_id: self.hold_id,
            session: label.session,
            created_ns: self.created_ns,
            deadline_ns: self.deadline_ns,
            state: HOLD_PENDING,
            _pad: 0,
        };
        if HOLDS.insert(key, &hold, 0).is_err() {
            return Err(Uncommitted::HoldsFull);
        }
        if !stop_current() {
            let _ = HOLDS.remove(key);
            return Err(Uncommitted::NoStop);
        }
        Ok(())
    }
}

/// Answers an action that can be held: by its grant, by its deadline, or by a hold whose record `fill`
/// completes.
#[inline(always)]
pub fn answer<B: ActionBody>(
    task: Task,
    label: &Label,
    key: &ActionKey,
    fill: impl FnOnce(*mut B),
) -> Verdict {
    answer_cached(task, label, key, None, fill)
}

/// As [`answer`], for an action whose allow may be remembered at `cached`.
#[inline(always)]
pub fn answer_cached<B: ActionBody>(
    task: Task,
    label: &Label,
    key: &ActionKey,
    cached: Option<&DecisionKey>,
    fill: impl FnOnce(*mut B),
) -> Verdict {
    match rule(task, label, key, cached) {
        Ruling::Decided(verdict) => verdict,
        Ruling::Announce(pending) => pending.place(task, label, key, fill),
    }
}

/// Answers an action that cannot be held (its caller makes another error of ours, or cannot be
/// restarted): a standing permission, or a denial that says why. `fill` completes its record.
///
/// guard-agent asks the policy about every such denial, and gives the session a standing permission if
/// it allows: then the second attempt goes on.
#[inline(always)]
pub fn answer_at_once<B: ActionBody>(
    task: Task,
    label: &Label,
    key: &ActionKey,
    fill: impl FnOnce(*mut B),
) -> Verdict {
    let standing = StandingKey {
        session: label.session,
        ids: uid_gid(),
        kind: key.kind,
        access: key.access,
        flags: key.flags,
        policy_epoch: config().map_or(0, |config| config.policy_epoch),
    };
    // SAFETY: only its presence counts.
    if unsafe { STANDING.get(&standing) }.is_some() {
        return Verdict::Allow;
    }
    block(task, label, key, REASON_NOT_HOLDABLE, fill)
}

/// Denies without a hold and says so with a record whose body `fill` completes.
#[inline(always)]
pub fn block<B: ActionBody>(
    task: Task,
    label: &Label,
    key: &ActionKey,
    reason: u32,
    fill: impl FnOnce(*mut B),
) -> Verdict {
    count(counter::BLOCKED);
    let Some(mut entry) = EVENTS.reserve::<Record<B>>(0) else {
        record::lost();
        return Verdict::Deny;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: a fresh reservation of exactly this type.
    unsafe {
        let body = addr_of_mut!((*record).body);
        fill(body);
        let header = addr_of_mut!((*record).header);
        fill_header(header, EVENT_BLOCKED, size_of::<Record<B>>(), task, label, 0);
        (*header).reason = reason;
        B::set_action(body, key, 0);
    }
    entry.submit(0);
    Verdict::Deny
}

/// Why a hold could not be placed (H7).
#[derive(Clone, Copy)]
enum Uncommitted {
    HoldsFull,
    NoStop,
}

impl Uncommitted {
    /// Denies, counts and says why.
    #[inline(always)]
    fn refuse(self, task: Task, label: &Label, key: &ActionKey) -> Verdict {
        match self {
            Self::HoldsFull => {
                refuse(task, label, key, counter::DENIED_HOLDS_FULL, REASON_HOLDS_FULL)
            }
            Self::NoStop => refuse(task, label, key, counter::DENIED_NO_STOP, REASON_NO_STOP),
        }
    }
}

/// The hold cannot be announced: deny and count; the counter is all that can still be said (H7).
#[inline(always)]
pub fn refuse_unannounced() -> Verdict {
    record::lost();
    count(counter::DENIED_RING_FULL);
    Verdict::Deny
}

/// The object cannot be read (K3).
#[inline(always)]
pub fn refuse_unreadable(task: Task, label: &Label, key: &ActionKey) -> Verdict {
    refuse(task, label, key, counter::DENIED_UNREADABLE, REASON_UNREADABLE)
}

#[inline(always)]
fn refuse(task: Task, label: &Label, key: &ActionKey, which: u32, reason: u32) -> Verdict {
    count(which);
    record::outcome(EVENT_REFUSED, task, label, 0, key, VERDICT_DENY, reason);
    Verdict::Deny
}

/// The key of an action by this thread; the object is the caller's to fill.
#[inline(always)]
pub fn key(task: Task, kind: u32, access: u32, flags: u32) -> ActionKey {
    ActionKey {
        start_boottime_ns: task.start_boottime_ns(),
        tgid: task.tgid(),
        tid: task.tid(),
        kind,
        access,
        flags,
        object_len: 0,
        object: [0; guard_common::hold::OBJECT_WORDS],
    }
}
