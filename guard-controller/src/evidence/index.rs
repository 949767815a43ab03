//! What is derived from evidence: sessions and hosts' counters.

use crate::{
    StoreError,
    db::{hosts, sessions},
};
use guard_audit::{Event, Record};
use sqlx::SqliteConnection;

/// Applies one record, which has just been stored.
///
/// # Errors
/// The database refused.
pub async fn apply(tx: &mut SqliteConnection, record: &Record) -> Result<(), StoreError> {
    let Record { host, boot, unix_ms, .. } = *record;
    match &record.event {
        Event::SessionStarted { info } => sessions::upsert(tx, host, boot, info, unix_ms).await,
        Event::Held { request } if request.host == host => {
            sessions::upsert(tx, host, boot, &request.session, unix_ms).await
        }
        Event::Heartbeat { counters, .. } => hosts::set_counters(tx, host, counters).await,
        event => match record.session {
            Some(session) => {
                let ended = matches!(event, Event::SessionEnded {});
                sessions::touch(tx, session, host, unix_ms, ended).await
            }
            None => Ok(()),
        },
    }
}
