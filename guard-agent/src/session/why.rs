//! What a session is told about its own holds and denials: rule, reason, state, and what to do.

use guard_model::{HoldId, PolicyStatement};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// How many are kept for one session.
pub const WHY_MAX: usize = 32;

/// Where a hold or denial stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyState {
    /// Waits for a person.
    Waiting,
    /// A person allowed it.
    Allowed,
    /// The policy denied it.
    Denied,
    /// A person denied it.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// The thread went on to something else, or ended.
    Left,
    /// The kernel refused it without a hold.
    Refused,
}

impl WhyState {
    /// What the session can do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Waiting => "wait: a person has been asked",
            Self::Allowed => "nothing: it went on",
            Self::Denied => "do it another way; only a change of the policy would allow it",
            Self::Rejected => "do not try it again unchanged; ask the person who runs you",
            Self::Expired => "try again when an approver is there",
            Self::Left => "nothing: the attempt ended before it was decided",
            Self::Refused => "use an ordinary system call; this way in cannot be held",
        }
    }
}

/// One hold or denial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyEntry {
    /// Which hold, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_id: Option<HoldId>,
    /// The action, in words; what the session chose in it is escaped.
    pub action: String,
    /// The statement's id.
    pub rule: String,
    /// File and line of the statement.
    pub place: String,
    /// Its reason, or the approver's words.
    pub reason: String,
    /// Where it stands.
    pub state: WhyState,
    /// Since when, wall clock, ms since 1970.
    pub since_unix_ms: u64,
    /// What to do.
    pub advice: String,
}

impl WhyEntry {
    /// About `action` under the first of `statements`.
    #[must_use]
    pub fn new(
        hold_id: Option<HoldId>,
        action: String,
        statements: &[PolicyStatement],
        state: WhyState,
        unix_ms: u64,
    ) -> Self {
        // Guard's own reason, if there is one, comes last and says most.
        let last = statements.last();
        let rule = last.map_or_else(String::new, |statement| statement.id.clone());
        let place = last
            .map_or_else(String::new, |statement| format!("{}:{}", statement.file, statement.line));
        let reason = last.and_then(|statement| statement.reason.clone()).unwrap_or_default();
        let advice = state.advice().to_owned();
        Self { hold_id, action, rule, place, reason, state, since_unix_ms: unix_ms, advice }
    }
}

/// The latest holds and denials of one session, oldest first.
#[derive(Debug, Default)]
pub struct Why(VecDeque<WhyEntry>);

impl Why {
    /// Adds one; the oldest makes room.
    pub fn push(&mut self, entry: WhyEntry) {
        if self.0.len() >= WHY_MAX {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }

    /// A hold has a new state, for `reason` if that is not empty.
    pub fn update(&mut self, hold_id: HoldId, state: WhyState, reason: &str, unix_ms: u64) {
        let entry = self.0.iter_mut().rev().find(|entry| entry.hold_id == Some(hold_id));
        if let Some(entry) = entry.filter(|entry| entry.state == WhyState::Waiting) {
            entry.state = state;
            entry.since_unix_ms = unix_ms;
            state.advice().clone_into(&mut entry.advice);
            if !reason.is_empty() {
                reason.clone_into(&mut entry.reason);
            }
        }
    }

    /// All of it, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<WhyEntry> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn entry(id: u128) -> WhyEntry {
        let hold = Some(HoldId(Uuid::from_u128(id)));
        WhyEntry::new(hold, "open /a".into(), &[], WhyState::Waiting, 1)
    }

    #[test]
    fn a_session_keeps_its_latest_entries_and_no_more() {
        let mut why = Why::default();
        for id in 0..WHY_MAX as u128 + 1 {
            why.push(entry(id));
        }
        assert_eq!(why.entries().len(), WHY_MAX);
        assert_eq!(why.entries()[0], entry(1));
    }

    #[test]
    fn a_waiting_entry_takes_its_end_and_an_ended_one_keeps_it() {
        let mut why = Why::default();
        why.push(entry(1));
        let id = HoldId(Uuid::from_u128(1));
        why.update(id, WhyState::Rejected, "no", 2);
        why.update(id, WhyState::Left, "", 3);
        let entries = why.entries();
        assert_eq!((entries[0].state, entries[0].reason.as_str()), (WhyState::Rejected, "no"));
    }
}
