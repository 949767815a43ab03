//! What sessions sent to internet addresses, minute by minute: the kernel's sums become evidence.

use super::Driver;
use crate::{clock, kernel::Kernel};
use guard_audit::Event;
use guard_common::sent::{SENT_WINDOW_NS, SentKey};
use guard_model::SessionId;

/// How long a minute must be over: a program that looked at the clock just before adds just after.
const GRACE_NS: u64 = 1_000_000_000;

impl<K: Kernel> Driver<K> {
    /// Says what was sent in minutes that are over, and by a session that has ended.
    pub(super) fn tell_sent(&mut self, ended: Option<SessionId>) {
        let now = SentKey::window_of(clock::boottime_ns().saturating_sub(GRACE_NS));
        let sessions = &self.parts.sessions;
        let is_final = |key: &SentKey| {
            key.window < now || ended.is_some_and(|ended| ended == sessions.id(key.session))
        };
        let sent = match self.parts.kernel.take_sent(&is_final) {
            Ok(sent) => sent,
            Err(error) => return tracing::error!("{:#}", anyhow::Error::new(error)),
        };
        for sent in sent {
            let session = self.parts.sessions.id(sent.key.session);
            let event = Event::Sent {
                endpoint: sent.endpoint,
                socket_type: sent.key.socket_type,
                protocol: sent.key.protocol,
                from_boottime_ns: sent.key.window.saturating_mul(SENT_WINDOW_NS),
                messages: sent.sums.messages,
                unasked_max: sent.sums.unasked_max,
                bytes: sent.sums.bytes,
                largest: sent.sums.largest,
            };
            self.evidence(Some(session), event);
        }
    }
}
