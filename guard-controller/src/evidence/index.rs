//! What is derived from evidence: sessions, hosts' counters and legal holds.

use crate::{
    StoreError,
    db::{hosts, legal_holds, sessions},
};
use guard_audit::{Event, Record};
use guard_model::{HostId, SessionId};
use sqlx::SqliteConnection;
use std::collections::BTreeMap;

/// Applies records, which have just been stored, as if one after the other. Most are no more than a
/// session's sign of life, of which the last one in a row counts.
///
/// # Errors
/// The database refused.
pub(super) async fn apply_all(
    tx: &mut SqliteConnection,
    records: impl Iterator<Item = &Record>,
) -> Result<(), StoreError> {
    let mut alive: BTreeMap<(SessionId, HostId), u64> = BTreeMap::new();
    for record in records {
        match (is_sign_of_life(&record.event), record.session) {
            (true, Some(session)) => {
                let seen = alive.entry((session, record.host)).or_default();
                *seen = record.unix_ms.max(*seen);
            }
            (true, None) => {}
            (false, _) => {
                touch_all(tx, &mut alive).await?;
                apply(tx, record).await?;
            }
        }
    }
    touch_all(tx, &mut alive).await
}

/// Whether a record says no more of its session than that it lives.
fn is_sign_of_life(event: &Event) -> bool {
    !matches!(
        event,
        Event::SessionStarted { .. }
            | Event::SessionEnded {}
            | Event::Held { .. }
            | Event::Heartbeat { .. }
            | Event::LegalHoldSet { .. }
            | Event::LegalHoldLifted { .. }
    )
}

async fn touch_all(
    tx: &mut SqliteConnection,
    alive: &mut BTreeMap<(SessionId, HostId), u64>,
) -> Result<(), StoreError> {
    for ((session, host), unix_ms) in std::mem::take(alive) {
        sessions::touch(tx, session, host, unix_ms, false).await?;
    }
    Ok(())
}

/// Applies one record, which has just been stored.
async fn apply(tx: &mut SqliteConnection, record: &Record) -> Result<(), StoreError> {
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
