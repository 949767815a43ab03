//! What of an entry it can be found by.

use super::ReadEntry;
use guard_audit::ocsf::OcsfEvent;
use serde_json::Value;

/// Text of one entry that is searched, bytes; what is longer is found by its start. The longest
/// path (4,096) and a long command line fit.
pub const TEXT_BYTES_MAX: usize = 8 << 10;

/// Where searchable text stands in an event.
const TEXT: &[&str] = &[
    "message",
    "status_detail",
    "metadata.uid",
    "metadata.correlation_uid",
    "device.name",
    "actor.process.path",
    "actor.process.cmd_line",
    "actor.user.name",
    "process.path",
    "process.cmd_line",
    "file.path",
    "dst_endpoint.ip",
    "dst_endpoint.name",
    "policy.uid",
    "user.name",
    "entity.name",
    "unmapped.action_digest",
    "unmapped.decided_by",
];

/// Where the person stands who acted, first found first.
const PERSON: &[&str] = &["unmapped.decided_by", "user.name", "actor.user.name"];

/// One row of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SearchRow {
    pub(super) log_index: u64,
    pub(super) unix_ms: u64,
    pub(super) host: Option<String>,
    pub(super) session: Option<String>,
    pub(super) person: Option<String>,
    pub(super) kind: String,
    pub(super) action: Option<String>,
    pub(super) outcome: String,
    pub(super) hold: Option<String>,
    pub(super) text: String,
}

impl SearchRow {
    pub(super) fn of(read: &ReadEntry) -> Self {
        let ReadEntry { entry, event, .. } = read;
        let text = |path: &str| event.text(path).map(str::to_owned);
        let record = entry.record.as_ref();
        Self {
            log_index: entry.index,
            unix_ms: record.map_or(0, |record| record.unix_ms),
            host: record.map(|record| record.host.to_string()),
            session: record.and_then(|record| record.session).map(|id| id.to_string()),
            person: PERSON.iter().find_map(|path| text(path)),
            kind: text("metadata.event_code").unwrap_or_else(|| "erased".into()),
            action: text("unmapped.action"),
            outcome: text("disposition").unwrap_or_default().to_lowercase(),
            hold: text("metadata.correlation_uid"),
            text: searchable(event),
        }
    }
}

fn searchable(event: &OcsfEvent) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for path in TEXT {
        if let Some(Value::String(text)) = event.get(path)
            && !text.is_empty()
            && !parts.contains(&text.as_str())
        {
            parts.push(text);
        }
    }
    let mut text = parts.join("\n");
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}
