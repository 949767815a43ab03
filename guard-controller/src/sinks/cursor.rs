//! How far a sink has delivered: a row that moves only forward, but for an operator who replays.

use crate::{
    StoreError, clock,
    db::{Db, Doing as _, int},
};
use sqlx::Row as _;

/// A sink's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The first log index that is not delivered.
    pub(super) next: u64,
    /// Events that were confirmed, ever.
    pub(super) delivered: u64,
    /// Events that the receiver refused for good, ever.
    pub(super) rejected: u64,
    /// Where the batch ends that is under way; not after `next`: there is none.
    pub(super) batch_end: u64,
}

/// The cursor of `name`; a new one stands at `start`.
pub(super) async fn open(db: &Db, name: &str, start: u64) -> Result<Cursor, StoreError> {
    let mut tx = db.write().await?;
    sqlx::query(
        "INSERT INTO sinks (name, next_index, updated_unix_ms) VALUES (?, ?, ?) \
         ON CONFLICT DO NOTHING",
    )
    .bind(name)
    .bind(int(start))
    .bind(int(clock::unix_ms()))
    .execute(&mut *tx)
    .await
    .doing("make a sink's cursor")?;
    tx.commit().await.doing("make a sink's cursor")?;
    load(db, name).await
}

/// The cursor of `name`.
pub(super) async fn load(db: &Db, name: &str) -> Result<Cursor, StoreError> {
    let row =
        sqlx::query("SELECT next_index, delivered, rejected, batch_end FROM sinks WHERE name = ?")
            .bind(name)
            .fetch_one(db.read())
            .await
            .doing("read a sink's cursor")?;
    let number = |at: usize| row.try_get::<u64, _>(at).doing("read a sink's cursor");
    Ok(Cursor {
        next: number(0)?,
        delivered: number(1)?,
        rejected: number(2)?,
        batch_end: number(3)?,
    })
}

/// Notes where the batch of `name` ends that begins at `from`, unless an operator moved the cursor
/// meanwhile.
pub(super) async fn begin(
    db: &Db,
    name: &str,
    from: u64,
    batch_end: u64,
) -> Result<Cursor, StoreError> {
    let mut tx = db.write().await?;
    sqlx::query("UPDATE sinks SET batch_end = ? WHERE name = ? AND next_index = ?")
        .bind(int(batch_end))
        .bind(name)
        .bind(int(from))
        .execute(&mut *tx)
        .await
        .doing("note a sink's batch")?;
    tx.commit().await.doing("note a sink's batch")?;
    load(db, name).await
}

/// Moves the cursor of `name` from `from` to `to`, unless an operator moved it meanwhile.
pub(super) async fn advance(
    db: &Db,
    name: &str,
    from: u64,
    to: u64,
    (delivered, rejected): (u64, u64),
) -> Result<Cursor, StoreError> {
    let mut tx = db.write().await?;
    sqlx::query(
        "UPDATE sinks SET next_index = CASE WHEN next_index = ?1 THEN ?2 ELSE next_index END, \
         delivered = delivered + ?3, rejected = rejected + ?4, updated_unix_ms = ?5 \
         WHERE name = ?6",
    )
    .bind(int(from))
    .bind(int(to))
    .bind(int(delivered))
    .bind(int(rejected))
    .bind(int(clock::unix_ms()))
    .bind(name)
    .execute(&mut *tx)
    .await
    .doing("move a sink's cursor")?;
    tx.commit().await.doing("move a sink's cursor")?;
    load(db, name).await
}

/// Sets the cursor of `name`: what comes after is delivered again. False if there is none.
pub(crate) async fn reset(
    tx: &mut sqlx::SqliteConnection,
    name: &str,
    next: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE sinks SET next_index = ?, updated_unix_ms = ?, batch_end = 0 WHERE name = ?",
    )
    .bind(int(next))
    .bind(int(clock::unix_ms()))
    .bind(name)
    .execute(tx)
    .await
    .doing("set a sink's cursor")?;
    Ok(done.rows_affected() == 1)
}
