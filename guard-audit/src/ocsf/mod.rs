//! Evidence as OCSF 1.8.0 events (<https://schema.ocsf.io/1.8.0>), one event for each record.
//!
//! One module for each OCSF class. [`event`] matches every [`Event`] and [`action::subject`] every
//! [`guard_model::Action`], neither with a catch-all: a new variant does not compile until it has a
//! place in the SIEM. `metadata.sequence` is the record's index in the log, so that a receiver sees
//! a gap; `metadata.uid` is its leaf hash, so that it finds the proof.

pub mod action;
mod api;
mod authentication;
mod base;
pub mod disposition;
mod entity;
mod event_log;
mod file;
mod finding;
mod held;
mod kernel;
mod lifecycle;
mod module;
mod network;
mod process;
#[cfg(test)]
pub(crate) mod tests;
mod words;

pub use base::{CLASSES, Class, OcsfEvent, SCHEMA_VERSION};
pub use held::{HeldAction, needs};

use crate::{Event, Record, reader::LogEntry};
use base::Base;
use disposition::Disposition;
use guard_model::Verdict;

/// What the record alone does not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The record's index in the log.
    pub index: u64,
    /// The record's leaf hash.
    pub leaf_hash: [u8; 32],
    /// How the host calls itself, if it is known.
    pub hostname: Option<&'a str>,
    /// The action of the hold that [`needs`] names, if it is known.
    pub held: Option<&'a HeldAction>,
}

/// The event of a log entry; `None` if its payload has been erased.
#[must_use]
pub fn entry(entry: &LogEntry, hostname: Option<&str>, held: Option<&HeldAction>) -> OcsfEvent {
    let context = Context { index: entry.index, leaf_hash: entry.leaf_hash, hostname, held };
    match &entry.record {
        Some(record) => event(record, &context),
        None => event_log::erased(&context),
    }
}

/// The event of a record.
#[must_use]
pub fn event(record: &Record, context: &Context<'_>) -> OcsfEvent {
    let base = Base::new(record, context);
    match &record.event {
        Event::Started { component, version, kernel, coverage } => {
            lifecycle::started(base, component, version, kernel, coverage)
        }
        Event::Stopped { component, reason } => lifecycle::stopped(base, component, reason),
        Event::EnforcementEnded { by, uid, pid, reason } => {
            finding::enforcement_ended(base, (by, *uid, *pid), reason)
        }
        Event::Tampered { what, mended } => finding::tampered(base, what, *mended),
        Event::Heartbeat { counters, pending_holds } => {
            lifecycle::heartbeat(base, counters, *pending_holds)
        }
        Event::SessionStarted { info } => lifecycle::session_started(base, info),
        Event::SessionEnded {} => lifecycle::session_ended(base),
        Event::PolicyLoaded { digest, files, .. } => entity::policy_loaded(base, digest, files),
        Event::UserChanged { user, change, by } => entity::user_changed(base, user, change, by),
        Event::Enrolled { enrolled, hostname } => entity::enrolled(base, *enrolled, hostname),
        Event::Lost { counter, count } => event_log::lost(base, counter, *count),
        Event::Forked { pid, child_pid, child_tid } => {
            process::forked(base, *pid, *child_pid, *child_tid)
        }
        Event::Executed { pid, exe } => process::executed(base, *pid, exe),
        Event::Exited { pid, tid } => process::exited(base, *pid, *tid),
        Event::Sent {
            endpoint,
            socket_type,
            protocol,
            messages,
            unasked_max,
            bytes,
            largest,
            ..
        } => {
            let traffic = network::Traffic {
                messages: *messages,
                unasked_max: *unasked_max,
                bytes: *bytes,
                largest: *largest,
            };
            network::sent(base, endpoint, (*socket_type, *protocol), traffic)
        }
        Event::Decided { hold_id, digest, process, action, verdict, tier, statements } => {
            let hold_id = Some(*hold_id);
            let act = action::Act { hold_id, digest, process, action, statements };
            act.event(base, Disposition::of_tier(*verdict, *tier))
        }
        Event::Blocked { digest, process, action, reason, .. } => {
            let act = action::Act { hold_id: None, digest, process, action, statements: &[] };
            act.event(base, Disposition::BLOCKED).detail(reason)
        }
        Event::Held { request } => action::Act::of_request(request)
            .event(base, Disposition::HELD)
            .detail(&format!("waits for {}", words::list(&request.terms.approver_groups))),
        Event::PersonDecided { hold_id, verdict, decided_by, reason, .. } => {
            let disposition = Disposition::of_person(*verdict);
            match context.held {
                Some(held) => held.event(base, disposition),
                None => api::hold_changed(base, *hold_id, disposition),
            }
            .decided_by(decided_by, reason)
        }
        Event::Outcome { hold_id, pid, tid, action, verdict, reason } => {
            let disposition = outcome(*verdict, reason);
            let event = match (hold_id, context.held) {
                (Some(_), Some(held)) => held.event(base, disposition),
                _ => action::unknown(base, action, *pid, *tid, disposition),
            };
            event.correlated(*hold_id).detail(reason)
        }
        Event::Withdrawn { hold_id, why } => {
            let disposition = Disposition::of_withdrawal(*why);
            match context.held {
                Some(held) => held.event(base, disposition),
                None => api::hold_changed(base, *hold_id, disposition),
            }
        }
        Event::ApprovalChanged { hold_id, from, to, by, reason } => {
            api::approval_changed(base, *hold_id, (from, to), by, reason)
        }
        Event::DecisionRefused { hold_id, why } => finding::decision_refused(base, *hold_id, why),
        Event::HostRefused { refused, what, why } => {
            finding::host_refused(base, *refused, what, why)
        }
        Event::HostLink { linked, up } => network::host_link(base, *linked, *up),
        Event::Authentication { user, method, success } => {
            authentication::sign_in(base, user, method, *success)
        }
        Event::PayloadErased { index, leaf_hash, reason, by } => {
            event_log::payload_erased(base, *index, leaf_hash, reason, by)
        }
        Event::PayloadsExpired { of, days, count, kept, entries, .. } => {
            event_log::payloads_expired(base, (of, *days), (*count, *kept), entries)
        }
        Event::LegalHoldSet { legal_hold, scope, reason, by } => {
            entity::legal_hold(base, legal_hold, Some(scope), reason, by)
        }
        Event::LegalHoldLifted { legal_hold, reason, by } => {
            entity::legal_hold(base, legal_hold, None, reason, by)
        }
        Event::LogKeyRotated { old, new, by } => entity::log_key_rotated(base, old, new, by),
    }
}

/// What took effect in the kernel: a grant, a deadline, or something that it could not hold.
fn outcome(verdict: Verdict, reason: &str) -> Disposition {
    match (verdict, reason) {
        (Verdict::Allow, _) => Disposition::ALLOWED,
        (Verdict::Deny, "grant") => Disposition::BLOCKED,
        (Verdict::Deny, "expired") => Disposition::UNAUTHORIZED,
        (Verdict::Deny, _) => Disposition::ERROR,
    }
}
