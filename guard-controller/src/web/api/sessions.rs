//! Sessions and hosts.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use super::schema;
use crate::{
    HostView, SessionSummary, SessionView,
    view::PAGE_MAX,
    web::{
        App,
        extract::{InPath, Params},
        problem::Problem,
    },
};
use axum::{Json, extract::State};
use guard_model::SessionId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Which sessions.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SessionQuery {
    /// Only those that run.
    #[serde(default)]
    running: bool,
    /// At most this many; 1 to 500, 100 if absent.
    limit: Option<usize>,
}

/// Sessions, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionList {
    #[schema(value_type = Vec<schema::Session>)]
    sessions: Vec<SessionSummary>,
}

/// Hosts, by name.
#[derive(Serialize, ToSchema)]
pub(crate) struct HostList {
    #[schema(value_type = Vec<schema::Host>)]
    hosts: Vec<HostView>,
}

/// Sessions, newest first.
#[utoipa::path(get, path = "/api/v1/sessions", tag = "sessions", params(SessionQuery),
    responses((status = 200, body = SessionList), (status = "default", body = Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(query): Params<SessionQuery>,
) -> Result<Json<SessionList>, Problem> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit {limit}: expected 1 to {PAGE_MAX}")));
    }
    Ok(Json(SessionList { sessions: app.controller.sessions(query.running, limit).await? }))
}

/// One session with its processes and its timeline.
#[utoipa::path(get, path = "/api/v1/sessions/{id}", tag = "sessions",
    params(("id" = String, Path, description = "The session's id")),
    responses((status = 200, body = schema::SessionInFull), (status = "default", body = Problem)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    InPath(id): InPath<SessionId>,
) -> Result<Json<SessionView>, Problem> {
    let session = app.controller.session(id).await?;
    let none = || Problem::not_found(format!("There is no session {id}."));
    session.map(Json).ok_or_else(none)
}

/// Hosts with their coverage.
#[utoipa::path(get, path = "/api/v1/hosts", tag = "hosts",
    responses((status = 200, body = HostList), (status = "default", body = Problem)))]
pub(crate) async fn hosts(State(app): State<Arc<App>>) -> Result<Json<HostList>, Problem> {
    Ok(Json(HostList { hosts: app.controller.hosts().await? }))
}
