//! A hold as guard-agent sends it to the controller and as an approver sees it.

use crate::{
    Action, ActionDigest, BootId, DecisionTerms, HoldId, HostId, ProcessContext, SessionInfo,
};
use serde::{Deserialize, Serialize};

/// A policy statement that determined a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatement {
    /// Its `@id`, or `policyN` by position.
    pub id: String,
    /// File that it stands in.
    pub file: String,
    /// First line of the statement, from 1.
    pub line: u32,
    /// Its text.
    pub text: String,
    /// Its `@reason`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Everything that an approver is shown about one held action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRequest {
    /// Its id, derived from host, boot and the kernel's hold number.
    pub hold_id: HoldId,
    /// Where.
    pub host: HostId,
    /// In which boot.
    pub boot: BootId,
    /// Whose session.
    pub session: SessionInfo,
    /// Which task.
    pub process: ProcessContext,
    /// What.
    pub action: Action,
    /// What a decision is bound to.
    pub digest: ActionDigest,
    /// Why: the statements that held it.
    pub statements: Vec<PolicyStatement>,
    /// On which terms it may be decided.
    pub terms: DecisionTerms,
    /// What the session did just before, newest last, one line each, escaped.
    #[serde(default)]
    pub recent: Vec<String>,
    /// Wall clock of the hold, ms since 1970.
    pub held_at_unix_ms: u64,
    /// Wall clock of its deadline, ms since 1970. The kernel's own deadline is on boot time.
    pub deadline_unix_ms: u64,
}

/// Why a hold needs no decision any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withdrawal {
    /// The task died.
    Abandoned,
    /// Its deadline passed; the action was denied.
    Expired,
    /// The session tried something else in its place; that is a new hold.
    Superseded,
}

/// State of an approval request, as in `approvals.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// Waits.
    Pending,
    /// Some of a quorum have approved.
    PartlyApproved,
    /// Approved; the host has not said yet that the action went on.
    Approved,
    /// Denied by a person.
    Rejected,
    /// Nobody decided in time.
    Expired,
    /// The task died first.
    Cancelled,
    /// The session tried something else in its place.
    Superseded,
    /// Approved, and the action went on.
    Consumed,
    /// Approved, but the action did not go on in time.
    Lapsed,
}

impl HoldState {
    /// Its name in the API, in SQL and in evidence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::PartlyApproved => "partly_approved",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::Consumed => "consumed",
            Self::Lapsed => "lapsed",
        }
    }

    /// Whether a person may still decide.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::PartlyApproved)
    }
}
