//! One round: looks at a bounded part of the log and erases what its rule says and no hold keeps.

use super::Controller;
use crate::{
    LegalHold, StoreError, clock,
    db::holds,
    evidence::{ERASED_AT_ONCE_MAX, copies, unerased},
};
use guard_audit::{Event, Record, log::RawEntry, retention::Rules};
use guard_model::HoldId;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// What the rounds of this run have done, and how far they are.
#[derive(Debug, Default)]
pub(crate) struct RetentionState {
    /// Class → the first entry that was not looked at.
    next: Mutex<BTreeMap<&'static str, u64>>,
    /// The log tells of an erasure that is not done, or was not when it was last looked.
    unfinished: AtomicBool,
    pub(super) erased: AtomicU64,
    pub(super) clock_ahead_ms: AtomicU64,
    pub(super) failing: Mutex<Option<String>>,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Payloads that it erased.
    pub erased: u64,
    /// Payloads that are old enough and that a legal hold keeps.
    pub kept: u64,
    /// Whether there is more to look at.
    pub more: bool,
}

/// What of one part of the log goes.
#[derive(Debug, Default)]
struct Due {
    positions: Vec<u64>,
    kept: u64,
    holds: Vec<HoldId>,
}

impl RetentionState {
    /// Looks at everything again: what was kept may go now.
    pub(super) fn start_over(&self) {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// An erasure is about to be told of.
    pub(crate) fn begins(&self) {
        self.unfinished.store(true, Ordering::Relaxed);
    }

    /// What was told of is erased.
    pub(crate) fn ended(&self) {
        self.unfinished.store(false, Ordering::Relaxed);
    }

    fn next(&self, class: &'static str) -> u64 {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.get(class).copied().unwrap_or(0)
    }

    fn set_next(&self, class: &'static str, at: u64) {
        self.next.lock().unwrap_or_else(PoisonError::into_inner).insert(class, at);
    }
}

impl Controller {
    /// Erases what is older at `now_unix_ms` than its rule says: for each class at most
    /// [`ERASED_AT_ONCE_MAX`] entries are looked at. What goes, and by which rule, is evidence
    /// before it happens.
    ///
    /// # Errors
    /// Storage failed; what the log tells of is erased at the next start.
    pub async fn expire_evidence(&self, now_unix_ms: u64) -> Result<Round, StoreError> {
        let mut round = Round::default();
        // Many classes have the same time: it is looked up once.
        let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
        for (class, days) in self.config().retention.iter() {
            let before_unix_ms = Rules::cutoff(days, now_unix_ms);
            let end = match ends.get(&days) {
                Some(end) => *end,
                None => self.inner.evidence.first_since(before_unix_ms).await?,
            };
            ends.insert(days, end);
            let done = self.expire_class((class, days), before_unix_ms, end).await?;
            round.erased += done.erased;
            round.kept += done.kept;
            round.more |= done.more;
        }
        Ok(round)
    }

    /// Finishes what was told of and failed, so that nothing that a hold finds goes after it. The
    /// caller has the lock of erasures.
    ///
    /// # Errors
    /// It cannot be finished: nothing else is erased, and no hold is set, before it is.
    pub(crate) async fn finish_erasures(&self) -> Result<(), StoreError> {
        if self.inner.retention.unfinished.load(Ordering::Relaxed) {
            self.flush_evidence().await?;
            self.inner.evidence.redo_erasures().await?;
            self.inner.retention.ended();
        }
        Ok(())
    }

    async fn expire_class(
        &self,
        (class, days): (&'static str, u32),
        before_unix_ms: u64,
        end: u64,
    ) -> Result<Round, StoreError> {
        let _only = self.inner.erasing.lock().await;
        self.finish_erasures().await?;
        let (state, evidence) = (&self.inner.retention, &self.inner.evidence);
        let from = state.next(class);
        let to = end.min(from.saturating_add(ERASED_AT_ONCE_MAX as u64));
        if from >= to {
            return Ok(Round::default());
        }
        let found = unerased(self.db().read(), (from, to), class).await?;
        let legal_holds = self.legal_holds(true).await?;
        let due = self.due(found, (class, before_unix_ms), &legal_holds).await?;
        let round = Round { erased: due.positions.len() as u64, kept: due.kept, more: to < end };
        if !due.positions.is_empty() {
            let event = Event::PayloadsExpired {
                of: class.into(),
                days,
                before_unix_ms,
                count: round.erased,
                kept: round.kept,
                entries: ranges(&due.positions),
            };
            state.begins();
            self.audit(event).await?;
            self.flush_evidence().await?;
            // A crash before this line: the next start erases them.
            evidence.erase(due.positions).await?;
            state.ended();
            for hold in due.holds {
                self.inner.index.forget(hold).await;
            }
        }
        state.erased.fetch_add(round.erased, Ordering::Relaxed);
        state.set_next(class, to);
        Ok(round)
    }

    /// What of `found` goes. The leaf decides about class and time, not the index.
    async fn due(
        &self,
        found: Vec<u64>,
        (class, before_unix_ms): (&str, u64),
        legal_holds: &[LegalHold],
    ) -> Result<Due, StoreError> {
        let mut due = Due::default();
        for group in found.chunk_by(|a, b| a / 256 == b / 256) {
            for entry in self.inner.evidence.raw(group.to_vec()).await? {
                let RawEntry { index, envelope, payload, .. } = entry;
                let Some(payload) = payload else { continue };
                if envelope.class != class || envelope.time >= before_unix_ms {
                    continue;
                }
                let record: Option<Record> = serde_json::from_slice(&payload.json).ok();
                let keeps = |hold: &LegalHold| hold.scope.keeps(&envelope, record.as_ref());
                // What cannot be determined is kept.
                if legal_holds.iter().any(|hold| keeps(hold) != Some(false)) {
                    due.kept += 1;
                    continue;
                }
                let hold = record.as_ref().and_then(copies::hold_of);
                if let Some(id) = hold {
                    if holds::is_under_way(self.db().read(), id, clock::unix_ms()).await? {
                        continue;
                    }
                    due.holds.push(id);
                }
                due.positions.push(index);
            }
        }
        Ok(due)
    }
}

/// Ascending positions as ranges: first, and how many.
fn ranges(positions: &[u64]) -> Vec<(u64, u64)> {
    let runs = positions.chunk_by(|a, b| a + 1 == *b);
    runs.filter_map(|run| Some((*run.first()?, run.len() as u64))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_become_ranges() {
        assert_eq!(ranges(&[]), []);
        assert_eq!(ranges(&[3, 4, 5, 9, 11, 12]), [(3, 3), (9, 1), (11, 2)]);
    }

    #[test]
    fn what_one_round_erases_fits_one_record() {
        let every_other: Vec<u64> =
            (0..ERASED_AT_ONCE_MAX as u64).map(|n| u64::MAX / 4 + 2 * n).collect();
        let event = Event::PayloadsExpired {
            of: "approval_changed".into(),
            days: 36_500,
            before_unix_ms: u64::MAX,
            count: u64::MAX,
            kept: u64::MAX,
            entries: ranges(&every_other),
        };
        let json = serde_json::to_string(&event).unwrap();
        assert!(json.len() < crate::evidence::RECORD_BYTES_MAX / 2, "{}", json.len());
    }
}
