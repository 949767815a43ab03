//! Rows of `sign_in_links`, `web_sessions` and `api_tokens`: hashes only, never a secret.

use super::{Doing as _, accounts, int};
use crate::{ApiToken, StoreError, User, WebSession};
use sqlx::{Row as _, SqliteConnection, SqliteExecutor, sqlite::SqliteRow};

/// Stores a one-time link; older unused ones of the user stop working.
///
/// # Errors
/// The database refused.
pub async fn insert_link(
    tx: &mut SqliteConnection,
    hash: &str,
    user: &str,
    now_unix_ms: u64,
    expires_unix_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sign_in_links WHERE user = ? OR expires_unix_ms <= ?")
        .bind(user.to_owned())
        .bind(int(now_unix_ms))
        .execute(&mut *tx)
        .await
        .doing("forget old sign-in links")?;
    sqlx::query("INSERT INTO sign_in_links (token_hash, user, expires_unix_ms) VALUES (?, ?, ?)")
        .bind(hash.to_owned())
        .bind(user.to_owned())
        .bind(int(expires_unix_ms))
        .execute(tx)
        .await
        .doing("store a sign-in link")?;
    Ok(())
}

/// Whose link it is, if it still works.
///
/// # Errors
/// The database refused, or a row cannot be read back.
pub async fn link_user(
    db: impl SqliteExecutor<'_>,
    hash: &str,
    now_unix_ms: u64,
) -> Result<Option<User>, StoreError> {
    let row = sqlx::query(
        "SELECT u.* FROM sign_in_links l JOIN users u ON u.name = l.user \
         WHERE l.token_hash = ? AND l.used_unix_ms IS NULL AND l.expires_unix_ms > ? \
         AND u.disabled = 0",
    )
    .bind(hash.to_owned())
    .bind(int(now_unix_ms))
    .fetch_optional(db)
    .await
    .doing("look a sign-in link up")?;
    row.map(|row| accounts::user(&row)).transpose()
}

/// Uses a link up. False if it did not work any more.
///
/// # Errors
/// The database refused.
pub async fn use_link(
    tx: &mut SqliteConnection,
    hash: &str,
    now_unix_ms: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE sign_in_links SET used_unix_ms = ?1 \
         WHERE token_hash = ?2 AND used_unix_ms IS NULL AND expires_unix_ms > ?1",
    )
    .bind(int(now_unix_ms))
    .bind(hash.to_owned())
    .execute(tx)
    .await
    .doing("use a sign-in link")?;
    Ok(done.rows_affected() == 1)
}

/// Stores a browser session; keeps at most `max` of the user, the newest.
///
/// # Errors
/// The database refused.
pub async fn insert_session(
    tx: &mut SqliteConnection,
    hash: &str,
    session: &WebSession,
    max: i64,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM web_sessions WHERE expires_unix_ms <= ?")
        .bind(int(session.created_unix_ms))
        .execute(&mut *tx)
        .await
        .doing("forget old sessions")?;
    sqlx::query(
        "INSERT INTO web_sessions (token_hash, user, csrf_token, created_unix_ms, seen_unix_ms, \
         expires_unix_ms) VALUES (?1, ?2, ?3, ?4, ?4, ?5)",
    )
    .bind(hash.to_owned())
    .bind(session.user.name.clone())
    .bind(session.csrf_token.clone())
    .bind(int(session.created_unix_ms))
    .bind(int(session.expires_unix_ms))
    .execute(&mut *tx)
    .await
    .doing("store a session")?;
    sqlx::query(
        "DELETE FROM web_sessions WHERE user = ?1 AND rowid NOT IN (SELECT rowid FROM web_sessions \
         WHERE user = ?1 ORDER BY created_unix_ms DESC, rowid DESC LIMIT ?2)",
    )
    .bind(session.user.name.clone())
    .bind(max)
    .execute(tx)
    .await
    .doing("bound a user's sessions")?;
    Ok(())
}

/// The session of a cookie, with when it was last seen.
///
/// # Errors
/// The database refused, or a row cannot be read back.
pub async fn session(
    db: impl SqliteExecutor<'_>,
    hash: &str,
) -> Result<Option<(WebSession, u64)>, StoreError> {
    let row = sqlx::query(
        "SELECT u.*, s.csrf_token, s.created_unix_ms AS begun, s.seen_unix_ms, s.expires_unix_ms \
         FROM web_sessions s JOIN users u ON u.name = s.user \
         WHERE s.token_hash = ? AND u.disabled = 0",
    )
    .bind(hash.to_owned())
    .fetch_optional(db)
    .await
    .doing("look a session up")?;
    let Some(row) = row else { return Ok(None) };
    let number = |column: &'static str| row.try_get::<u64, _>(column).doing("read a session");
    let session = WebSession {
        user: accounts::user(&row)?,
        csrf_token: row.try_get("csrf_token").doing("read a session")?,
        created_unix_ms: number("begun")?,
        expires_unix_ms: number("expires_unix_ms")?,
    };
    Ok(Some((session, number("seen_unix_ms")?)))
}

/// A sign of life of a browser session.
///
/// # Errors
/// The database refused.
pub async fn touch_session(
    tx: &mut SqliteConnection,
    hash: &str,
    now_unix_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE web_sessions SET seen_unix_ms = ? WHERE token_hash = ?")
        .bind(int(now_unix_ms))
        .bind(hash.to_owned())
        .execute(tx)
        .await
        .doing("store a session's sign of life")?;
    Ok(())
}

/// Ends one session.
///
/// # Errors
/// The database refused.
pub async fn delete_session(tx: &mut SqliteConnection, hash: &str) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM web_sessions WHERE token_hash = ?")
        .bind(hash.to_owned())
        .execute(tx)
        .await
        .doing("end a session")?;
    Ok(())
}

/// Ends all of a user's sessions, and unused links, but the session `keep`.
///
/// # Errors
/// The database refused.
pub async fn delete_sessions_of(
    tx: &mut SqliteConnection,
    user: &str,
    keep: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM web_sessions WHERE user = ? AND token_hash <> ?")
        .bind(user.to_owned())
        .bind(keep.unwrap_or_default().to_owned())
        .execute(&mut *tx)
        .await
        .doing("end a user's sessions")?;
    sqlx::query("DELETE FROM sign_in_links WHERE user = ? AND used_unix_ms IS NULL")
        .bind(user.to_owned())
        .execute(tx)
        .await
        .doing("end a user's sign-in links")?;
    Ok(())
}

/// Stores an API token. False if the user has one of that name.
///
/// # Errors
/// The database refused.
pub async fn insert_token(
    tx: &mut SqliteConnection,
    hash: &str,
    token: &ApiToken,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO api_tokens (id, user, name, token_hash, created_unix_ms, expires_unix_ms) \
         VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (user, name) DO NOTHING",
    )
    .bind(token.id.clone())
    .bind(token.user.clone())
    .bind(token.name.clone())
    .bind(hash.to_owned())
    .bind(int(token.created_unix_ms))
    .bind(int(token.expires_unix_ms))
    .execute(tx)
    .await
    .doing("store an API token")?;
    Ok(done.rows_affected() == 1)
}

/// API tokens of a user, or all.
///
/// # Errors
/// The database refused.
pub async fn tokens(
    db: impl SqliteExecutor<'_>,
    user: Option<&str>,
) -> Result<Vec<ApiToken>, StoreError> {
    let rows = sqlx::query(
        "SELECT * FROM api_tokens WHERE ?1 IS NULL OR user = ?1 \
         ORDER BY user, created_unix_ms DESC",
    )
    .bind(user.map(str::to_owned))
    .fetch_all(db)
    .await
    .doing("list API tokens")?;
    rows.iter().map(api_token).collect()
}

/// Stops a token from working. Whose it was, and its name; nothing if there is none.
///
/// # Errors
/// The database refused.
pub async fn revoke_token(
    tx: &mut SqliteConnection,
    id: &str,
) -> Result<Option<(String, String)>, StoreError> {
    let row = sqlx::query(
        "UPDATE api_tokens SET revoked = 1 WHERE id = ? AND revoked = 0 RETURNING user, name",
    )
    .bind(id.to_owned())
    .fetch_optional(tx)
    .await
    .doing("revoke an API token")?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose().doing("revoke an API token")
}

/// Whose rights a token has, if it works; its id; when it was last used, ms since 1970.
///
/// # Errors
/// The database refused, or a row cannot be read back.
pub async fn token_user(
    db: impl SqliteExecutor<'_>,
    hash: &str,
    now_unix_ms: u64,
) -> Result<Option<(User, String, Option<u64>)>, StoreError> {
    let row = sqlx::query(
        "SELECT u.*, t.id AS token_id, t.used_unix_ms FROM api_tokens t \
         JOIN users u ON u.name = t.user \
         WHERE t.token_hash = ? AND t.revoked = 0 AND t.expires_unix_ms > ? AND u.disabled = 0",
    )
    .bind(hash.to_owned())
    .bind(int(now_unix_ms))
    .fetch_optional(db)
    .await
    .doing("look an API token up")?;
    let Some(row) = row else { return Ok(None) };
    let used = row.try_get("used_unix_ms").doing("read an API token")?;
    Ok(Some((accounts::user(&row)?, row.try_get("token_id").doing("read an API token")?, used)))
}

/// Notes that a token was used.
///
/// # Errors
/// The database refused.
pub async fn touch_token(
    tx: &mut SqliteConnection,
    id: &str,
    now_unix_ms: u64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE api_tokens SET used_unix_ms = ? WHERE id = ?")
        .bind(int(now_unix_ms))
        .bind(id.to_owned())
        .execute(tx)
        .await
        .doing("note an API token's use")?;
    Ok(())
}

fn api_token(row: &SqliteRow) -> Result<ApiToken, StoreError> {
    let text = |column: &'static str| row.try_get::<String, _>(column).doing("read an API token");
    Ok(ApiToken {
        id: text("id")?,
        user: text("user")?,
        name: text("name")?,
        created_unix_ms: row.try_get("created_unix_ms").doing("read an API token")?,
        expires_unix_ms: row.try_get("expires_unix_ms").doing("read an API token")?,
        used_unix_ms: row.try_get("used_unix_ms").doing("read an API token")?,
        revoked: row.try_get("revoked").doing("read an API token")?,
    })
}
