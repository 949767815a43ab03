//! One request in full, and the form that decides it.

use super::layout::{Frame, LIVE_HEADER, page};
use crate::{
    HoldFilter, HoldView, Role,
    web::{
        App,
        extract::{FormBody, InPath},
        limits::EARLIER_MAX,
        problem::{Problem, in_words, sentence},
        signed::Signed,
        text::filters,
    },
};
use askama::Template;
use axum::{
    extract::State,
    http::HeaderMap,
    response::{IntoResponse as _, Redirect, Response},
};
use guard_model::{Action, Endpoint, FileRef, HoldId, HoldState, ProcessNode, RawText, Verdict};
use serde::Deserialize;
use std::sync::Arc;

#[derive(Template)]
#[template(path = "hold.html")]
struct HoldPage {
    frame: Frame,
    hold: HoldView,
    /// Why this user may not decide, in words; empty if they may.
    why_not: String,
    /// From pid 1 (or as far as it is known) down to the process itself.
    tree: Vec<ProcessNode>,
    earlier: Vec<HoldView>,
    /// The next request that waits, if any.
    next: Option<HoldId>,
    facts: Vec<Fact>,
    /// From the hold to its deadline.
    wait_ms: u64,
    /// From now to its deadline.
    left_ms: u64,
    outcome: Outcome,
}

/// One line of a definition list.
struct Fact {
    name: &'static str,
    value: String,
}

/// What approving, denying and waiting would lead to, or what has happened.
struct Outcome {
    headline: &'static str,
    text: String,
}

impl HoldPage {
    /// What an executed program is told is its name, unless that is the end of its path.
    fn other_name(&self) -> Option<&RawText> {
        let Action::Exec { program, argv, .. } = &self.hold.request.action else { return None };
        let last = |text: &RawText| {
            text.as_bytes().rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec)
        };
        argv.first().filter(|name| last(name) != last(&program.file.path))
    }
}

/// `GET /holds/{id}`.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(id): InPath<HoldId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let actor = signed.actor();
    let hold = app.controller.hold(id).await?;
    let mut hold = hold.ok_or_else(|| Problem::not_found(format!("There is no hold {id}.")))?;
    let can_read_first = signed.user.has(Role::Approver) && !headers.contains_key(LIVE_HEADER);
    if hold.state.is_open() && hold.opened_unix_ms.is_none() && can_read_first {
        app.controller.opened(id, &actor).await?;
        hold.opened_unix_ms = Some(crate::clock::unix_ms());
    }
    let why_not = app.controller.may_decide(&hold, &actor).err();
    let earlier = app.controller.earlier_decisions(&hold, EARLIER_MAX).await?;
    let urgent = HoldFilter { most_urgent_first: true, limit: 2, ..HoldFilter::open() };
    let open = app.controller.holds(&urgent).await?;
    let next = open.iter().find(|other| other.request.hold_id != id);
    let frame = Frame::new(&app, &signed, "queue").await?;
    let deadline = hold.request.deadline_unix_ms;
    page(&HoldPage {
        wait_ms: deadline.saturating_sub(hold.request.held_at_unix_ms),
        left_ms: deadline.saturating_sub(frame.now_unix_ms),
        frame,
        why_not: why_not.map(|error| sentence(&in_words(&error))).unwrap_or_default(),
        tree: hold.request.process.ancestors.iter().rev().cloned().collect(),
        earlier,
        next: next.map(|next| next.request.hold_id),
        facts: object_facts(&hold.request.action),
        outcome: outcome(&hold),
        hold,
    })
}

/// The decision form.
#[derive(Deserialize)]
pub(crate) struct DecisionForm {
    verdict: Verdict,
    #[serde(default)]
    reason: String,
}

/// `POST /holds/{id}/decision`.
pub(crate) async fn decide(
    State(app): State<Arc<App>>,
    signed: Signed,
    InPath(id): InPath<HoldId>,
    FormBody(form): FormBody<DecisionForm>,
) -> Result<Response, Problem> {
    app.controller.decide(id, &signed.actor(), form.verdict, form.reason.trim()).await?;
    Ok(Redirect::to(&format!("/holds/{id}")).into_response())
}

fn object_facts(action: &Action) -> Vec<Fact> {
    let fact = |name, value: String| Fact { name, value };
    match action {
        Action::Exec { program, .. } => {
            let mut facts = file_facts("Program", &program.file);
            let hash = program.sha256.clone().unwrap_or_else(|| "not computed".into());
            facts.push(fact("SHA-256", hash));
            facts
        }
        Action::Open { file, access } => {
            let mut facts = vec![fact("Access", access.to_string())];
            facts.extend(file_facts("File", file));
            facts
        }
        Action::Connect { endpoint, socket_type, protocol }
        | Action::Socket { endpoint, socket_type, protocol, operation: _ } => vec![
            fact("Endpoint", endpoint.to_string()),
            fact("Socket", socket_name(*socket_type, *protocol)),
        ],
        Action::Change { file, to, detail, operation } => {
            let mut facts = vec![fact("Operation", operation.to_string())];
            facts.extend(file_facts("File", file));
            facts.extend(to.iter().map(|to| fact("New name", to.to_string())));
            facts.extend(detail_fact(detail));
            facts
        }
        Action::Map { program, unnamed: _, writable } => {
            let mut facts = file_facts("Library", &program.file);
            let writable = if *writable { "yes, and shared" } else { "no" };
            facts.push(fact("Writable", writable.to_owned()));
            facts
        }
        Action::Receive { file, access } => {
            let mut facts = vec![fact("Access", access.to_string())];
            facts.extend(file_facts("File", file));
            facts
        }
        Action::Task { target, detail, operation: _ } => {
            let mut facts = vec![fact("Process", target.to_string())];
            facts.extend(detail_fact(detail));
            facts
        }
        Action::System { operation, detail, file } => {
            let mut facts = vec![fact("Operation", operation.to_string())];
            facts.extend(detail_fact(detail));
            facts.extend(file.iter().flat_map(|file| file_facts("File", file)));
            facts
        }
    }
}

fn detail_fact(detail: &RawText) -> Option<Fact> {
    (!detail.is_empty()).then(|| Fact { name: "Detail", value: detail.visible() })
}

fn file_facts(what: &'static str, file: &FileRef) -> Vec<Fact> {
    let identity = format!(
        "inode {} on device {}:{}, generation {}",
        file.ino,
        file.dev >> 20,
        file.dev & 0xf_ffff,
        file.generation
    );
    vec![
        Fact { name: what, value: file.to_string() },
        Fact { name: "Identity", value: identity },
        Fact { name: "Owner", value: format!("uid {}", file.owner_uid) },
        Fact { name: "Mode", value: format!("{:06o}", file.mode) },
    ]
}

fn socket_name(socket_type: u32, protocol: u32) -> String {
    let kind = match socket_type {
        1 => "stream",
        2 => "datagram",
        3 => "raw",
        5 => "seqpacket",
        _ => return format!("type {socket_type}, protocol {protocol}"),
    };
    match protocol {
        0 => kind.into(),
        6 => format!("{kind}, TCP"),
        17 => format!("{kind}, UDP"),
        _ => format!("{kind}, protocol {protocol}"),
    }
}

fn outcome(hold: &HoldView) -> Outcome {
    let by = hold.decided_by.as_deref().unwrap_or("guard-controller");
    let (headline, text) = match hold.state {
        HoldState::Pending | HoldState::PartlyApproved => ("Waiting for a decision", String::new()),
        HoldState::Approved => {
            ("Approved", format!("By {by}. The host has not said yet that the action went on."))
        }
        HoldState::Consumed => ("Approved", format!("By {by}. The action went on, once.")),
        HoldState::Lapsed => {
            ("Approved, not used", format!("By {by}, but the action did not go on in time."))
        }
        HoldState::Rejected => ("Denied", format!("By {by}. The action failed with EPERM.")),
        HoldState::Expired => {
            ("Expired", "Nobody decided in time. The action failed with EPERM.".into())
        }
        HoldState::Cancelled => {
            ("Cancelled", "The task ended before a decision; nothing was done.".into())
        }
        HoldState::Superseded => {
            ("Superseded", "The session tried something else in its place: a new request.".into())
        }
    };
    Outcome { headline, text }
}
