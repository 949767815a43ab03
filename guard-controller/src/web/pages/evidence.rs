//! Searching the log, one entry, a session's timeline, and the log's health.

use super::{
    layout::{Frame, page},
    timeline::{Line, line},
};
use crate::{
    HostView, LogHealth, ProvenEntry, SessionSummary,
    search::{ReadEntry, SearchFilter},
    web::{
        App,
        api::search::{CONTROLLER, SearchQuery, no_entry},
        extract::{InPath, Params},
        limits::{LIST_ROWS, TIMELINE_ROWS},
        problem::Problem,
        signed::Signed,
        text::{filters, safe_line},
    },
};
use askama::Template;
use axum::{extract::State, response::Response};
use guard_model::{
    ChangeOperation, HoldId, SessionId, SocketOperation, SystemOperation, TaskOperation,
};
use serde::Deserialize;
use std::{collections::HashMap, sync::Arc};

/// Records that the form offers as kinds.
pub(crate) const RECORDS: &[&str] = &[
    "decided",
    "blocked",
    "held",
    "person_decided",
    "outcome",
    "withdrawn",
    "approval_changed",
    "decision_refused",
    "enforcement_ended",
    "tampered",
    "session_started",
    "session_ended",
    "forked",
    "executed",
    "exited",
    "sent",
    "policy_loaded",
    "user_changed",
    "authentication",
    "enrolled",
    "host_link",
    "host_refused",
    "lost",
    "heartbeat",
    "started",
    "stopped",
    "payload_erased",
    "payloads_expired",
    "legal_hold_set",
    "legal_hold_lifted",
    "log_key_rotated",
];

/// What the form offers as kinds: records, then actions.
fn kinds() -> Vec<&'static str> {
    let mut kinds = RECORDS.to_vec();
    kinds.extend(["exec", "open", "connect", "map", "receive"]);
    kinds.extend(ChangeOperation::ALL.iter().map(|operation| operation.name()));
    kinds.extend(SocketOperation::ALL.iter().map(|operation| operation.name()));
    kinds.extend(TaskOperation::ALL.iter().map(|operation| operation.name()));
    kinds.extend(SystemOperation::ALL.iter().map(|operation| operation.name()));
    kinds
}

/// What the form offers as outcomes: OCSF dispositions.
const OUTCOMES: &[&str] = &[
    "allowed",
    "blocked",
    "delayed",
    "approved",
    "rejected",
    "unauthorized",
    "no action",
    "error",
    "logged",
];

/// One found entry.
struct Row {
    index: u64,
    line: Line,
    host: String,
    session: Option<SessionId>,
    outcome: String,
    /// Since the start of the session, ms.
    since_ms: u64,
    /// Since its action was held, ms.
    waited_ms: Option<u64>,
}

impl Row {
    fn new(read: &ReadEntry) -> Self {
        let record = read.entry.record.as_ref();
        Self {
            index: read.entry.index,
            line: record.map_or_else(Line::erased, line),
            host: read.hostname.clone().unwrap_or_else(|| CONTROLLER.to_owned()),
            session: record.and_then(|record| record.session),
            outcome: safe_line(read.event.text("disposition").unwrap_or_default()).to_lowercase(),
            since_ms: 0,
            waited_ms: None,
        }
    }
}

#[derive(Template)]
#[template(path = "evidence.html")]
struct SearchPage {
    frame: Frame,
    query: SearchQuery,
    hosts: Vec<HostView>,
    kinds: Vec<&'static str>,
    outcomes: &'static [&'static str],
    rows: Vec<Row>,
    more: Option<String>,
}

/// `GET /evidence`.
pub(crate) async fn search(
    State(app): State<Arc<App>>,
    signed: Signed,
    Params(query): Params<SearchQuery>,
) -> Result<Response, Problem> {
    let found = app.controller.search(&query.filter(&app.controller, LIST_ROWS)?).await?;
    page(&SearchPage {
        frame: Frame::new(&app, &signed, "evidence").await?,
        hosts: app.controller.hosts().await?,
        kinds: kinds(),
        outcomes: OUTCOMES,
        rows: found.entries.iter().map(Row::new).collect(),
        more: found.next.map(|next| link_to(&query, next)).transpose()?,
        query,
    })
}

/// The address of the next page of `query`.
fn link_to(query: &SearchQuery, next: u64) -> Result<String, Problem> {
    let place = if query.order == "oldest" { "from" } else { "before" };
    let mut link = format!("/evidence?{place}={next}");
    for (name, value) in [
        ("host", &query.host),
        ("session", &query.session),
        ("user", &query.user),
        ("kind", &query.kind),
        ("outcome", &query.outcome),
        ("since", &query.since),
        ("until", &query.until),
        ("text", &query.text),
        ("order", &query.order),
    ] {
        let value = askama::filters::urlencode_strict(value.as_str());
        let value = value.map_err(|error| Problem::internal(&askama::Error::from(error)))?;
        link.push_str(&format!("&{name}={value}"));
    }
    Ok(link)
}

#[derive(Template)]
#[template(path = "entry.html")]
struct EntryPage {
    frame: Frame,
    row: Row,
    leaf_hash: String,
    /// The record and its OCSF event, as people read JSON.
    record: Option<String>,
    ocsf: String,
    /// What the page verifies; or why there is none.
    proven: Result<ProvenEntry, String>,
}

/// `GET /evidence/{id}`.
pub(crate) async fn entry(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(index): InPath<u64>,
) -> Result<Response, Problem> {
    let read = app.controller.log_entry(index).await?.ok_or_else(|| no_entry(index))?;
    let proven = app.controller.proven_entry(index).await;
    let pretty = |value| serde_json::to_string_pretty(&value).map_err(|e| Problem::internal(&e));
    let record = read.entry.record.as_ref().map(serde_json::to_value).transpose();
    page(&EntryPage {
        frame: Frame::new(&app, &signed, "evidence").await?,
        row: Row::new(&read),
        leaf_hash: hex::encode(read.entry.leaf_hash),
        record: record.map_err(|e| Problem::internal(&e))?.map(pretty).transpose()?,
        ocsf: pretty(serde_json::Value::Object(read.event.as_map().clone()))?,
        proven: proven.map_err(|error| crate::evidence::chain_of(&error)),
    })
}

/// Where a timeline's page starts.
#[derive(Deserialize)]
pub(crate) struct TimelineQuery {
    from: Option<u64>,
}

#[derive(Template)]
#[template(path = "timeline.html")]
struct TimelinePage {
    frame: Frame,
    summary: SessionSummary,
    rows: Vec<Row>,
    first: bool,
    next: Option<u64>,
}

/// `GET /sessions/{id}/timeline`: everything that a session did and what people said to it, oldest
/// first.
pub(crate) async fn timeline(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(id): InPath<SessionId>,
    Params(query): Params<TimelineQuery>,
) -> Result<Response, Problem> {
    let summary = app.controller.session_summary(id).await?;
    let summary =
        summary.ok_or_else(|| Problem::not_found(format!("There is no session {id}.")))?;
    let filter = SearchFilter {
        session: Some(id),
        from: query.from,
        oldest_first: true,
        limit: TIMELINE_ROWS,
        ..SearchFilter::default()
    };
    let found = app.controller.search(&filter).await?;
    let mut rows: Vec<Row> = found.entries.iter().map(Row::new).collect();
    place_in_time(&mut rows, summary.info.started_unix_ms);
    page(&TimelinePage {
        frame: Frame::new(&app, &signed, "sessions").await?,
        summary,
        rows,
        first: query.from.is_none(),
        next: found.next,
    })
}

/// Says how long after the session's start each row is, and how long after its hold.
fn place_in_time(rows: &mut [Row], started_unix_ms: u64) {
    let mut held: HashMap<HoldId, u64> = HashMap::new();
    for row in rows {
        let at = row.line.unix_ms;
        row.since_ms = at.saturating_sub(started_unix_ms);
        match row.line.hold {
            Some(hold) if row.line.kind == "held" => {
                held.insert(hold, at);
            }
            Some(hold) => {
                row.waited_ms = held.get(&hold).map(|since| at.saturating_sub(*since));
            }
            None => {}
        }
    }
}

#[derive(Template)]
#[template(path = "log.html")]
struct LogPage {
    frame: Frame,
    health: LogHealth,
}

/// `GET /log`.
pub(crate) async fn health(
    State(app): State<Arc<App>>,
    signed: Signed,
) -> Result<Response, Problem> {
    let health = app.controller.log_health().await?;
    page(&LogPage { frame: Frame::new(&app, &signed, "log").await?, health })
}
