//! [`Signed`]: who a request is from, established by the gate from a cookie or a bearer token.

use super::{App, WebConfig, problem::Problem};
use crate::{Actor, User};
use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    http::{HeaderMap, HeaderValue, header, request::Parts},
};
use std::convert::Infallible;

/// How somebody is signed in.
#[derive(Clone)]
pub(crate) enum Via {
    /// A browser, by this session token.
    Cookie(String),
    /// A program, by an API token.
    Bearer,
}

/// A signed-in user. Only the gate makes one.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) user: User,
    /// Empty for a bearer.
    pub(crate) csrf: String,
    pub(crate) via: Via,
}

impl Signed {
    /// Reads the bearer token of an API request or else the cookie. A bearer token that does not
    /// work is refused even if there is a cookie: the client meant the token.
    pub(crate) async fn identify(
        app: &App,
        headers: &HeaderMap,
        is_api: bool,
    ) -> Result<Option<Self>, Problem> {
        if let Some(value) = headers.get(header::AUTHORIZATION).filter(|_| is_api) {
            let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
            let Some(token) = token else { return Err(Problem::not_signed_in()) };
            let user = app.controller.user_by_api_token(token.trim()).await?;
            let user = user.ok_or_else(Problem::not_signed_in)?;
            return Ok(Some(Self { user, csrf: String::new(), via: Via::Bearer }));
        }
        let Some(token) = cookie(&app.config, headers) else { return Ok(None) };
        let session = app.controller.web_session(token).await?;
        Ok(session.map(|session| Self {
            user: session.user,
            csrf: session.csrf_token,
            via: Via::Cookie(token.to_owned()),
        }))
    }

    pub(crate) fn actor(&self) -> Actor {
        self.user.actor()
    }
}

impl<S: Sync> FromRequestParts<S> for Signed {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Problem::not_signed_in)
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Signed {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

const fn cookie_name(config: &WebConfig) -> &'static str {
    // The prefix makes browsers refuse the cookie unless it is Secure, host-only and for `/`.
    if config.tls { "__Host-guard_session" } else { "guard_session" }
}

fn cookie<'a>(config: &WebConfig, headers: &'a HeaderMap) -> Option<&'a str> {
    let name = cookie_name(config);
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// `Set-Cookie` for a session token; an empty one removes it.
pub(crate) fn set_cookie(config: &WebConfig, token: &str) -> Result<HeaderValue, Problem> {
    let secure = if config.tls { "; Secure" } else { "" };
    let age = if token.is_empty() { "; Max-Age=0" } else { "" };
    let name = cookie_name(config);
    let value = format!("{name}={token}; HttpOnly; SameSite=Strict; Path=/{secure}{age}");
    HeaderValue::from_str(&value).map_err(|error| Problem::internal(&error))
}
