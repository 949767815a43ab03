//! Signing in by one-time link or password, and signing out.
//!
//! A `GET` of a link shows a button and uses nothing up: previews and scanners open links too.

use super::layout::{page, page_with};
use crate::{
    User,
    web::{
        App, assets,
        extract::{FormBody, Params},
        limits::NAME_BYTES_MAX,
        problem::Problem,
        rate::{Attempt, Wait},
        signed::{Signed, Via, set_cookie},
        text::{safe_line, span},
    },
};
use askama::Template;
use axum::{
    Extension,
    extract::{ConnectInfo, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
};
use guard_audit::Event;
use serde::Deserialize;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, PoisonError},
    time::Instant,
};
use zeroize::Zeroizing;

/// The one answer to every wrong name or password.
const WRONG: &str = "Name or password is wrong, or this account cannot sign in.";

/// The one answer to every link that does not work.
const DEAD_LINK: &str =
    "This link was used already or has expired. Ask an administrator for another one.";

#[derive(Template, Default)]
#[template(path = "sign_in.html")]
struct SignInPage {
    version: &'static str,
    /// Of a link that works: the token, and whom it signs in.
    link: Option<(String, String)>,
    name: String,
    message: String,
}

impl SignInPage {
    fn new(message: impl Into<String>) -> Self {
        Self { version: &assets::VERSION, message: message.into(), ..Self::default() }
    }
}

/// The link's token.
#[derive(Deserialize)]
pub(crate) struct LinkQuery {
    #[serde(default)]
    token: String,
}

/// Name and password.
#[derive(Deserialize)]
pub(crate) struct PasswordForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
}

/// `GET /sign-in`.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    signed: Option<Signed>,
    Params(query): Params<LinkQuery>,
) -> Result<Response, Problem> {
    if query.token.is_empty() {
        return match signed {
            Some(_) => Ok(Redirect::to("/").into_response()),
            None => page(&SignInPage::new("")),
        };
    }
    let user = app.controller.peek_sign_in_link(&query.token).await?;
    let Some(user) = user else {
        return page_with(StatusCode::GONE, &SignInPage::new(DEAD_LINK));
    };
    page(&SignInPage { link: Some((query.token, user.name)), ..SignInPage::new("") })
}

/// `POST /sign-in/link`.
pub(crate) async fn by_link(
    State(app): State<Arc<App>>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    signed: Option<Signed>,
    FormBody(form): FormBody<LinkQuery>,
) -> Result<Response, Problem> {
    // No name is known yet, and nobody can guess 256 bits: only the address counts.
    let attempt = match count(&app, &format!("link {}", address(peer.as_ref())), peer.as_ref()) {
        Ok(attempt) => attempt,
        Err(wait) => return wait_page(wait),
    };
    let Some(user) = app.controller.use_sign_in_link(&form.token).await? else {
        note(&app, "", "link", false).await?;
        return page_with(StatusCode::GONE, &SignInPage::new(DEAD_LINK));
    };
    succeeded(&app, &attempt);
    let to = if user.password_hash.is_none() { "/account?welcome=1" } else { "/" };
    enter(&app, signed, &user, "link", to).await
}

/// `POST /sign-in`.
pub(crate) async fn by_password(
    State(app): State<Arc<App>>,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    signed: Option<Signed>,
    FormBody(form): FormBody<PasswordForm>,
) -> Result<Response, Problem> {
    let name = form.name.trim();
    let refuse = || {
        let shown = safe_line(name);
        page_with(StatusCode::UNAUTHORIZED, &SignInPage { name: shown, ..SignInPage::new(WRONG) })
    };
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return refuse();
    }
    let attempt = match count(&app, name, peer.as_ref()) {
        Ok(attempt) => attempt,
        Err(wait) => return wait_page(wait),
    };
    let user = app.controller.user_by_name(name).await?.filter(|user| !user.disabled);
    let hash = user.as_ref().and_then(|user| user.password_hash.clone());
    if !app.passwords.verify(Zeroizing::new(form.password), hash).await {
        note(&app, name, "password", false).await?;
        return refuse();
    }
    let Some(user) = user else { return refuse() };
    succeeded(&app, &attempt);
    enter(&app, signed, &user, "password", "/").await
}

/// `POST /sign-out`.
pub(crate) async fn sign_out(
    State(app): State<Arc<App>>,
    signed: Signed,
) -> Result<Response, Problem> {
    if let Via::Cookie(token) = &signed.via {
        app.controller.end_web_session(token).await?;
    }
    note(&app, &signed.user.name, "sign_out", true).await?;
    let mut response = Redirect::to("/sign-in").into_response();
    response.headers_mut().insert(header::SET_COOKIE, set_cookie(&app.config, "")?);
    let clear = HeaderValue::from_static("\"cache\"");
    response.headers_mut().insert("clear-site-data", clear);
    Ok(response)
}

/// Starts a new session, so that a token planted before the sign-in is worth nothing, and ends the
/// one that the browser had.
async fn enter(
    app: &App,
    old: Option<Signed>,
    user: &User,
    method: &str,
    to: &str,
) -> Result<Response, Problem> {
    note(app, &user.name, method, true).await?;
    if let Some(Signed { via: Via::Cookie(token), .. }) = old {
        app.controller.end_web_session(&token).await?;
    }
    let (token, _) = app.controller.new_web_session(&user.name).await?;
    let mut response = Redirect::to(to).into_response();
    response.headers_mut().insert(header::SET_COOKIE, set_cookie(&app.config, &token)?);
    Ok(response)
}

fn address(peer: Option<&Extension<ConnectInfo<SocketAddr>>>) -> IpAddr {
    // Without a connection (a test, an in-process caller) everybody shares one address: stricter.
    peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.0.ip().to_canonical())
}

fn count(
    app: &App,
    name: &str,
    peer: Option<&Extension<ConnectInfo<SocketAddr>>>,
) -> Result<Attempt, Wait> {
    let mut failures = app.failures.lock().unwrap_or_else(PoisonError::into_inner);
    failures.attempt(name, address(peer), Instant::now())
}

fn wait_page(Wait(wait): Wait) -> Result<Response, Problem> {
    let wait = span(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1000));
    let message = format!("Too many failed attempts. Try again in {wait}.");
    page_with(StatusCode::TOO_MANY_REQUESTS, &SignInPage::new(message))
}

fn succeeded(app: &App, attempt: &Attempt) {
    app.failures.lock().unwrap_or_else(PoisonError::into_inner).succeeded(attempt);
}

async fn note(app: &App, user: &str, method: &str, success: bool) -> Result<(), Problem> {
    let (user, method) = (user.to_owned(), method.to_owned());
    Ok(app.controller.audit(Event::Authentication { user, method, success }).await?)
}
