//! A wall clock that is believed only as far as time can have passed.
//!
//! Erasing is the one thing that a wrong clock cannot take back: one that jumps a year ahead would
//! make everything a year older at once. So retention goes by a time of its own, which never runs
//! ahead of the wall clock, and no faster than [`SPEED`] times the machine's own steady clock. A
//! time that was missed (the controller stood still) is caught up at that speed.

/// How much faster than steady time the believed time may run: catches up what was missed, and
/// still gives whoever watches as long to see a jump as half of what it skips.
const SPEED: u64 = 2;

/// The time that retention goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    believed_unix_ms: u64,
    steady_ms: u64,
}

impl Clock {
    /// Starts at a time that is known to have passed (kept from an earlier run, or the log time of
    /// an earlier entry), at `steady_ms` of the steady clock.
    #[must_use]
    pub fn new(passed_unix_ms: u64, steady_ms: u64) -> Self {
        Self { believed_unix_ms: passed_unix_ms, steady_ms }
    }

    /// The time to go by now, ms since 1970.
    pub fn now(&mut self, wall_unix_ms: u64, steady_ms: u64) -> u64 {
        let passed = steady_ms.saturating_sub(self.steady_ms).saturating_mul(SPEED);
        self.steady_ms = self.steady_ms.max(steady_ms);
        self.believed_unix_ms = self.believed_unix_ms.saturating_add(passed).min(wall_unix_ms);
        self.believed_unix_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_clock_that_jumps_ahead_is_not_believed_and_one_that_runs_is() {
        let mut clock = Clock::new(1_000_000, 0);
        assert_eq!(clock.now(1_000_500, 500), 1_000_500);
        let year = 365 * 24 * 3600 * 1000;
        assert_eq!(clock.now(1_000_600 + year, 600), 1_000_700);
        // Set back to where it was: nothing is left of the jump.
        assert_eq!(clock.now(1_000_700, 700), 1_000_700);
    }

    #[test]
    fn what_was_missed_is_caught_up_and_the_wall_clock_never_passed() {
        let mut clock = Clock::new(0, 0);
        assert_eq!(clock.now(10_000, 1_000), 2_000);
        assert_eq!(clock.now(18_000, 9_000), 18_000);
        assert_eq!(clock.now(18_001, 9_001), 18_001);
    }

    proptest! {
        #[test]
        fn it_is_never_ahead_of_the_wall_clock_nor_faster_than_twice_the_steady_one(
            start in 0..1_000_000_u64,
            steps in prop::collection::vec((0..10_000_000_u64, 0..10_000_u64), 1..50),
        ) {
            let mut clock = Clock::new(start, 0);
            let mut steady = 0;
            for (wall, passed) in steps {
                steady += passed;
                let now = clock.now(wall, steady);
                prop_assert!(now <= wall);
                prop_assert!(now <= start + SPEED * steady);
            }
        }
    }
}
