//! What a legal hold keeps, and whether an entry is of it.

use crate::{Event, Record, log::Envelope};
use guard_model::{HostId, SessionId};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};

/// Which entries a legal hold keeps: those that match every field that is there. Without any, all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldScope {
    /// Of this class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Of this session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Of this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostId>,
    /// Logged then or later, ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_unix_ms: Option<u64>,
    /// Logged earlier, ms since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_unix_ms: Option<u64>,
}

impl HoldScope {
    /// Whether it keeps an entry; `None` where only the record could tell (a session) and there is
    /// none that can be read. Who erases takes that as yes.
    #[must_use]
    pub fn keeps(&self, envelope: &Envelope, record: Option<&Record>) -> Option<bool> {
        let leaf = self.matches_leaf(&envelope.class, envelope.host, envelope.time);
        match (leaf, self.session) {
            (false, _) => Some(false),
            (true, None) => Some(true),
            (true, Some(session)) => record.map(|record| session_of(record) == Some(session)),
        }
    }

    /// Whether what a leaf says matches; the session is not in it.
    pub(crate) fn matches_leaf(&self, class: &str, host: HostId, logged_unix_ms: u64) -> bool {
        self.class.as_ref().is_none_or(|of| of == class)
            && self.host.is_none_or(|of| of == host)
            && self.from_unix_ms.is_none_or(|from| logged_unix_ms >= from)
            && self.to_unix_ms.is_none_or(|to| logged_unix_ms < to)
    }
}

/// The session that a record is about.
#[must_use]
pub fn session_of(record: &Record) -> Option<SessionId> {
    record.session.or(match &record.event {
        Event::SessionStarted { info } => Some(info.id),
        Event::Held { request } => Some(request.session.id),
        _ => None,
    })
}

impl Display for HoldScope {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.class.as_ref().map(|class| format!("class {class}")));
        parts.extend(self.session.map(|session| format!("session {session}")));
        parts.extend(self.host.map(|host| format!("host {host}")));
        parts.extend(self.from_unix_ms.map(|from| format!("logged from {from} ms on")));
        parts.extend(self.to_unix_ms.map(|to| format!("logged before {to} ms")));
        match parts.is_empty() {
            true => f.write_str("everything"),
            false => f.write_str(&parts.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_model::BootId;
    use uuid::Uuid;

    fn envelope(class: &str, host: u128, time: u64) -> Envelope {
        Envelope {
            v: 1,
            time,
            host: HostId(Uuid::from_u128(host)),
            boot: BootId(Uuid::from_u128(1)),
            seq: 1,
            prev: [0; 32],
            class: class.into(),
            action: None,
            decision: None,
            policy: None,
            payload: [0; 32],
        }
    }

    fn record(session: Option<u128>) -> Record {
        Record {
            host: HostId(Uuid::from_u128(1)),
            boot: BootId(Uuid::from_u128(1)),
            sequence: 1,
            boottime_ns: 0,
            unix_ms: 0,
            session: session.map(|n| SessionId(Uuid::from_u128(n))),
            event: Event::SessionEnded {},
        }
    }

    #[test]
    fn a_hold_keeps_what_matches_every_field_and_nothing_else() {
        let scope = HoldScope {
            class: Some("held".into()),
            session: Some(SessionId(Uuid::from_u128(5))),
            host: Some(HostId(Uuid::from_u128(1))),
            from_unix_ms: Some(100),
            to_unix_ms: Some(200),
        };
        let yes = record(Some(5));
        assert_eq!(scope.keeps(&envelope("held", 1, 100), Some(&yes)), Some(true));
        assert_eq!(scope.keeps(&envelope("held", 1, 199), Some(&yes)), Some(true));
        for other in [
            envelope("lost", 1, 100),
            envelope("held", 2, 100),
            envelope("held", 1, 99),
            envelope("held", 1, 200),
        ] {
            assert_eq!(scope.keeps(&other, Some(&yes)), Some(false), "{other:?}");
            assert_eq!(scope.keeps(&other, None), Some(false), "{other:?}");
        }
        for other in [record(None), record(Some(6))] {
            assert_eq!(scope.keeps(&envelope("held", 1, 100), Some(&other)), Some(false));
        }
        assert_eq!(HoldScope::default().keeps(&envelope("x", 9, 0), None), Some(true));
    }

    #[test]
    fn without_a_readable_record_a_hold_of_a_session_cannot_be_ruled_out() {
        let session = Some(SessionId(Uuid::from_u128(5)));
        let scope = HoldScope { session, ..HoldScope::default() };
        assert_eq!(scope.keeps(&envelope("held", 1, 100), None), None);
    }
}
