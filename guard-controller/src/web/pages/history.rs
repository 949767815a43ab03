//! What was asked and decided, newest first, filtered.

use super::{
    layout::{Frame, page},
    queue::HoldRow,
};
use crate::{
    HoldFilter, HostView,
    web::{
        App, extract::Params, limits::LIST_ROWS, problem::Problem, signed::Signed, text::filters,
    },
};
use askama::Template;
use axum::{extract::State, response::Response};
use guard_model::{Action, HoldState};
use serde::Deserialize;
use std::sync::Arc;

/// Every state, in the order of a request's life.
pub(crate) const STATES: [HoldState; 9] = [
    HoldState::Pending,
    HoldState::PartlyApproved,
    HoldState::Approved,
    HoldState::Consumed,
    HoldState::Lapsed,
    HoldState::Rejected,
    HoldState::Expired,
    HoldState::Cancelled,
    HoldState::Superseded,
];

/// The filter form; an empty field means "any".
#[derive(Clone, Default, Deserialize)]
pub(crate) struct Query {
    #[serde(default)]
    state: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    session: String,
    #[serde(default)]
    text: String,
    before: Option<u64>,
}

#[derive(Template)]
#[template(path = "history.html")]
struct HistoryPage {
    frame: Frame,
    query: Query,
    states: Vec<&'static str>,
    hosts: Vec<HostView>,
    rows: Vec<HoldRow>,
    total: u64,
    older: Option<String>,
}

/// `GET /history`.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    signed: Signed,
    Params(query): Params<Query>,
) -> Result<Response, Problem> {
    let filter = query.filter()?;
    let total = app.controller.count_holds(&filter).await?;
    let holds = app.controller.holds(&filter).await?;
    let more = holds.len() == LIST_ROWS;
    let older = holds.last().filter(|_| more).map(|last| query.link_before(last.number));
    let older = older.transpose()?;
    page(&HistoryPage {
        frame: Frame::new(&app, &signed, "history").await?,
        rows: holds.into_iter().map(|hold| HoldRow::new(&app, &signed, hold)).collect(),
        states: STATES.iter().map(|state| state.name()).collect(),
        hosts: app.controller.hosts().await?,
        query,
        total,
        older,
    })
}

impl Query {
    fn filter(&self) -> Result<HoldFilter, Problem> {
        Ok(HoldFilter {
            states: states(&self.state)?,
            session: optional("session", &self.session)?,
            host: optional("host", &self.host)?,
            text: (!self.text.trim().is_empty()).then(|| self.text.trim().to_owned()),
            before: self.before,
            most_urgent_first: false,
            limit: LIST_ROWS,
        })
    }

    fn link_before(&self, number: u64) -> Result<String, Problem> {
        let values = [&self.state, &self.host, &self.session, &self.text];
        let mut link = format!("/history?before={number}");
        for (name, value) in ["state", "host", "session", "text"].into_iter().zip(values) {
            let value = askama::filters::urlencode_strict(value.as_str());
            let value = value.map_err(|error| Problem::internal(&askama::Error::from(error)))?;
            link.push_str(&format!("&{name}={value}"));
        }
        Ok(link)
    }
}

/// The states of a comma-separated list; `open` and `closed` stand for several.
pub(crate) fn states(list: &str) -> Result<Vec<HoldState>, Problem> {
    let mut states = Vec::new();
    for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match name {
            "open" => states.extend(HoldFilter::open().states),
            "closed" => states.extend(HoldFilter::closed().states),
            _ => match STATES.into_iter().find(|state| state.name() == name) {
                Some(state) => states.push(state),
                None => {
                    let names = STATES.map(HoldState::name).join(", ");
                    let detail = format!("state `{name}`: expected open, closed, {names}");
                    return Err(Problem::bad_request(detail));
                }
            },
        }
    }
    Ok(states)
}

/// An id, or nothing for an empty text.
pub(crate) fn optional<T: std::str::FromStr>(what: &str, text: &str) -> Result<Option<T>, Problem> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let id = text.trim().parse();
    id.map(Some).map_err(|_| Problem::bad_request(format!("{what} `{text}`: expected a UUID")))
}
