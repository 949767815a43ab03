//! One's own account: password and API tokens.

use super::layout::{Frame, page};
use crate::{
    ApiToken,
    web::{
        App,
        extract::{FormBody, InPath, Params},
        limits::TOKEN_DAYS_MAX,
        password,
        problem::Problem,
        signed::{Signed, Via},
        text::filters,
    },
};
use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use serde::Deserialize;
use std::{net::Ipv4Addr, sync::Arc, sync::PoisonError, time::Instant};
use zeroize::Zeroizing;

/// One day, ms.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    frame: Frame,
    groups: String,
    principals: String,
    has_password: bool,
    welcome: bool,
    message: &'static str,
    tokens: Vec<ApiToken>,
    /// A token just made: shown this once.
    new_token: Option<String>,
    days_max: u64,
}

impl AccountPage {
    async fn new(app: &Arc<App>, signed: &Signed) -> Result<Self, Problem> {
        let user = &signed.user;
        let tokens = app.controller.api_tokens(Some(&user.name)).await?;
        Ok(Self {
            frame: Frame::new(app, signed, "account").await?,
            groups: user.groups.join(", "),
            principals: user.principals.join(", "),
            has_password: user.password_hash.is_some(),
            welcome: false,
            message: "",
            tokens: tokens.into_iter().filter(|token| !token.revoked).collect(),
            new_token: None,
            days_max: TOKEN_DAYS_MAX,
        })
    }
}

/// What brought the user here.
#[derive(Deserialize)]
pub(crate) struct Query {
    welcome: Option<String>,
    done: Option<String>,
}

/// `GET /account`.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    signed: Signed,
    Params(query): Params<Query>,
) -> Result<Response, Problem> {
    let account = AccountPage::new(&app, &signed).await?;
    let message = match query.done.as_deref() {
        Some("password") => "The password is set. Your other browsers were signed out.",
        Some("revoked") => "The token no longer works.",
        _ => "",
    };
    let welcome = query.welcome.is_some() && !account.has_password;
    page(&AccountPage { welcome, message, ..account })
}

/// The password form.
#[derive(Deserialize)]
pub(crate) struct PasswordForm {
    #[serde(default)]
    current: String,
    password: String,
    again: String,
}

/// `POST /account/password`.
pub(crate) async fn set_password(
    State(app): State<Arc<App>>,
    signed: Signed,
    FormBody(form): FormBody<PasswordForm>,
) -> Result<Response, Problem> {
    let current = Zeroizing::new(form.current);
    let (new, again) = (Zeroizing::new(form.password), Zeroizing::new(form.again));
    let refuse = |detail: &str| {
        Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "password-not-set", detail))
    };
    if new != again {
        return refuse("The two new passwords differ.");
    }
    password::check(&signed.user.name, &new)?;
    if let Some(hash) = signed.user.password_hash.clone() {
        // A stolen session must not guess its way to a lasting password.
        let attempt = {
            let mut failures = app.failures.lock().unwrap_or_else(PoisonError::into_inner);
            let key = format!("change of {}", signed.user.name);
            failures.attempt(&key, Ipv4Addr::UNSPECIFIED.into(), Instant::now())
        };
        let Ok(attempt) = attempt else {
            return refuse("Too many attempts. Try again in a few minutes.");
        };
        if !app.passwords.verify(current, Some(hash)).await {
            return refuse("The current password is wrong.");
        }
        app.failures.lock().unwrap_or_else(PoisonError::into_inner).succeeded(&attempt);
    }
    let hash = app.passwords.hash(new).await?;
    let keep = match &signed.via {
        Via::Cookie(token) => Some(token.as_str()),
        Via::Bearer => None,
    };
    app.controller.set_password_hash(&signed.user.name, &hash, keep).await?;
    Ok(Redirect::to("/account?done=password").into_response())
}

/// The token form.
#[derive(Deserialize)]
pub(crate) struct TokenForm {
    name: String,
    days: u64,
}

/// `POST /account/tokens`.
pub(crate) async fn create_token(
    State(app): State<Arc<App>>,
    signed: Signed,
    FormBody(form): FormBody<TokenForm>,
) -> Result<Response, Problem> {
    let (secret, _) = new_token(&app, &signed, &form.name, form.days).await?;
    let account = AccountPage::new(&app, &signed).await?;
    page(&AccountPage { new_token: Some(secret), ..account })
}

/// `POST /account/tokens/{id}/revoke`.
pub(crate) async fn revoke_token(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(id): InPath<String>,
) -> Result<Response, Problem> {
    revoke_own(&app, &signed, &id).await?;
    Ok(Redirect::to("/account?done=revoked").into_response())
}

/// A new token of the user's own. Only a signed-in browser may: a stolen token must not be able to
/// prolong itself, and nobody, administrators included, gets a token of somebody else.
pub(crate) async fn new_token(
    app: &App,
    signed: &Signed,
    name: &str,
    days: u64,
) -> Result<(String, ApiToken), Problem> {
    if matches!(signed.via, Via::Bearer) {
        let detail = "An API token cannot make tokens: sign in with a browser.";
        return Err(Problem::forbidden(detail));
    }
    if !(1..=TOKEN_DAYS_MAX).contains(&days) {
        let detail = format!("A token lives 1 to {TOKEN_DAYS_MAX} days.");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail));
    }
    let (user, ttl_ms) = (&signed.user.name, days * DAY_MS);
    Ok(app.controller.new_api_token(user, name.trim(), ttl_ms, user).await?)
}

/// Revokes a token of the user's own.
pub(crate) async fn revoke_own(app: &App, signed: &Signed, id: &str) -> Result<(), Problem> {
    let tokens = app.controller.api_tokens(Some(&signed.user.name)).await?;
    if !tokens.iter().any(|token| token.id == id) {
        return Err(Problem::not_found("You have no such token."));
    }
    Ok(app.controller.revoke_api_token(id, &signed.user.name).await?)
}
