//! The approval state machine: no I/O, no clock, no SQL.
//!
//! ```text
//! Pending ──Decide──▶ Approved ──Finished──▶ Consumed | Lapsed
//!    │  ▲ └─Decide──▶ Rejected
//!    │  └─Requested── Cancelled (only if the host merely had not listed it)
//!    └──Tick | Withdrawn | Unlisted──▶ Expired | Cancelled | Superseded
//! ```
//!
//! Each state is a type whose methods consume it and return the next, so that what is not drawn
//! above cannot be written. A [`Decision`] comes into being in one place only, [`Pending::decide`],
//! which takes a [`Permit`]: the proof that policy lets this person decide this hold.
//!
//! The driver (`service`) loads an [`Approval`], applies one [`Event`], and stores the result with
//! compare-and-set before anybody hears of it.

mod permit;
#[cfg(test)]
mod tests;

pub use permit::{NotPermitted, Permit};

use guard_model::{ActionDigest, BootId, Decision, HoldId, HoldState, HostId, Verdict, Withdrawal};

/// Who decides where no person did: the user name in decisions and evidence. No user can have it.
pub const CONTROLLER: &str = "guard-controller";

/// What stays the same in every state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Which hold.
    pub hold_id: HoldId,
    /// On which host.
    pub host: HostId,
    /// In which boot.
    pub boot: BootId,
    /// Of exactly which action.
    pub digest: ActionDigest,
    /// A decision at or after this is refused, ms since 1970 by the controller's clock.
    pub deadline_unix_ms: u64,
}

/// Waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    facts: Facts,
}

/// Allowed; the action has not been seen to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    facts: Facts,
    decision: Decision,
    finished: bool,
}

/// Denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    facts: Facts,
    decision: Decision,
    finished: bool,
}

/// Needs no decision any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    facts: Facts,
    how: HoldState,
    decision: Option<Decision>,
    finished: bool,
}

/// An approval request in some state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Approval {
    /// Waits.
    Pending(Pending),
    /// Allowed.
    Approved(Approved),
    /// Denied.
    Rejected(Rejected),
    /// Over.
    Ended(Ended),
}

/// What can happen to a request. Times are ms since 1970 by the controller's clock.
#[derive(Debug)]
pub enum Event {
    /// The host sent it again.
    Requested {
        /// Now.
        now_unix_ms: u64,
    },
    /// A person decided.
    Decide {
        /// Who may, and what they chose.
        permit: Permit,
        /// Their words.
        reason: String,
        /// Now.
        now_unix_ms: u64,
    },
    /// Time passed.
    Tick {
        /// Now.
        now_unix_ms: u64,
    },
    /// The host needs no decision any more.
    Withdrawn(Withdrawal),
    /// The host linked anew and did not list it.
    Unlisted,
    /// The host carried a decision out (`consumed`), or its grant lapsed.
    Finished {
        /// The action went on.
        consumed: bool,
    },
}

/// Why an event was refused. What is stored stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be decided any more.
    #[error("it is already {}", .0.name())]
    Already(HoldState),
    /// The deadline has passed.
    #[error("its deadline has passed")]
    TooLate,
    /// The host reports the end of a decision that was never made.
    #[error("it was not decided")]
    NotDecided,
}

/// What an event did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The state now.
    pub approval: Approval,
    /// The decision that the host must hear now, perhaps again.
    pub send: Option<Decision>,
    /// Why, where the event gives a reason that no person wrote.
    pub note: &'static str,
}

impl Pending {
    /// A request that has just arrived.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        Self { facts }
    }

    /// A person decides.
    ///
    /// # Errors
    /// [`Refusal::TooLate`] at or after the deadline.
    pub fn decide(
        self,
        permit: Permit,
        reason: String,
        now_unix_ms: u64,
    ) -> Result<Approval, Refusal> {
        if now_unix_ms >= self.facts.deadline_unix_ms {
            return Err(Refusal::TooLate);
        }
        let (verdict, by) = permit.for_hold(self.facts.hold_id);
        Ok(self.decided(verdict, by, reason, now_unix_ms))
    }

    /// The controller itself denies (a cap is reached). It has no way to allow.
    #[must_use]
    pub fn deny_by_controller(self, reason: String, now_unix_ms: u64) -> Approval {
        self.decided(Verdict::Deny, CONTROLLER.into(), reason, now_unix_ms)
    }

    fn decided(self, verdict: Verdict, by: String, reason: String, now_unix_ms: u64) -> Approval {
        let Self { facts } = self;
        let decision = Decision {
            host: facts.host,
            boot: facts.boot,
            hold_id: facts.hold_id,
            digest: facts.digest,
            verdict,
            decided_by: by,
            reason,
            decided_at_unix_ms: now_unix_ms,
        };
        match verdict {
            Verdict::Allow => Approval::Approved(Approved { facts, decision, finished: false }),
            Verdict::Deny => Approval::Rejected(Rejected { facts, decision, finished: false }),
        }
    }

    fn end(self, how: HoldState, finished: bool) -> Approval {
        Approval::Ended(Ended { facts: self.facts, how, decision: None, finished })
    }

    fn apply(self, event: Event) -> Result<Applied, Refusal> {
        let deadline = self.facts.deadline_unix_ms;
        match event {
            Event::Decide { permit, reason, now_unix_ms } => {
                self.decide(permit, reason, now_unix_ms).map(Applied::decided)
            }
            Event::Tick { now_unix_ms } if now_unix_ms >= deadline => {
                Ok(Applied::to(self.end(HoldState::Expired, false), "nobody decided in time"))
            }
            Event::Tick { .. } | Event::Requested { .. } => {
                Ok(Applied::to(Approval::Pending(self), ""))
            }
            Event::Withdrawn(why) => {
                let (how, note) = match why {
                    Withdrawal::Abandoned => (HoldState::Cancelled, "the task died"),
                    Withdrawal::Expired => (HoldState::Expired, "the host's deadline passed"),
                    Withdrawal::Superseded => (HoldState::Superseded, "replaced by a new hold"),
                };
                Ok(Applied::to(self.end(how, true), note))
            }
            Event::Unlisted => Ok(Applied::to(
                self.end(HoldState::Cancelled, false),
                "the host linked anew and does not hold it any more",
            )),
            Event::Finished { .. } => Err(Refusal::NotDecided),
        }
    }
}

impl Approved {
    fn apply(mut self, event: Event) -> Result<Applied, Refusal> {
        match event {
            Event::Decide { .. } => Err(Refusal::Already(HoldState::Approved)),
            Event::Requested { .. } => {
                self.finished = false;
                Ok(Applied::again(self.decision.clone(), Approval::Approved(self)))
            }
            Event::Tick { .. } => Ok(Applied::to(Approval::Approved(self), "")),
            // Whether the action went on is not known: evidence that follows settles it.
            Event::Unlisted => {
                self.finished = true;
                Ok(Applied::to(Approval::Approved(self), ""))
            }
            Event::Finished { consumed: true } => {
                Ok(Applied::to(self.end(HoldState::Consumed), "the action went on"))
            }
            Event::Finished { consumed: false } => {
                Ok(Applied::to(self.end(HoldState::Lapsed), "the action did not go on in time"))
            }
            Event::Withdrawn(_) => {
                Ok(Applied::to(self.end(HoldState::Lapsed), "the host withdrew it"))
            }
        }
    }

    fn end(self, how: HoldState) -> Approval {
        let Self { facts, decision, .. } = self;
        Approval::Ended(Ended { facts, how, decision: Some(decision), finished: true })
    }
}

impl Rejected {
    fn apply(mut self, event: Event) -> Result<Applied, Refusal> {
        match event {
            Event::Decide { .. } => Err(Refusal::Already(HoldState::Rejected)),
            Event::Requested { .. } => {
                self.finished = false;
                Ok(Applied::again(self.decision.clone(), Approval::Rejected(self)))
            }
            Event::Tick { .. } => Ok(Applied::to(Approval::Rejected(self), "")),
            Event::Unlisted | Event::Finished { .. } | Event::Withdrawn(_) => {
                self.finished = true;
                Ok(Applied::to(Approval::Rejected(self), ""))
            }
        }
    }
}

impl Ended {
    fn apply(self, event: Event) -> Result<Applied, Refusal> {
        match event {
            Event::Decide { .. } => Err(Refusal::Already(self.how)),
            // A guard-agent that linked before it had adopted the kernel's holds: it is held after
            // all. A person still has to decide, so reopening cannot let anything through.
            Event::Requested { now_unix_ms }
                if self.how == HoldState::Cancelled
                    && !self.finished
                    && now_unix_ms < self.facts.deadline_unix_ms =>
            {
                let pending = Approval::Pending(Pending { facts: self.facts });
                Ok(Applied::to(pending, "the host holds it after all"))
            }
            _ => Ok(Applied::to(Approval::Ended(self), "")),
        }
    }
}

impl Applied {
    fn to(approval: Approval, note: &'static str) -> Self {
        Self { approval, send: None, note }
    }

    fn decided(approval: Approval) -> Self {
        Self { send: approval.decision().cloned(), approval, note: "" }
    }

    fn again(decision: Decision, approval: Approval) -> Self {
        Self { send: Some(decision), approval, note: "" }
    }
}

impl Approval {
    /// Applies one event.
    ///
    /// # Errors
    /// Why the event was refused: what is stored stays as it is.
    pub fn apply(self, event: Event) -> Result<Applied, Refusal> {
        match self {
            Self::Pending(pending) => pending.apply(event),
            Self::Approved(approved) => approved.apply(event),
            Self::Rejected(rejected) => rejected.apply(event),
            Self::Ended(ended) => ended.apply(event),
        }
    }

    /// Puts a stored request back together.
    ///
    /// # Errors
    /// What is wrong with the combination: it was not stored by this engine.
    pub fn restore(
        facts: Facts,
        state: HoldState,
        decision: Option<Decision>,
        finished: bool,
    ) -> Result<Self, &'static str> {
        use HoldState as S;
        match (state, decision) {
            (S::Pending, None) => Ok(Self::Pending(Pending { facts })),
            (S::Approved, Some(decision)) if decision.verdict == Verdict::Allow => {
                Ok(Self::Approved(Approved { facts, decision, finished }))
            }
            (S::Rejected, Some(decision)) if decision.verdict == Verdict::Deny => {
                Ok(Self::Rejected(Rejected { facts, decision, finished }))
            }
            (how @ (S::Consumed | S::Lapsed), Some(decision))
                if decision.verdict == Verdict::Allow =>
            {
                Ok(Self::Ended(Ended { facts, how, decision: Some(decision), finished }))
            }
            (how @ (S::Expired | S::Cancelled | S::Superseded), None) => {
                Ok(Self::Ended(Ended { facts, how, decision: None, finished }))
            }
            _ => Err("state and decision do not belong together"),
        }
    }

    /// Its state's name.
    #[must_use]
    pub fn state(&self) -> HoldState {
        match self {
            Self::Pending(_) => HoldState::Pending,
            Self::Approved(_) => HoldState::Approved,
            Self::Rejected(_) => HoldState::Rejected,
            Self::Ended(ended) => ended.how,
        }
    }

    /// What stays the same.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        match self {
            Self::Pending(Pending { facts })
            | Self::Approved(Approved { facts, .. })
            | Self::Rejected(Rejected { facts, .. })
            | Self::Ended(Ended { facts, .. }) => facts,
        }
    }

    /// The decision, if there is one.
    #[must_use]
    pub fn decision(&self) -> Option<&Decision> {
        match self {
            Self::Pending(_) => None,
            Self::Approved(Approved { decision, .. })
            | Self::Rejected(Rejected { decision, .. }) => Some(decision),
            Self::Ended(Ended { decision, .. }) => decision.as_ref(),
        }
    }

    /// Whether the host needs to hear nothing more.
    #[must_use]
    pub fn finished(&self) -> bool {
        match self {
            Self::Pending(_) => false,
            Self::Approved(Approved { finished, .. })
            | Self::Rejected(Rejected { finished, .. })
            | Self::Ended(Ended { finished, .. }) => *finished,
        }
    }
}
