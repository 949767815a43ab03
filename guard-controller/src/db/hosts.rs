//! Rows of `hosts` and `join_tokens`.

use super::{Doing as _, int, parse};
use crate::{HostView, StoreError};
use guard_model::{BootId, HostId};
use guard_proto::v1::Hello;
use sqlx::{Row as _, SqliteConnection, SqliteExecutor, sqlite::SqliteRow};
use std::collections::BTreeMap;

/// Stores a join token's hash, and forgets those that ended long ago.
///
/// # Errors
/// The database refused.
pub async fn insert_join_token(
    tx: &mut SqliteConnection,
    hash: &str,
    now_unix_ms: u64,
    expires_unix_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM join_tokens WHERE expires_unix_ms < ?")
        .bind(int(now_unix_ms))
        .execute(&mut *tx)
        .await
        .doing("forget old join tokens")?;
    sqlx::query(
        "INSERT INTO join_tokens (token_hash, created_unix_ms, expires_unix_ms) VALUES (?, ?, ?)",
    )
    .bind(hash.to_owned())
    .bind(int(now_unix_ms))
    .bind(int(expires_unix_ms))
    .execute(tx)
    .await
    .doing("store a join token")?;
    Ok(())
}

/// Uses a join token up. False if there is none such, or it was used, or is too old.
///
/// # Errors
/// The database refused.
pub async fn use_join_token(
    tx: &mut SqliteConnection,
    hash: &str,
    by: HostId,
    now_unix_ms: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE join_tokens SET used_by = ? \
         WHERE token_hash = ? AND used_by IS NULL AND expires_unix_ms > ?",
    )
    .bind(by.to_string())
    .bind(hash.to_owned())
    .bind(int(now_unix_ms))
    .execute(tx)
    .await
    .doing("use a join token")?;
    Ok(done.rows_affected() == 1)
}

/// A host that has just enrolled.
///
/// # Errors
/// The database refused.
pub async fn insert(
    tx: &mut SqliteConnection,
    id: HostId,
    hostname: &str,
    now_unix_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO hosts (host_id, hostname, enrolled_unix_ms, seen_unix_ms) VALUES (?, ?, ?, ?)",
    )
    .bind(id.to_string())
    .bind(hostname.to_owned())
    .bind(int(now_unix_ms))
    .bind(int(now_unix_ms))
    .execute(tx)
    .await
    .doing("store a host")?;
    Ok(())
}

/// Whether a host is known and its certificate still accepted.
///
/// # Errors
/// The database refused.
pub async fn is_accepted(db: impl SqliteExecutor<'_>, id: HostId) -> Result<bool, StoreError> {
    let row = sqlx::query("SELECT 1 FROM hosts WHERE host_id = ? AND revoked = 0")
        .bind(id.to_string())
        .fetch_optional(db)
        .await
        .doing("look a host up")?;
    Ok(row.is_some())
}

/// No longer accepts a host's certificate. False if there is no such host.
///
/// # Errors
/// The database refused.
pub async fn revoke(tx: &mut SqliteConnection, id: HostId) -> Result<bool, StoreError> {
    let done = sqlx::query("UPDATE hosts SET revoked = 1 WHERE host_id = ?")
        .bind(id.to_string())
        .execute(tx)
        .await
        .doing("revoke a host")?;
    Ok(done.rows_affected() == 1)
}

/// What a host says of itself when it links. `coverage_json` must have been checked.
///
/// # Errors
/// The database refused.
pub async fn set_hello(
    tx: &mut SqliteConnection,
    id: HostId,
    boot: BootId,
    hello: &Hello,
    now_unix_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE hosts SET hostname = ?, boot = ?, version = ?, kernel = ?, policy_digest = ?, \
         coverage_json = ?, seen_unix_ms = ? WHERE host_id = ?",
    )
    .bind(hello.hostname.clone())
    .bind(boot.to_string())
    .bind(hello.version.clone())
    .bind(hello.kernel.clone())
    .bind(hello.policy_digest.clone())
    .bind(hello.coverage_json.clone())
    .bind(int(now_unix_ms))
    .bind(id.to_string())
    .execute(tx)
    .await
    .doing("store a host's hello")?;
    Ok(())
}

/// A sign of life.
///
/// # Errors
/// The database refused.
pub async fn set_seen(
    tx: &mut SqliteConnection,
    id: HostId,
    sessions: Option<u32>,
    now_unix_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE hosts SET seen_unix_ms = ?, sessions = COALESCE(?, sessions) WHERE host_id = ?",
    )
    .bind(int(now_unix_ms))
    .bind(sessions.map(i64::from))
    .bind(id.to_string())
    .execute(tx)
    .await
    .doing("store a host's sign of life")?;
    Ok(())
}

/// The kernel's counters from a host's latest heartbeat.
///
/// # Errors
/// The database refused.
pub async fn set_counters(
    tx: &mut SqliteConnection,
    id: HostId,
    counters: &BTreeMap<String, u64>,
) -> Result<(), StoreError> {
    let json = parse(("hosts", "counters_json", &id.to_string()), serde_json::to_string(counters))?;
    sqlx::query("UPDATE hosts SET counters_json = ? WHERE host_id = ?")
        .bind(json)
        .bind(id.to_string())
        .execute(tx)
        .await
        .doing("store a host's counters")?;
    Ok(())
}

/// All, or one; by name. `link_up` is not stored and is false.
///
/// # Errors
/// The database refused, or a row cannot be read back.
pub async fn list(
    db: impl SqliteExecutor<'_>,
    only: Option<HostId>,
) -> Result<Vec<HostView>, StoreError> {
    let rows = sqlx::query(
        "SELECT h.*, (SELECT COUNT(*) FROM holds WHERE host = h.host_id AND finished = 0 \
         AND state = 'pending') AS pending FROM hosts h \
         WHERE ?1 IS NULL OR h.host_id = ?1 ORDER BY h.hostname, h.host_id",
    )
    .bind(only.map(|id| id.to_string()))
    .fetch_all(db)
    .await
    .doing("list hosts")?;
    rows.iter().map(view).collect()
}

fn view(row: &SqliteRow) -> Result<HostView, StoreError> {
    let text = |column: &'static str| row.try_get::<String, _>(column).doing("read a host");
    let number = |column: &'static str| row.try_get::<u64, _>(column).doing("read a host");
    let id = text("host_id")?;
    let boot: Option<String> = row.try_get("boot").doing("read a host")?;
    let boot = boot.map(|boot| parse(("hosts", "boot", &id), boot.parse())).transpose()?;
    let coverage = serde_json::from_str(&text("coverage_json")?);
    let counters = serde_json::from_str(&text("counters_json")?);
    Ok(HostView {
        hostname: text("hostname")?,
        enrolled_unix_ms: number("enrolled_unix_ms")?,
        seen_unix_ms: number("seen_unix_ms")?,
        link_up: false,
        revoked: row.try_get("revoked").doing("read a host")?,
        boot,
        version: text("version")?,
        kernel: text("kernel")?,
        policy_digest: text("policy_digest")?,
        coverage: parse(("hosts", "coverage_json", &id), coverage)?,
        counters: parse(("hosts", "counters_json", &id), counters)?,
        sessions: number("sessions")?,
        pending_holds: number("pending")?,
        id: parse(("hosts", "host_id", &id), id.parse())?,
    })
}
