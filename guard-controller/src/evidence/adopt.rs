//! The database made anew from the log, where it was lost or is older than the log.
//!
//! Offline, under the state directory's lock. What no log has (accounts, tokens, enrolled hosts,
//! cursors of sinks, open requests) stays as the database has it, or is gone with it.

use super::{
    keys::{self, LogKeys},
    log_dir, rows,
    writer::blocking,
};
use crate::{
    StartError, StoreError,
    db::{Db, Doing as _, parse},
};
use guard_audit::{
    Record,
    log::{
        Checkpoint, Dir, DirReader, Envelope, LogKey, RawEntry, Report, TileHashes, checkpoint,
        leaf_hash, verify,
    },
};
use guard_model::HostId;
use sqlx::{Row as _, SqliteConnection};
use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

/// What is emptied and filled again from the log.
const DERIVED: [&str; 6] = [
    "DELETE FROM log_entries",
    "DELETE FROM log_hosts",
    "DELETE FROM search",
    "DELETE FROM legal_holds",
    "DELETE FROM meta WHERE key = 'erasures_done'",
    "UPDATE meta SET value = '0' WHERE key = 'search_next'",
];

/// Why the log was not adopted; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// It must not be.
    #[error("{0}")]
    Refused(String),
    /// The log itself is damaged.
    #[error(
        "the log is damaged ({}); run `guard audit verify`, and restore it from a copy",
        .0.problems.lines.first().map_or("", String::as_str)
    )]
    Damaged(Box<Report>),
    /// The state directory or the database.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The database or the log.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Verifies the log of a state directory whole, and makes the database's head and index anew from
/// it. Refuses while a controller runs, and if the database knows of more than the log has.
///
/// # Errors
/// [`AdoptError`]; nothing has changed.
pub async fn adopt(state_dir: &Path) -> Result<Report, AdoptError> {
    let dir = log_dir(state_dir);
    let refused = |problem: String| AdoptError::Refused(problem);
    // Both must be there before anything is made: a directory, a lock, a key.
    let files = Arc::new(Dir::new(&dir));
    let head = blocking({
        let files = Arc::clone(&files);
        move || checkpoint(&*files)
    })
    .await?;
    let own_id = super::merkle::own_id(&head.origin);
    let own_id = own_id.ok_or_else(|| refused(format!("`{}` is not our log", head.origin)))?;
    if !keys::path(state_dir).exists() {
        let path = keys::path(state_dir);
        return Err(refused(format!("{} is missing: restore the log's key", path.display())));
    }
    let _lock = crate::service::lock_state_dir(state_dir)?;
    let key = LogKeys::new(state_dir, head.origin.clone()).for_head(Some(&head))?;
    let report = sound(Arc::clone(&files), key).await?;
    let db = Db::open(&state_dir.join("controller.db")).await?;
    let mut tx = db.write().await?;
    same_controller(&mut tx, own_id).await?;
    if let Some(known) = rows::head(&mut tx).await? {
        is_ahead(Arc::clone(&files), &known, &head).await?;
    }
    for statement in DERIVED {
        sqlx::query(statement).execute(&mut *tx).await.doing("empty the index")?;
    }
    let reader = DirReader::new(files, Arc::new(AtomicU64::new(head.head.size)));
    let mut at = 0;
    loop {
        let reader = reader.clone();
        let entries = blocking(move || reader.read_raw(at, usize::MAX)).await?;
        if entries.is_empty() {
            break;
        }
        at += entries.len() as u64;
        insert(&mut tx, entries).await?;
    }
    rows::set_head(&mut tx, head.text()).await?;
    // A crash before this line changes nothing.
    tx.commit().await.doing("adopt the log")?;
    db.close().await;
    Ok(report)
}

async fn sound(files: Arc<Dir>, key: LogKey) -> Result<Report, AdoptError> {
    let report = blocking(move || Ok(verify(&*files, &[key.verifier().clone()], &[]))).await?;
    if report.is_sound() { Ok(report) } else { Err(AdoptError::Damaged(Box::new(report))) }
}

/// The id under which the controller's own records stand in the log, in the database too.
async fn same_controller(tx: &mut SqliteConnection, own_id: HostId) -> Result<(), AdoptError> {
    sqlx::query("INSERT INTO meta (key, value) VALUES ('controller_id', ?) ON CONFLICT DO NOTHING")
        .bind(own_id.to_string())
        .execute(&mut *tx)
        .await
        .doing("set the controller's id")?;
    let row = sqlx::query("SELECT value FROM meta WHERE key = 'controller_id'")
        .fetch_one(tx)
        .await
        .doing("read the controller's id")?;
    let known: String = row.try_get(0).doing("read the controller's id")?;
    if known == own_id.to_string() {
        return Ok(());
    }
    let problem = format!("the log is of controller {own_id} and the database of {known}");
    Err(AdoptError::Refused(problem))
}

/// Refuses a log that does not begin with what the database has committed.
async fn is_ahead(files: Arc<Dir>, known: &str, head: &Checkpoint) -> Result<(), AdoptError> {
    let known: Checkpoint =
        parse(("log_head", "checkpoint", "1"), Checkpoint::parse(known.as_bytes()))?;
    let (size, before) = (head.head.size, known.head.size);
    if before > size {
        return Err(AdoptError::Refused(format!(
            "the database has committed {before} entries and the log's files have {size}: start the \
             controller, which writes what its journal has, or restore the files"
        )));
    }
    let there = blocking(move || TileHashes::new(&*files, size).head(before)).await?;
    if there == known.head {
        return Ok(());
    }
    Err(AdoptError::Refused(format!(
        "the first {before} entries of the log's files are not those that the database has \
         committed: these are two logs"
    )))
}

async fn insert(tx: &mut SqliteConnection, entries: Vec<RawEntry>) -> Result<(), StoreError> {
    let mut all: Vec<(u64, [u8; 32], Envelope, Option<Record>)> = Vec::new();
    for raw in entries {
        let (leaf, envelope) = (leaf_hash(&raw.leaf), raw.envelope.clone());
        let entry =
            raw.into_entry().map_err(|error| StoreError::Log { problem: error.to_string() })?;
        all.push((entry.index, leaf, envelope, entry.record));
    }
    let rows = all.iter().map(|(at, leaf, envelope, record)| rows::Row {
        at: *at,
        leaf: *leaf,
        envelope,
        record: record.as_ref(),
    });
    rows::insert_all(tx, None, &rows.collect::<Vec<_>>()).await
}
