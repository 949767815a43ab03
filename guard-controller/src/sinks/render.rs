//! An event as the bytes that a receiver gets.

use super::Format;
use crate::search::ReadEntry;
use guard_audit::{cef, ecs};
use serde_json::Value;

/// What stands where the controller itself is the host.
const CONTROLLER: &str = "guard-controller";

/// One event, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Its index in the log.
    pub index: u64,
    /// Its leaf hash, hexadecimal: the same at every repetition.
    pub uid: String,
    /// When it was made, ms since 1970.
    pub unix_ms: u64,
    /// OCSF `severity_id`.
    pub severity: u64,
    /// How its host is called.
    pub host: String,
    /// Guard's name of the record.
    pub code: String,
    /// The event, on one line.
    pub body: String,
    /// Whether that is JSON.
    pub is_json: bool,
}

impl Rendered {
    pub(super) fn new(read: &ReadEntry, format: Format) -> Self {
        let ReadEntry { entry, hostname, event } = read;
        let text = |path: &str| event.text(path).unwrap_or_default().to_owned();
        let host = match (hostname, &entry.record) {
            (Some(name), _) => name.clone(),
            (None, Some(_)) => CONTROLLER.to_owned(),
            (None, None) => String::new(),
        };
        Self {
            index: entry.index,
            uid: text("metadata.uid"),
            unix_ms: event.number("time").unwrap_or_default(),
            severity: event.number("severity_id").unwrap_or_default(),
            host,
            code: text("metadata.event_code"),
            is_json: format != Format::Cef,
            body: match format {
                Format::Ocsf => Value::Object(event.as_map().clone()).to_string(),
                Format::Ecs => ecs::document(event).to_string(),
                Format::Cef => cef::line(event),
            },
        }
    }

    /// The event as JSON: itself, or a string.
    #[must_use]
    pub fn json(&self) -> String {
        if self.is_json { self.body.clone() } else { Value::from(self.body.as_str()).to_string() }
    }
}
