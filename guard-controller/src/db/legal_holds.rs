//! Legal holds: what is not erased, and since when, why and by whom.

use super::{Doing as _, int, parse};
use crate::{LegalHold, StoreError};
use guard_audit::HoldScope;
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

/// Adds a hold; one that is there stays as it is, lifted or not.
pub(crate) async fn set(
    tx: &mut SqliteConnection,
    id: Uuid,
    scope: &HoldScope,
    (reason, by): (&str, &str),
    unix_ms: u64,
) -> Result<(), StoreError> {
    let key = id.to_string();
    let scope = parse(("legal_holds", "scope_json", &key), serde_json::to_string(scope))?;
    sqlx::query(
        "INSERT INTO legal_holds (id, scope_json, reason, set_by, set_unix_ms) \
         VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    )
    .bind(key)
    .bind(scope)
    .bind(reason)
    .bind(by)
    .bind(int(unix_ms))
    .execute(tx)
    .await
    .doing("set a legal hold")?;
    Ok(())
}

/// Lifts a hold. False if there is none that is in force.
pub(crate) async fn lift(
    tx: &mut SqliteConnection,
    id: Uuid,
    (reason, by): (&str, &str),
    unix_ms: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE legal_holds SET lifted_reason = ?, lifted_by = ?, lifted_unix_ms = ? \
         WHERE id = ? AND lifted_unix_ms IS NULL",
    )
    .bind(reason)
    .bind(by)
    .bind(int(unix_ms))
    .bind(id.to_string())
    .execute(tx)
    .await
    .doing("lift a legal hold")?;
    Ok(done.rows_affected() == 1)
}

/// All of them, the oldest first; or only those in force.
pub(crate) async fn list(
    tx: &mut SqliteConnection,
    in_force: bool,
) -> Result<Vec<LegalHold>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, scope_json, reason, set_by, set_unix_ms, lifted_reason, lifted_by, \
         lifted_unix_ms FROM legal_holds WHERE NOT ? OR lifted_unix_ms IS NULL \
         ORDER BY set_unix_ms, id",
    )
    .bind(in_force)
    .fetch_all(tx)
    .await
    .doing("read legal holds")?;
    rows.iter().map(hold).collect()
}

fn hold(row: &SqliteRow) -> Result<LegalHold, StoreError> {
    let doing = "read legal holds";
    let id: String = row.try_get("id").doing(doing)?;
    let scope: String = row.try_get("scope_json").doing(doing)?;
    Ok(LegalHold {
        scope: parse(("legal_holds", "scope_json", &id), serde_json::from_str(&scope))?,
        id: parse(("legal_holds", "id", &id), id.parse())?,
        reason: row.try_get("reason").doing(doing)?,
        set_by: row.try_get("set_by").doing(doing)?,
        set_unix_ms: row.try_get("set_unix_ms").doing(doing)?,
        lifted_reason: row.try_get("lifted_reason").doing(doing)?,
        lifted_by: row.try_get("lifted_by").doing(doing)?,
        lifted_unix_ms: row.try_get("lifted_unix_ms").doing(doing)?,
    })
}
