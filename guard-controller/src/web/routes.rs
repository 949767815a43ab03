//! Every route, and who may use it: the one place where access is granted.
//!
//! Architecture invariant: [`super::gate`] refuses what is not in [`ROUTES`], so a handler that was
//! mounted and forgotten here is unreachable, not open.

use super::{App, api, assets, metrics, pages};
use crate::{Role, User};
use axum::{
    Router,
    http::Method,
    routing::{get, post},
};
use std::sync::Arc;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody; answers without data.
    Public,
    /// Any signed-in user: their own account.
    SignedIn,
    /// Any role.
    Reader,
    /// [`Role::Approver`].
    Approver,
    /// [`Role::Admin`].
    Admin,
}

impl Access {
    /// Whether it lets this user in.
    pub(crate) fn admits(self, user: Option<&User>) -> bool {
        match (self, user) {
            (Self::Public, _) | (Self::SignedIn, Some(_)) => true,
            (_, None) => false,
            (Self::Reader, Some(user)) => !user.roles.is_empty(),
            (Self::Approver, Some(user)) => user.has(Role::Approver),
            (Self::Admin, Some(user)) => user.has(Role::Admin),
        }
    }

    /// What a refused user is missing.
    pub(crate) const fn missing(self) -> &'static str {
        match self {
            Self::Public | Self::SignedIn => "",
            Self::Reader => "Your account has no role yet; an administrator can give it one.",
            Self::Approver => {
                "This needs the role `approver`; an administrator can give it to you."
            }
            Self::Admin => "This needs the role `admin`; another administrator can give it to you.",
        }
    }
}

/// One route.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// `GET` or `POST`; `HEAD` counts as `GET`.
    pub(crate) method: Method,
    /// As the router knows it.
    pub(crate) path: &'static str,
    /// Who.
    pub(crate) access: Access,
}

const fn read(path: &'static str, access: Access) -> Route {
    Route { method: Method::GET, path, access }
}

const fn write(path: &'static str, access: Access) -> Route {
    Route { method: Method::POST, path, access }
}

/// All of them.
pub(crate) const ROUTES: &[Route] = &[
    read("/healthz", Access::Public),
    read("/metrics", Access::Reader),
    read("/assets/{name}", Access::Public),
    read("/sign-in", Access::Public),
    write("/sign-in", Access::Public),
    write("/sign-in/link", Access::Public),
    write("/sign-out", Access::SignedIn),
    read("/account", Access::SignedIn),
    write("/account/password", Access::SignedIn),
    write("/account/tokens", Access::SignedIn),
    write("/account/tokens/{id}/revoke", Access::SignedIn),
    read("/", Access::Reader),
    read("/holds/{id}", Access::Reader),
    write("/holds/{id}/decision", Access::Approver),
    read("/sessions", Access::Reader),
    read("/sessions/{id}", Access::Reader),
    read("/sessions/{id}/timeline", Access::Reader),
    read("/evidence", Access::Reader),
    read("/evidence/{id}", Access::Reader),
    read("/log", Access::Reader),
    read("/history", Access::Reader),
    read("/hosts", Access::Reader),
    read("/users", Access::Admin),
    write("/users", Access::Admin),
    write("/users/{name}", Access::Admin),
    write("/users/{name}/disabled", Access::Admin),
    write("/users/{name}/sign-in-link", Access::Admin),
    write("/users/{name}/tokens/{id}/revoke", Access::Admin),
    read("/api/v1/openapi.json", Access::Public),
    read("/api/v1/me", Access::SignedIn),
    read("/api/v1/holds", Access::Reader),
    read("/api/v1/holds/{id}", Access::Reader),
    write("/api/v1/holds/{id}/decision", Access::Approver),
    read("/api/v1/events", Access::Reader),
    read("/api/v1/sessions", Access::Reader),
    read("/api/v1/sessions/{id}", Access::Reader),
    read("/api/v1/hosts", Access::Reader),
    read("/api/v1/history", Access::Reader),
    read("/api/v1/evidence", Access::Reader),
    read("/api/v1/evidence/search", Access::Reader),
    read("/api/v1/evidence/{id}", Access::Reader),
    read("/api/v1/evidence/{id}/proof", Access::Reader),
    write("/api/v1/evidence/{id}/erase", Access::Admin),
    read("/api/v1/log", Access::Reader),
    write("/api/v1/log/reindex", Access::Admin),
    write("/api/v1/log/rotate-key", Access::Admin),
    read("/api/v1/legal-holds", Access::Reader),
    write("/api/v1/legal-holds", Access::Admin),
    write("/api/v1/legal-holds/{id}/lift", Access::Admin),
    write("/api/v1/sinks/{name}/replay", Access::Admin),
    read("/api/v1/users", Access::Admin),
    write("/api/v1/users", Access::Admin),
    write("/api/v1/users/{name}/sign-in-link", Access::Admin),
    read("/api/v1/tokens", Access::SignedIn),
    write("/api/v1/tokens", Access::SignedIn),
    write("/api/v1/tokens/{id}/revoke", Access::SignedIn),
];

/// The route of that method and matched path.
pub(crate) fn find(method: &Method, path: &str) -> Option<&'static Route> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    ROUTES.iter().find(|route| route.method == *method && route.path == path)
}

/// The handlers, without the gate in front of them.
pub(crate) fn handlers() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics::show))
        .route("/assets/{name}", get(assets::serve))
        .merge(ui())
        .merge(rest())
}

fn ui() -> Router<Arc<App>> {
    use pages::{account, evidence, history, hold, hosts, queue, sessions, sign_in, users};
    Router::new()
        .route("/sign-in", get(sign_in::show).post(sign_in::by_password))
        .route("/sign-in/link", post(sign_in::by_link))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/account", get(account::show))
        .route("/account/password", post(account::set_password))
        .route("/account/tokens", post(account::create_token))
        .route("/account/tokens/{id}/revoke", post(account::revoke_token))
        .route("/", get(queue::show))
        .route("/holds/{id}", get(hold::show))
        .route("/holds/{id}/decision", post(hold::decide))
        .route("/sessions", get(sessions::list))
        .route("/sessions/{id}", get(sessions::show))
        .route("/sessions/{id}/timeline", get(evidence::timeline))
        .route("/evidence", get(evidence::search))
        .route("/evidence/{id}", get(evidence::entry))
        .route("/log", get(evidence::health))
        .route("/history", get(history::show))
        .route("/hosts", get(hosts::show))
        .route("/users", get(users::list).post(users::create))
        .route("/users/{name}", post(users::update))
        .route("/users/{name}/disabled", post(users::set_disabled))
        .route("/users/{name}/sign-in-link", post(users::sign_in_link))
        .route("/users/{name}/tokens/{id}/revoke", post(users::revoke_token))
}

fn rest() -> Router<Arc<App>> {
    use api::{events, evidence, holds, legal_holds, log, openapi, people, search, sessions};
    Router::new()
        .route("/api/v1/openapi.json", get(openapi::show))
        .route("/api/v1/me", get(people::me))
        .route("/api/v1/holds", get(holds::list))
        .route("/api/v1/holds/{id}", get(holds::show))
        .route("/api/v1/holds/{id}/decision", post(holds::decide))
        .route("/api/v1/events", get(events::stream))
        .route("/api/v1/sessions", get(sessions::list))
        .route("/api/v1/sessions/{id}", get(sessions::show))
        .route("/api/v1/hosts", get(sessions::hosts))
        .route("/api/v1/history", get(holds::history))
        .route("/api/v1/evidence", get(evidence::export))
        .route("/api/v1/evidence/search", get(search::search))
        .route("/api/v1/evidence/{id}", get(search::show))
        .route("/api/v1/evidence/{id}/proof", get(log::prove))
        .route("/api/v1/evidence/{id}/erase", post(log::erase))
        .route("/api/v1/log", get(search::health))
        .route("/api/v1/log/reindex", post(log::reindex))
        .route("/api/v1/log/rotate-key", post(log::rotate_key))
        .route("/api/v1/legal-holds", get(legal_holds::list).post(legal_holds::set))
        .route("/api/v1/legal-holds/{id}/lift", post(legal_holds::lift))
        .route("/api/v1/sinks/{name}/replay", post(search::replay))
        .route("/api/v1/users", get(people::users).post(people::create_user))
        .route("/api/v1/users/{name}/sign-in-link", post(people::sign_in_link))
        .route("/api/v1/tokens", get(people::tokens).post(people::create_token))
        .route("/api/v1/tokens/{id}/revoke", post(people::revoke_token))
}
