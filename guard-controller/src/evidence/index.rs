//! What is derived from evidence: sessions, hosts' counters and legal holds.

use crate::{
    StoreError,
    db::{hosts, legal_holds, sessions},
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
        Event::LegalHoldSet { legal_hold, scope, reason, by } => {
            legal_holds::set(tx, *legal_hold, scope, (reason, by), unix_ms).await
        }
        Event::LegalHoldLifted { legal_hold, reason, by } => {
            legal_holds::lift(tx, *legal_hold, (reason, by), unix_ms).await.map(drop)
        }
        event => match record.session {
            Some(session) => {
                let ended = matches!(event, Event::SessionEnded {});
                sessions::touch(tx, session, host, unix_ms, ended).await
            }
            None => Ok(()),
        },
    }
}
