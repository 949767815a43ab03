//! Hosts, and how far actions are enforced on each.

use super::layout::{Frame, page};
use crate::{
    HostView,
    web::{App, problem::Problem, signed::Signed, text::filters},
};
use askama::Template;
use axum::{extract::State, response::Response};
use guard_model::{Coverage, CoverageState};
use std::sync::Arc;

#[derive(Template)]
#[template(path = "hosts.html")]
struct HostsPage {
    frame: Frame,
    hosts: Vec<HostRow>,
    policy_digest: String,
}

struct HostRow {
    host: HostView,
    /// `enforced`, `degraded` or `absent`: the worst of its programs; `unknown` without any.
    worst: &'static str,
    /// Its policy is not the controller's.
    other_policy: bool,
}

impl HostsPage {
    #[expect(clippy::unused_self, reason = "templates call methods")]
    const fn coverage_name(&self, item: &Coverage) -> &'static str {
        match item.state {
            CoverageState::Enforced => "enforced",
            CoverageState::Degraded => "degraded",
            CoverageState::Absent => "absent",
        }
    }
}

/// `GET /hosts`.
pub(crate) async fn show(State(app): State<Arc<App>>, signed: Signed) -> Result<Response, Problem> {
    let policy_digest = app.controller.config().policy.digest().to_owned();
    let row = |host: HostView| HostRow {
        worst: worst(&host),
        other_policy: !host.policy_digest.is_empty() && host.policy_digest != policy_digest,
        host,
    };
    let hosts = app.controller.hosts().await?.into_iter().map(row).collect();
    page(&HostsPage { frame: Frame::new(&app, &signed, "hosts").await?, hosts, policy_digest })
}

fn worst(host: &HostView) -> &'static str {
    let has = |state| host.coverage.iter().any(|coverage| coverage.state == state);
    match () {
        () if host.coverage.is_empty() => "unknown",
        () if has(CoverageState::Absent) => "absent",
        () if has(CoverageState::Degraded) => "degraded",
        () => "enforced",
    }
}
