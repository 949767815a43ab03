//! The Elastic Common Schema 8.17, as a pure mapping over the OCSF event.
//!
//! What ECS has no field for stands under `guard.*`, which is ours
//! (<https://www.elastic.co/guide/en/ecs/8.17/ecs-custom-fields-in-ecs.html>).

use crate::ocsf::OcsfEvent;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Version of ECS.
pub const ECS_VERSION: &str = "8.17.0";

/// ECS field ← OCSF path; copied where there is one.
const COPIED: &[(&str, &str)] = &[
    ("message", "message"),
    ("event.id", "metadata.uid"),
    ("event.sequence", "metadata.sequence"),
    ("event.action", "metadata.event_code"),
    ("event.code", "type_uid"),
    ("event.reason", "status_detail"),
    ("event.severity", "severity_id"),
    ("log.level", "severity"),
    ("host.id", "device.uid"),
    ("host.name", "device.name"),
    ("host.boot.id", "device.boot_uid"),
    ("observer.version", "metadata.product.version"),
    ("process.pid", "actor.process.pid"),
    ("process.thread.id", "actor.process.tid"),
    ("process.name", "actor.process.name"),
    ("process.executable", "actor.process.path"),
    ("process.command_line", "actor.process.cmd_line"),
    ("process.working_directory", "actor.process.working_directory"),
    ("process.parent.pid", "actor.process.parent_process.pid"),
    ("user.id", "actor.user.uid"),
    ("user.name", "actor.user.name"),
    ("file.name", "file.name"),
    ("file.path", "file.path"),
    ("file.uid", "file.owner.uid"),
    ("destination.ip", "dst_endpoint.ip"),
    ("destination.port", "dst_endpoint.port"),
    ("destination.address", "dst_endpoint.name"),
    ("source.ip", "src_endpoint.ip"),
    ("source.port", "src_endpoint.port"),
    ("source.address", "src_endpoint.name"),
    ("network.bytes", "traffic.bytes"),
    ("source.bytes", "traffic.bytes_out"),
    ("network.iana_number", "connection_info.protocol_num"),
    ("rule.id", "policy.uid"),
    ("rule.name", "policy.name"),
    ("rule.description", "policy.desc"),
    ("guard.session.id", "unmapped.session_uid"),
    ("guard.hold.id", "metadata.correlation_uid"),
    ("guard.action.name", "unmapped.action"),
    ("guard.action.digest", "unmapped.action_digest"),
    ("guard.action.outcome", "action"),
    ("guard.disposition", "disposition"),
    ("guard.decided_by", "unmapped.decided_by"),
    ("guard.host_sequence", "unmapped.host_sequence"),
    ("guard.target.pid", "process.pid"),
    ("guard.target.executable", "process.path"),
    ("guard.target.command_line", "process.cmd_line"),
    ("guard.target.hash.sha256", "process.file.hashes.0.value"),
];

/// The ECS document of an event.
#[must_use]
pub fn document(event: &OcsfEvent) -> Value {
    let class = event.number("class_uid").unwrap_or_default();
    let (category, kind) = category(class);
    let mut out = json!({
        "ecs": { "version": ECS_VERSION },
        "event": {
            "kind": kind,
            "category": category,
            "type": types(event),
            "outcome": outcome(event),
            "module": "guard",
            "dataset": "guard.evidence",
            "provider": "guard",
        },
        "observer": { "vendor": "Guard", "product": "Guard" },
        "host": { "os": { "type": "linux" } },
    });
    if let Some(time) = event.number("time").and_then(rfc3339) {
        out["@timestamp"] = time.into();
    }
    for (field, path) in COPIED {
        if let Some(value) = find(event, path) {
            set(&mut out, field, value);
        }
    }
    if let Some(user) = find(event, "user.name").or_else(|| find(event, "entity.user.name")) {
        // Who it is about; who did it is `user` where ECS knows one.
        let field = if class == 3002 { "user.name" } else { "user.target.name" };
        set(&mut out, field, user);
    }
    // The document's own code is a keyword in ECS.
    if let Some(code) = event.number("type_uid") {
        out["event"]["code"] = code.to_string().into();
    }
    out
}

fn rfc3339(unix_ms: u64) -> Option<String> {
    let nanos = i128::from(unix_ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
}

/// As [`OcsfEvent::get`], with numbers for places in arrays.
fn find(event: &OcsfEvent, path: &str) -> Option<Value> {
    let mut parts = path.split('.');
    let first = event.as_map().get(parts.next()?)?;
    let found = parts.try_fold(first, |value, part| match part.parse::<usize>() {
        Ok(place) => value.get(place),
        Err(_) => value.get(part),
    })?;
    Some(found.clone())
}

fn set(out: &mut Value, field: &str, value: Value) {
    let mut at = out;
    let mut parts = field.split('.').peekable();
    while let Some(part) = parts.next() {
        let Value::Object(fields) = at else { return };
        if parts.peek().is_none() {
            fields.insert(part.to_owned(), value);
            return;
        }
        at = fields.entry(part.to_owned()).or_insert_with(|| Value::Object(Map::new()));
    }
}

/// `event.category` and `event.kind` of a class (ECS's closed lists).
fn category(class: u64) -> (&'static [&'static str], &'static str) {
    match class {
        1001 => (&["file"], "event"),
        1002 | 1003 => (&["driver"], "event"),
        1005 => (&["library"], "event"),
        1007 | 6002 => (&["process"], "event"),
        2004 => (&["intrusion_detection"], "alert"),
        3002 => (&["authentication"], "event"),
        3004 => (&["iam", "configuration"], "event"),
        4001 => (&["network"], "event"),
        6003 => (&["iam"], "event"),
        _ => (&["host"], "event"),
    }
}

/// `event.type` (ECS's closed list).
fn types(event: &OcsfEvent) -> Vec<&'static str> {
    let mut types = Vec::new();
    let (class, activity) = (event.number("class_uid"), event.number("activity_id"));
    types.push(match (class, activity) {
        (Some(1001), Some(1)) => "creation",
        (Some(1001), Some(3 | 5 | 6 | 7)) => "change",
        (Some(1001), Some(4)) => "deletion",
        (Some(1001), _) => "access",
        (Some(1002 | 1005 | 1007), Some(1)) | (Some(6002), Some(3)) => "start",
        (Some(1007), Some(2)) | (Some(6002), Some(4)) => "end",
        (Some(3002), Some(1)) => "start",
        (Some(3002), Some(2)) => "end",
        (Some(3004 | 6003), Some(1 | 6)) => "creation",
        (Some(3004 | 6003), _) => "change",
        (Some(4001), Some(1)) => "connection",
        _ => "info",
    });
    match event.number("action_id") {
        Some(1) => types.push("allowed"),
        Some(2) => types.push("denied"),
        _ => {}
    }
    types
}

fn outcome(event: &OcsfEvent) -> &'static str {
    match event.number("status_id") {
        Some(1) => "success",
        Some(2) => "failure",
        _ => "unknown",
    }
}
