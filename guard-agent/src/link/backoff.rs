//! How long to wait before the controller is tried again.

use rand::Rng as _;
use std::time::Duration;

/// First wait: a controller that restarts is back soon.
const FIRST: Duration = Duration::from_millis(200);
/// Longest wait: a decision that a person made meanwhile waits no longer than this.
const LONGEST: Duration = Duration::from_secs(15);

/// Doubles, with jitter, so that a fleet does not come back in one instant.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next wait: between half and all of a doubling time.
    pub fn next_wait(&mut self) -> Duration {
        let full = FIRST.saturating_mul(1 << self.tries.min(16)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        full.mul_f64(rand::thread_rng().gen_range(0.5..1.0))
    }

    /// The controller was there.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_start_again_after_success() {
        let mut backoff = Backoff::default();
        assert!(backoff.next_wait() <= FIRST);
        for _ in 0..100 {
            assert!(backoff.next_wait() <= LONGEST);
        }
        assert!(backoff.next_wait() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next_wait() <= FIRST);
    }
}
