//! The web side as a client sees it: the real router on a real controller, without a socket.

mod access;
mod api;
mod evidence;
mod limits;
mod pages;
mod sign_in;

use super::{WebConfig, router};
use crate::{Config, Controller, Role, Running, UserSpec, WebSession, sinks::SinkSpec};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use guard_model::{
    Action, ActionDigest, BootId, DecisionTerms, Endpoint, HoldId, HoldRequest, HostId,
    ProcessContext, SessionId, SessionInfo,
};
use guard_policy::Policy;
use serde_json::Value;
use std::sync::Arc;
use tempfile::TempDir;
use tower::ServiceExt as _;
use uuid::Uuid;

/// A controller with its web side.
struct Web {
    running: Running,
    router: Router,
    _dir: TempDir,
}

/// Somebody's signed-in browser, or nobody's.
#[derive(Clone, Default)]
struct Browser {
    cookie: String,
    csrf: String,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    fn location(&self) -> &str {
        self.headers[header::LOCATION].to_str().unwrap()
    }

    /// The session cookie that it sets.
    fn cookie(&self) -> String {
        let value = self.headers[header::SET_COOKIE].to_str().unwrap();
        value.split(';').next().unwrap().to_owned()
    }
}

impl Web {
    async fn start() -> Self {
        Self::start_with(WebConfig::default()).await
    }

    async fn start_with(web: WebConfig) -> Self {
        Self::start_with_sinks(web, Vec::new()).await
    }

    async fn start_with_sinks(web: WebConfig, sinks: Vec<SinkSpec>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let mut config = Config::new(state, Arc::new(Policy::default_policy()));
        config.ui_addr = ([127, 0, 0, 1], 0).into();
        config.rpc_addr = ([127, 0, 0, 1], 0).into();
        config.first_user.name = "first".into();
        config.sinks = sinks;
        let running = Controller::start(config).await.unwrap();
        let router = router(running.controller.clone(), web);
        Self { running, router, _dir: dir }
    }

    fn controller(&self) -> &Controller {
        &self.running.controller
    }

    async fn user(&self, name: &str, roles: &[Role]) {
        let spec = UserSpec { name: name.into(), roles: roles.into(), ..UserSpec::default() };
        self.controller().create_user(spec, "first").await.unwrap();
    }

    /// A new user with these roles, signed in.
    async fn browser(&self, name: &str, roles: &[Role]) -> Browser {
        self.user(name, roles).await;
        self.session_of(name).await
    }

    async fn session_of(&self, name: &str) -> Browser {
        let (token, session): (String, WebSession) =
            self.controller().new_web_session(name).await.unwrap();
        Browser { cookie: format!("guard_session={token}"), csrf: session.csrf_token }
    }

    async fn bearer(&self, name: &str) -> String {
        let (token, _) = self.controller().new_api_token(name, "test", 60_000, name).await.unwrap();
        token
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let stream = "text/event-stream";
        let is_stream = parts.headers.get(header::CONTENT_TYPE).is_some_and(|t| t == stream);
        let bytes =
            if is_stream { Vec::new() } else { to_bytes(body, 1 << 24).await.unwrap().into() };
        let text = String::from_utf8(bytes).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    async fn get(&self, browser: &Browser, path: &str) -> Answer {
        self.send(asked(browser, Method::GET, path).body(Body::empty()).unwrap()).await
    }

    /// A plain form as the pages send it; the CSRF field is added.
    async fn post(&self, browser: &Browser, path: &str, form: &str) -> Answer {
        let body = format!("csrf={}&{form}", browser.csrf);
        let request = asked(browser, Method::POST, path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request.body(body.into()).unwrap()).await
    }

    async fn post_json(&self, browser: &Browser, path: &str, json: &Value) -> Answer {
        let request = asked(browser, Method::POST, path)
            .header(header::CONTENT_TYPE, "application/json")
            .header("x-csrf-token", &browser.csrf);
        self.send(request.body(json.to_string().into()).unwrap()).await
    }

    /// A hold of a session of `principal`.
    async fn hold(&self, principal: &str, number: u64) -> HoldId {
        let (host, boot) = (HostId(Uuid::from_u128(1)), BootId(Uuid::from_u128(2)));
        let request = request(host, boot, principal, number);
        let json = serde_json::to_string(&request).unwrap();
        let received = self.controller().receive_hold(host, boot, request.hold_id, &json);
        received.await.unwrap();
        request.hold_id
    }
}

/// A request as a browser makes it on our own page.
fn asked(browser: &Browser, method: Method, path: &str) -> axum::http::request::Builder {
    let mut request = Request::builder().uri(path).header(header::HOST, "localhost:7443");
    if method != Method::GET {
        request = request.header(header::ORIGIN, "http://localhost:7443");
    }
    if !browser.cookie.is_empty() {
        request = request.header(header::COOKIE, &browser.cookie);
    }
    request.method(method)
}

fn request(host: HostId, boot: BootId, principal: &str, number: u64) -> HoldRequest {
    let process = ProcessContext { pid: 7, tid: 7, uid: 1000, ..ProcessContext::default() };
    let endpoint = Endpoint::Inet { ip: [203, 0, 113, 9].into(), port: 443, mapped: false };
    let action = Action::Connect { endpoint, socket_type: 1, protocol: 6 };
    let now = crate::clock::unix_ms();
    let session = SessionInfo {
        id: SessionId::derive(host, boot, 1),
        name: "agent".into(),
        principal: principal.into(),
        uid: 1000,
        started_unix_ms: now,
        root_pid: 7,
        command: vec!["agent".into(), "\u{1b}[31m".into()],
    };
    HoldRequest {
        hold_id: HoldId::derive(host, boot, number),
        host,
        boot,
        digest: ActionDigest::of(host, boot, session.id, &process, &action),
        session,
        process,
        action,
        statements: Vec::new(),
        terms: DecisionTerms {
            approver_groups: vec!["approvers".into()],
            quorum: 1,
            ttl_ms: 60_000,
            scope: "once".into(),
            stepup: None,
        },
        recent: Vec::new(),
        held_at_unix_ms: now,
        deadline_unix_ms: now + 60_000,
    }
}
