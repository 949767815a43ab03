//! [`LogReader`] over the `evidence` table.

use super::SqliteEvidence;
use crate::db::int;
use guard_audit::{LogEntry, LogReadError, LogReader, Record};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::runtime::Handle;

/// What reads are called in errors.
const TABLE: &str = "controller.db: evidence";

/// Follows an [`SqliteEvidence`]. Its reads block: never call them on an async thread.
#[derive(Clone, Debug)]
pub struct SqliteLog {
    store: SqliteEvidence,
    runtime: Handle,
    committed: Arc<AtomicU64>,
}

impl SqliteLog {
    /// Follows `store`; reads run on the runtime `runtime`.
    #[must_use]
    pub fn new(store: SqliteEvidence, runtime: Handle) -> Self {
        let committed = store.committed();
        Self { store, runtime, committed }
    }

    async fn rows(&self, from: u64, limit: usize) -> Result<Vec<(u64, String)>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT position, record_json FROM evidence WHERE position > ? \
             ORDER BY position LIMIT ?",
        )
        .bind(int(from))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(self.store.db().read())
        .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

impl LogReader for SqliteLog {
    fn size(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    fn read(&self, from_index: u64, limit: usize) -> Result<Vec<LogEntry>, LogReadError> {
        let left = self.size().saturating_sub(from_index);
        let limit = limit.min(usize::try_from(left).unwrap_or(usize::MAX));
        let rows = self.runtime.block_on(self.rows(from_index, limit));
        let rows = rows.map_err(|error| LogReadError::File {
            path: TABLE.into(),
            doing: "cannot be read",
            source: io::Error::other(error),
        })?;
        let damaged = |index, problem| LogReadError::Damaged { index, problem };
        if rows.len() < limit {
            return Err(damaged(from_index + rows.len() as u64, "it is missing".into()));
        }
        (from_index..)
            .zip(rows)
            .map(|(index, (position, json))| {
                if position != index + 1 {
                    return Err(damaged(index, "it is missing".into()));
                }
                let record: Record = serde_json::from_str(&json)
                    .map_err(|error| damaged(index, format!("it is no record: {error}")))?;
                Ok(LogEntry { index, leaf_hash: leaf_hash(json.as_bytes()), record: Some(record) })
            })
            .collect()
    }
}

/// RFC 6962, 2.1.
fn leaf_hash(entry: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([0]).chain_update(entry).finalize().into()
}
