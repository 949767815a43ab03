//! Legal holds: what is not erased until somebody lifts it.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use super::schema;
use crate::{
    LegalHold, LegalHoldError,
    web::{
        App,
        extract::{InPath, JsonBody, Params},
        problem::{Problem, sentence},
        signed::Signed,
    },
};
use axum::{Json, extract::State, http::StatusCode};
use guard_audit::HoldScope;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Which holds.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Those that were lifted too.
    #[serde(default)]
    lifted: bool,
}

/// Legal holds.
#[derive(Serialize, ToSchema)]
pub(crate) struct LegalHolds {
    /// The oldest first.
    #[schema(value_type = Vec<schema::LegalHold>)]
    legal_holds: Vec<LegalHold>,
}

/// What is to be kept, and why.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewLegalHold {
    /// What it keeps.
    #[schema(value_type = schema::LegalHoldScope)]
    scope: HoldScope,
    /// In words: it becomes evidence.
    reason: String,
}

/// Why a hold is lifted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lifting {
    /// In words: it becomes evidence.
    reason: String,
}

impl From<LegalHoldError> for Problem {
    fn from(error: LegalHoldError) -> Self {
        match error {
            LegalHoldError::Refused(why) => Self::bad_request(sentence(&why)),
            LegalHoldError::NotFound(_) => Self::not_found(sentence(&error.to_string())),
            LegalHoldError::Store(cause) => Self::internal(&cause),
        }
    }
}

/// Legal holds in force, or all that there ever were.
#[utoipa::path(get, path = "/api/v1/legal-holds", tag = "evidence", params(Which),
    responses((status = 200, body = LegalHolds), (status = "default", body = Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(which): Params<Which>,
) -> Result<Json<LegalHolds>, Problem> {
    let legal_holds = app.controller.legal_holds(!which.lifted).await?;
    Ok(Json(LegalHolds { legal_holds }))
}

/// Sets a legal hold: nothing that matches is erased until it is lifted. Needs the role `admin`.
#[utoipa::path(post, path = "/api/v1/legal-holds", tag = "evidence", request_body = NewLegalHold,
    responses((status = 201, body = schema::LegalHold), (status = "default", body = Problem)))]
pub(crate) async fn set(
    State(app): State<Arc<App>>,
    signed: Signed,
    JsonBody(NewLegalHold { scope, reason }): JsonBody<NewLegalHold>,
) -> Result<(StatusCode, Json<LegalHold>), Problem> {
    let by = &signed.user.name;
    let hold = app.controller.set_legal_hold(scope, reason.trim(), by).await?;
    Ok((StatusCode::CREATED, Json(hold)))
}

/// Lifts a legal hold. Needs the role `admin`.
#[utoipa::path(post, path = "/api/v1/legal-holds/{id}/lift", tag = "evidence",
    request_body = Lifting, params(("id" = String, Path, description = "The hold's id")),
    responses((status = 204), (status = "default", body = Problem)))]
pub(crate) async fn lift(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(id): InPath<Uuid>,
    JsonBody(lifting): JsonBody<Lifting>,
) -> Result<StatusCode, Problem> {
    app.controller.lift_legal_hold(id, lifting.reason.trim(), &signed.user.name).await?;
    Ok(StatusCode::NO_CONTENT)
}
