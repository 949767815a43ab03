//! What is derived from evidence: sessions, hosts' counters and legal holds.

use crate::{
    StoreError,
    db::{hosts, legal_holds, sessions},
};
use guard_audit::{Event, HoldScope, Record};
use guard_model::{HostId, SessionId, SessionInfo};
use sqlx::SqliteConnection;
use std::collections::BTreeMap;
use uuid::Uuid;

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
        if let Some(news) = News::of(record) {
            touch_all(tx, &mut alive).await?;
            news.apply(tx, record).await?;
        } else if let Some(session) = record.session {
            let seen = alive.entry((session, record.host)).or_default();
            *seen = record.unix_ms.max(*seen);
        }
    }
    touch_all(tx, &mut alive).await
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

/// What a record says beyond that its session lives.
enum News<'a> {
    Session(&'a SessionInfo),
    Ended(SessionId),
    Counters(&'a BTreeMap<String, u64>),
    HoldSet(Uuid, &'a HoldScope, (&'a str, &'a str)),
    HoldLifted(Uuid, (&'a str, &'a str)),
}

impl<'a> News<'a> {
    fn of(record: &'a Record) -> Option<Self> {
        Some(match &record.event {
            Event::SessionStarted { info } => Self::Session(info),
            Event::Held { request } if request.host == record.host => {
                Self::Session(&request.session)
            }
            Event::SessionEnded {} => Self::Ended(record.session?),
            Event::Heartbeat { counters, .. } => Self::Counters(counters),
            Event::LegalHoldSet { legal_hold, scope, reason, by } => {
                Self::HoldSet(*legal_hold, scope, (reason, by))
            }
            Event::LegalHoldLifted { legal_hold, reason, by } => {
                Self::HoldLifted(*legal_hold, (reason, by))
            }
            _ => return None,
        })
    }

    async fn apply(self, tx: &mut SqliteConnection, record: &Record) -> Result<(), StoreError> {
        let Record { host, boot, unix_ms, .. } = *record;
        match self {
            Self::Session(info) => sessions::upsert(tx, host, boot, info, unix_ms).await,
            Self::Ended(session) => sessions::touch(tx, session, host, unix_ms, true).await,
            Self::Counters(counters) => hosts::set_counters(tx, host, counters).await,
            Self::HoldSet(id, scope, why) => legal_holds::set(tx, id, scope, why, unix_ms).await,
            Self::HoldLifted(id, why) => legal_holds::lift(tx, id, why, unix_ms).await.map(drop),
        }
    }
}
