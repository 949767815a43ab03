//! What the hold engine wants done; the driver does it, in this order.

use guard_audit::Event;
use guard_common::hold::{ActionKey, Grant};
use guard_model::{HoldId, HoldRequest, SessionId, Withdrawal};

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Write the decision into the kernel's map. If that fails: [`super::Engine::grant_failed`].
    Grant {
        /// The kernel's number of the hold.
        hold: u64,
        /// Exactly which action.
        key: Box<ActionKey>,
        /// The decision.
        grant: Grant,
    },
    /// Send SIGCONT to the process. If it is gone: [`super::Engine::gone`].
    Resume {
        /// The kernel's number of the hold whose thread proves that it is still this process.
        hold: u64,
        /// That hold's action.
        key: Box<ActionKey>,
    },
    /// Delete this hold of the kernel's, and an unconsumed grant for it. The same action may be held anew
    /// by now: that hold stays.
    Forget {
        /// The kernel's number of the hold.
        hold: u64,
        /// Exactly which action.
        key: Box<ActionKey>,
    },
    /// Have the kernel announce the hold again when its thread restarts (H9).
    Reannounce {
        /// The kernel's number of the hold.
        hold: u64,
        /// Exactly which action.
        key: Box<ActionKey>,
    },
    /// Ask the controller for a person.
    Request(Box<HoldRequest>),
    /// Tell the controller what became of a hold that it knows.
    Farewell(Farewell),
    /// Keep evidence.
    Evidence {
        /// The session that it is about.
        session: Option<SessionId>,
        /// What happened.
        event: Box<Event>,
    },
}

/// When a command's turn is. Among those of one turn the order is the engine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// What the kernel's tables are to say.
    Tables,
    /// Who goes on by it.
    Resume,
    /// What is said of it.
    Words,
}

impl Command {
    /// When its turn is.
    pub(super) fn turn(&self) -> Turn {
        match self {
            Self::Grant { .. } | Self::Forget { .. } | Self::Reannounce { .. } => Turn::Tables,
            Self::Resume { .. } => Turn::Resume,
            Self::Request(_) | Self::Farewell(_) | Self::Evidence { .. } => Turn::Words,
        }
    }
}

/// The last word on a hold that the controller knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// Which hold.
    pub hold_id: HoldId,
    /// What became of it.
    pub end: HoldEnd,
}

/// What became of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldEnd {
    /// It needs no decision any more.
    Withdrawn(Withdrawal),
    /// It was decided; `consumed`: the kernel carried the decision out.
    Finished {
        /// Whether the kernel carried the decision out.
        consumed: bool,
    },
}
