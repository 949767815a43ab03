//! Web UI and REST API: a remote surface that can release held actions.
//!
//! Every request passes the [`gate`] (host name, origin, who, role, CSRF, size, time), which grants
//! only what [`routes`] lists. Pages are plain HTML forms that work without JavaScript; `live.js`
//! adds what changes by itself and the keyboard. The REST API under `/api/v1` is the same for the
//! pages' script, `guard` and everybody else, and describes itself in `/api/v1/openapi.json`.

mod api;
mod assets;
mod extract;
mod gate;
pub mod limits;
mod metrics;
mod origin;
mod pages;
mod password;
mod problem;
mod rate;
mod routes;
mod serve;
mod signed;
mod streams;
#[cfg(test)]
mod tests;
mod text;

pub use serve::serve;

use crate::{Config, Controller};
use axum::{Router, middleware::from_fn_with_state};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

/// What the web side needs to know besides the controller.
#[derive(Clone, Debug, Default)]
pub struct WebConfig {
    /// Host names, besides loopback's, under which it may be asked for.
    pub host_names: Vec<String>,
    /// The address that it listens on, unless that is all of them.
    pub address: Option<IpAddr>,
    /// Browsers reach it by TLS: the cookie is `Secure` and has the `__Host-` prefix.
    pub tls: bool,
}

impl WebConfig {
    fn names(&self, name: &str) -> bool {
        self.host_names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

impl From<&Config> for WebConfig {
    fn from(config: &Config) -> Self {
        let address = config.ui_addr.ip();
        Self {
            host_names: config.ui_names.clone(),
            address: (!address.is_unspecified()).then_some(address),
            tls: config.ui_behind_tls,
        }
    }
}

/// What handlers share.
struct App {
    controller: Controller,
    config: WebConfig,
    failures: Mutex<rate::Failures>,
    passwords: password::Passwords,
    streams: streams::Streams,
}

/// The UI and the API, to be given to [`serve()`].
pub fn router(controller: Controller, config: WebConfig) -> Router {
    if !config.tls && !config.address.is_some_and(|address| address.is_loopback()) {
        tracing::warn!(
            "the UI listens beyond loopback without TLS: passwords and cookies can be read on the \
             way; put a proxy that ends TLS before it and start with --ui-behind-tls"
        );
    }
    let app = Arc::new(App {
        controller,
        config,
        failures: Mutex::default(),
        passwords: password::Passwords::default(),
        streams: streams::Streams::default(),
    });
    routes::handlers()
        .fallback(|| async { problem::Problem::not_found("There is no such page.") })
        .layer(from_fn_with_state(app.clone(), gate::gate))
        .with_state(app)
}
