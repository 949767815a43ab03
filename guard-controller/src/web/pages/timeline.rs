//! An evidence record as one line for people.

use crate::web::text::safe_line;
use guard_audit::{Event, Record};
use guard_model::{HoldId, Tier, Verdict};

/// One line of a timeline.
pub(crate) struct Line {
    pub(crate) unix_ms: u64,
    /// Short name of what happened.
    pub(crate) kind: &'static str,
    /// `good`, `bad`, `wait` or nothing: how it is coloured.
    pub(crate) tone: &'static str,
    pub(crate) pid: Option<u32>,
    pub(crate) text: String,
    /// The request that it is about.
    pub(crate) hold: Option<HoldId>,
}

impl Line {
    /// The line of an entry whose payload was erased.
    pub(crate) fn erased() -> Self {
        let text = "its payload was erased".into();
        Self { unix_ms: 0, kind: "erased", tone: "", pid: None, text, hold: None }
    }
}

/// The line of a record.
pub(crate) fn line(record: &Record) -> Line {
    let (kind, tone, pid, text) = parts(&record.event);
    let text = safe_line(&text);
    Line { unix_ms: record.unix_ms, kind, tone, pid, text, hold: hold_of(&record.event) }
}

/// Only of requests: what policy decided alone has no page.
fn hold_of(event: &Event) -> Option<HoldId> {
    match event {
        Event::Held { request } => Some(request.hold_id),
        Event::PersonDecided { hold_id, .. }
        | Event::Withdrawn { hold_id, .. }
        | Event::ApprovalChanged { hold_id, .. } => Some(*hold_id),
        _ => None,
    }
}

fn tone(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "good",
        Verdict::Deny => "bad",
    }
}

fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Kernel => "kernel tables",
        Tier::Agent => "policy",
        Tier::Person => "a person",
    }
}

fn parts(event: &Event) -> (&'static str, &'static str, Option<u32>, String) {
    match event {
        Event::Decided { process, action, verdict, tier: by, statements, .. } => {
            let kind = if *verdict == Verdict::Allow { "allowed" } else { "denied" };
            let mut text = format!("{} {}", action.verb_line(), action.object_line());
            text.push_str(&format!(" — by {}", tier(*by)));
            if let Some(statement) = statements.first() {
                text.push_str(&format!(", {}", statement.id));
            }
            (kind, tone(*verdict), Some(process.pid), text)
        }
        Event::Blocked { process, action, reason, allowed_from_now, .. } => {
            let mut text = format!("{} {}: {reason}", action.verb_line(), action.object_line());
            if *allowed_from_now {
                text.push_str(" (policy allows it from now on)");
            }
            ("blocked", tone(Verdict::Deny), Some(process.pid), text)
        }
        Event::Held { request } => {
            let action = &request.action;
            let text = format!("{} {}", action.verb_line(), action.object_line());
            ("held", "wait", Some(request.process.pid), text)
        }
        Event::PersonDecided { verdict, decided_by, reason, .. } => {
            let kind = if *verdict == Verdict::Allow { "approved" } else { "rejected" };
            (kind, tone(*verdict), None, format!("by {decided_by}: {reason}"))
        }
        Event::Outcome { pid, action, verdict, reason, .. } => {
            let went = if *verdict == Verdict::Allow { "went on" } else { "failed" };
            ("outcome", tone(*verdict), Some(*pid), format!("{action} {went} ({reason})"))
        }
        Event::Forked { pid, child_pid, child_tid } if child_pid == child_tid => {
            ("fork", "", Some(*pid), format!("child {child_pid}"))
        }
        Event::Forked { pid, child_tid, .. } => {
            ("thread", "", Some(*pid), format!("thread {child_tid}"))
        }
        Event::Executed { pid, exe } => ("exec", "", Some(*pid), exe.visible()),
        Event::Exited { pid, tid } if pid == tid => ("exit", "", Some(*pid), String::new()),
        Event::Exited { pid, tid } => ("thread end", "", Some(*pid), format!("thread {tid}")),
        Event::SessionStarted { info } => {
            ("start", "", Some(info.root_pid), format!("{} for {}", info.name, info.principal))
        }
        Event::Sent { endpoint, messages, unasked_max, bytes, largest, .. } => {
            let mut text = format!("{messages} messages, {bytes} bytes to {endpoint} in a minute");
            text.push_str(&format!(", {largest} at most at once"));
            if *unasked_max > 0 {
                text.push_str(&format!("; up to {unasked_max} more that Linux did not ask about"));
            }
            ("sent", "", None, text)
        }
        Event::SessionEnded {} => ("end", "", None, "its last process exited".into()),
        other => administrative(other),
    }
}

fn administrative(event: &Event) -> (&'static str, &'static str, Option<u32>, String) {
    let (kind, tone, text) = match event {
        Event::ApprovalChanged { from, to, by, reason, .. } => {
            let by = if by.is_empty() { String::new() } else { format!(" by {by}") };
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            let from = if from.is_empty() { "new" } else { from };
            ("request", "", format!("{from} → {to}{by}{reason}"))
        }
        Event::Withdrawn { why, .. } => ("withdrawn", "", format!("{why:?}").to_lowercase()),
        Event::DecisionRefused { why, .. } => ("refused", "bad", why.clone()),
        Event::Lost { counter, count } => ("lost", "bad", format!("{count} × {counter}")),
        Event::Started { component, version, .. } => {
            ("started", "", format!("{component} {version}"))
        }
        Event::Stopped { component, reason } => ("stopped", "", format!("{component}: {reason}")),
        Event::EnforcementEnded { by, reason, .. } => {
            ("enforcement ended", "bad", format!("by {by}: {reason}"))
        }
        Event::Tampered { what, mended } => {
            let then = if *mended { "mended" } else { "NOT mended" };
            ("tampered", "bad", format!("{what}; {then}"))
        }
        Event::PolicyLoaded { digest, .. } => ("policy", "", digest.clone()),
        Event::Heartbeat { pending_holds, .. } => {
            ("heartbeat", "", format!("{pending_holds} holds wait"))
        }
        Event::Enrolled { hostname, .. } => ("enrolled", "", hostname.clone()),
        Event::HostLink { up, .. } => ("link", "", if *up { "up".into() } else { "down".into() }),
        Event::Authentication { user, method, success } => {
            let tone = if *success { "" } else { "bad" };
            ("sign-in", tone, format!("{user} by {method}: {success}"))
        }
        Event::UserChanged { user, change, by } => {
            ("user", "", format!("{user}: {change}, by {by}"))
        }
        Event::PayloadErased { index, reason, by, .. } => {
            ("erased", "", format!("payload of entry {index}, by {by}: {reason}"))
        }
        Event::PayloadsExpired { of, days, count, .. } => {
            ("erased", "", format!("{count} payloads of class {of}, older than {days} days"))
        }
        Event::LegalHoldSet { scope, reason, by, .. } => {
            ("legal hold", "", format!("keeps {scope}, by {by}: {reason}"))
        }
        Event::LegalHoldLifted { legal_hold, reason, by } => {
            ("legal hold", "", format!("{legal_hold} lifted, by {by}: {reason}"))
        }
        Event::LogKeyRotated { new, by, .. } => ("log key", "", format!("{new}, by {by}")),
        _ => ("event", "", String::new()),
    };
    (kind, tone, None, text)
}
