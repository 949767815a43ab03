//! How often a sign-in may fail: counters per name and per address, without a clock of their own.

use super::limits::{
    FAILURE_KEYS_MAX, FAILURE_WINDOW, FAILURES_PER_ADDRESS_MAX, FAILURES_PER_NAME_MAX,
};
use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Name(String),
    Address(IpAddr),
}

/// Failed sign-ins of late.
#[derive(Default)]
pub(crate) struct Failures {
    recent: HashMap<Key, VecDeque<Instant>>,
}

/// Too many failures: how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) Duration);

/// One attempt that has been counted as failed until it is known to have succeeded, so that
/// attempts that run at the same time cannot pass together under the limit.
#[must_use]
pub(crate) struct Attempt {
    keys: [Key; 2],
    at: Instant,
}

impl Failures {
    /// Counts an attempt, or says how long to wait.
    pub(crate) fn attempt(
        &mut self,
        name: &str,
        address: IpAddr,
        now: Instant,
    ) -> Result<Attempt, Wait> {
        let keys = [Key::Name(name.to_lowercase()), Key::Address(address)];
        for (key, max) in keys.iter().zip([FAILURES_PER_NAME_MAX, FAILURES_PER_ADDRESS_MAX]) {
            self.check(key, max, now)?;
        }
        self.make_room(&keys, now)?;
        for key in &keys {
            self.recent.entry(key.clone()).or_default().push_back(now);
        }
        Ok(Attempt { keys, at: now })
    }

    /// Takes back an attempt that succeeded. Other failures of the name stay: who guesses at it
    /// must not be helped by its owner's sign-ins.
    pub(crate) fn succeeded(&mut self, attempt: &Attempt) {
        for key in &attempt.keys {
            let Some(times) = self.recent.get_mut(key) else { continue };
            if let Some(place) = times.iter().position(|time| *time == attempt.at) {
                times.remove(place);
            }
            if times.is_empty() {
                self.recent.remove(key);
            }
        }
    }

    fn check(&mut self, key: &Key, max: usize, now: Instant) -> Result<(), Wait> {
        let Some(times) = self.recent.get_mut(key) else { return Ok(()) };
        while times.front().is_some_and(|time| now.duration_since(*time) >= FAILURE_WINDOW) {
            times.pop_front();
        }
        match times.front() {
            Some(oldest) if times.len() >= max => {
                Err(Wait(FAILURE_WINDOW.saturating_sub(now.duration_since(*oldest))))
            }
            _ => Ok(()),
        }
    }

    fn make_room(&mut self, keys: &[Key; 2], now: Instant) -> Result<(), Wait> {
        let new = keys.iter().filter(|key| !self.recent.contains_key(key)).count();
        if self.recent.len() + new <= FAILURE_KEYS_MAX {
            return Ok(());
        }
        self.recent.retain(|_, times| {
            times.back().is_some_and(|time| now.duration_since(*time) < FAILURE_WINDOW)
        });
        if self.recent.len() + new <= FAILURE_KEYS_MAX { Ok(()) } else { Err(Wait(FAILURE_WINDOW)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(last: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + last))
    }

    #[test]
    fn a_name_waits_after_its_failures_and_is_free_again_when_they_are_old() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        for n in 0..FAILURES_PER_NAME_MAX as u32 {
            assert!(failures.attempt("ann", address(n), start).is_ok());
        }
        let refused = failures.attempt("Ann", address(999), start).err();
        assert_eq!(refused, Some(Wait(FAILURE_WINDOW)));
        assert!(failures.attempt("bob", address(999), start).is_ok());
        assert!(failures.attempt("ann", address(999), start + FAILURE_WINDOW).is_ok());
    }

    #[test]
    fn an_address_waits_after_its_failures_whatever_the_names() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        for n in 0..FAILURES_PER_ADDRESS_MAX {
            assert!(failures.attempt(&format!("user{n}"), address(1), start).is_ok());
        }
        assert!(failures.attempt("another", address(1), start).is_err());
        assert!(failures.attempt("another", address(2), start).is_ok());
    }

    #[test]
    fn a_success_takes_back_its_own_attempt_only() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        for _ in 1..FAILURES_PER_NAME_MAX {
            assert!(failures.attempt("ann", address(1), start).is_ok());
        }
        let good = failures.attempt("ann", address(1), start).ok().unwrap();
        failures.succeeded(&good);
        assert!(failures.attempt("ann", address(1), start).is_ok());
        assert!(failures.attempt("ann", address(1), start).is_err());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_full_means_wait() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        for n in 0..FAILURE_KEYS_MAX as u32 / 2 {
            assert!(failures.attempt(&format!("user{n}"), address(n), start).is_ok());
        }
        assert!(failures.attempt("one more", address(1 << 20), start).is_err());
        assert!(failures.recent.len() <= FAILURE_KEYS_MAX);
        assert!(failures.attempt("one more", address(1 << 20), start + FAILURE_WINDOW).is_ok());
    }
}
