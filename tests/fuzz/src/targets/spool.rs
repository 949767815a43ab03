//! Spool frames, and the records that are in them.

use super::survives_json;
use guard_agent::spool::frame::{Frame, HEADER, append, first};
use guard_audit::{
    Record, cef, ecs,
    log::{Draft, Envelope},
    ocsf::{self, Context},
};

pub(crate) fn run(bytes: &[u8]) -> bool {
    let (mut rest, mut whole) = (bytes, 0);
    loop {
        match first(rest) {
            Frame::Whole(json, len) => {
                assert!(len == HEADER + json.len() && !json.is_empty());
                let mut again = Vec::new();
                append(json, &mut again);
                assert_eq!(again, rest[..len], "a frame is written as it was read");
                rest = &rest[len..];
                whole += 1;
            }
            Frame::End => {
                assert!(rest.is_empty());
                return whole > 0;
            }
            Frame::Torn => return false,
        }
    }
}

/// A record that a host sent: kept, logged, and told to a SIEM.
pub(crate) fn record(bytes: &[u8]) -> bool {
    let Ok(record) = serde_json::from_slice::<Record>(bytes) else { return false };
    survives_json(&record);
    let event = ocsf::event(&record, &Context::default());
    let text = serde_json::to_string(&event).unwrap();
    for line in [text, ecs::document(&event).to_string(), cef::line(&event)] {
        assert!(!line.contains(['\n', '\r']), "one event is one line: {line:?}");
    }
    if let Ok(draft) = Draft::new(record) {
        drop(draft);
    }
    let _ = Envelope::parse(bytes);
    true
}
