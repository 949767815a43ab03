//! The deliberate end of enforcement: evidence first, then denials, then the programs go.

use super::{Driver, DriverError, EventStream};
use crate::{
    clock,
    kernel::{Kernel, pidfd_open, send_kill},
    session::principal,
    socket::{
        peer::Peer,
        protocol::{REASON_MAX, Reply},
    },
};
use guard_audit::Event;
use std::time::Duration;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

/// Longest wait for held tasks to take their denial; a stopped process needs a moment to run again. What
/// has not is killed, so that nothing that was held goes on.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest wait for evidence to be durable; a slower disk is one that does not keep it.
const DURABLE_TIME_MAX: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(10);

/// Somebody's order to end enforcement.
#[derive(Debug)]
pub(super) struct StopOrder {
    event: Event,
    reason: String,
    reply: oneshot::Sender<Reply>,
}

impl<K: Kernel> Driver<K> {
    /// Takes an order from a process outside of every session.
    pub(super) fn order_stop(&mut self, peer: &Peer, reason: &str, reply: oneshot::Sender<Reply>) {
        let trimmed = reason.trim().to_owned();
        let refusal = if peer.uid != 0 {
            Some("only root may end enforcement".to_owned())
        } else if trimmed.is_empty() || trimmed.len() > REASON_MAX {
            Some(format!("--reason needs 1 to {REASON_MAX} bytes"))
        } else {
            None
        };
        if let Some(message) = refusal {
            let _ = reply.send(Reply::Error { message });
            return;
        }
        let by = principal::of_process(&self.parts.proc, peer.pid, peer.uid);
        let (uid, pid) = (peer.uid, peer.pid);
        let event = Event::EnforcementEnded { by, uid, pid, reason: trimmed.clone() };
        self.order = Some(StopOrder { event, reason: trimmed, reply });
    }

    /// Carries the order out. `Some`: enforcement has ended, for this reason. `None`: it goes on, because
    /// the evidence of its end could not be kept.
    ///
    /// # Errors
    /// [`DriverError::End`].
    pub(super) async fn end_enforcement(
        &mut self,
        events: &mut impl EventStream,
    ) -> Result<Option<String>, DriverError> {
        let Some(StopOrder { event, reason, reply }) = self.order.take() else { return Ok(None) };
        self.evidence(None, event);
        if !self.is_durable().await {
            let message = "evidence of it cannot be kept, so enforcement goes on: make room for \
                           guard-agent's spool"
                .to_owned();
            // What was written of the order may still become durable: it must not stand alone.
            let what = "enforcement was to be ended and goes on".to_owned();
            self.evidence(None, Event::Tampered { what, mended: true });
            let _ = reply.send(Reply::Error { message });
            return Ok(None);
        }
        tracing::warn!(reason, "enforcement is being ended");
        let _ = reply.send(Reply::Ending {});
        self.parts.kernel.expire_from_now().map_err(DriverError::End)?;
        self.parts.engine.deny_all(clock::boottime_ns());
        self.settle();
        self.wait_for_denials(events).await;
        let left = self.parts.kernel.end().map_err(DriverError::End)?;
        for pid in left {
            tracing::warn!(pid, "killed: it was held when enforcement ended");
            if let Err(error) = pidfd_open(pid).and_then(|pidfd| send_kill(&pidfd)) {
                tracing::error!(pid, %error, "not killed");
            }
        }
        self.drain(events);
        self.settle();
        let running: Vec<_> = self.parts.sessions.running().map(|(handle, _)| handle).collect();
        for handle in running {
            if let Some(info) = self.parts.sessions.end(handle) {
                self.ended(info.id);
            }
        }
        Ok(Some(reason))
    }

    async fn wait_for_denials(&mut self, events: &mut impl EventStream) {
        let deadline = Instant::now() + STOP_TIME_MAX;
        while self.parts.engine.tracked().next().is_some() && Instant::now() < deadline {
            sleep(PAUSE).await;
            self.drain(events);
            self.scan_tasks();
            self.settle();
            self.bury(events);
        }
    }

    /// Whether everything until now is on disk.
    async fn is_durable(&self) -> bool {
        let deadline = Instant::now() + DURABLE_TIME_MAX;
        while !self.parts.spool.is_written() {
            if self.parts.spool.is_full() || Instant::now() > deadline {
                return false;
            }
            sleep(PAUSE).await;
        }
        !self.parts.spool.is_full()
    }
}
