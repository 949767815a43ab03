//! Rows of `users`.

use super::{Doing as _, int, parse};
use crate::{Role, StoreError, User, UserSpec};
use sqlx::{Row as _, SqliteConnection, SqliteExecutor, sqlite::SqliteRow};

/// Inserts a user without a password. False if the name is taken.
///
/// # Errors
/// The database refused.
pub async fn insert(
    tx: &mut SqliteConnection,
    spec: &UserSpec,
    now_unix_ms: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO users (name, roles_json, groups_json, principals_json, created_unix_ms) \
         VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
    )
    .bind(spec.name.clone())
    .bind(json(&spec.roles, "roles_json", &spec.name)?)
    .bind(json(&spec.groups, "groups_json", &spec.name)?)
    .bind(json(&spec.principals, "principals_json", &spec.name)?)
    .bind(int(now_unix_ms))
    .execute(tx)
    .await
    .doing("insert a user")?;
    Ok(done.rows_affected() == 1)
}

/// Changes roles, groups and principals. False if there is no such user.
///
/// # Errors
/// The database refused.
pub async fn update(tx: &mut SqliteConnection, spec: &UserSpec) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE users SET roles_json = ?, groups_json = ?, principals_json = ? WHERE name = ?",
    )
    .bind(json(&spec.roles, "roles_json", &spec.name)?)
    .bind(json(&spec.groups, "groups_json", &spec.name)?)
    .bind(json(&spec.principals, "principals_json", &spec.name)?)
    .bind(spec.name.clone())
    .execute(tx)
    .await
    .doing("change a user")?;
    Ok(done.rows_affected() == 1)
}

/// Enables or disables. False if there is no such user.
///
/// # Errors
/// The database refused.
pub async fn set_disabled(
    tx: &mut SqliteConnection,
    name: &str,
    disabled: bool,
) -> Result<bool, StoreError> {
    let done = sqlx::query("UPDATE users SET disabled = ? WHERE name = ?")
        .bind(disabled)
        .bind(name.to_owned())
        .execute(tx)
        .await
        .doing("disable a user")?;
    Ok(done.rows_affected() == 1)
}

/// Sets the password hash. False if there is no such user.
///
/// # Errors
/// The database refused.
pub async fn set_password_hash(
    tx: &mut SqliteConnection,
    name: &str,
    phc: &str,
) -> Result<bool, StoreError> {
    let done = sqlx::query("UPDATE users SET password_hash = ? WHERE name = ?")
        .bind(phc.to_owned())
        .bind(name.to_owned())
        .execute(tx)
        .await
        .doing("set a password")?;
    Ok(done.rows_affected() == 1)
}

/// All, or one; by name.
///
/// # Errors
/// The database refused, or a row cannot be read back.
pub async fn list(
    db: impl SqliteExecutor<'_>,
    only: Option<&str>,
) -> Result<Vec<User>, StoreError> {
    let rows = sqlx::query("SELECT * FROM users WHERE ?1 IS NULL OR name = ?1 ORDER BY name")
        .bind(only.map(str::to_owned))
        .fetch_all(db)
        .await
        .doing("read users")?;
    rows.iter().map(user).collect()
}

/// Reads a user from a row with the columns of `users`.
pub(super) fn user(row: &SqliteRow) -> Result<User, StoreError> {
    let text = |column: &'static str| row.try_get::<String, _>(column).doing("read a user");
    let name = text("name")?;
    let roles: Vec<Role> =
        parse(("users", "roles_json", &name), serde_json::from_str(&text("roles_json")?))?;
    let groups = serde_json::from_str(&text("groups_json")?);
    let principals = serde_json::from_str(&text("principals_json")?);
    Ok(User {
        roles,
        groups: parse(("users", "groups_json", &name), groups)?,
        principals: parse(("users", "principals_json", &name), principals)?,
        password_hash: row.try_get("password_hash").doing("read a user")?,
        disabled: row.try_get("disabled").doing("read a user")?,
        created_unix_ms: row.try_get("created_unix_ms").doing("read a user")?,
        name,
    })
}

fn json<T: serde::Serialize>(
    value: &T,
    column: &'static str,
    key: &str,
) -> Result<String, StoreError> {
    parse(("users", column, key), serde_json::to_string(value))
}
