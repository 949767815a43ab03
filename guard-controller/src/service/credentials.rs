//! What people and programs sign in with: one-time links, browser sessions, API tokens.
//!
//! Storage and lifetimes only; the web module decides when each may be used.

use super::Controller;
use crate::{
    AccountError, ApiToken, StoreError, User, WebSession, clock,
    db::credentials,
    identity::{TOKEN_BYTES_MAX, new_token, token_hash},
};
use uuid::Uuid;

/// A one-time link works this long, ms: `guard up` prints it, somebody opens a browser.
pub const LINK_TTL_MS: u64 = 24 * 3600 * 1000;

/// A browser session ends after so long without a request, ms (OWASP ASVS 5.0, 7.3.1).
pub const SESSION_IDLE_MS: u64 = 30 * 60 * 1000;

/// A browser session ends after so long whatever happens, ms: one working day.
pub const SESSION_TTL_MS: u64 = 12 * 3600 * 1000;

/// Browser sessions of one user; a further one ends the oldest.
pub const SESSIONS_PER_USER_MAX: i64 = 16;

/// API tokens of one user that still work.
pub const TOKENS_PER_USER_MAX: usize = 32;

/// An API token works at most this long, ms.
pub const TOKEN_TTL_MAX_MS: u64 = 366 * 24 * 3600 * 1000;

/// Uses within this time of the last one are not written again, ms.
const TOUCH_EVERY_MS: u64 = 60 * 1000;

impl Controller {
    /// A new one-time link's token; older unused ones of the user stop working.
    ///
    /// # Errors
    /// There is no such user, or it is disabled.
    pub async fn new_sign_in_link(&self, user: &str, by: &str) -> Result<String, AccountError> {
        if self.existing_user(user).await?.disabled {
            return Err(AccountError::NotFound { what: "enabled user", name: user.into() });
        }
        let token = new_token("");
        let now = clock::unix_ms();
        let mut tx = self.inner.db.write().await?;
        let hash = token_hash(&token);
        credentials::insert_link(&mut tx, &hash, user, now, now + LINK_TTL_MS).await?;
        self.user_changed(tx, user, "sign-in link made".into(), by).await?;
        Ok(token)
    }

    /// Whose link it is, if it still works; does not use it up.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn peek_sign_in_link(&self, token: &str) -> Result<Option<User>, StoreError> {
        let Some(hash) = bounded_hash(token) else { return Ok(None) };
        credentials::link_user(self.inner.db.read(), &hash, clock::unix_ms()).await
    }

    /// Uses a link up: whose it was, once.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn use_sign_in_link(&self, token: &str) -> Result<Option<User>, StoreError> {
        let Some(hash) = bounded_hash(token) else { return Ok(None) };
        let now = clock::unix_ms();
        let mut tx = self.inner.db.write().await?;
        let user = credentials::link_user(&mut *tx, &hash, now).await?;
        let used = credentials::use_link(&mut tx, &hash, now).await?;
        self.commit(tx, []).await?;
        Ok(user.filter(|_| used))
    }

    /// A new browser session; returns the cookie's token.
    ///
    /// # Errors
    /// There is no such user, or it is disabled.
    pub async fn new_web_session(&self, user: &str) -> Result<(String, WebSession), AccountError> {
        let user = self.existing_user(user).await?;
        if user.disabled {
            return Err(AccountError::NotFound { what: "enabled user", name: user.name });
        }
        let token = new_token("");
        let now = clock::unix_ms();
        let session = WebSession {
            user,
            csrf_token: new_token(""),
            created_unix_ms: now,
            expires_unix_ms: now + SESSION_TTL_MS,
        };
        let mut tx = self.inner.db.write().await?;
        let hash = token_hash(&token);
        credentials::insert_session(&mut tx, &hash, &session, SESSIONS_PER_USER_MAX).await?;
        self.commit(tx, []).await?;
        Ok((token, session))
    }

    /// The session of a cookie, unless idle too long, expired, or its user disabled; counts as use.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn web_session(&self, token: &str) -> Result<Option<WebSession>, StoreError> {
        let Some(hash) = bounded_hash(token) else { return Ok(None) };
        let now = clock::unix_ms();
        let found = credentials::session(self.inner.db.read(), &hash).await?;
        let alive = found.filter(|(session, seen_unix_ms)| {
            now < session.expires_unix_ms && now < seen_unix_ms + SESSION_IDLE_MS
        });
        let Some((session, seen_unix_ms)) = alive else { return Ok(None) };
        if now > seen_unix_ms + TOUCH_EVERY_MS {
            let mut tx = self.inner.db.write().await?;
            credentials::touch_session(&mut tx, &hash, now).await?;
            self.commit(tx, []).await?;
        }
        Ok(Some(session))
    }

    /// Signs out.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn end_web_session(&self, token: &str) -> Result<(), StoreError> {
        let Some(hash) = bounded_hash(token) else { return Ok(()) };
        let mut tx = self.inner.db.write().await?;
        credentials::delete_session(&mut tx, &hash).await?;
        self.commit(tx, []).await
    }

    /// A new API token with the rights of `user`; returns the token, which is not stored.
    ///
    /// # Errors
    /// There is no such user, it has a token of that name or too many, or a field is not valid.
    pub async fn new_api_token(
        &self,
        user: &str,
        name: &str,
        ttl_ms: u64,
        by: &str,
    ) -> Result<(String, ApiToken), AccountError> {
        check_token(name, ttl_ms)?;
        let user = self.existing_user(user).await?.name;
        let now = clock::unix_ms();
        let mut tx = self.inner.db.write().await?;
        let theirs = credentials::tokens(&mut *tx, Some(&user)).await?;
        let works = |token: &&ApiToken| !token.revoked && token.expires_unix_ms > now;
        if theirs.iter().filter(works).count() >= TOKENS_PER_USER_MAX {
            return Err(AccountError::TooMany { what: "API tokens", max: TOKENS_PER_USER_MAX });
        }
        let token = new_token("guard-api-");
        let stored = ApiToken {
            id: Uuid::new_v4().to_string(),
            user: user.clone(),
            name: name.into(),
            created_unix_ms: now,
            expires_unix_ms: now + ttl_ms,
            used_unix_ms: None,
            revoked: false,
        };
        if !credentials::insert_token(&mut tx, &token_hash(&token), &stored).await? {
            return Err(AccountError::Exists { what: "API token", name: name.into() });
        }
        self.user_changed(tx, &user, format!("API token `{name}` made"), by).await?;
        Ok((token, stored))
    }

    /// API tokens of one user, or all.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn api_tokens(&self, user: Option<&str>) -> Result<Vec<ApiToken>, StoreError> {
        credentials::tokens(self.inner.db.read(), user).await
    }

    /// An API token stops working at once.
    ///
    /// # Errors
    /// There is no such token that still works.
    pub async fn revoke_api_token(&self, id: &str, by: &str) -> Result<(), AccountError> {
        let mut tx = self.inner.db.write().await?;
        let Some((user, name)) = credentials::revoke_token(&mut tx, id).await? else {
            return Err(AccountError::NotFound { what: "API token", name: id.into() });
        };
        Ok(self.user_changed(tx, &user, format!("API token `{name}` revoked"), by).await?)
    }

    /// Whose rights a bearer token has, if it works; counts as use.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn user_by_api_token(&self, token: &str) -> Result<Option<User>, StoreError> {
        let Some(hash) = bounded_hash(token) else { return Ok(None) };
        let now = clock::unix_ms();
        let found = credentials::token_user(self.inner.db.read(), &hash, now).await?;
        let Some((user, id, used_unix_ms)) = found else { return Ok(None) };
        if used_unix_ms.is_none_or(|used| now > used + TOUCH_EVERY_MS) {
            let mut tx = self.inner.db.write().await?;
            credentials::touch_token(&mut tx, &id, now).await?;
            self.commit(tx, []).await?;
        }
        Ok(Some(user))
    }
}

/// The hash of a presented secret; none if it is too long to be one.
fn bounded_hash(token: &str) -> Option<String> {
    (token.len() <= TOKEN_BYTES_MAX).then(|| token_hash(token))
}

fn check_token(name: &str, ttl_ms: u64) -> Result<(), AccountError> {
    let invalid =
        |what, value: String, expected| Err(AccountError::Invalid { what, value, expected });
    let plain = |b: u8| b.is_ascii_graphic() || b == b' ';
    if name.trim().is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return invalid("token name", name.into(), "expected 1 to 64 printable ASCII characters");
    }
    if ttl_ms == 0 || ttl_ms > TOKEN_TTL_MAX_MS {
        return invalid("token lifetime", format!("{ttl_ms} ms"), "expected at most 366 days");
    }
    Ok(())
}
