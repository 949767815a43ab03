//! Skeleton of the API: signatures to code against; bodies follow.
#![allow(unused_variables, clippy::todo, clippy::unused_async, clippy::allow_attributes, reason = "skeleton")]

use crate::*;
use guard_model::{HoldId, SessionId, HostId, Verdict};
use std::net::SocketAddr;
use tokio::sync::broadcast;

/// The controller. Cheap to clone.
#[derive(Clone)]
pub struct Controller {}

/// A single-use token with which one host enrols.
#[derive(Clone, Debug)]
pub struct JoinToken {
    /// The token, shown once.
    pub token: String,
    /// SHA-256 of the CA certificate (DER), hexadecimal: what guard-agent pins.
    pub ca_pin: String,
    /// ms since 1970.
    pub expires_unix_ms: u64,
}

/// A started controller.
pub struct Running {
    /// Its API.
    pub controller: Controller,
    /// Where the UI listens.
    pub ui_addr: SocketAddr,
    /// Where guard-agents link.
    pub rpc_addr: SocketAddr,
    /// One-time sign-in token of the first user, as long as that has no password.
    pub first_sign_in: Option<String>,
}

impl Running {
    /// Stops both servers, ends links, writes the last evidence.
    pub async fn shutdown(self) { todo!() }
}

impl Controller {
    /// Opens the state directory and serves.
    pub async fn start(config: Config) -> Result<Running, StartError> { todo!() }
    /// The configuration.
    pub fn config(&self) -> &Config { todo!() }

    // ---- holds
    /// Newest first.
    pub async fn holds(&self, filter: &HoldFilter) -> Result<Vec<HoldView>, StoreError> { todo!() }
    /// How many match (limit and `before` ignored).
    pub async fn count_holds(&self, filter: &HoldFilter) -> Result<u64, StoreError> { todo!() }
    /// One.
    pub async fn hold(&self, id: HoldId) -> Result<Option<HoldView>, StoreError> { todo!() }
    /// Decided holds on the same object by sessions of the same principal, newest first.
    pub async fn earlier_decisions(&self, hold: &HoldView, limit: usize) -> Result<Vec<HoldView>, StoreError> { todo!() }
    /// Why this person may not decide it, if so; `Ok` does not say that it is still open.
    pub fn may_decide(&self, hold: &HoldView, by: &Actor) -> Result<(), DecideError> { todo!() }
    /// Decides.
    pub async fn decide(&self, id: HoldId, by: &Actor, verdict: Verdict, reason: &str) -> Result<HoldView, DecideError> { todo!() }
    /// Somebody opened the request in full; the first time counts.
    pub async fn opened(&self, id: HoldId, by: &Actor) -> Result<(), StoreError> { todo!() }
    /// Changes from now on. A receiver that lags must read everything again.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> { todo!() }

    // ---- sessions, hosts, evidence
    /// Newest first; only running ones if `running`.
    pub async fn sessions(&self, running: bool, limit: usize) -> Result<Vec<SessionSummary>, StoreError> { todo!() }
    /// One in full.
    pub async fn session(&self, id: SessionId) -> Result<Option<SessionView>, StoreError> { todo!() }
    /// All hosts, by name.
    pub async fn hosts(&self) -> Result<Vec<HostView>, StoreError> { todo!() }
    /// One.
    pub async fn host(&self, id: HostId) -> Result<Option<HostView>, StoreError> { todo!() }
    /// Evidence in stored order.
    pub async fn evidence(&self, filter: &EvidenceFilter) -> Result<Vec<StoredRecord>, StoreError> { todo!() }
    /// Writes the controller's own evidence; durable when this returns.
    pub async fn audit(&self, event: guard_audit::Event) -> Result<(), StoreError> { todo!() }
    /// A token for one host to enrol with.
    pub async fn new_join_token(&self) -> Result<JoinToken, StoreError> { todo!() }

    // ---- users (every change is evidence)
    /// All, by name.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> { todo!() }
    /// One.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> { todo!() }
    /// Makes one, without password.
    pub async fn create_user(&self, spec: UserSpec, by: &str) -> Result<User, AccountError> { todo!() }
    /// Changes roles, groups and principals of the user that `spec` names.
    pub async fn update_user(&self, spec: UserSpec, by: &str) -> Result<User, AccountError> { todo!() }
    /// Enables or disables; disabling ends all sessions.
    pub async fn set_user_disabled(&self, name: &str, disabled: bool, by: &str) -> Result<(), AccountError> { todo!() }
    /// Sets the password (an Argon2id PHC string) and ends all of the user's sessions but `keep` (a cookie token).
    pub async fn set_password_hash(&self, name: &str, phc: &str, keep: Option<&str>) -> Result<(), AccountError> { todo!() }

    // ---- one-time sign-in links: 256-bit tokens, single use, expire after LINK_TTL
    /// A new token; older unused ones of the user stop working.
    pub async fn new_sign_in_link(&self, user: &str, by: &str) -> Result<String, AccountError> { todo!() }
    /// Whose it is, if it still works; does not use it up.
    pub async fn peek_sign_in_link(&self, token: &str) -> Result<Option<User>, StoreError> { todo!() }
    /// Uses it up.
    pub async fn use_sign_in_link(&self, token: &str) -> Result<Option<User>, StoreError> { todo!() }

    // ---- web sessions
    /// A new session; returns the cookie's token.
    pub async fn new_web_session(&self, user: &str) -> Result<(String, WebSession), AccountError> { todo!() }
    /// The session of a cookie, unless idle too long, expired or its user disabled; counts as use.
    pub async fn web_session(&self, token: &str) -> Result<Option<WebSession>, StoreError> { todo!() }
    /// Signs out.
    pub async fn end_web_session(&self, token: &str) -> Result<(), StoreError> { todo!() }

    // ---- API tokens
    /// A new one; returns the token, which is not stored.
    pub async fn new_api_token(&self, user: &str, name: &str, ttl_ms: u64, by: &str) -> Result<(String, ApiToken), AccountError> { todo!() }
    /// Of one user, or all.
    pub async fn api_tokens(&self, user: Option<&str>) -> Result<Vec<ApiToken>, StoreError> { todo!() }
    /// Stops working at once.
    pub async fn revoke_api_token(&self, id: &str, by: &str) -> Result<(), AccountError> { todo!() }
    /// Whose rights a bearer token has, if it works; counts as use.
    pub async fn user_by_api_token(&self, token: &str) -> Result<Option<User>, StoreError> { todo!() }
}
