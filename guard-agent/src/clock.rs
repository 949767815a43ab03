//! The two clocks: boot time, which deadlines are on, and the wall clock, which is only a label.

use nix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// `CLOCK_BOOTTIME`, ns: the clock of the kernel's hold records. It counts through suspend and
/// never jumps.
#[must_use]
pub fn boottime_ns() -> u64 {
    // The call fails only for a clock that the kernel lacks; 6.1 and later have this one. Should it
    // fail, "the end of time" makes every deadline pass: deny.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(u64::MAX, |time| {
        let (secs, nanos) = (time.tv_sec().cast_unsigned(), time.tv_nsec().cast_unsigned());
        secs.saturating_mul(1_000_000_000).saturating_add(nanos)
    })
}

/// Wall clock, ms since 1970; 0 if it stands before that.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
