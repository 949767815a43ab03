//! What is looked at every second, whether events come or not: dead tasks, pins, counters, and the signs of life
//! to the service manager and the controller.

use super::{Driver, EVENTS_PER_TURN, EventStream, losses, tree::Unknown};
use crate::{
    clock,
    kernel::{Kernel, Tampering},
    link::ToLink,
};
use guard_audit::Event;
use guard_common::hold::ActionKey;
use guard_proto::v1;

/// Most held tasks that one scan looks at; the next scan goes on behind them.
const SCAN_MAX: usize = 1024;
/// How often counters are read, and the controller hears a sign of life.
const HEARTBEAT_SCANS: u32 = 10;

impl<K: Kernel> Driver<K> {
    /// Every second: tasks that died while they were held, pins, a sign of life. Every tenth time: counters,
    /// tree, and what was sent.
    pub(super) fn scan(&mut self, events: &mut impl EventStream) {
        self.scan_tasks();
        self.give_up_on_contents(clock::boottime_ns());
        self.mend();
        if self.wakes > 0 {
            self.wakes -= 1;
            self.wake_strangers();
        }
        self.scans = self.scans.wrapping_add(1);
        if self.scans.is_multiple_of(HEARTBEAT_SCANS) {
            self.heartbeat();
            self.drop_gone_tasks();
            self.tell_sent(None);
            self.refresh_selectors();
        }
        self.sign_of_life(events);
    }

    /// Says to the service manager that work is done, after it was: the ring buffer is read here as well,
    /// whatever readiness says, and every timer of the engine that is due has been handled.
    fn sign_of_life(&mut self, events: &mut impl EventStream) {
        for _ in 0..EVENTS_PER_TURN {
            let Some(event) = events.try_next() else { break };
            self.event(event);
        }
        self.settle();
        let now_ns = clock::boottime_ns();
        if self.parts.engine.next_timer_ns().is_none_or(|at_ns| at_ns > now_ns) {
            let (sessions, holds) = (self.parts.sessions.len(), self.parts.engine.waiting());
            let status = format!("enforcing; {sessions} sessions, {holds} actions wait");
            self.parts.notifier.alive(&status);
        }
    }

    /// What was removed from the bpf file system is put back, and is evidence.
    fn mend(&mut self) {
        for Tampering { what, mended } in self.parts.kernel.mend() {
            tracing::error!(mended, "tampered with: {what}");
            self.evidence(None, Event::Tampered { what, mended });
        }
    }

    pub(super) fn scan_tasks(&mut self) {
        let behind = self.scanned;
        let mut batch: Vec<(u64, ActionKey)> = (self.parts.engine.tracked())
            .filter(|(hold, _)| *hold > behind)
            .take(SCAN_MAX)
            .map(|(hold, key)| (hold, *key))
            .collect();
        self.scanned = if batch.len() < SCAN_MAX { 0 } else { batch.last().map_or(0, |(h, _)| *h) };
        batch.retain(|(_, key)| !self.parts.kernel.is_alive(key));
        self.suspects.extend(batch.into_iter().map(|(hold, _)| hold));
    }

    pub(super) fn heartbeat(&mut self) {
        let pending = self.parts.engine.waiting();
        match self.parts.kernel.counters() {
            Ok(counters) => {
                let skipped = self.parts.kernel.skipped();
                let lost = self.losses.moved(&counters, skipped);
                let was_lost = !lost.is_empty();
                let hides_tasks = lost.iter().any(|(counter, _)| losses::may_hide_tasks(counter));
                for (counter, count) in lost {
                    tracing::warn!(counter, count, "lost");
                    self.evidence(None, Event::Lost { counter: counter.to_owned(), count });
                }
                let mut counters = losses::named(&counters);
                counters.extend(self.parts.spool.figures());
                counters.insert(losses::PROGRAMS_SKIPPED.to_owned(), skipped);
                self.evidence(None, Event::Heartbeat { counters, pending_holds: pending as u64 });
                if was_lost {
                    self.losses.save(&self.parts.losses_path, self.parts.boot);
                }
                if hides_tasks {
                    self.find_labels(Unknown::Started);
                }
            }
            Err(error) => tracing::error!("{:#}", anyhow::Error::new(error)),
        }
        if self.link_up {
            let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            self.say(ToLink::Heartbeat(v1::Heartbeat {
                boottime_ns: clock::boottime_ns(),
                pending_holds: count(pending),
                sessions: count(self.parts.sessions.len()),
            }));
        }
    }
}
