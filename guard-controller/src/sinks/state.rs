//! What a sink is doing, for pages and metrics.

use super::{SinkSpec, cursor::Cursor};
use serde::Serialize;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A sink as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SinkView {
    /// Its name.
    pub name: String,
    /// `file`, `webhook`…
    pub kind: &'static str,
    /// Where to; no secrets.
    pub target: String,
    /// `ocsf`, `ecs` or `cef`.
    pub format: &'static str,
    /// The first log index that is not delivered.
    pub next: u64,
    /// Entries of the log that are not delivered.
    pub lag: u64,
    /// Age of the oldest of them, ms.
    pub lag_ms: u64,
    /// Events that were confirmed, ever; repetitions count.
    pub delivered: u64,
    /// Events that the receiver refused for good, ever.
    pub rejected: u64,
    /// Failed attempts since the start.
    pub failures: u64,
    /// Why the last attempt failed; nothing if it did not.
    pub failing: Option<String>,
    /// Since when, ms since 1970.
    pub failing_since_unix_ms: Option<u64>,
}

/// Shared by the worker and who watches it.
pub(crate) struct SinkState {
    pub(crate) spec: SinkSpec,
    now: Mutex<Now>,
}

/// What changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Now {
    pub(super) cursor: Cursor,
    pub(super) failures: u64,
    pub(super) failing: Option<(String, u64)>,
}

impl SinkState {
    pub(super) fn new(spec: SinkSpec, cursor: Cursor) -> Self {
        Self { spec, now: Mutex::new(Now { cursor, ..Now::default() }) }
    }

    pub(super) fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first log index that is not delivered.
    pub(crate) fn next(&self) -> u64 {
        self.now().cursor.next
    }

    pub(crate) fn view(&self, size: u64, lag_ms: u64) -> SinkView {
        let Now { cursor, failures, failing } = self.now().clone();
        let (kind, target) = self.spec.to.describe();
        let (failing, since) = failing.unzip();
        SinkView {
            name: self.spec.name.clone(),
            kind,
            target,
            format: self.spec.format.name(),
            next: cursor.next,
            lag: size.saturating_sub(cursor.next),
            lag_ms,
            delivered: cursor.delivered,
            rejected: cursor.rejected,
            failures,
            failing,
            failing_since_unix_ms: since,
        }
    }
}
