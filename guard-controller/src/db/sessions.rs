//! Rows of `sessions`: derived from evidence and from hold requests.

use super::{Doing as _, int, page, parse};
use crate::{SessionSummary, StoreError, view::PAGE_MAX};
use guard_model::{BootId, HostId, SessionId, SessionInfo};
use sqlx::{Row as _, SqliteConnection, SqliteExecutor, sqlite::SqliteRow};

/// A session that a host told of. One that is known only gets a newer sign of life.
///
/// # Errors
/// The database refused.
pub async fn upsert(
    tx: &mut SqliteConnection,
    host: HostId,
    boot: BootId,
    info: &SessionInfo,
    seen_unix_ms: u64,
) -> Result<(), StoreError> {
    let id = info.id.to_string();
    let json = parse(("sessions", "info_json", &id), serde_json::to_string(info))?;
    sqlx::query(
        "INSERT INTO sessions (session, host, boot, info_json, started_unix_ms, seen_unix_ms) \
         VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (session) \
         DO UPDATE SET seen_unix_ms = MAX(seen_unix_ms, excluded.seen_unix_ms) \
         WHERE host = excluded.host",
    )
    .bind(id)
    .bind(host.to_string())
    .bind(boot.to_string())
    .bind(json)
    .bind(int(info.started_unix_ms))
    .bind(int(seen_unix_ms))
    .execute(tx)
    .await
    .doing("store a session")?;
    Ok(())
}

/// Whether the session is another host's: then what `host` says of it is not believed.
///
/// # Errors
/// The database refused.
pub async fn belongs_to_another(
    tx: &mut SqliteConnection,
    id: SessionId,
    host: HostId,
) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM sessions WHERE session = ? AND host <> ?")
        .bind(id.to_string())
        .bind(host.to_string())
        .fetch_optional(tx)
        .await
        .doing("look a session up")?;
    Ok(row.is_some())
}

/// New evidence of a session; `ended` if its last process exited.
///
/// # Errors
/// The database refused.
pub async fn touch(
    tx: &mut SqliteConnection,
    id: SessionId,
    host: HostId,
    seen_unix_ms: u64,
    ended: bool,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sessions SET seen_unix_ms = MAX(seen_unix_ms, ?1), \
         ended_unix_ms = CASE WHEN ?2 THEN ?1 ELSE ended_unix_ms END \
         WHERE session = ?3 AND host = ?4",
    )
    .bind(int(seen_unix_ms))
    .bind(ended)
    .bind(id.to_string())
    .bind(host.to_string())
    .execute(tx)
    .await
    .doing("store a session's sign of life")?;
    Ok(())
}

/// Sessions of earlier boots of a host are over, whatever it could still say.
///
/// # Errors
/// The database refused.
pub async fn end_other_boots(
    tx: &mut SqliteConnection,
    host: HostId,
    boot: BootId,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE sessions SET ended_unix_ms = seen_unix_ms \
         WHERE host = ? AND boot <> ? AND ended_unix_ms IS NULL",
    )
    .bind(host.to_string())
    .bind(boot.to_string())
    .execute(tx)
    .await
    .doing("end the sessions of earlier boots")?;
    Ok(())
}

/// One, or the newest; only those that run if `running`.
///
/// # Errors
/// The database refused, or a row cannot be read back.
pub async fn list(
    db: impl SqliteExecutor<'_>,
    only: Option<SessionId>,
    running: bool,
    limit: usize,
) -> Result<Vec<SessionSummary>, StoreError> {
    let rows = sqlx::query(
        "SELECT s.*, \
         COALESCE((SELECT hostname FROM hosts WHERE host_id = s.host), '') AS hostname, \
         (SELECT COUNT(*) FROM holds WHERE session = s.session) AS holds, \
         (SELECT COUNT(*) FROM holds WHERE session = s.session AND state = 'pending') AS pending \
         FROM sessions s WHERE (?1 IS NULL OR s.session = ?1) \
         AND (?2 = 0 OR s.ended_unix_ms IS NULL) \
         ORDER BY s.started_unix_ms DESC, s.session LIMIT ?3",
    )
    .bind(only.map(|id| id.to_string()))
    .bind(running)
    .bind(page(limit, PAGE_MAX))
    .fetch_all(db)
    .await
    .doing("list sessions")?;
    rows.iter().map(summary).collect()
}

fn summary(row: &SqliteRow) -> Result<SessionSummary, StoreError> {
    let text = |column: &'static str| row.try_get::<String, _>(column).doing("read a session");
    let number = |column: &'static str| row.try_get::<u64, _>(column).doing("read a session");
    let id = text("session")?;
    Ok(SessionSummary {
        info: parse(("sessions", "info_json", &id), serde_json::from_str(&text("info_json")?))?,
        host: parse(("sessions", "host", &id), text("host")?.parse())?,
        hostname: text("hostname")?,
        boot: parse(("sessions", "boot", &id), text("boot")?.parse())?,
        seen_unix_ms: number("seen_unix_ms")?,
        ended_unix_ms: row.try_get("ended_unix_ms").doing("read a session")?,
        pending_holds: number("pending")?,
        holds: number("holds")?,
    })
}
