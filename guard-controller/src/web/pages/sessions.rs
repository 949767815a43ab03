//! Sessions, and one session with its process tree and timeline.

use super::{
    layout::{Frame, page},
    timeline::{Line, line},
};
use crate::{
    HoldFilter, HoldView, ProcessView, SessionSummary,
    web::{
        App,
        extract::{InPath, Params},
        limits::LIST_ROWS,
        problem::Problem,
        signed::Signed,
        text::filters,
    },
};
use askama::Template;
use axum::{extract::State, response::Response};
use guard_model::{Action, SessionId};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "sessions.html")]
struct SessionsPage {
    frame: Frame,
    sessions: Vec<SessionSummary>,
    all: bool,
}

#[derive(Template)]
#[template(path = "session.html")]
struct SessionPage {
    frame: Frame,
    summary: SessionSummary,
    processes: Vec<ProcessView>,
    open: Vec<HoldView>,
    timeline: Vec<Line>,
    timeline_cut: bool,
}

/// `all=1` shows ended sessions too.
#[derive(Deserialize)]
pub(crate) struct Query {
    #[serde(default)]
    all: String,
}

/// `GET /sessions`.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    signed: Signed,
    Params(query): Params<Query>,
) -> Result<Response, Problem> {
    let all = query.all == "1";
    let sessions = app.controller.sessions(!all, LIST_ROWS).await?;
    page(&SessionsPage { frame: Frame::new(&app, &signed, "sessions").await?, sessions, all })
}

/// `GET /sessions/{id}`.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(id): InPath<SessionId>,
) -> Result<Response, Problem> {
    let session = app.controller.session(id).await?;
    let session =
        session.ok_or_else(|| Problem::not_found(format!("There is no session {id}.")))?;
    let filter = HoldFilter { session: Some(id), ..HoldFilter::open() };
    page(&SessionPage {
        frame: Frame::new(&app, &signed, "sessions").await?,
        summary: session.summary,
        processes: session.processes,
        open: app.controller.holds(&filter).await?,
        timeline: session.timeline.iter().rev().map(line).collect(),
        timeline_cut: session.timeline_cut,
    })
}
