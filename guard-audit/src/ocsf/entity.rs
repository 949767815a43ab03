//! 3004 Entity Management: policies, users, roles, tokens, hosts.

use super::{
    Class, OcsfEvent,
    base::Base,
    disposition::{Disposition, Severity},
};
use crate::HoldScope;
use guard_model::HostId;
use serde_json::json;
use uuid::Uuid;

/// A policy took effect.
pub(super) fn policy_loaded(base: Base, digest: &str, files: &[String]) -> OcsfEvent {
    let name = files.join(", ");
    let policy = json!({ "uid": digest, "name": name, "type": "Cedar", "is_applied": true });
    let entity = json!({
        "uid": digest, "name": name, "type_id": 5, "type": "Policy", "policy": policy,
    });
    base.event(Class::ENTITY, (3, "Update"), Disposition::OBSERVED)
        .with("entity", entity)
        .message(&format!("policy {digest} took effect"))
}

/// A user, role or token changed; without a user: something else that a person changed.
pub(super) fn user_changed(base: Base, user: &str, change: &str, by: &str) -> OcsfEvent {
    let activity = match change.split([':', ' ']).next() {
        Some("created") => (1, "Create"),
        Some("enabled") => (8, "Enable"),
        Some("disabled") => (9, "Disable"),
        _ => (3, "Update"),
    };
    let entity = if user.is_empty() {
        json!({ "name": change, "type_id": 99, "type": "Configuration" })
    } else {
        json!({ "name": user, "type_id": 2, "type": "User", "user": { "name": user } })
    };
    let event = base
        .event(Class::ENTITY, activity, Disposition::OBSERVED)
        .with("entity", entity)
        .message(change);
    if by.is_empty() { event } else { event.with("actor", json!({ "user": { "name": by } })) }
}

/// A host enrolled or renewed its certificate.
pub(super) fn enrolled(base: Base, host: HostId, hostname: &str) -> OcsfEvent {
    let host = host.to_string();
    let device = json!({ "uid": host, "name": hostname, "type_id": 0, "type": "Unknown" });
    let entity = json!({
        "uid": host, "name": hostname, "type_id": 1, "type": "Device", "device": device,
    });
    base.event(Class::ENTITY, (6, "Enroll"), Disposition::OBSERVED)
        .with("entity", entity)
        .message(&format!("host {hostname} enrolled"))
}

/// A legal hold was set, or (without a scope) lifted.
pub(super) fn legal_hold(
    base: Base,
    id: &Uuid,
    scope: Option<&HoldScope>,
    reason: &str,
    by: &str,
) -> OcsfEvent {
    let entity = json!({
        "uid": id.to_string(), "name": "legal hold", "type_id": 99, "type": "Legal Hold",
    });
    let (activity, message) = match scope {
        Some(scope) => ((1, "Create"), format!("a legal hold keeps {scope}")),
        None => ((4, "Delete"), "a legal hold was lifted".to_owned()),
    };
    let event = base
        .event(Class::ENTITY, activity, Disposition::OBSERVED)
        .with("entity", entity)
        .message(&message)
        .detail(reason)
        .severity(Severity::Medium);
    if by.is_empty() { event } else { event.with("actor", json!({ "user": { "name": by } })) }
}

/// The log is signed with another key.
pub(super) fn log_key_rotated(base: Base, old: &str, new: &str, by: &str) -> OcsfEvent {
    let entity = json!({ "uid": new, "name": "log key", "type_id": 99, "type": "Signing Key" });
    let event = base
        .event(Class::ENTITY, (3, "Update"), Disposition::OBSERVED)
        .with("entity", entity)
        .message("the log is signed with another key")
        .unmapped("old_key", old.into())
        .severity(Severity::Medium);
    if by.is_empty() { event } else { event.with("actor", json!({ "user": { "name": by } })) }
}
