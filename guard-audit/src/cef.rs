//! ArcSight Common Event Format, version 0 (revision 26), as a pure mapping over the OCSF event.

use crate::ocsf::OcsfEvent;
use serde_json::Value;
use std::fmt::Write as _;

/// CEF key ← OCSF path; written where there is one, in this order.
const KEYS: &[(&str, &str)] = &[
    ("rt", "time"),
    ("externalId", "metadata.uid"),
    ("dvchost", "device.name"),
    ("deviceExternalId", "device.uid"),
    ("act", "action"),
    ("outcome", "status"),
    ("reason", "status_detail"),
    ("suid", "actor.user.uid"),
    ("suser", "actor.user.name"),
    ("spid", "actor.process.pid"),
    ("sproc", "actor.process.path"),
    ("dpid", "process.pid"),
    ("dproc", "process.path"),
    ("duser", "user.name"),
    ("fname", "file.name"),
    ("filePath", "file.path"),
    ("fileId", "file.uid"),
    ("src", "src_endpoint.ip"),
    ("spt", "src_endpoint.port"),
    ("shost", "src_endpoint.name"),
    ("dst", "dst_endpoint.ip"),
    ("dpt", "dst_endpoint.port"),
    ("dhost", "dst_endpoint.name"),
    ("out", "traffic.bytes_out"),
    ("cnt", "count"),
    ("cn1", "metadata.sequence"),
    ("cs1", "unmapped.session_uid"),
    ("cs2", "metadata.correlation_uid"),
    ("cs3", "policy.uid"),
    ("cs4", "unmapped.action_digest"),
    ("cs5", "disposition"),
    ("cs6", "unmapped.decided_by"),
    ("msg", "message"),
];

/// What the custom fields are called.
const LABELS: &[(&str, &str)] = &[
    ("cn1", "logIndex"),
    ("cs1", "session"),
    ("cs2", "hold"),
    ("cs3", "policyStatement"),
    ("cs4", "actionDigest"),
    ("cs5", "disposition"),
    ("cs6", "decidedBy"),
];

/// The line of an event, without a line break in it or after it.
#[must_use]
pub fn line(event: &OcsfEvent) -> String {
    let version = event.text("metadata.product.version").unwrap_or_default();
    let id = event.number("type_uid").unwrap_or_default();
    let name = event.text("type_name").unwrap_or_default();
    let severity = severity(event.number("severity_id").unwrap_or_default());
    let mut line = format!("CEF:0|Guard|Guard|{}|{id}|{}|{severity}|", head(version), head(name));
    let mut first = true;
    for (key, path) in KEYS {
        let text = match event.get(path) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => continue,
        };
        if !first {
            line.push(' ');
        }
        first = false;
        // Writing to a string cannot fail.
        let _ = write!(line, "{key}={}", value(&text));
        if let Some((_, label)) = LABELS.iter().find(|(labelled, _)| labelled == key) {
            let _ = write!(line, " {key}Label={label}");
        }
    }
    line
}

/// OCSF's severity on CEF's scale from 0 to 10.
const fn severity(id: u64) -> u8 {
    match id {
        1 => 1,
        2 => 3,
        3 => 5,
        4 => 8,
        5 | 6 => 10,
        _ => 0,
    }
}

/// In the head, `\` and `|` are escaped and line breaks are not allowed.
fn head(text: &str) -> String {
    escape(text, '|').replace("\\n", " ").replace("\\r", " ")
}

/// In a value, `\` and `=` are escaped, and line breaks are `\n` and `\r`.
fn value(text: &str) -> String {
    escape(text, '=')
}

fn escape(text: &str, separator: char) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            _ if char == separator => {
                out.push('\\');
                out.push(char);
            }
            // Other control characters have no escape in CEF; they would reach a terminal.
            _ if char.is_control() => {
                let _ = write!(out, "\\\\x{:02x}", u32::from(char));
            }
            _ => out.push(char),
        }
    }
    out
}
