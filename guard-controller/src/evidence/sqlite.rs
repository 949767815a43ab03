//! [`EvidenceStore`] in the `evidence` table, with the derived index in the same transaction.

use super::{Appended, Entry, EvidenceStore, Refused, index};
use crate::{
    EvidenceFilter, StoreError, StoredRecord,
    db::{Db, Doing as _, int, page, parse},
    view::EVIDENCE_PAGE_MAX,
};
use futures::future::BoxFuture;
use guard_model::{BootId, HostId, SessionId};
use serde::Deserialize;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Evidence in SQLite.
#[derive(Clone, Debug)]
pub struct SqliteEvidence {
    db: Db,
    committed: Arc<AtomicU64>,
}

impl SqliteEvidence {
    /// In the `evidence` table of `db`.
    ///
    /// # Errors
    /// The database refused.
    pub async fn open(db: Db) -> Result<Self, StoreError> {
        let row = sqlx::query("SELECT COALESCE(MAX(position), 0) FROM evidence")
            .fetch_one(db.read())
            .await
            .doing("find the last evidence")?;
        let size: u64 = row.try_get(0).doing("find the last evidence")?;
        Ok(Self { db, committed: Arc::new(AtomicU64::new(size)) })
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// Counts what is committed.
    pub(super) fn committed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.committed)
    }

    async fn append_now(
        &self,
        host: HostId,
        boot: BootId,
        entries: Vec<Entry>,
    ) -> Result<Appended, StoreError> {
        let mut tx = self.db.write().await?;
        let mut done = Appended { last: last(&mut tx, host, boot).await?, new: 0, refused: None };
        let mut size = 0;
        for entry in &entries {
            let sequence = entry.record.sequence;
            if sequence <= done.last {
                if stored_json(&mut tx, host, boot, sequence).await?.as_deref() == Some(&entry.json)
                {
                    continue;
                }
                done.refused = Some(Refused::Differs { sequence });
                break;
            }
            if sequence != done.last + 1 {
                done.refused = Some(Refused::Gap { last: done.last, got: sequence });
                break;
            }
            size = insert(&mut tx, entry).await?;
            index::apply(&mut tx, &entry.record).await?;
            done.last = sequence;
            done.new += 1;
        }
        // A crash before this line stores nothing of the batch, and nothing was acknowledged.
        tx.commit().await.doing("commit evidence")?;
        self.committed.fetch_max(size, Ordering::AcqRel);
        Ok(done)
    }

    async fn read_now(&self, filter: EvidenceFilter) -> Result<Vec<StoredRecord>, StoreError> {
        let mut query: QueryBuilder<Sqlite> =
            QueryBuilder::new("SELECT position, record_json FROM evidence WHERE position > ");
        query.push_bind(int(filter.after));
        if let Some(host) = filter.host {
            query.push(" AND host = ").push_bind(host.to_string());
        }
        if let Some(boot) = filter.boot {
            query.push(" AND boot = ").push_bind(boot.to_string());
        }
        if let Some(session) = filter.session {
            query.push(" AND session = ").push_bind(session.to_string());
        }
        query.push(" ORDER BY position LIMIT ").push_bind(page(filter.limit, EVIDENCE_PAGE_MAX));
        let rows = query.build().fetch_all(self.db.read()).await.doing("read evidence")?;
        rows.iter().map(stored_record).collect()
    }

    async fn newest_now(
        &self,
        session: SessionId,
        limit: usize,
    ) -> Result<Vec<StoredRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT position, record_json FROM evidence WHERE session = ? \
             ORDER BY position DESC LIMIT ?",
        )
        .bind(session.to_string())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(self.db.read())
        .await
        .doing("read a session's evidence")?;
        rows.iter().rev().map(stored_record).collect()
    }

    async fn last_now(&self, host: HostId, boot: BootId) -> Result<u64, StoreError> {
        let mut connection = self.db.read().acquire().await.doing("read evidence")?;
        last(&mut connection, host, boot).await
    }
}

impl EvidenceStore for SqliteEvidence {
    fn append(
        &self,
        host: HostId,
        boot: BootId,
        entries: Vec<Entry>,
    ) -> BoxFuture<'_, Result<Appended, StoreError>> {
        Box::pin(self.append_now(host, boot, entries))
    }

    fn last(&self, host: HostId, boot: BootId) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.last_now(host, boot))
    }

    fn read(&self, filter: EvidenceFilter) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        Box::pin(self.read_now(filter))
    }

    fn newest_of_session(
        &self,
        session: SessionId,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        Box::pin(self.newest_now(session, limit))
    }
}

async fn last(tx: &mut SqliteConnection, host: HostId, boot: BootId) -> Result<u64, StoreError> {
    let row =
        sqlx::query("SELECT COALESCE(MAX(sequence), 0) FROM evidence WHERE host = ? AND boot = ?")
            .bind(host.to_string())
            .bind(boot.to_string())
            .fetch_one(tx)
            .await
            .doing("find the last evidence")?;
    row.try_get(0).doing("find the last evidence")
}

async fn stored_json(
    tx: &mut SqliteConnection,
    host: HostId,
    boot: BootId,
    sequence: u64,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query(
        "SELECT record_json FROM evidence WHERE host = ? AND boot = ? AND sequence = ?",
    )
    .bind(host.to_string())
    .bind(boot.to_string())
    .bind(int(sequence))
    .fetch_optional(tx)
    .await
    .doing("compare evidence")?;
    row.map(|row| row.try_get(0)).transpose().doing("compare evidence")
}

/// Its position.
async fn insert(tx: &mut SqliteConnection, entry: &Entry) -> Result<u64, StoreError> {
    #[derive(Deserialize)]
    struct Tag {
        event: String,
    }
    let record = &entry.record;
    let tag = parse(
        ("evidence", "record_json", &record.sequence.to_string()),
        serde_json::from_str::<Tag>(&entry.json),
    )?;
    let row = sqlx::query(
        "INSERT INTO evidence (host, boot, sequence, unix_ms, session, event, record_json) \
         VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING position",
    )
    .bind(record.host.to_string())
    .bind(record.boot.to_string())
    .bind(int(record.sequence))
    .bind(int(record.unix_ms))
    .bind(record.session.map(|session| session.to_string()))
    .bind(tag.event)
    .bind(entry.json.clone())
    .fetch_one(tx)
    .await
    .doing("append evidence")?;
    row.try_get(0).doing("append evidence")
}

fn stored_record(row: &SqliteRow) -> Result<StoredRecord, StoreError> {
    let position: u64 = row.try_get("position").doing("read evidence")?;
    let json: String = row.try_get("record_json").doing("read evidence")?;
    let record =
        parse(("evidence", "record_json", &position.to_string()), serde_json::from_str(&json))?;
    Ok(StoredRecord { position, record })
}
