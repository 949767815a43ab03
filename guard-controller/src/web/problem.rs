//! [`Problem`]: what a client is told when a request fails, in the shape of RFC 9457.

use crate::{AccountError, DecideError, StoreError};
use axum::{
    Json,
    extract::rejection::{FormRejection, JsonRejection, PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// Why a request failed and what to do. Never carries internal text: that goes to the log.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Stable name of the kind of problem, `urn:guard:problem:…`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Short title.
    pub(crate) title: String,
    /// HTTP status code.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16)]
    pub(crate) status: StatusCode,
    /// What went wrong here and the way out.
    pub(crate) detail: String,
}

fn as_number<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem of `kind` (a word with hyphens).
    pub(crate) fn new(status: StatusCode, kind: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:guard:problem:{kind}"),
            title: status.canonical_reason().unwrap_or("Error").into(),
            status,
            detail: detail.into(),
        }
    }

    /// The request is not understood.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// There is no such thing.
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", what)
    }

    /// Nobody is signed in.
    pub(crate) fn not_signed_in() -> Self {
        let detail = "Sign in first, or send an API token as `Authorization: Bearer …`.";
        Self::new(StatusCode::UNAUTHORIZED, "not-signed-in", detail)
    }

    /// Signed in, but may not.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// A cause that is nobody's business but the operator's.
    pub(crate) fn internal(cause: &dyn std::error::Error) -> Self {
        let mut text = cause.to_string();
        let mut source = cause.source();
        while let Some(inner) = source {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            source = inner.source();
        }
        tracing::error!("request failed: {text}");
        let detail = "The controller could not do this; its log says why. Nothing was changed.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(&self)).into_response();
        let content_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"guard\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        // The gate shows it as a page where a page was asked for.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<DecideError> for Problem {
    fn from(error: DecideError) -> Self {
        use DecideError as E;
        let (status, kind) = match &error {
            E::NotFound(_) => (StatusCode::NOT_FOUND, "not-found"),
            E::NotAllowed(_) => (StatusCode::FORBIDDEN, "not-allowed"),
            E::UnmetTerms(_) => (StatusCode::CONFLICT, "unmet-terms"),
            E::AlreadyDecided { .. } => (StatusCode::CONFLICT, "already-decided"),
            E::TooLate => (StatusCode::CONFLICT, "too-late"),
            E::ReasonMissing => (StatusCode::UNPROCESSABLE_ENTITY, "reason-missing"),
            E::ReasonTooLong { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "reason-too-long"),
            E::Store(cause) => return Self::internal(cause),
        };
        Self::new(status, kind, sentence(&in_words(&error)))
    }
}

/// Why a decision is refused, with the policy's own words where it is policy that refuses.
pub(crate) fn in_words(error: &DecideError) -> String {
    match error {
        DecideError::NotAllowed(refusal) => refusal.to_string(),
        other => other.to_string(),
    }
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        use AccountError as E;
        let (status, kind) = match &error {
            E::Invalid { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            E::Exists { .. } => (StatusCode::CONFLICT, "exists"),
            E::NotFound { .. } => (StatusCode::NOT_FOUND, "not-found"),
            E::LastAdmin(_) => (StatusCode::CONFLICT, "last-admin"),
            E::TooMany { .. } => (StatusCode::CONFLICT, "too-many"),
            E::Store(cause) => return Self::internal(cause),
        };
        Self::new(status, kind, sentence(&error.to_string()))
    }
}

macro_rules! from_rejection {
    ($($rejection:ty),*) => {$(
        impl From<$rejection> for Problem {
            fn from(rejection: $rejection) -> Self {
                Self::new(rejection.status(), "bad-request", rejection.body_text())
            }
        }
    )*};
}
from_rejection!(JsonRejection, FormRejection, PathRejection, QueryRejection);

/// An error's text as a sentence.
pub(crate) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}
