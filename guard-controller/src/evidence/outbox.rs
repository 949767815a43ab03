//! The controller's own records, from the transaction of what they tell of into the evidence store.
//!
//! A change and its record commit together or not at all. Moving on is a second step, which a crash
//! may interrupt: the store skips what it has, so the next start moves the rest.

use super::{Entry, EvidenceStore, RECORD_BYTES_MAX};
use crate::{
    StoreError, clock,
    db::{Db, Doing as _, int, parse},
};
use guard_audit::{Event, Record};
use guard_model::{BootId, HostId, SessionId};
use sqlx::{Row as _, SqliteConnection};
use tokio::sync::Mutex;
use uuid::Uuid;

/// Records that are moved at once.
const BATCH: i64 = 256;

/// Writes and moves the controller's own records.
#[derive(Debug)]
pub struct Outbox {
    host: HostId,
    boot: BootId,
    /// One mover at a time: the store wants them in order.
    moving: Mutex<()>,
}

impl Outbox {
    /// For one run of this process, which counts as one boot.
    #[must_use]
    pub fn new(host: HostId) -> Self {
        Self { host, boot: BootId(Uuid::new_v4()), moving: Mutex::new(()) }
    }

    /// Under which id the controller's own records stand.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Under which boot this run's records stand.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.boot
    }

    /// Writes a record in the caller's transaction.
    ///
    /// # Errors
    /// The database refused.
    pub async fn write(
        &self,
        tx: &mut SqliteConnection,
        session: Option<SessionId>,
        event: Event,
    ) -> Result<(), StoreError> {
        let row = sqlx::query(
            "INSERT INTO own_chain (boot, last) VALUES (?, 1) \
             ON CONFLICT (boot) DO UPDATE SET last = last + 1 RETURNING last",
        )
        .bind(self.boot.to_string())
        .fetch_one(&mut *tx)
        .await
        .doing("number a record")?;
        let sequence: u64 = row.try_get(0).doing("number a record")?;
        let mut record = Record {
            host: self.host,
            boot: self.boot,
            sequence,
            boottime_ns: clock::boottime_ns(),
            unix_ms: clock::unix_ms(),
            session,
            event,
        };
        let key = ("outbox", "record_json", &*sequence.to_string());
        let mut json = parse(key, serde_json::to_string(&record))?;
        if json.len() > RECORD_BYTES_MAX {
            // The log does not take it, and would never take what follows; that it is gone shows.
            record.event = Event::Lost { counter: "record_too_large".into(), count: 1 };
            json = parse(key, serde_json::to_string(&record))?;
        }
        sqlx::query("INSERT INTO outbox (host, boot, sequence, record_json) VALUES (?, ?, ?, ?)")
            .bind(self.host.to_string())
            .bind(self.boot.to_string())
            .bind(int(sequence))
            .bind(json)
            .execute(tx)
            .await
            .doing("write a record")?;
        Ok(())
    }

    /// Moves everything that is committed, of earlier runs too, into the store.
    ///
    /// # Errors
    /// Storage failed; what is left is moved next time.
    pub async fn flush(&self, db: &Db, store: &dyn EvidenceStore) -> Result<(), StoreError> {
        let _only_mover = self.moving.lock().await;
        while let Some((boot, entries)) = next_batch(db).await? {
            let appended = store.append(self.host, boot, entries).await?;
            if let Some(refused) = appended.refused {
                return Err(StoreError::Corrupt {
                    table: "outbox",
                    column: "sequence",
                    key: boot.to_string(),
                    problem: refused.to_string(),
                });
            }
            // A crash before this line moves them again; the store skips what it has.
            let mut tx = db.write().await?;
            sqlx::query("DELETE FROM outbox WHERE boot = ? AND sequence <= ?")
                .bind(boot.to_string())
                .bind(int(appended.last))
                .execute(&mut *tx)
                .await
                .doing("empty the outbox")?;
            tx.commit().await.doing("empty the outbox")?;
        }
        Ok(())
    }
}

async fn next_batch(db: &Db) -> Result<Option<(BootId, Vec<Entry>)>, StoreError> {
    let rows = sqlx::query(
        "SELECT boot, record_json FROM outbox \
         WHERE boot = (SELECT boot FROM outbox ORDER BY rowid LIMIT 1) ORDER BY sequence LIMIT ?",
    )
    .bind(BATCH)
    .fetch_all(db.read())
    .await
    .doing("read the outbox")?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        let json: String = row.try_get("record_json").doing("read the outbox")?;
        let record: Record = parse(("outbox", "record_json", ""), serde_json::from_str(&json))?;
        entries.push(Entry { record, json });
    }
    Ok(entries.first().map(|entry| entry.record.boot).map(|boot| (boot, entries)))
}
