//! Which hosts are linked now, and how to reach them.

use guard_model::HostId;
use guard_proto::v1::{FromController, SignedDecision, from_controller::Message};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// Messages that wait for a slow host. More end its link; it gets everything again when it is back.
pub(super) const OUTGOING_MAX: usize = 1024;

/// What goes to a host.
pub(super) type Outgoing = mpsc::Sender<Result<FromController, Status>>;

/// All links.
#[derive(Debug)]
pub struct Links {
    state: Mutex<State>,
    max: usize,
}

#[derive(Debug, Default)]
struct State {
    by_host: HashMap<HostId, Link>,
    last_number: u64,
}

#[derive(Debug)]
struct Link {
    number: u64,
    outgoing: Outgoing,
    /// Dropped with the link: that is how its task hears that it has ended.
    _end: oneshot::Sender<()>,
}

/// A link's own view of its place.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) number: u64,
    /// Completes when the link is to end.
    pub(super) ended: oneshot::Receiver<()>,
}

impl Links {
    /// At most `max` at one time.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { state: Mutex::default(), max }
    }

    /// Whether the host is linked now.
    #[must_use]
    pub fn is_up(&self, host: HostId) -> bool {
        self.state().by_host.contains_key(&host)
    }

    /// Takes the host's place; an older link of the same host ends. None if all places are taken.
    pub(super) fn take(&self, host: HostId, outgoing: Outgoing) -> Option<Place> {
        let mut state = self.state();
        if state.by_host.len() >= self.max && !state.by_host.contains_key(&host) {
            return None;
        }
        state.last_number += 1;
        let number = state.last_number;
        let (end, ended) = oneshot::channel();
        state.by_host.insert(host, Link { number, outgoing, _end: end });
        Some(Place { number, ended })
    }

    /// Gives the place back. False if a newer link has it.
    pub(super) fn leave(&self, host: HostId, number: u64) -> bool {
        let mut state = self.state();
        let is_ours = state.by_host.get(&host).is_some_and(|link| link.number == number);
        if is_ours {
            state.by_host.remove(&host);
        }
        is_ours
    }

    /// Sends a decision if the host is linked; if it is not, or does not keep up, it gets the
    /// decision when it links again.
    pub fn send_decision(&self, host: HostId, decision: SignedDecision) {
        let mut state = self.state();
        let Some(link) = state.by_host.get(&host) else { return };
        let message = FromController { message: Some(Message::Decision(decision)) };
        if link.outgoing.try_send(Ok(message)).is_err() {
            tracing::warn!(%host, "link ended: the host does not read what it is sent");
            state.by_host.remove(&host);
        }
    }

    /// Ends a host's link.
    pub fn end(&self, host: HostId) {
        self.state().by_host.remove(&host);
    }

    /// Ends all links.
    pub fn end_all(&self) {
        self.state().by_host.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn host(number: u128) -> HostId {
        HostId(Uuid::from_u128(number))
    }

    #[test]
    fn a_newer_link_ends_the_older_and_keeps_its_place() {
        let links = Links::new(1);
        let (outgoing, _incoming) = mpsc::channel(1);
        let mut old = links.take(host(1), outgoing.clone()).unwrap();
        assert!(old.ended.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Empty));
        let new = links.take(host(1), outgoing.clone()).unwrap();
        assert!(old.ended.try_recv().is_err_and(|e| e == oneshot::error::TryRecvError::Closed));
        assert!(!links.leave(host(1), old.number));
        assert!(links.is_up(host(1)));
        assert!(links.take(host(2), outgoing).is_none(), "all places are taken");
        assert!(links.leave(host(1), new.number));
        assert!(!links.is_up(host(1)));
    }

    #[test]
    fn a_host_that_does_not_read_loses_its_link() {
        let links = Links::new(1);
        let (outgoing, _incoming) = mpsc::channel(1);
        let _place = links.take(host(1), outgoing).unwrap();
        links.send_decision(host(1), SignedDecision::default());
        assert!(links.is_up(host(1)));
        links.send_decision(host(1), SignedDecision::default());
        assert!(!links.is_up(host(1)));
    }
}
