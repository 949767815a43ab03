//! One evidence record, and everything that can be one.

use crate::retention::HoldScope;
use guard_model::{
    Action, ActionDigest, BootId, Coverage, Endpoint, HoldId, HoldRequest, HostId, PolicyStatement,
    ProcessContext, RawText, SessionId, SessionInfo, Tier, Verdict, Withdrawal,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// One record. `(host, boot, sequence)` is its identity: strictly increasing from 1 without gaps, so
/// that a missing one is visible.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Where: the host that observed it, or the controller's own id for what only it can know.
    pub host: HostId,
    /// In which boot (of the controller: in which run of the process).
    pub boot: BootId,
    /// From 1, without gaps.
    pub sequence: u64,
    /// `CLOCK_BOOTTIME`, ns: the order that counts.
    pub boottime_ns: u64,
    /// Wall clock, ms since 1970: a label.
    pub unix_ms: u64,
    /// The session that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Texts of a policy that are longer as JSON, bytes, stay out of its record: the digest says which it
/// was. Leaves room in the largest payload for all else.
pub const POLICY_JSON_BYTES_MAX: usize = 256 << 10;

impl Event {
    /// A policy took effect: its digest, and its files with their texts.
    pub fn policy_loaded<'a>(
        digest: &str,
        sources: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let (files, mut texts): (Vec<String>, Vec<String>) =
            sources.map(|(file, text)| (file.to_owned(), text.to_owned())).unzip();
        if serde_json::to_vec(&texts).is_ok_and(|json| json.len() > POLICY_JSON_BYTES_MAX) {
            texts = Vec::new();
        }
        Self::PolicyLoaded { digest: digest.to_owned(), files, texts }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// guard-agent or the controller started.
    Started {
        /// `guard-agent` or `guard-controller`.
        component: String,
        /// Version.
        version: String,
        /// `uname -r`.
        kernel: String,
        /// What is enforced here.
        coverage: Vec<Coverage>,
    },
    /// It stopped in an orderly way.
    Stopped {
        /// `guard-agent` or `guard-controller`.
        component: String,
        /// Why.
        reason: String,
    },
    /// Somebody ended enforcement deliberately; from here on nothing is held on this host.
    EnforcementEnded {
        /// Whose doing: the person who logged in, or the account.
        by: String,
        /// User id of the process that asked.
        uid: u32,
        /// That process.
        pid: u32,
        /// Their words.
        reason: String,
    },
    /// Something of Guard in the kernel was not as guard-agent had left it.
    Tampered {
        /// What.
        what: String,
        /// Whether it is as it was again.
        mended: bool,
    },
    /// A policy took effect.
    PolicyLoaded {
        /// SHA-256 of its text.
        digest: String,
        /// Files.
        files: Vec<String>,
        /// Their texts, so that an auditor sees what changed; none if together they are longer than
        /// [`POLICY_JSON_BYTES_MAX`], and in records of earlier versions.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        texts: Vec<String>,
    },
    /// Sign of life with the kernel's counters; a silence is visible.
    Heartbeat {
        /// Counter name → value since the programs were loaded.
        counters: BTreeMap<String, u64>,
        /// Holds that wait.
        pending_holds: u64,
    },
    /// Records or actions were lost, and how many.
    Lost {
        /// Which counter moved (`events_lost`, …) or `sequence_gap`, `undecodable`.
        counter: String,
        /// By how much.
        count: u64,
    },
    /// A process tree was labelled.
    SessionStarted {
        /// The session.
        info: SessionInfo,
    },
    /// Its last process exited.
    SessionEnded {},
    /// A process of a session made a child.
    Forked {
        /// Parent process.
        pid: u32,
        /// Child process.
        child_pid: u32,
        /// Child thread; differs from `child_pid` for a new thread.
        child_tid: u32,
    },
    /// A process of a session runs a new image.
    Executed {
        /// Process.
        pid: u32,
        /// Path of the program.
        exe: RawText,
    },
    /// A process of a session exited.
    Exited {
        /// Process.
        pid: u32,
        /// Thread.
        tid: u32,
    },
    /// What a session sent to one internet address in one minute, or less: the session ended, or nothing more was
    /// sent. Each message is of a socket or to an address that policy or a person had allowed.
    Sent {
        /// Where to.
        endpoint: Endpoint,
        /// `SOCK_*`.
        socket_type: u32,
        /// `IPPROTO_*`; 0 where the caller left it to the kernel.
        protocol: u32,
        /// `CLOCK_BOOTTIME` at which the minute began, ns.
        from_boottime_ns: u64,
        /// Messages (of a stream: writes) that the session was about to send; some may have failed.
        messages: u64,
        /// Most further ones: `sendmmsg` to one address, of which Linux asks about the first only.
        #[serde(default, skip_serializing_if = "is_zero")]
        unasked_max: u64,
        /// Bytes of `messages`.
        bytes: u64,
        /// Bytes of the largest of them.
        largest: u64,
    },
    /// An action was attempted and decided by policy without a person.
    Decided {
        /// Hold id.
        hold_id: HoldId,
        /// Action digest.
        digest: ActionDigest,
        /// Which task.
        process: ProcessContext,
        /// What.
        action: Action,
        /// Allow or deny.
        verdict: Verdict,
        /// By which tier.
        tier: Tier,
        /// Under which statements.
        statements: Vec<PolicyStatement>,
    },
    /// An action waits for a person.
    Held {
        /// Everything that an approver is shown.
        request: Box<HoldRequest>,
    },
    /// A person decided, and guard-agent verified it.
    PersonDecided {
        /// Hold id.
        hold_id: HoldId,
        /// Action digest.
        digest: ActionDigest,
        /// Allow or deny.
        verdict: Verdict,
        /// Who.
        decided_by: String,
        /// Their words.
        reason: String,
    },
    /// Something that claimed to be a decision was refused.
    DecisionRefused {
        /// Hold id, if it could be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold_id: Option<HoldId>,
        /// Why.
        why: String,
    },
    /// The kernel carried a decision out.
    Outcome {
        /// Hold id, unless the action was refused without one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold_id: Option<HoldId>,
        /// Process.
        pid: u32,
        /// Thread.
        tid: u32,
        /// `exec`, `open`, `connect`, `unlink`, …
        action: String,
        /// What took effect.
        verdict: Verdict,
        /// `grant`, `expired`, `not_restartable`, `holds_full`, `no_stop`, `unreadable`, `stale_grant`, …
        reason: String,
    },
    /// The kernel denied at once what cannot be held.
    Blocked {
        /// Action digest.
        digest: ActionDigest,
        /// Which task.
        process: ProcessContext,
        /// What.
        action: Action,
        /// `outside_the_session`, `not_holdable`, `not_opened_by_the_session`, `argv_changed`, …
        reason: String,
        /// The policy permits it: from now on the kernel does too.
        allowed_from_now: bool,
    },
    /// A hold needs no decision any more.
    Withdrawn {
        /// Hold id.
        hold_id: HoldId,
        /// Why.
        why: Withdrawal,
    },
    /// A request changed state at the controller.
    ApprovalChanged {
        /// Hold id.
        hold_id: HoldId,
        /// Old state.
        from: String,
        /// New state.
        to: String,
        /// User, or empty where no person was involved.
        by: String,
        /// Their words.
        reason: String,
    },
    /// A host enrolled or renewed its certificate.
    Enrolled {
        /// The host.
        enrolled: HostId,
        /// Its name for itself.
        hostname: String,
    },
    /// A host linked or unlinked.
    HostLink {
        /// The host.
        linked: HostId,
        /// Whether the link is up.
        up: bool,
    },
    /// Something that a host sent to the controller was not accepted.
    HostRefused {
        /// The host.
        refused: HostId,
        /// What it sent.
        what: String,
        /// Why it was refused.
        why: String,
    },
    /// Somebody signed in, failed to, or signed out.
    Authentication {
        /// User name as given.
        user: String,
        /// `link`, `password`, `token`, `sign_out`.
        method: String,
        /// Whether it succeeded.
        success: bool,
    },
    /// A user, role or token changed.
    UserChanged {
        /// Which user.
        user: String,
        /// What.
        change: String,
        /// By whom.
        by: String,
    },
    /// The payload and salt of an entry of the log are erased; its leaf and all proofs stay.
    PayloadErased {
        /// Position in the log.
        index: u64,
        /// Its leaf hash, hexadecimal.
        leaf_hash: String,
        /// Why.
        reason: String,
        /// By whom.
        by: String,
    },
    /// Payloads of one class that were older than it is kept are erased; their leaves and all proofs
    /// stay.
    PayloadsExpired {
        /// The rule: entries of this class…
        of: String,
        /// …are kept for so many days.
        days: u32,
        /// Logged before this, ms since 1970, by the leaf.
        before_unix_ms: u64,
        /// How many are erased.
        count: u64,
        /// Of those that were old enough and looked at, how many a legal hold keeps.
        kept: u64,
        /// Which are erased, ascending: position of the first, and how many from there on.
        entries: Vec<(u64, u64)>,
    },
    /// From here on what matches is not erased, by nobody and no rule.
    LegalHoldSet {
        /// Its id.
        legal_hold: Uuid,
        /// What it keeps.
        scope: HoldScope,
        /// Why.
        reason: String,
        /// By whom.
        by: String,
    },
    /// A legal hold keeps nothing any more.
    LegalHoldLifted {
        /// Its id.
        legal_hold: Uuid,
        /// Why.
        reason: String,
        /// By whom.
        by: String,
    },
    /// The log is signed with another key from the checkpoint on that contains this.
    LogKeyRotated {
        /// The key until now, as a signed-note verifier key (C2SP signed-note).
        old: String,
        /// The key from now on, likewise.
        new: String,
        /// By whom.
        by: String,
    },
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::{Event, POLICY_JSON_BYTES_MAX};
    use crate::{log::PAYLOAD_BYTES_MAX, ocsf::tests::samples::record};

    #[test]
    fn a_policys_text_is_kept_up_to_its_limit_and_its_record_always_fits() {
        // Quotes are twice as long in JSON.
        let most = "\"".repeat(POLICY_JSON_BYTES_MAX / 2 - 2);
        for (text, kept) in [(most.clone(), true), (format!("{most}\""), false)] {
            let event = Event::policy_loaded("d", [("a.cedar", &text[..])].into_iter());
            let Event::PolicyLoaded { files, texts, .. } = &event else { panic!() };
            assert_eq!((files.len(), !texts.is_empty()), (1, kept));
            assert!(serde_json::to_vec(&record(event)).unwrap().len() < PAYLOAD_BYTES_MAX);
        }
        let earlier = r#"{"event":"policy_loaded","digest":"d","files":["a"]}"#;
        let event: Event = serde_json::from_str(earlier).unwrap();
        assert_eq!(serde_json::to_string(&event).unwrap(), earlier);
    }
}
