//! The queue: requests that wait for a person, most urgent first.

use super::layout::{Frame, page};
use crate::{
    HoldFilter, HoldView,
    web::{App, limits::QUEUE_ROWS_MAX, problem::Problem, signed::Signed, text::filters},
};
use askama::Template;
use axum::{extract::State, response::Response};
use guard_model::Action;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "queue.html")]
struct QueuePage {
    frame: Frame,
    rows: Vec<HoldRow>,
    hidden: u64,
    hosts_linked: usize,
    hosts: usize,
}

/// A hold in a list.
pub(crate) struct HoldRow {
    pub(crate) hold: HoldView,
    /// Whether this user may decide it.
    pub(crate) may_decide: bool,
    /// What the statement says for people, or its id.
    pub(crate) why: String,
}

impl HoldRow {
    pub(crate) fn new(app: &App, signed: &Signed, hold: HoldView) -> Self {
        let may_decide =
            hold.state.is_open() && app.controller.may_decide(&hold, &signed.actor()).is_ok();
        let why = hold.request.statements.first().map_or_else(String::new, |statement| {
            statement.reason.clone().unwrap_or_else(|| statement.id.clone())
        });
        Self { hold, may_decide, why }
    }
}

/// `GET /`.
pub(crate) async fn show(State(app): State<Arc<App>>, signed: Signed) -> Result<Response, Problem> {
    let frame = Frame::new(&app, &signed, "queue").await?;
    let limit = QUEUE_ROWS_MAX;
    let urgent = HoldFilter { most_urgent_first: true, limit, ..HoldFilter::open() };
    let holds = app.controller.holds(&urgent).await?;
    let hidden = frame.waiting.saturating_sub(holds.len() as u64);
    let rows = holds.into_iter().map(|hold| HoldRow::new(&app, &signed, hold)).collect();
    let hosts = app.controller.hosts().await?;
    let hosts_linked = hosts.iter().filter(|host| host.link_up).count();
    page(&QueuePage { frame, rows, hidden, hosts_linked, hosts: hosts.len() })
}
