//! What a session is told of its own evidence (`why`), and what an approver sees that it did
//! before.

use crate::clock;
use crate::session::{
    Sessions,
    why::{WhyEntry, WhyState},
};
use guard_audit::Event;
use guard_model::{Action, SessionId, Verdict, Withdrawal};

/// Follows one record.
pub(super) fn note(sessions: &mut Sessions, session: SessionId, event: &Event) {
    let Some(handle) = sessions.handle_of(session) else { return };
    if let Some(line) = recent_line(event) {
        sessions.did(handle, line);
    }
    let Some(why) = sessions.why_mut(handle) else { return };
    let now_ms = clock::unix_ms();
    match event {
        Event::Held { request } => {
            let words = in_words(&request.action);
            let (id, statements) = (Some(request.hold_id), &request.statements);
            why.push(WhyEntry::new(id, words, statements, WhyState::Waiting, now_ms));
        }
        Event::Decided { hold_id, action, verdict: Verdict::Deny, statements, .. } => {
            let (id, words) = (Some(*hold_id), in_words(action));
            why.push(WhyEntry::new(id, words, statements, WhyState::Denied, now_ms));
        }
        Event::PersonDecided { hold_id, verdict, reason, .. } => {
            let state = match verdict {
                Verdict::Allow => WhyState::Allowed,
                Verdict::Deny => WhyState::Rejected,
            };
            why.update(*hold_id, state, reason, now_ms);
        }
        Event::Withdrawn { hold_id, why: Withdrawal::Expired } => {
            why.update(*hold_id, WhyState::Expired, "", now_ms);
        }
        Event::Withdrawn { hold_id, .. } => why.update(*hold_id, WhyState::Left, "", now_ms),
        Event::Outcome { hold_id: None, action, reason, .. } => {
            let mut entry = WhyEntry::new(None, action.clone(), &[], WhyState::Refused, now_ms);
            reason.clone_into(&mut entry.reason);
            why.push(entry);
        }
        _ => {}
    }
}

/// What a reviewer wants to know of the minutes before: programs, connections, changes, and
/// whatever was denied. Plain reads are left out, or nothing else would be left in.
fn recent_line(event: &Event) -> Option<String> {
    match event {
        Event::Decided { action, verdict: Verdict::Allow, .. } => {
            let plain_read = matches!(action, Action::Open { access, .. } if !access.write);
            (!plain_read).then(|| in_words(action))
        }
        Event::Decided { action, .. } => Some(format!("{} (denied)", in_words(action))),
        Event::Held { request } => Some(format!("{} (held)", in_words(&request.action))),
        _ => None,
    }
}

/// Longest line, characters: more of an argv is in the record itself.
const LINE_MAX: usize = 200;

fn in_words(action: &Action) -> String {
    let line = format!("{} {}", action.verb_line(), action.object_line());
    match line.char_indices().nth(LINE_MAX) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    }
}
