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
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, SqlitePool};

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

/// Sets the head if it is still `before`.
pub(super) async fn swap_head(
    tx: &mut SqliteConnection,
    before: &Checkpoint,
    after: &Checkpoint,
) -> Result<(), StoreError> {
    let done = sqlx::query("UPDATE log_head SET checkpoint = ? WHERE checkpoint = ?")
        .bind(after.text())
        .bind(before.text())
        .execute(tx)
        .await
        .doing("swap the log's head")?;
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(StoreError::Conflict { what: "the evidence log".into() }),
    }
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

/// Adds an entry that the log has.
pub(super) async fn insert(
    tx: &mut SqliteConnection,
    at: u64,
    leaf: &[u8; 32],
    envelope: &Envelope,
    record: Option<&Record>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO log_entries (log_index, host, boot, sequence, unix_ms, session, event, erased) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(int(at))
    .bind(envelope.host.to_string())
    .bind(envelope.boot.to_string())
    .bind(int(envelope.seq))
    .bind(int(record.map_or(envelope.time, |record| record.unix_ms)))
    .bind(record.and_then(|record| record.session).map(|session| session.to_string()))
    .bind(&envelope.class)
    .bind(record.is_none())
    .execute(&mut *tx)
    .await
    .doing("index evidence")?;
    sqlx::query("INSERT OR REPLACE INTO log_hosts (host, leaf_hash, policy) VALUES (?, ?, ?)")
        .bind(envelope.host.to_string())
        .bind(hex::encode(leaf))
        .bind(&envelope.policy)
        .execute(&mut *tx)
        .await
        .doing("store a host's chain")?;
    match record {
        Some(record) => index::apply(tx, record).await,
        None => Ok(()),
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
