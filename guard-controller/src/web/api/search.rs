//! Searching the log, one entry, the log's health, and the sinks' cursors.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use super::schema;
use crate::{
    Controller, LogHealth,
    search::{FOUND_MAX, ReadEntry, ReadError, SearchFilter},
    web::{
        App,
        extract::{InPath, JsonBody, Params},
        pages::history::optional,
        problem::Problem,
        signed::Signed,
    },
};
use axum::{Json, extract::State, http::StatusCode};
use guard_model::HostId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use time::{OffsetDateTime, PrimitiveDateTime, format_description::well_known::Rfc3339};
use utoipa::{IntoParams, ToSchema};

/// How the controller itself is called where a host is expected.
pub(crate) const CONTROLLER: &str = "guard-controller";

/// Longest text that is searched for, bytes: a long path.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;

/// Which entries; an absent or empty field means "any".
#[derive(Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchQuery {
    /// A host's id, or `guard-controller`.
    #[serde(default)]
    pub(crate) host: String,
    /// A session's id.
    #[serde(default)]
    pub(crate) session: String,
    /// A person who acted, or the account that a session acts for.
    #[serde(default)]
    pub(crate) user: String,
    /// Guard's name of the record (`decided`, `held`…) or of the action (`exec`, `open`…).
    #[serde(default)]
    pub(crate) kind: String,
    /// The OCSF disposition, lower case: `allowed`, `blocked`, `delayed`, `approved`, `rejected`…
    #[serde(default)]
    pub(crate) outcome: String,
    /// Made then or later: ms since 1970, or a time like `2026-11-23T22:04:53Z` (UTC without zone).
    #[serde(default)]
    pub(crate) since: String,
    /// Made earlier; likewise.
    #[serde(default)]
    pub(crate) until: String,
    /// Message, path, command line, address, digest or leaf hash contains this.
    #[serde(default)]
    pub(crate) text: String,
    /// `oldest` for oldest first.
    #[serde(default)]
    pub(crate) order: String,
    /// Only entries with a smaller index: the next page, if newest first.
    pub(crate) before: Option<u64>,
    /// From this index on: the next page, if oldest first.
    pub(crate) from: Option<u64>,
    /// At most this many; 1 to 500, 100 if absent.
    limit: Option<usize>,
}

/// What was found.
#[derive(Serialize, ToSchema)]
pub(crate) struct SearchResult {
    /// The entries, newest first unless asked otherwise.
    entries: Vec<FoundEntry>,
    /// There may be more: `before` (or `from`, if oldest first) of the next page.
    next: Option<u64>,
}

/// One entry of the log.
#[derive(Serialize, ToSchema)]
pub(crate) struct FoundEntry {
    /// Its index.
    index: u64,
    /// Its leaf hash, hexadecimal.
    leaf_hash: String,
    /// The record as its host made it; null if its payload was erased.
    #[schema(value_type = Object)]
    record: Option<guard_audit::Record>,
    /// The same as an OCSF 1.8.0 event.
    #[schema(value_type = Object)]
    ocsf: Value,
}

/// Where a sink delivers from.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Replay {
    /// The first log index to deliver (again).
    from: u64,
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        Self::internal(&error)
    }
}

impl From<ReadEntry> for FoundEntry {
    fn from(read: ReadEntry) -> Self {
        Self {
            index: read.entry.index,
            leaf_hash: hex::encode(read.entry.leaf_hash),
            ocsf: Value::Object(read.event.as_map().clone()),
            record: read.entry.record,
        }
    }
}

impl SearchQuery {
    /// As a filter with `limit` entries a page.
    pub(crate) fn filter(
        &self,
        controller: &Controller,
        limit: usize,
    ) -> Result<SearchFilter, Problem> {
        let text = |value: &str| match value.trim() {
            "" => None,
            value => Some(value.to_owned()),
        };
        if self.text.len() > TEXT_BYTES_MAX {
            let detail = format!("text: at most {TEXT_BYTES_MAX} bytes are searched for");
            return Err(Problem::bad_request(detail));
        }
        let oldest_first = match self.order.as_str() {
            "" | "newest" => false,
            "oldest" => true,
            other => {
                let detail = format!("order `{other}`: expected newest or oldest");
                return Err(Problem::bad_request(detail));
            }
        };
        Ok(SearchFilter {
            host: host(controller, &self.host)?,
            session: optional("session", &self.session)?,
            user: text(&self.user),
            kind: text(&self.kind),
            outcome: text(&self.outcome),
            since_unix_ms: time("since", &self.since)?,
            until_unix_ms: time("until", &self.until)?,
            text: text(&self.text),
            before: self.before,
            from: self.from,
            oldest_first,
            limit,
        })
    }
}

fn host(controller: &Controller, text: &str) -> Result<Option<HostId>, Problem> {
    if text.trim() == CONTROLLER {
        return Ok(Some(controller.own_id()));
    }
    optional("host", text)
}

/// A time as ms since 1970.
fn time(what: &str, text: &str) -> Result<Option<u64>, Problem> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if let Ok(unix_ms) = text.parse() {
        return Ok(Some(unix_ms));
    }
    let zoned = OffsetDateTime::parse(text, &Rfc3339).ok();
    let found = zoned
        .or_else(|| without_zone(text))
        .and_then(|time| u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok());
    found.map(Some).ok_or_else(|| {
        Problem::bad_request(format!(
            "{what} `{text}`: expected a time like 2026-11-23T22:04:53Z, or ms since 1970"
        ))
    })
}

/// What `<input type="datetime-local">` sends; UTC.
fn without_zone(text: &str) -> Option<OffsetDateTime> {
    use time::macros::format_description;
    let minutes = format_description!("[year]-[month]-[day]T[hour]:[minute]");
    let seconds = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let read = |format| PrimitiveDateTime::parse(text, format).ok();
    read(minutes).or_else(|| read(seconds)).map(PrimitiveDateTime::assume_utc)
}

/// Searches the log. What was written within the last second may not be found yet.
#[utoipa::path(get, path = "/api/v1/evidence/search", tag = "evidence", params(SearchQuery),
    responses((status = 200, body = SearchResult), (status = "default", body = Problem)))]
pub(crate) async fn search(
    State(app): State<Arc<App>>,
    Params(query): Params<SearchQuery>,
) -> Result<Json<SearchResult>, Problem> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=FOUND_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit {limit}: expected 1 to {FOUND_MAX}")));
    }
    let found = app.controller.search(&query.filter(&app.controller, limit)?).await?;
    let entries = found.entries.into_iter().map(FoundEntry::from).collect();
    Ok(Json(SearchResult { entries, next: found.next }))
}

/// One entry of the log, by its index.
#[utoipa::path(get, path = "/api/v1/evidence/{id}", tag = "evidence",
    params(("id" = u64, Path, description = "The entry's index in the log")),
    responses((status = 200, body = FoundEntry), (status = "default", body = Problem)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    InPath(index): InPath<u64>,
) -> Result<Json<FoundEntry>, Problem> {
    let entry = app.controller.log_entry(index).await?;
    entry.map(|entry| Json(entry.into())).ok_or_else(|| no_entry(index))
}

pub(crate) fn no_entry(index: u64) -> Problem {
    Problem::not_found(format!("The log has no entry {index} yet."))
}

/// How far the log, its index and the sinks are.
#[utoipa::path(get, path = "/api/v1/log", tag = "evidence",
    responses((status = 200, body = schema::LogHealth), (status = "default", body = Problem)))]
pub(crate) async fn health(State(app): State<Arc<App>>) -> Result<Json<LogHealth>, Problem> {
    Ok(Json(app.controller.log_health().await?))
}

/// Lets a sink deliver again from an entry on. Needs the role `admin`.
#[utoipa::path(post, path = "/api/v1/sinks/{name}/replay", tag = "evidence",
    request_body = Replay, params(("name" = String, Path, description = "The sink's name")),
    responses((status = 204), (status = "default", body = Problem)))]
pub(crate) async fn replay(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(name): InPath<String>,
    JsonBody(replay): JsonBody<Replay>,
) -> Result<StatusCode, Problem> {
    match app.controller.replay_sink(&name, replay.from, &signed.user.name).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found(format!("There is no sink `{name}`."))),
    }
}
