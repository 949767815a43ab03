//! 6003 API Activity: what happens to an approval request.

use super::{Class, OcsfEvent, base::Base, disposition::Disposition};
use guard_model::{HoldId, HoldState};
use serde_json::json;

const CREATE: (u32, &str) = (1, "Create");
const UPDATE: (u32, &str) = (3, "Update");

/// Every state, to read its name back.
const STATES: [HoldState; 9] = [
    HoldState::Pending,
    HoldState::PartlyApproved,
    HoldState::Approved,
    HoldState::Rejected,
    HoldState::Expired,
    HoldState::Cancelled,
    HoldState::Superseded,
    HoldState::Consumed,
    HoldState::Lapsed,
];

/// A request changed state at the controller: the decision itself.
pub(super) fn approval_changed(
    base: Base,
    hold: HoldId,
    (from, to): (&str, &str),
    by: &str,
    reason: &str,
) -> OcsfEvent {
    let state = STATES.into_iter().find(|state| state.name() == to);
    let disposition = match state {
        Some(HoldState::Pending | HoldState::PartlyApproved) => Disposition::HELD,
        Some(HoldState::Approved) => Disposition::APPROVED,
        Some(HoldState::Rejected) => Disposition::REJECTED,
        Some(HoldState::Expired) => Disposition::UNAUTHORIZED,
        Some(HoldState::Cancelled | HoldState::Superseded | HoldState::Lapsed) => {
            Disposition::WITHDRAWN
        }
        Some(HoldState::Consumed) => Disposition::ALLOWED,
        None => Disposition::ERROR,
    };
    let activity = if state == Some(HoldState::Pending) { CREATE } else { UPDATE };
    let event = request(base, activity, hold, by, disposition);
    event.message(&format!("{from} → {to}")).decided_by(by, reason)
}

/// A hold of which only the id is known ended.
pub(super) fn hold_changed(base: Base, hold: HoldId, disposition: Disposition) -> OcsfEvent {
    request(base, UPDATE, hold, "", disposition)
}

fn request(
    base: Base,
    activity: (u32, &str),
    hold: HoldId,
    by: &str,
    disposition: Disposition,
) -> OcsfEvent {
    let operation = if activity == CREATE { "CreateApproval" } else { "UpdateApproval" };
    let mut actor = json!({ "app_name": "guard-controller" });
    if !by.is_empty() {
        actor["user"] = json!({ "name": by });
    }
    let hold = hold.to_string();
    let resources = json!([{ "uid": hold, "type": "approval request" }]);
    let api = json!({
        "operation": operation,
        "service": { "name": "guard-controller" },
        "request": { "uid": hold },
    });
    let mut event = base.event(Class::API, activity, disposition);
    if let Ok(id) = hold.parse() {
        event = event.correlated(Some(id));
    }
    event
        .with("api", api)
        .with("actor", actor)
        .with("resources", resources)
        // Required by the class; evidence does not say where a person's browser was.
        .with("src_endpoint", json!({ "name": "guard-controller" }))
}
