//! What persons do with the log: a proof, an erasure, the index anew, a new key.

use crate::{
    service::EraseError,
    web::{
        App,
        extract::{InPath, JsonBody},
        problem::{Problem, sentence},
        signed::Signed,
    },
};
use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Why a payload is erased.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Erasure {
    /// In words: it becomes evidence.
    reason: String,
}

/// An index that is made anew.
#[derive(Serialize, ToSchema)]
pub(crate) struct Reindexing {
    /// Entries of the log that are indexed again; `GET /api/v1/log` shows how far it is.
    entries: u64,
}

/// A key that has been replaced.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewKey {
    /// The verifier key that counts no more for later checkpoints.
    old: String,
    /// The verifier key that counts from now on.
    new: String,
}

impl From<EraseError> for Problem {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::Refused(why) => {
                Self::new(StatusCode::CONFLICT, "not-erased", sentence(&why))
            }
            EraseError::Store(cause) => Self::internal(&cause),
        }
    }
}

/// A proof of one entry (C2SP tlog-proof, with the leaf as extra data), to be verified offline.
#[utoipa::path(get, path = "/api/v1/evidence/{id}/proof", tag = "evidence",
    params(("id" = u64, Path, description = "The entry's index in the log")),
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "default", body = Problem)))]
pub(crate) async fn prove(
    State(app): State<Arc<App>>,
    InPath(index): InPath<u64>,
) -> Result<Response, Problem> {
    if index >= app.controller.index().size() {
        return Err(super::search::no_entry(index));
    }
    let proof = app.controller.prove(index).await?;
    let mut response = proof.into_response();
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

/// Erases the payload of an entry, for good: its leaf and all proofs stay, the erasure is evidence.
/// Needs the role `admin`.
#[utoipa::path(post, path = "/api/v1/evidence/{id}/erase", tag = "evidence", request_body = Erasure,
    params(("id" = u64, Path, description = "The entry's index in the log")),
    responses((status = 204), (status = "default", body = Problem)))]
pub(crate) async fn erase(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(index): InPath<u64>,
    JsonBody(erasure): JsonBody<Erasure>,
) -> Result<StatusCode, Problem> {
    app.controller.erase_evidence(index, erasure.reason.trim(), &signed.user.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes the search index anew from the log; evidence says who asked. Needs the role `admin`.
#[utoipa::path(post, path = "/api/v1/log/reindex", tag = "evidence",
    responses((status = 202, body = Reindexing), (status = "default", body = Problem)))]
pub(crate) async fn reindex(
    State(app): State<Arc<App>>,
    signed: Signed,
) -> Result<(StatusCode, Json<Reindexing>), Problem> {
    app.controller.rebuild_search(&signed.user.name).await?;
    let entries = app.controller.index().size();
    Ok((StatusCode::ACCEPTED, Json(Reindexing { entries })))
}

/// Draws a new key for the log; the checkpoint that tells of it is signed by both. Needs the role
/// `admin`.
#[utoipa::path(post, path = "/api/v1/log/rotate-key", tag = "evidence",
    responses((status = 200, body = NewKey), (status = "default", body = Problem)))]
pub(crate) async fn rotate_key(
    State(app): State<Arc<App>>,
    signed: Signed,
) -> Result<Json<NewKey>, Problem> {
    let (old, new) = app.controller.rotate_log_key(&signed.user.name).await?;
    Ok(Json(NewKey { old: old.as_str().into(), new: new.as_str().into() }))
}
