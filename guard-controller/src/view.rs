//! What the controller shows of holds, sessions, hosts and evidence.

use guard_model::{
    BootId, Coverage, HoldId, HoldRequest, HoldState, HostId, ProcessNode, SessionId, SessionInfo,
    Verdict,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One approval request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldView {
    /// Its place in the order of arrival: the cursor for paging.
    pub number: u64,
    /// Everything that the host said about it.
    pub request: HoldRequest,
    /// State.
    pub state: HoldState,
    /// How the host is called.
    pub hostname: String,
    /// When it reached the controller, ms since 1970.
    pub received_unix_ms: u64,
    /// When somebody first opened it, ms since 1970.
    pub opened_unix_ms: Option<u64>,
    /// Allow or deny, once decided.
    pub verdict: Option<Verdict>,
    /// Who decided; `guard-controller` for what it denied by itself.
    pub decided_by: Option<String>,
    /// Their words, or why it ended otherwise.
    pub reason: Option<String>,
    /// ms since 1970.
    pub decided_unix_ms: Option<u64>,
    /// From first opening to decision, ms.
    pub deliberation_ms: Option<u64>,
    /// Approved within [`HASTY_APPROVAL_MS`] of opening, or without opening it: possibly unread.
    pub hasty: bool,
    /// The host has said that it needs nothing more.
    pub finished: bool,
}

/// An approval sooner than this after opening is marked, ms (`approvals.md`, fatigue).
pub const HASTY_APPROVAL_MS: u64 = 1000;

/// Which holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HoldFilter {
    /// In which states; empty: any.
    pub states: Vec<HoldState>,
    /// Of this session.
    pub session: Option<SessionId>,
    /// Of this host.
    pub host: Option<HostId>,
    /// Whose object line, session name, principal, decider or reason contains this, ignoring ASCII
    /// case.
    pub text: Option<String>,
    /// Only with a smaller [`HoldView::number`]: the next page.
    pub before: Option<u64>,
    /// Nearest deadline first instead of newest first: however many come after them, those that have
    /// waited longest are seen.
    pub most_urgent_first: bool,
    /// At most this many, newest first; 0 and more than [`PAGE_MAX`] mean [`PAGE_MAX`].
    pub limit: usize,
}

/// Largest page of any list.
pub const PAGE_MAX: usize = 500;

impl HoldFilter {
    /// Those that wait for a person.
    #[must_use]
    pub fn open() -> Self {
        Self { states: vec![HoldState::Pending, HoldState::PartlyApproved], ..Self::default() }
    }

    /// Those that do not.
    #[must_use]
    pub fn closed() -> Self {
        use HoldState as S;
        let states = [
            S::Approved,
            S::Rejected,
            S::Expired,
            S::Cancelled,
            S::Superseded,
            S::Consumed,
            S::Lapsed,
        ];
        Self { states: states.into(), ..Self::default() }
    }
}

/// A session in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Who and what.
    pub info: SessionInfo,
    /// Where.
    pub host: HostId,
    /// How the host is called.
    pub hostname: String,
    /// In which boot.
    pub boot: BootId,
    /// Last evidence of it, ms since 1970.
    pub seen_unix_ms: u64,
    /// Its last process exited then, ms since 1970.
    pub ended_unix_ms: Option<u64>,
    /// Holds that wait for a person.
    pub pending_holds: u64,
    /// All holds that needed a person.
    pub holds: u64,
}

/// One session in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionView {
    /// As in a list.
    pub summary: SessionSummary,
    /// Its processes, parents before children.
    pub processes: Vec<ProcessView>,
    /// Its evidence, oldest first, at most [`TIMELINE_MAX`] of the newest.
    pub timeline: Vec<guard_audit::Record>,
    /// Whether there is older evidence than the timeline shows.
    pub timeline_cut: bool,
}

/// Records of one session that are shown and from which its process tree is built.
pub const TIMELINE_MAX: usize = 2000;

/// A process of a session, as far as evidence tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessView {
    /// The process.
    pub node: ProcessNode,
    /// Steps below the session's first process.
    pub depth: u32,
    /// It exited then, ms since 1970.
    pub exited_unix_ms: Option<u64>,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostView {
    /// Its id, given at enrolment.
    pub id: HostId,
    /// Its name for itself.
    pub hostname: String,
    /// ms since 1970.
    pub enrolled_unix_ms: u64,
    /// Last message, ms since 1970.
    pub seen_unix_ms: u64,
    /// Whether its guard-agent is linked now.
    pub link_up: bool,
    /// Its certificate is no longer accepted.
    pub revoked: bool,
    /// Its latest boot.
    pub boot: Option<BootId>,
    /// Version of its guard-agent.
    pub version: String,
    /// `uname -r`.
    pub kernel: String,
    /// SHA-256 of its policy, hexadecimal.
    pub policy_digest: String,
    /// What is enforced there.
    pub coverage: Vec<Coverage>,
    /// The kernel's counters at the last heartbeat.
    pub counters: BTreeMap<String, u64>,
    /// Running sessions at the last heartbeat.
    pub sessions: u64,
    /// Holds of it that wait for a person.
    pub pending_holds: u64,
}

/// A legal hold: what it matches is not erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LegalHold {
    /// Its id.
    pub id: uuid::Uuid,
    /// What it keeps.
    pub scope: guard_audit::HoldScope,
    /// Why it was set.
    pub reason: String,
    /// By whom.
    pub set_by: String,
    /// When, ms since 1970.
    pub set_unix_ms: u64,
    /// Why it was lifted; none if it is in force.
    pub lifted_reason: Option<String>,
    /// By whom.
    pub lifted_by: Option<String>,
    /// When, ms since 1970.
    pub lifted_unix_ms: Option<u64>,
}

/// What is erased by itself, and what is kept from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RetentionHealth {
    /// Class → days that it is kept; empty: nothing is ever erased by itself.
    pub days: BTreeMap<String, u32>,
    /// Payloads that rules have erased since the start.
    pub erased: u64,
    /// Legal holds in force.
    pub legal_holds: u64,
    /// How far the wall clock is ahead of what retention believes, ms: more than some minutes means
    /// that it was set, or that the controller stood still.
    pub clock_ahead_ms: u64,
    /// Why the last round failed; none if it did not.
    pub failing: Option<String>,
}

/// An entry with what proves it, for a page that verifies by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenEntry {
    /// Its proof (C2SP tlog-proof, with the leaf as extra data).
    pub proof: String,
    /// Verifier keys that ever signed, one a line.
    pub keys: String,
    /// Salt (hexadecimal) and JSON of its payload; none once erased.
    pub payload: Option<(String, String)>,
}

/// How far the log, its index and the sinks are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogHealth {
    /// Entries of the log.
    pub size: u64,
    /// Age of its checkpoint: how long nothing was logged, ms. While hosts are linked their
    /// heartbeats keep it below a minute.
    pub checkpoint_age_ms: u64,
    /// Entries of them that can be searched.
    pub indexed: u64,
    /// The controller's own records that are not in the log yet.
    pub waiting: u64,
    /// Entries that tell of lost records or events.
    pub lost: u64,
    /// What witnesses have cosigned.
    pub witnessed: crate::witness::WitnessHealth,
    /// What is erased by itself, and what is kept from it.
    pub retention: RetentionHealth,
    /// The sinks, in the order of their configuration.
    pub sinks: Vec<crate::sinks::SinkView>,
}

impl LogHealth {
    /// Entries that cannot be searched yet.
    #[must_use]
    pub fn unindexed(&self) -> u64 {
        self.size.saturating_sub(self.indexed)
    }
}

/// Something changed; what it is now is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// A hold is new or changed.
    Hold {
        /// Which.
        id: HoldId,
        /// Its state now.
        state: HoldState,
        /// Its session.
        session: SessionId,
    },
    /// A host enrolled, linked, unlinked or reported.
    Host {
        /// Which.
        id: HostId,
    },
    /// A session started, ended or has new evidence.
    Session {
        /// Which.
        id: SessionId,
    },
}

/// Which evidence, in the order (position) in which the controller stored it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvidenceFilter {
    /// Of this host.
    pub host: Option<HostId>,
    /// Of this boot.
    pub boot: Option<BootId>,
    /// Of this session.
    pub session: Option<SessionId>,
    /// Only with a greater position.
    pub after: u64,
    /// At most this many; 0 and more than [`EVIDENCE_PAGE_MAX`] mean [`EVIDENCE_PAGE_MAX`].
    pub limit: usize,
}

/// Largest page of evidence, records.
pub const EVIDENCE_PAGE_MAX: usize = 1000;

/// One stored record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredRecord {
    /// From 1, in stored order.
    pub position: u64,
    /// The record.
    pub record: guard_audit::Record,
}
