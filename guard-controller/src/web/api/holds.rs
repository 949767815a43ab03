//! Holds: list, show, decide.

#![expect(unused_qualifications, reason = "utoipa's macro writes them")]

use super::schema;
use crate::{
    HoldFilter, HoldView,
    view::PAGE_MAX,
    web::{
        App,
        extract::{InPath, JsonBody, Params},
        pages::history::{optional, states},
        problem::{Problem, in_words},
        signed::Signed,
    },
};
use axum::{Json, extract::State};
use guard_model::{HoldId, Verdict};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// One hold, and what this user may do with it.
#[derive(Serialize, ToSchema)]
pub(crate) struct HoldItem {
    #[serde(flatten)]
    #[schema(inline, value_type = schema::Hold)]
    hold: HoldView,
    /// What is attempted on what, in one line, escaped for people's eyes.
    line: String,
    /// Whether this user may decide it now.
    may_decide: bool,
    /// Why not, in words; absent if they may.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

impl HoldItem {
    fn new(app: &App, signed: &Signed, hold: HoldView) -> Self {
        let action = &hold.request.action;
        let line = format!("{} {}", action.verb_line(), action.object_line());
        let why_not = if hold.state.is_open() {
            app.controller.may_decide(&hold, &signed.actor()).err().map(|error| in_words(&error))
        } else {
            Some(format!("it is already {}", hold.state.name()))
        };
        Self { hold, line, may_decide: why_not.is_none(), why_not }
    }
}

/// A page of holds, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct HoldPage {
    /// The holds.
    holds: Vec<HoldItem>,
    /// How many match in all.
    total: u64,
    /// Give this as `after` to get the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
}

/// Which holds; an absent or empty field means "any".
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct HoldQuery {
    /// `open`, `closed`, or states, comma-separated.
    #[serde(default)]
    state: String,
    /// A session's id.
    #[serde(default)]
    session: String,
    /// A host's id.
    #[serde(default)]
    host: String,
    /// Part of the object, session, principal, decider or reason.
    #[serde(default)]
    text: String,
    /// At most this many; 1 to 500, 100 if absent.
    limit: Option<usize>,
    /// The `next` of the page before.
    after: Option<u64>,
}

/// Page size unless asked for.
const LIMIT_DEFAULT: usize = 100;

impl HoldQuery {
    fn filter(&self) -> Result<HoldFilter, Problem> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Problem::bad_request(format!("limit {limit}: expected 1 to {PAGE_MAX}")));
        }
        Ok(HoldFilter {
            states: states(&self.state)?,
            session: optional("session", &self.session)?,
            host: optional("host", &self.host)?,
            text: (!self.text.is_empty()).then(|| self.text.clone()),
            before: self.after,
            most_urgent_first: false,
            limit,
        })
    }
}

async fn find(app: &App, signed: &Signed, filter: HoldFilter) -> Result<Json<HoldPage>, Problem> {
    let total = app.controller.count_holds(&filter).await?;
    let holds = app.controller.holds(&filter).await?;
    let full = holds.len() == filter.limit;
    let next = holds.last().filter(|_| full).map(|last| last.number);
    let holds = holds.into_iter().map(|hold| HoldItem::new(app, signed, hold)).collect();
    Ok(Json(HoldPage { holds, total, next }))
}

/// Holds, newest first.
#[utoipa::path(get, path = "/api/v1/holds", tag = "holds", params(HoldQuery),
    responses((status = 200, body = HoldPage), (status = "default", body = Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    signed: Signed,
    Params(query): Params<HoldQuery>,
) -> Result<Json<HoldPage>, Problem> {
    find(&app, &signed, query.filter()?).await
}

/// Holds that wait no more, newest first; with `state` as in `/holds`.
#[utoipa::path(get, path = "/api/v1/history", tag = "holds", params(HoldQuery),
    responses((status = 200, body = HoldPage), (status = "default", body = Problem)))]
pub(crate) async fn history(
    State(app): State<Arc<App>>,
    signed: Signed,
    Params(mut query): Params<HoldQuery>,
) -> Result<Json<HoldPage>, Problem> {
    if query.state.is_empty() {
        query.state = "closed".into();
    }
    find(&app, &signed, query.filter()?).await
}

/// One hold in full.
#[utoipa::path(get, path = "/api/v1/holds/{id}", tag = "holds",
    params(("id" = String, Path, description = "The hold's id")),
    responses((status = 200, body = HoldItem), (status = "default", body = Problem)))]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(id): InPath<HoldId>,
) -> Result<Json<HoldItem>, Problem> {
    let hold = app.controller.hold(id).await?;
    let hold = hold.ok_or_else(|| Problem::not_found(format!("There is no hold {id}.")))?;
    if hold.state.is_open() && signed.user.has(crate::Role::Approver) {
        app.controller.opened(id, &signed.actor()).await?;
    }
    Ok(Json(HoldItem::new(&app, &signed, hold)))
}

/// A decision.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecisionBody {
    /// Allow or deny.
    #[schema(value_type = schema::Verdict)]
    verdict: Verdict,
    /// Why, in words; required.
    reason: String,
}

/// Approves or denies a hold. Needs the role `approver`; never for one's own session.
#[utoipa::path(post, path = "/api/v1/holds/{id}/decision", tag = "holds",
    params(("id" = String, Path, description = "The hold's id")), request_body = DecisionBody,
    responses((status = 200, body = HoldItem), (status = "default", body = Problem)))]
pub(crate) async fn decide(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(id): InPath<HoldId>,
    JsonBody(body): JsonBody<DecisionBody>,
) -> Result<Json<HoldItem>, Problem> {
    let reason = body.reason.trim();
    let hold = app.controller.decide(id, &signed.actor(), body.verdict, reason).await?;
    Ok(Json(HoldItem::new(&app, &signed, hold)))
}
