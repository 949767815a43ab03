//! The engine's limits.

use guard_common::hold::HOLDS_MAX;

const SECOND_NS: u64 = 1_000_000_000;

/// How much the engine keeps.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most holds tracked at one time. The kernel has no more either; beyond it: deny.
    pub holds: usize,
    /// Most holds of one session that wait for a person: a session must not be able to bury what
    /// matters under prompts. Beyond it: deny, with evidence.
    pub waiting_per_session: u32,
    /// Most ended holds remembered for the controller, which may ask for them again after a
    /// reconnect.
    pub farewells: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { holds: HOLDS_MAX as usize, waiting_per_session: 256, farewells: 4096 }
    }
}

/// How long past the hold's own deadline a grant stays good, ns.
///
/// A held thread stops its whole process, so a decided thread may not run until its siblings are
/// decided too, up to their deadlines; those were placed shortly after its own. A grant is worth
/// nothing but to the one thread, for the one action and the one hold, so the long validity
/// releases nothing else; past it the kernel denies and the engine forgets the hold, so that a
/// later restart is a new one.
pub const GRANT_SLACK_NS: u64 = 30 * SECOND_NS;

/// First wait before a process that has not consumed its grant is resumed again, ns. A sibling's
/// stop can win the race against the granted thread's restart; the wait doubles every time.
pub const NUDGE_FIRST_NS: u64 = SECOND_NS;

/// Most such resumes for one hold: somebody else may want the process stopped.
pub const NUDGES_MAX: u32 = 6;
