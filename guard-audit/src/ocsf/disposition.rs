//! What became of an action, in the words of OCSF's `security_control` profile.

use guard_model::{Tier, Verdict, Withdrawal};

/// `action_id`, `disposition_id` and `status_id` with their captions, and a severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disposition {
    pub(super) action: (u8, &'static str),
    pub(super) disposition: (u8, &'static str),
    pub(super) status: (u8, &'static str),
    pub(super) severity: Severity,
}

/// OCSF's `severity_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Informational,
    Low,
    Medium,
    High,
}

impl Severity {
    pub(super) const fn id(self) -> u8 {
        match self {
            Self::Informational => 1,
            Self::Low => 2,
            Self::Medium => 3,
            Self::High => 4,
        }
    }

    pub(super) const fn caption(self) -> &'static str {
        match self {
            Self::Informational => "Informational",
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
        }
    }
}

const SUCCESS: (u8, &str) = (1, "Success");
const FAILURE: (u8, &str) = (2, "Failure");
const ALLOWED: (u8, &str) = (1, "Allowed");
const DENIED: (u8, &str) = (2, "Denied");

const fn new(
    action: (u8, &'static str),
    disposition: (u8, &'static str),
    status: (u8, &'static str),
    severity: Severity,
) -> Disposition {
    Disposition { action, disposition, status, severity }
}

impl Disposition {
    /// It went on by policy.
    pub const ALLOWED: Self = new(ALLOWED, (1, "Allowed"), SUCCESS, Severity::Informational);
    /// It failed by policy.
    pub const BLOCKED: Self = new(DENIED, (2, "Blocked"), FAILURE, Severity::Medium);
    /// It was seen, and nobody was asked.
    pub const OBSERVED: Self =
        new((3, "Observed"), (17, "Logged"), SUCCESS, Severity::Informational);
    /// It waits for a person.
    pub const HELD: Self = new((99, "Held"), (14, "Delayed"), (99, "Pending"), Severity::Low);
    /// A person let it go on.
    pub const APPROVED: Self = new(ALLOWED, (8, "Approved"), SUCCESS, Severity::Low);
    /// A person refused it.
    pub const REJECTED: Self = new(DENIED, (25, "Rejected"), FAILURE, Severity::Medium);
    /// Nobody decided: expired, no quorum, controller away.
    pub const UNAUTHORIZED: Self = new(DENIED, (26, "Unauthorized"), FAILURE, Severity::Medium);
    /// It failed because it could not be held or read.
    pub const ERROR: Self = new(DENIED, (27, "Error"), FAILURE, Severity::Medium);
    /// It needs no decision any more.
    pub const WITHDRAWN: Self =
        new((99, "Withdrawn"), (16, "No Action"), (99, "Withdrawn"), Severity::Informational);

    /// Decided by `tier`.
    #[must_use]
    pub const fn of_tier(verdict: Verdict, tier: Tier) -> Self {
        match (tier, verdict) {
            (Tier::Kernel | Tier::Agent, Verdict::Allow) => Self::ALLOWED,
            (Tier::Kernel | Tier::Agent, Verdict::Deny) => Self::BLOCKED,
            (Tier::Person, verdict) => Self::of_person(verdict),
        }
    }

    /// Decided by a person.
    #[must_use]
    pub const fn of_person(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::APPROVED,
            Verdict::Deny => Self::REJECTED,
        }
    }

    /// Withdrawn before or instead of a decision.
    #[must_use]
    pub const fn of_withdrawal(why: Withdrawal) -> Self {
        match why {
            Withdrawal::Expired => Self::UNAUTHORIZED,
            Withdrawal::Abandoned | Withdrawal::Superseded => Self::WITHDRAWN,
        }
    }
}
