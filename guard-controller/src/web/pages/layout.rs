//! What surrounds every page, and pages that say what went wrong.

use crate::{
    Role,
    web::{App, assets, problem::Problem, signed::Signed},
};
use askama::Template;
use axum::{
    http::StatusCode,
    response::{Html, IntoResponse as _, Response},
};
use std::sync::Arc;

/// The header by which `live.js` asks for a page again: nobody has opened it anew.
pub(crate) const LIVE_HEADER: &str = "x-guard-live";

/// The frame of a page of a signed-in user.
pub(crate) struct Frame {
    pub(crate) user: String,
    pub(crate) roles: String,
    pub(crate) csrf: String,
    pub(crate) is_admin: bool,
    pub(crate) has_role: bool,
    /// Which entry of the navigation is the present page.
    pub(crate) here: &'static str,
    /// Requests that wait.
    pub(crate) waiting: u64,
    pub(crate) version: &'static str,
    pub(crate) now_unix_ms: u64,
}

impl Frame {
    /// For `signed`, at the entry `here`.
    pub(crate) async fn new(
        app: &Arc<App>,
        signed: &Signed,
        here: &'static str,
    ) -> Result<Self, Problem> {
        let waiting = app.controller.count_holds(&crate::HoldFilter::open()).await?;
        Ok(Self { waiting, ..Self::bare(signed, here) })
    }

    /// Without asking the database.
    fn bare(signed: &Signed, here: &'static str) -> Self {
        let user = &signed.user;
        Self {
            user: user.name.clone(),
            roles: role_names(&user.roles),
            csrf: signed.csrf.clone(),
            is_admin: user.has(Role::Admin),
            has_role: !user.roles.is_empty(),
            here,
            waiting: 0,
            version: &assets::VERSION,
            now_unix_ms: crate::clock::unix_ms(),
        }
    }
}

/// `approver, admin`.
pub(crate) fn role_names(roles: &[Role]) -> String {
    roles.iter().map(|role| role.name().replace('_', " ")).collect::<Vec<_>>().join(", ")
}

/// The page.
pub(crate) fn page(template: &impl Template) -> Result<Response, Problem> {
    page_with(StatusCode::OK, template)
}

/// The page, with another status.
pub(crate) fn page_with(status: StatusCode, template: &impl Template) -> Result<Response, Problem> {
    let html = template.render().map_err(|error| Problem::internal(&error))?;
    Ok((status, Html(html)).into_response())
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    frame: Frame,
    problem: &'a Problem,
}

#[derive(Template)]
#[template(path = "problem_signed_out.html")]
struct SignedOutProblemPage<'a> {
    version: &'static str,
    problem: &'a Problem,
}

/// A problem as a page.
pub(crate) fn problem_page(signed: Option<&Signed>, problem: &Problem) -> Response {
    let page = match signed {
        Some(signed) => {
            page_with(problem.status, &ProblemPage { frame: Frame::bare(signed, ""), problem })
        }
        None => {
            let version = assets::VERSION.as_str();
            page_with(problem.status, &SignedOutProblemPage { version, problem })
        }
    };
    page.unwrap_or_else(|_| problem.status.into_response())
}
