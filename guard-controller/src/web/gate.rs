//! What every request passes before its handler: host name, origin, who it is, role, CSRF, size, time.

use super::{
    App,
    limits::{BODY_BYTES_MAX, REQUEST_TIMEOUT},
    origin,
    pages::layout,
    problem::Problem,
    routes::{self, Access},
    signed::{Signed, Via},
};
use axum::{
    Form,
    body::{Body, Bytes, to_bytes},
    extract::{FromRequest as _, MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Redirect, Response},
};
use std::sync::Arc;
use zeroize::Zeroizing;

/// The header that carries a session's CSRF token in requests made by scripts.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";

/// The name of the form field that carries it in plain forms.
pub(crate) const CSRF_FIELD: &str = "csrf";

/// Admits or refuses a request; a refusal of a page is shown as a page.
pub(crate) async fn gate(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let is_page = !for_programs(&path) && !path.starts_with("/assets/");
    let wants_sign_in = is_page && matches!(*request.method(), Method::GET | Method::HEAD);
    let mut signed = None;
    let work = async {
        match admit(&app, request, &mut signed).await {
            Ok(request) => next.run(request).await,
            Err(problem) => problem.into_response(),
        }
    };
    let mut response = match tokio::time::timeout(REQUEST_TIMEOUT, work).await {
        Ok(response) => response,
        Err(_) => {
            let detail = "This took too long; try again.";
            Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail).into_response()
        }
    };
    if is_page && let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = if problem.status == StatusCode::UNAUTHORIZED && wants_sign_in {
            Redirect::to("/sign-in").into_response()
        } else {
            layout::problem_page(signed.as_ref(), &problem)
        };
    }
    harden(response.headers_mut(), app.config.tls);
    response
}

/// Where a bearer token counts and nobody wants a page.
fn for_programs(path: &str) -> bool {
    path.starts_with("/api/") || path == "/metrics"
}

async fn admit(
    app: &App,
    mut request: Request,
    signed: &mut Option<Signed>,
) -> Result<Request, Problem> {
    origin::check_host(&app.config, request.headers())?;
    let access = access(&request)?;
    let unsafe_method = !matches!(*request.method(), Method::GET | Method::HEAD);
    let is_api = for_programs(request.uri().path());
    *signed = Signed::identify(app, request.headers(), is_api).await?;
    let by_token = signed.as_ref().is_some_and(|signed| matches!(signed.via, Via::Bearer));
    if unsafe_method && !by_token {
        origin::check_same_origin(&app.config, request.headers())?;
    }
    if !access.admits(signed.as_ref().map(|signed| &signed.user)) {
        return Err(match signed {
            None => Problem::not_signed_in(),
            Some(_) => Problem::forbidden(access.missing()),
        });
    }
    if unsafe_method {
        request = buffer(request).await?;
        if access != Access::Public
            && let Some(signed) = signed
            && !by_token
        {
            request = check_csrf(request, signed).await?;
        }
    }
    if let Some(signed) = signed {
        request.extensions_mut().insert(signed.clone());
    }
    Ok(request)
}

fn access(request: &Request) -> Result<Access, Problem> {
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        return Err(Problem::not_found("There is no such page."));
    };
    match routes::find(request.method(), path.as_str()) {
        Some(route) => Ok(route.access),
        None => {
            let detail = "This address does not take this method.";
            Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail))
        }
    }
}

/// Reads the whole body, so that no handler meets more than [`BODY_BYTES_MAX`].
async fn buffer(request: Request) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
        let detail = format!("The request's body is broken or longer than {BODY_BYTES_MAX} bytes.");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    })?;
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

async fn check_csrf(request: Request, signed: &Signed) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    let bytes = to_bytes(body, BODY_BYTES_MAX).await.unwrap_or_default();
    let given = match parts.headers.get(CSRF_HEADER) {
        Some(value) => value.to_str().ok().map(|value| Zeroizing::new(value.to_owned())),
        None => field_of(&parts.headers, &bytes).await,
    };
    if !given.is_some_and(|given| equal(given.as_bytes(), signed.csrf.as_bytes())) {
        return Err(Problem::forbidden(
            "This form is not from your present session. Go back, reload the page and try again.",
        ));
    }
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

/// The form field, if the body is a form at all.
async fn field_of(headers: &HeaderMap, body: &Bytes) -> Option<Zeroizing<String>> {
    let mut request = Request::new(Body::from(body.clone()));
    *request.method_mut() = Method::POST;
    *request.headers_mut() = headers.clone();
    let Form(fields) = Form::<Vec<(String, String)>>::from_request(request, &()).await.ok()?;
    let value = fields.into_iter().find(|(name, _)| name == CSRF_FIELD)?.1;
    Some(Zeroizing::new(value))
}

/// Compares in a time that depends on the lengths only.
fn equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left.iter().zip(right).fold(0, |seen, (left, right)| seen | (left ^ right)) == 0
}

/// The same for every answer. `Referrer-Policy` is `same-origin`, not `no-referrer`: under the
/// latter browsers send `Origin: null` with the UI's own forms, and the origin check needs it.
fn harden(headers: &mut HeaderMap, tls: bool) {
    const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
        connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (
            header::HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if tls {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    let no_store = HeaderValue::from_static("no-store");
    headers.entry(header::CACHE_CONTROL).or_insert(no_store);
}
