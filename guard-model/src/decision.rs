//! Allow or deny, by whom, on which terms.

use crate::{ActionDigest, BootId, HoldId, HostId};
use serde::{Deserialize, Serialize};

/// Allow or deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The action goes on.
    Allow,
    /// The action fails with `EPERM`.
    Deny,
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Tables in the kernel.
    Kernel,
    /// guard-agent, by Cedar on the full context.
    Agent,
    /// A person.
    Person,
}

/// On which terms a held action may be decided; from the annotations of the statements that held it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionTerms {
    /// Groups whose members may approve (`@hold("group")`); all must agree if there are several.
    pub approver_groups: Vec<String>,
    /// Approvals needed (`@quorum("2")`), at least 1.
    pub quorum: u32,
    /// How long the hold waits, ms (`@ttl("10m")`).
    pub ttl_ms: u64,
    /// `once`: the only scope yet (`@scope("once")`).
    pub scope: String,
    /// Step-up that an approver must pass (`@stepup("webauthn")`); none is implemented yet, so a policy that
    /// asks for one is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stepup: Option<String>,
}

/// A person's decision as the controller signs it: bound to host, boot, hold and action digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// For which host.
    pub host: HostId,
    /// For which boot.
    pub boot: BootId,
    /// For which hold.
    pub hold_id: HoldId,
    /// For exactly which action.
    pub digest: ActionDigest,
    /// Allow or deny.
    pub verdict: Verdict,
    /// User name(s) of who decided.
    pub decided_by: String,
    /// Their words.
    pub reason: String,
    /// Wall clock, ms since 1970.
    pub decided_at_unix_ms: u64,
}
