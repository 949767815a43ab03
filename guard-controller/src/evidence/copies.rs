//! What the database has of an entry besides its row in the index: it goes when the payload does.

use crate::{
    StoreError,
    db::{Doing as _, holds, int},
};
use guard_audit::{Event, Record};
use guard_model::HoldId;
use sqlx::SqliteConnection;

/// The hold whose row in the table of holds has something of this record.
pub(crate) fn hold_of(record: &Record) -> Option<HoldId> {
    match &record.event {
        Event::Held { request } => Some(request.hold_id),
        Event::PersonDecided { hold_id, .. } | Event::ApprovalChanged { hold_id, .. } => {
            Some(*hold_id)
        }
        _ => None,
    }
}

/// Removes what the index, the table of holds and the table of sessions have of entry `at`.
pub(super) async fn forget(
    tx: &mut SqliteConnection,
    at: u64,
    record: &Record,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM search WHERE log_index = ?")
        .bind(int(at))
        .execute(&mut *tx)
        .await
        .doing("drop an erased entry from the index")?;
    if let Some(id) = hold_of(record) {
        holds::forget(tx, id).await?;
    }
    let session = match &record.event {
        Event::SessionStarted { info } => Some(info.id),
        Event::Held { request } => Some(request.session.id),
        _ => None,
    };
    if let Some(session) = session {
        sqlx::query(
            "UPDATE sessions SET info_json = json_set(info_json, '$.command', json('[]')) \
             WHERE session = ?",
        )
        .bind(session.to_string())
        .execute(&mut *tx)
        .await
        .doing("drop the command of a session")?;
    }
    Ok(())
}
