//! Indices of the kernel's counters (array map `COUNTERS`): what happened, and what could not be said.
//!
//! A record that finds no room in the ring buffer is lost, but never uncounted: guard-agent reads the
//! counters with every heartbeat and turns a difference into evidence (H7).

/// Next hold id minus one.
pub const HOLD_IDS: u32 = 0;
/// Next record sequence number minus one; a gap on the reader's side is a lost record.
pub const EVENT_SEQUENCE: u32 = 1;
/// Records that found no room in the ring buffer.
pub const EVENTS_LOST: u32 = 2;
/// Actions denied because their hold could not be announced.
pub const DENIED_RING_FULL: u32 = 3;
/// Actions denied because the hold table is full.
pub const DENIED_HOLDS_FULL: u32 = 4;
/// Actions denied because the task could not be stopped.
pub const DENIED_NO_STOP: u32 = 5;
/// Actions denied because the caller cannot be restarted (io_uring, kernel worker, no system call) (H5).
pub const DENIED_NOT_RESTARTABLE: u32 = 6;
/// Actions denied because the object could not be read.
pub const DENIED_UNREADABLE: u32 = 7;
/// Grants consumed with allow.
pub const CONSUMED_ALLOW: u32 = 8;
/// Grants consumed with deny.
pub const CONSUMED_DENY: u32 = 9;
/// Holds denied at their deadline.
pub const EXPIRED: u32 = 10;
/// Restarts without a decision (a stray SIGCONT): stopped again (H8).
pub const STRAY_CONTINUES: u32 = 11;
/// Next handle of a session that an exec selector starts, minus one.
pub const SESSION_HANDLES: u32 = 13;
/// Forks denied because the child could not be labelled.
pub const DENIED_LABEL: u32 = 12;
/// Actions that the decision cache allowed: each was decided once, in evidence, and then again as often
/// as this says.
pub const CACHE_HITS: u32 = 14;
/// Actions that cannot be held and were denied at once.
pub const BLOCKED: u32 = 15;
/// Processes killed because their arguments were changed between decision and execution (H12).
pub const KILLED_ARGV: u32 = 17;

/// Next state of a file that a session executes, minus one.
pub const FILE_STATES: u32 = 18;

/// Messages to internet addresses that are in no sum of theirs, for want of room.
pub const SENT_UNCOUNTED: u32 = 19;

/// Entries of the counter map.
pub const COUNTERS: u32 = 24;

/// Name of a counter, as it stands in evidence and in `guard status --json`.
#[must_use]
pub const fn name(index: u32) -> &'static str {
    match index {
        HOLD_IDS => "hold_ids",
        EVENT_SEQUENCE => "event_sequence",
        EVENTS_LOST => "events_lost",
        DENIED_RING_FULL => "denied_ring_full",
        DENIED_HOLDS_FULL => "denied_holds_full",
        DENIED_NO_STOP => "denied_no_stop",
        DENIED_NOT_RESTARTABLE => "denied_not_restartable",
        DENIED_UNREADABLE => "denied_unreadable",
        CONSUMED_ALLOW => "consumed_allow",
        CONSUMED_DENY => "consumed_deny",
        EXPIRED => "expired",
        STRAY_CONTINUES => "stray_continues",
        DENIED_LABEL => "denied_label",
        SESSION_HANDLES => "session_handles",
        CACHE_HITS => "cache_hits",
        BLOCKED => "blocked",
        KILLED_ARGV => "killed_argv",
        FILE_STATES => "file_states",
        SENT_UNCOUNTED => "sent_uncounted",
        _ => "reserved",
    }
}
