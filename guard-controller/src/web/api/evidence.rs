//! Evidence as NDJSON, a page at a time.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use super::schema;
use crate::{
    EvidenceFilter, StoredRecord,
    view::EVIDENCE_PAGE_MAX,
    web::{App, extract::Params, pages::history::optional, problem::Problem},
};
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Which evidence; an absent or empty field means "any".
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EvidenceQuery {
    /// A host's id.
    #[serde(default)]
    host: String,
    /// A boot's id.
    #[serde(default)]
    boot: String,
    /// A session's id.
    #[serde(default)]
    session: String,
    /// From this position on; the last line's `position` plus 1 asks for the next page.
    #[serde(default)]
    from: u64,
    /// At most this many records; 1 to 1000, 1000 if absent.
    limit: Option<usize>,
}

/// Evidence in the order in which the controller stored it: one JSON object per line. Less than
/// `limit` lines: there is no more yet.
#[utoipa::path(get, path = "/api/v1/evidence", tag = "evidence", params(EvidenceQuery),
    responses((status = 200, body = schema::EvidenceLine, content_type = "application/x-ndjson"),
        (status = "default", body = Problem)))]
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    Params(query): Params<EvidenceQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(EVIDENCE_PAGE_MAX);
    if !(1..=EVIDENCE_PAGE_MAX).contains(&limit) {
        let detail = format!("limit {limit}: expected 1 to {EVIDENCE_PAGE_MAX}");
        return Err(Problem::bad_request(detail));
    }
    let filter = EvidenceFilter {
        host: optional("host", &query.host)?,
        boot: optional("boot", &query.boot)?,
        session: optional("session", &query.session)?,
        after: query.from.saturating_sub(1),
        limit,
    };
    let records = app.controller.evidence(&filter).await?;
    let mut response = lines(&records)?.into_response();
    let content_type = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

fn lines(records: &[StoredRecord]) -> Result<Vec<u8>, Problem> {
    let mut out = Vec::new();
    for record in records {
        serde_json::to_writer(&mut out, record).map_err(|error| Problem::internal(&error))?;
        out.push(b'\n');
    }
    Ok(out)
}
