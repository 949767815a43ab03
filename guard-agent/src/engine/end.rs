//! How a tracked hold begins and ends: bookkeeping that every path shares.

use super::{
    Announcement, Command, Engine, Farewell, HoldEnd,
    limits::{NUDGE_FIRST_NS, NUDGES_MAX},
    state::{Hold, Ruling, State},
};
use guard_audit::Event;
use guard_common::{
    event::{
        EVENT_CONSUMED, EVENT_EXPIRED, REASON_ARGV_CHANGED, REASON_EXPIRED, REASON_GRANT,
        REASON_HOLDS_FULL, REASON_NO_STOP, REASON_NOT_HOLDABLE, REASON_NOT_OPENED,
        REASON_NOT_RESTARTABLE, REASON_OUTSIDE, REASON_STALE_GRANT, REASON_UNREADABLE,
    },
    hold::{ActionKey, Grant, VERDICT_ALLOW, VERDICT_DENY},
};
use guard_model::{HoldId, SessionId, Verdict, Withdrawal};

/// What the kernel did with an action.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelOutcome {
    /// The kernel's number of the hold, or 0.
    pub hold: u64,
    /// The kernel's handle of the session.
    pub session: u64,
    /// `EVENT_CONSUMED`, `EVENT_EXPIRED` or `EVENT_REFUSED`.
    pub event: u32,
    /// Exactly which action.
    pub key: Box<ActionKey>,
    /// `VERDICT_*`.
    pub verdict: u32,
    /// `REASON_*`.
    pub reason: u32,
}

impl Engine {
    /// The kernel carried a decision out, or refused an action without one.
    pub fn outcome(&mut self, outcome: &KernelOutcome) {
        let KernelOutcome { hold, session, event, ref key, verdict, reason } = *outcome;
        let allowed = verdict == VERDICT_ALLOW;
        self.evidence(
            Some(SessionId::derive(self.host, self.boot, session)),
            Event::Outcome {
                hold_id: (hold != 0).then(|| HoldId::derive(self.host, self.boot, hold)),
                pid: key.tgid,
                tid: key.tid,
                action: crate::kernel::action_name(key.kind).to_owned(),
                verdict: if allowed { Verdict::Allow } else { Verdict::Deny },
                reason: reason_name(reason).to_owned(),
            },
        );
        match event {
            EVENT_CONSUMED => self.consumed(hold, reason == REASON_GRANT),
            EVENT_EXPIRED => self.expired_in_kernel(hold),
            _ if reason != REASON_STALE_GRANT => self.refused_in_kernel(key),
            _ => {}
        }
    }

    fn consumed(&mut self, hold: u64, in_time: bool) {
        let Some(tracked) = self.remove(hold) else { return };
        if tracked.adopted && matches!(tracked.state, State::Answered(_)) {
            self.out.push(Command::Forget { hold, key: tracked.key.clone() });
        }
        let end = HoldEnd::Finished { consumed: in_time };
        match &tracked.state {
            State::Answered(answer) if answer.known_above => self.farewell(tracked.id, end),
            State::Answered(_) => {}
            // An earlier guard-agent's grant: the controller knows of it only if it asks again.
            _ => self.remember(Farewell { hold_id: tracked.id, end }),
        }
    }

    fn expired_in_kernel(&mut self, hold: u64) {
        let Some(tracked) = self.remove(hold) else { return };
        match &tracked.state {
            State::Answered(answer) => {
                // The kernel looked before the grant was there: nobody will consume it.
                self.out.push(Command::Forget { hold, key: tracked.key.clone() });
                if answer.known_above {
                    self.farewell(tracked.id, HoldEnd::Finished { consumed: false });
                }
            }
            _ => self.withdraw(&tracked, Withdrawal::Expired),
        }
    }

    /// The kernel denied an action that is held: its thread could not be stopped again.
    fn refused_in_kernel(&mut self, key: &ActionKey) {
        let thread = (key.tid, key.start_boottime_ns);
        let Some(&hold) = self.by_thread.get(&thread) else { return };
        if self.holds.get(&hold).is_some_and(|tracked| *tracked.key == *key) {
            self.give_up(hold, Withdrawal::Abandoned);
        }
    }

    /// The thread of a hold is gone.
    pub fn gone(&mut self, hold: u64) {
        let Some(tgid) = self.holds.get(&hold).map(|tracked| tracked.key.tgid) else { return };
        self.give_up(hold, Withdrawal::Abandoned);
        // The resume that found it gone was also its siblings'.
        let sibling = self.by_process.get(&tgid).and_then(|holds| {
            holds.iter().copied().find(|hold| {
                let state = self.holds.get(hold).map(|tracked| &tracked.state);
                matches!(state, Some(State::Answered(_) | State::Adopted { .. }))
            })
        });
        if let Some(key) =
            sibling.and_then(|hold| self.holds.get(&hold)).map(|tracked| tracked.key.clone())
        {
            self.resume.insert(tgid, (sibling.unwrap_or_default(), key));
        }
    }

    /// A thread that announces another action has left the first one.
    pub(super) fn supersede(&mut self, announcement: &Announcement) {
        let thread = (announcement.key.tid, announcement.key.start_boottime_ns);
        if let Some(&earlier) = self.by_thread.get(&thread) {
            self.give_up(earlier, Withdrawal::Superseded);
        }
    }

    fn give_up(&mut self, hold: u64, why: Withdrawal) {
        let Some(tracked) = self.remove(hold) else { return };
        self.out.push(Command::Forget { hold, key: tracked.key.clone() });
        self.withdraw(&tracked, why);
    }

    fn withdraw(&mut self, tracked: &Hold, why: Withdrawal) {
        let event = Event::Withdrawn { hold_id: tracked.id, why };
        self.evidence(Some(tracked.session_id), event);
        match &tracked.state {
            State::Answered(answer) if !answer.known_above => {}
            State::Answered(answer) if answer.by_person => {
                self.farewell(tracked.id, HoldEnd::Finished { consumed: false });
            }
            _ => self.farewell(tracked.id, HoldEnd::Withdrawn(why)),
        }
    }

    /// Nobody decided in time: the answer is deny (H6). The controller hears it at once, so that an
    /// approval that comes now meets a closed request.
    pub(super) fn expire(&mut self, now_ns: u64, hold: u64) {
        let Some(tracked) = self.holds.get(&hold) else { return };
        let (id, session) = (tracked.id, tracked.session_id);
        let event = Event::Withdrawn { hold_id: id, why: Withdrawal::Expired };
        self.answer(now_ns, hold, Ruling::Deny, (false, false));
        if let Some(Hold { state: State::Answered(answer), .. }) = self.holds.get_mut(&hold) {
            // The withdrawal is the last word above; what the kernel does with the deny is
            // evidence.
            answer.known_above = false;
        }
        self.evidence(Some(session), event);
        self.farewell(id, HoldEnd::Withdrawn(Withdrawal::Expired));
    }

    /// An answer that its thread has not consumed: write it again if the map had refused it, resume
    /// again, and forget the hold when the grant is worth nothing any more.
    pub(super) fn nudge(&mut self, now_ns: u64, hold: u64) {
        let Some(tracked) = self.holds.get_mut(&hold) else { return };
        let State::Answered(answer) = &mut tracked.state else { return };
        let expires_ns = answer.grant.expires_ns;
        if now_ns >= expires_ns {
            return self.lapse(hold);
        }
        let (written, nudges) = (answer.written, answer.nudges);
        answer.nudges = nudges.saturating_add(1);
        if !written {
            self.send_grant(hold);
        } else if nudges < NUDGES_MAX {
            let key = tracked.key.clone();
            self.resume.insert(key.tgid, (hold, key));
        }
        let wait_ns = NUDGE_FIRST_NS << nudges.saturating_add(1).min(NUDGES_MAX);
        let next_ns = if nudges < NUDGES_MAX || !written {
            now_ns.saturating_add(wait_ns).min(expires_ns)
        } else {
            expires_ns
        };
        self.set_timer(hold, next_ns);
    }

    fn lapse(&mut self, hold: u64) {
        let Some(tracked) = self.remove(hold) else { return };
        self.out.push(Command::Forget { hold, key: tracked.key.clone() });
        let event = Event::Withdrawn { hold_id: tracked.id, why: Withdrawal::Expired };
        self.evidence(Some(tracked.session_id), event);
        if matches!(&tracked.state, State::Answered(answer) if answer.known_above) {
            self.farewell(tracked.id, HoldEnd::Finished { consumed: false });
        }
    }

    /// Whether one more hold can be tracked; if not, it is denied here and now (H7).
    pub(super) fn has_room(&mut self, announcement: &Announcement) -> bool {
        if self.holds.len() < self.limits.holds {
            return true;
        }
        let Announcement { hold, session, key, deadline_ns } = announcement;
        let grant =
            Grant { hold_id: *hold, expires_ns: *deadline_ns, verdict: VERDICT_DENY, flags: 0 };
        self.out.push(Command::Grant { hold: *hold, key: key.clone(), grant });
        self.resume.insert(key.tgid, (*hold, key.clone()));
        self.evidence(
            Some(SessionId::derive(self.host, self.boot, *session)),
            Event::Lost { counter: "holds_untracked".to_owned(), count: 1 },
        );
        false
    }

    pub(super) fn track(&mut self, announcement: Announcement, state: State) {
        let Announcement { hold, session, key, deadline_ns } = announcement;
        let id = HoldId::derive(self.host, self.boot, hold);
        let session_id = SessionId::derive(self.host, self.boot, session);
        self.by_id.insert(id, hold);
        self.by_thread.insert((key.tid, key.start_boottime_ns), hold);
        self.by_process.entry(key.tgid).or_default().insert(hold);
        self.timers.insert((deadline_ns, hold));
        let (timer_ns, adopted) = (deadline_ns, matches!(state, State::Adopted { .. }));
        let tracked = Hold { id, session, session_id, key, deadline_ns, timer_ns, adopted, state };
        self.holds.insert(hold, tracked);
    }

    fn remove(&mut self, hold: u64) -> Option<Hold> {
        let tracked = self.holds.remove(&hold)?;
        self.by_id.remove(&tracked.id);
        let thread = (tracked.key.tid, tracked.key.start_boottime_ns);
        if self.by_thread.get(&thread) == Some(&hold) {
            self.by_thread.remove(&thread);
        }
        if let Some(holds) = self.by_process.get_mut(&tracked.key.tgid) {
            holds.remove(&hold);
            if holds.is_empty() {
                self.by_process.remove(&tracked.key.tgid);
            }
        }
        self.timers.remove(&(tracked.timer_ns, hold));
        if matches!(tracked.state, State::Waiting { .. }) {
            self.stop_waiting(tracked.session);
        }
        Some(tracked)
    }

    pub(super) fn stop_waiting(&mut self, session: u64) {
        if let Some(count) = self.waiting.get_mut(&session) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.waiting.remove(&session);
            }
        }
    }

    pub(super) fn set_timer(&mut self, hold: u64, at_ns: u64) {
        let Some(tracked) = self.holds.get_mut(&hold) else { return };
        self.timers.remove(&(tracked.timer_ns, hold));
        tracked.timer_ns = at_ns;
        self.timers.insert((at_ns, hold));
    }

    fn farewell(&mut self, hold_id: HoldId, end: HoldEnd) {
        let farewell = Farewell { hold_id, end };
        if self.link_up {
            self.say(farewell);
        } else {
            push_bounded(&mut self.unsaid, farewell, self.limits.farewells);
        }
    }

    pub(super) fn say(&mut self, farewell: Farewell) {
        self.out.push(Command::Farewell(farewell));
        self.remember(farewell);
    }

    fn remember(&mut self, farewell: Farewell) {
        push_bounded(&mut self.said, farewell, self.limits.farewells);
    }
}

fn push_bounded<T>(queue: &mut std::collections::VecDeque<T>, item: T, max: usize) {
    if queue.len() >= max {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Name of a `REASON_*`, as it stands in evidence.
#[must_use]
pub fn reason_name(reason: u32) -> &'static str {
    match reason {
        REASON_GRANT => "grant",
        REASON_NOT_RESTARTABLE => "not_restartable",
        REASON_HOLDS_FULL => "holds_full",
        REASON_NO_STOP => "no_stop",
        REASON_UNREADABLE => "unreadable",
        REASON_EXPIRED => "expired",
        REASON_STALE_GRANT => "stale_grant",
        REASON_OUTSIDE => "outside_the_session",
        REASON_NOT_HOLDABLE => "not_holdable",
        REASON_NOT_OPENED => "not_opened_by_the_session",
        REASON_ARGV_CHANGED => "argv_changed",
        _ => "unknown",
    }
}
