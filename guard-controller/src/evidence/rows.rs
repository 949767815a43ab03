//! Rows about the log: its head, and what is derived from its entries.

use super::index;
use crate::{
    EvidenceFilter, StoreError,
    db::{Doing as _, int, page, parse},
    view::EVIDENCE_PAGE_MAX,
};
use guard_audit::{
    Record,
    log::{Chains, Checkpoint, Envelope, HostTip},
};
use guard_model::{BootId, HostId, SessionId};
use serde_json::json;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, SqlitePool};
use std::collections::BTreeMap;

/// The head; `None` before the first start.
pub(super) async fn head(tx: &mut SqliteConnection) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT checkpoint FROM log_head")
        .fetch_optional(tx)
        .await
        .doing("read the log's head")?;
    row.map(|row| row.try_get(0)).transpose().doing("read the log's head")
}

/// Sets the head, whatever it was.
pub(super) async fn set_head(tx: &mut SqliteConnection, text: &str) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO log_head (one, checkpoint) VALUES (1, ?)")
        .bind(text)
        .execute(tx)
        .await
        .doing("set the log's head")?;
    Ok(())
}

/// Where the chain of every host stands.
pub(super) async fn chains(tx: &mut SqliteConnection) -> Result<Chains, StoreError> {
    let rows = sqlx::query("SELECT host, leaf_hash, policy FROM log_hosts")
        .fetch_all(tx)
        .await
        .doing("read the hosts' chains")?;
    let mut chains = Chains::default();
    for row in rows {
        let host: String = row.try_get(0).doing("read the hosts' chains")?;
        let leaf: String = row.try_get(1).doing("read the hosts' chains")?;
        let policy = row.try_get(2).doing("read the hosts' chains")?;
        let mut hash = [0; 32];
        parse(("log_hosts", "leaf_hash", &host), hex::decode_to_slice(&leaf, &mut hash))?;
        let id = parse(("log_hosts", "host", &host), host.parse())?;
        chains.set(id, HostTip { leaf: hash, policy });
    }
    Ok(chains)
}

macro_rules! insert {
    () => {
        "INSERT INTO log_entries \
         (log_index, host, boot, sequence, unix_ms, session, event, erased) \
         SELECT value->>0, value->>1, value->>2, value->>3, value->>4, value->>5, value->>6, \
         value->>7 FROM json_each(?); \
         INSERT OR REPLACE INTO log_hosts (host, leaf_hash, policy) \
         SELECT value->>0, value->>1, value->>2 FROM json_each(?)"
    };
}

const INSERT: &str = insert!();
const SWAP_AND_INSERT: &str =
    concat!("UPDATE log_head SET checkpoint = ? WHERE checkpoint = ?; ", insert!());

/// An entry that the log has, for the index.
pub(super) struct Row<'a> {
    pub(super) at: u64,
    pub(super) leaf: [u8; 32],
    pub(super) envelope: &'a Envelope,
    /// `None` once erased.
    pub(super) record: Option<&'a Record>,
}

/// Adds entries that the log has, in order, and swaps the head from the first to the second of `heads`
/// if it is still the first. One call for all of it, however many they are: each costs two changes
/// of the thread.
pub(super) async fn insert_all(
    tx: &mut SqliteConnection,
    heads: Option<(&Checkpoint, &Checkpoint)>,
    rows: &[Row<'_>],
) -> Result<(), StoreError> {
    let entries: Vec<_> = rows.iter().map(Row::to_json).collect();
    // The last of each host is where its chain stands.
    let tips: BTreeMap<HostId, &Row<'_>> =
        rows.iter().map(|row| (row.envelope.host, row)).collect();
    let tip = |(host, row): (&HostId, &&Row<'_>)| {
        json!([host, hex::encode(row.leaf), row.envelope.policy])
    };
    let tips: Vec<_> = tips.iter().map(tip).collect();
    let expected = rows.len() + tips.len() + usize::from(heads.is_some());
    let mut query = sqlx::query(if heads.is_some() { SWAP_AND_INSERT } else { INSERT });
    if let Some((before, after)) = heads {
        query = query.bind(after.text()).bind(before.text());
    }
    let done = query
        .bind(serde_json::Value::from(entries).to_string())
        .bind(serde_json::Value::from(tips).to_string())
        .execute(&mut *tx)
        .await
        .doing("swap the log's head and index evidence")?;
    // Each insert is a row or an error: what is missing is the swap.
    if done.rows_affected() != expected as u64 {
        return Err(StoreError::Conflict { what: "the evidence log".into() });
    }
    index::apply_all(tx, rows.iter().filter_map(|row| row.record)).await
}

impl Row<'_> {
    fn to_json(&self) -> serde_json::Value {
        let Self { at, envelope, record, .. } = *self;
        json!([
            int(at),
            envelope.host,
            envelope.boot,
            int(envelope.seq),
            int(record.map_or(envelope.time, |record| record.unix_ms)),
            record.and_then(|record| record.session),
            envelope.class,
            u8::from(record.is_none()),
        ])
    }
}

/// Marks an entry's payload as gone.
pub(super) async fn set_erased(tx: &mut SqliteConnection, at: u64) -> Result<(), StoreError> {
    sqlx::query("UPDATE log_entries SET erased = 1, session = NULL WHERE log_index = ?")
        .bind(int(at))
        .execute(tx)
        .await
        .doing("mark an erased entry")?;
    Ok(())
}

/// Entries that tell of erasures and came after those that are surely finished.
pub(super) async fn erasures(reader: &SqlitePool) -> Result<Vec<u64>, StoreError> {
    // Two queries, each of an index of its own.
    let rows = sqlx::query(
        "WITH done (at) AS (SELECT COALESCE((SELECT CAST(value AS INTEGER) FROM meta \
             WHERE key = 'erasures_done'), 0)) \
         SELECT log_index FROM log_entries, done WHERE event = 'payload_erased' \
             AND log_index >= at \
         UNION SELECT log_index FROM log_entries, done WHERE event = 'payloads_expired' \
             AND log_index >= at ORDER BY 1",
    )
    .fetch_all(reader)
    .await
    .doing("find erasures")?;
    rows.iter().map(|row| row.try_get(0).doing("find erasures")).collect()
}

/// Erasures that entries before `at` tell of are finished.
pub(super) async fn set_erasures_done(
    tx: &mut SqliteConnection,
    at: u64,
) -> Result<(), StoreError> {
    sqlx::query("INSERT OR REPLACE INTO meta (key, value) VALUES ('erasures_done', ?)")
        .bind(at.to_string())
        .execute(tx)
        .await
        .doing("note that erasures are finished")?;
    Ok(())
}

/// Positions of entries of a class in a range that are not erased.
pub(crate) async fn unerased(
    reader: &SqlitePool,
    (from, to): (u64, u64),
    class: &str,
) -> Result<Vec<u64>, StoreError> {
    let rows = sqlx::query(
        "SELECT log_index FROM log_entries \
         WHERE log_index >= ? AND log_index < ? AND event = ? AND erased = 0 ORDER BY log_index",
    )
    .bind(int(from))
    .bind(int(to))
    .bind(class)
    .fetch_all(reader)
    .await
    .doing("find what is old")?;
    rows.iter().map(|row| row.try_get(0).doing("find what is old")).collect()
}

/// The last sequence of a boot.
pub(super) async fn last(
    tx: &mut SqliteConnection,
    host: HostId,
    boot: BootId,
) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT COALESCE(MAX(sequence), 0) FROM log_entries WHERE host = ? AND boot = ?",
    )
    .bind(host.to_string())
    .bind(boot.to_string())
    .fetch_one(tx)
    .await
    .doing("find the last evidence")?;
    row.try_get(0).doing("find the last evidence")
}

/// Where a record stands in the log.
pub(super) async fn find(
    tx: &mut SqliteConnection,
    (host, boot, sequence): (HostId, BootId, u64),
) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query(
        "SELECT log_index FROM log_entries WHERE host = ? AND boot = ? AND sequence = ?",
    )
    .bind(host.to_string())
    .bind(boot.to_string())
    .bind(int(sequence))
    .fetch_optional(tx)
    .await
    .doing("compare evidence")?;
    row.map(|row| row.try_get(0)).transpose().doing("compare evidence")
}

/// Positions in the log of what a filter asks for and is not erased.
pub(super) async fn select(
    reader: &SqlitePool,
    filter: &EvidenceFilter,
) -> Result<Vec<u64>, StoreError> {
    let mut query: QueryBuilder<Sqlite> =
        QueryBuilder::new("SELECT log_index FROM log_entries WHERE erased = 0 AND log_index >= ");
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
    query.push(" ORDER BY log_index LIMIT ").push_bind(page(filter.limit, EVIDENCE_PAGE_MAX));
    let rows = query.build().fetch_all(reader).await.doing("read evidence")?;
    rows.iter().map(|row| row.try_get(0).doing("read evidence")).collect()
}

/// Positions of the newest of a session, in order.
pub(super) async fn newest(
    reader: &SqlitePool,
    session: SessionId,
    limit: usize,
) -> Result<Vec<u64>, StoreError> {
    let rows = sqlx::query(
        "SELECT log_index FROM log_entries WHERE session = ? AND erased = 0 \
         ORDER BY log_index DESC LIMIT ?",
    )
    .bind(session.to_string())
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(reader)
    .await
    .doing("read a session's evidence")?;
    rows.iter().rev().map(|row| row.try_get(0).doing("read a session's evidence")).collect()
}
