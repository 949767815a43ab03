//! One hold's state, and what may answer it.
//!
//! ```text
//! Adopted ─┐
//!          ├─▶ Announced ──policy──▶ Answered ──kernel──▶ (ended)
//! (new) ───┘       └──person──▶ Waiting ──decision, deadline──▶ Answered
//! ```
//! Every state also ends when the task is gone or tries something else instead.

use crate::decide::PolicyAllow;
use guard_common::hold::{ActionKey, GRANT_CACHEABLE, Grant, VERDICT_ALLOW, VERDICT_DENY};
use guard_model::{ActionDigest, HoldId, HoldRequest, SessionId, Verdict};
use guard_proto::decision::VerifiedDecision;

/// A tracked hold.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) id: HoldId,
    pub(super) session: u64,
    pub(super) session_id: SessionId,
    pub(super) key: Box<ActionKey>,
    /// The kernel's own deadline, `CLOCK_BOOTTIME` ns.
    pub(super) deadline_ns: u64,
    /// When [`super::Engine::tick`] looks at it next, `CLOCK_BOOTTIME` ns.
    pub(super) timer_ns: u64,
    /// An earlier guard-agent may have granted it: its grant can be consumed while ours is written.
    pub(super) adopted: bool,
    pub(super) state: State,
}

#[derive(Debug)]
pub(super) enum State {
    /// Found in the kernel's table at start; what it is about comes with its announcement. A
    /// decision that comes first is kept until its digest can be compared.
    Adopted { early: Option<Box<VerifiedDecision>> },
    /// Announced; the policy has not spoken yet.
    Announced { early: Option<Box<VerifiedDecision>> },
    /// Waits for a person until `until_ns`.
    Waiting { request: Box<HoldRequest>, until_ns: u64 },
    /// A grant is written (or about to be); the thread has not consumed it yet.
    Answered(Answer),
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) grant: Grant,
    /// Whether the kernel's map took it.
    pub(super) written: bool,
    /// Whether the controller knows this hold.
    pub(super) known_above: bool,
    /// By a person, or by the clock.
    pub(super) by_person: bool,
    /// How often the process was resumed again without the grant being consumed.
    pub(super) nudges: u32,
}

/// Why an action may go on. There are exactly two reasons, and each can be had only from the module
/// that checks it.
#[derive(Debug)]
pub(super) enum Permit {
    /// The policy permits it without a person.
    Policy { proof: PolicyAllow },
    /// A person allowed exactly this action.
    Person { _proof: MatchedAllow },
}

/// A verified decision of a person that allows exactly the hold and the action that it was matched
/// with.
#[derive(Debug)]
pub(super) struct MatchedAllow(());

impl MatchedAllow {
    /// Matches; `None` if the decision is another hold's, another action's, or a deny.
    pub(super) fn new(
        decision: &VerifiedDecision,
        id: HoldId,
        digest: ActionDigest,
    ) -> Option<Self> {
        let decision = decision.decision();
        (decision.hold_id == id && decision.digest == digest && decision.verdict == Verdict::Allow)
            .then_some(Self(()))
    }
}

/// The answer to a hold.
#[derive(Debug)]
pub(super) enum Ruling {
    Allow(Permit),
    Deny,
}

impl Ruling {
    pub(super) fn verdict(&self) -> u32 {
        match self {
            Self::Allow(Permit::Policy { .. } | Permit::Person { .. }) => VERDICT_ALLOW,
            Self::Deny => VERDICT_DENY,
        }
    }

    /// What a person allowed, they allowed once.
    pub(super) fn grant_flags(&self) -> u32 {
        match self {
            Self::Allow(Permit::Policy { proof }) if proof.is_cacheable() => GRANT_CACHEABLE,
            Self::Allow(Permit::Policy { .. } | Permit::Person { .. }) | Self::Deny => 0,
        }
    }
}
