//! Rows of `search`, and how far they reach.

use super::row::SearchRow;
use crate::{
    StoreError,
    db::{Db, Doing as _, int, parse},
};
use guard_model::HoldId;
use sqlx::{Row as _, SqliteConnection};

const NEXT: &str = "search_next";

/// The first log index that is not indexed.
pub(super) async fn next(db: &Db) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT value FROM meta WHERE key = ?")
        .bind(NEXT)
        .fetch_one(db.read())
        .await
        .doing("read how far the log is indexed")?;
    let value: String = row.try_get(0).doing("read how far the log is indexed")?;
    parse(("meta", "value", NEXT), value.parse())
}

/// Adds rows, except of erased entries, and moves from `before` to `after`: all or nothing.
pub(super) async fn append(
    db: &Db,
    rows: &[SearchRow],
    before: u64,
    after: u64,
) -> Result<(), StoreError> {
    let mut tx = db.write().await?;
    for row in rows {
        insert(&mut tx, row).await?;
    }
    // Also what was erased between being read and being indexed.
    sqlx::query(
        "DELETE FROM search WHERE log_index >= ? AND log_index < ? AND log_index IN \
         (SELECT log_index FROM log_entries WHERE erased = 1)",
    )
    .bind(int(before))
    .bind(int(after))
    .execute(&mut *tx)
    .await
    .doing("leave erased entries out of the index")?;
    let moved = sqlx::query("UPDATE meta SET value = ? WHERE key = ? AND value = ?")
        .bind(after.to_string())
        .bind(NEXT)
        .bind(before.to_string())
        .execute(&mut *tx)
        .await
        .doing("move the index")?;
    if moved.rows_affected() != 1 {
        return Err(StoreError::Conflict { what: "the search index".into() });
    }
    tx.commit().await.doing("index the log")
}

async fn insert(tx: &mut SqliteConnection, row: &SearchRow) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT OR REPLACE INTO search (log_index, unix_ms, host, session, person, kind, action, \
         outcome, hold, text) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(int(row.log_index))
    .bind(int(row.unix_ms))
    .bind(row.host.as_deref())
    .bind(row.session.as_deref())
    .bind(row.person.as_deref())
    .bind(&row.kind)
    .bind(row.action.as_deref())
    .bind(&row.outcome)
    .bind(row.hold.as_deref())
    .bind(&row.text)
    .execute(tx)
    .await
    .doing("index an entry")?;
    Ok(())
}

/// Forgets all rows.
pub(super) async fn clear(db: &Db) -> Result<(), StoreError> {
    let mut tx = db.write().await?;
    sqlx::query("DELETE FROM search").execute(&mut *tx).await.doing("empty the index")?;
    sqlx::query("UPDATE meta SET value = '0' WHERE key = ?")
        .bind(NEXT)
        .execute(&mut *tx)
        .await
        .doing("empty the index")?;
    tx.commit().await.doing("empty the index")
}

/// The entry that describes the action of a hold.
pub(super) async fn of_hold(db: &Db, id: HoldId) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query(
        "SELECT log_index FROM search WHERE hold = ? AND kind IN ('held', 'decided') \
         ORDER BY log_index LIMIT 1",
    )
    .bind(id.to_string())
    .fetch_optional(db.read())
    .await
    .doing("find a hold in the log")?;
    row.map(|row| row.try_get(0)).transpose().doing("find a hold in the log")
}

/// When an entry was made.
pub(super) async fn unix_ms_of(db: &Db, index: u64) -> Result<Option<u64>, StoreError> {
    let row = sqlx::query("SELECT unix_ms FROM search WHERE log_index = ?")
        .bind(int(index))
        .fetch_optional(db.read())
        .await
        .doing("find an entry")?;
    row.map(|row| row.try_get(0)).transpose().doing("find an entry")
}
