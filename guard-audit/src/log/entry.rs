//! What one leaf says, and the chain of each host.

use super::{Hash, LogError, PAYLOAD_BYTES_MAX};
use crate::{Event, Record};
use guard_model::{ActionDigest, BootId, HostId, Verdict};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

/// Longest policy digest that stands in a leaf as it is, bytes; a longer one is hashed.
const POLICY_BYTES_MAX: usize = 128;

/// Version of the leaf.
const VERSION: u8 = 1;

/// A leaf: JSON with exactly these members in this order and without white space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// Version of the format: 1.
    pub v: u8,
    /// When it was logged, by the controller's clock, ms since 1970; never before the entry before.
    pub time: u64,
    /// The host that observed it.
    pub host: HostId,
    /// Its boot.
    pub boot: BootId,
    /// Its sequence in that boot, from 1 without gaps.
    pub seq: u64,
    /// Leaf hash of the host's entry before this one, whatever its boot; zeros in its first.
    #[serde(with = "hex::serde")]
    pub prev: Hash,
    /// What kind of record.
    pub class: String,
    /// Digest of the action that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// What was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Digest of the policy in force on that host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// SHA-256 of salt and payload.
    #[serde(with = "hex::serde")]
    pub payload: Hash,
}

/// Not a leaf of this log.
#[derive(Debug, thiserror::Error)]
#[error("not an envelope: {0}")]
pub struct InvalidEnvelope(String);

impl Envelope {
    /// The bytes of the leaf.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // Strings and numbers: it cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a leaf.
    ///
    /// # Errors
    /// It is not exactly what [`Envelope::to_bytes`] makes.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidEnvelope> {
        let invalid = |problem: String| InvalidEnvelope(problem);
        let envelope: Self =
            serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
        if envelope.v != VERSION {
            return Err(invalid(format!("version {}; this program knows {VERSION}", envelope.v)));
        }
        if envelope.to_bytes() != bytes {
            return Err(invalid("not in its one form".into()));
        }
        Ok(envelope)
    }
}

/// What stands in a leaf for the payload.
#[must_use]
pub fn payload_hash(salt: &Hash, json: &[u8]) -> Hash {
    Sha256::new().chain_update(salt).chain_update(json).finalize().into()
}

/// A record that is to be logged.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What it says.
    pub record: Record,
    /// Its JSON, as its host sent it.
    pub json: String,
}

impl Draft {
    /// A record in our own words.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn new(record: Record) -> Result<Self, serde_json::Error> {
        let json = serde_json::to_string(&record)?;
        Ok(Self { record, json })
    }
}

/// Where the chain of a host stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostTip {
    /// Leaf hash of its last entry.
    pub leaf: Hash,
    /// Digest of the policy that it last loaded.
    pub policy: Option<String>,
}

/// The chains of all hosts: derived from the log, kept where it is derived to.
#[derive(Clone, Debug, Default)]
pub struct Chains {
    tips: HashMap<HostId, HostTip>,
}

impl Chains {
    /// Sets where a host's chain stands.
    pub fn set(&mut self, host: HostId, tip: HostTip) {
        self.tips.insert(host, tip);
    }

    /// Where it stands.
    #[must_use]
    pub fn tip(&self, host: HostId) -> Option<&HostTip> {
        self.tips.get(&host)
    }

    /// All hosts.
    pub fn iter(&self) -> impl Iterator<Item = (&HostId, &HostTip)> {
        self.tips.iter()
    }

    /// Takes an entry of the log into account that is there already.
    pub fn follow(&mut self, envelope: &Envelope, leaf: Hash) {
        let tip = self.tips.entry(envelope.host).or_default();
        tip.leaf = leaf;
        tip.policy.clone_from(&envelope.policy);
    }

    /// The leaf for `draft`, logged at `time`.
    pub(super) fn seal(&self, draft: &Draft, time: u64, salt: &Hash) -> Result<Envelope, LogError> {
        let len = draft.json.len();
        if len > PAYLOAD_BYTES_MAX {
            return Err(LogError::TooLarge { what: "a record", len, max: PAYLOAD_BYTES_MAX });
        }
        let Record { host, boot, sequence, ref event, .. } = draft.record;
        let tip = self.tips.get(&host);
        let loaded = match event {
            Event::PolicyLoaded { digest, .. } => Some(short_policy(digest)),
            _ => tip.and_then(|tip| tip.policy.clone()),
        };
        Ok(Envelope {
            v: VERSION,
            time,
            host,
            boot,
            seq: sequence,
            prev: tip.map(|tip| tip.leaf).unwrap_or_default(),
            class: event.class().to_owned(),
            action: event.action_digest().map(|digest| hex::encode(digest.0)),
            decision: event.decision().map(str::to_owned),
            policy: loaded,
            payload: payload_hash(salt, draft.json.as_bytes()),
        })
    }
}

/// A host chooses the text of its policy's digest: it is kept short and plain.
fn short_policy(digest: &str) -> String {
    if digest.len() <= POLICY_BYTES_MAX && digest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return digest.to_owned();
    }
    format!("sha256-of:{}", hex::encode(Sha256::digest(digest)))
}

impl Event {
    /// Its kind, as the tag in its JSON says it.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Stopped { .. } => "stopped",
            Self::EnforcementEnded { .. } => "enforcement_ended",
            Self::Tampered { .. } => "tampered",
            Self::PolicyLoaded { .. } => "policy_loaded",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Lost { .. } => "lost",
            Self::SessionStarted { .. } => "session_started",
            Self::SessionEnded {} => "session_ended",
            Self::Forked { .. } => "forked",
            Self::Executed { .. } => "executed",
            Self::Exited { .. } => "exited",
            Self::Sent { .. } => "sent",
            Self::Blocked { .. } => "blocked",
            Self::Decided { .. } => "decided",
            Self::Held { .. } => "held",
            Self::PersonDecided { .. } => "person_decided",
            Self::DecisionRefused { .. } => "decision_refused",
            Self::Outcome { .. } => "outcome",
            Self::Withdrawn { .. } => "withdrawn",
            Self::ApprovalChanged { .. } => "approval_changed",
            Self::Enrolled { .. } => "enrolled",
            Self::HostLink { .. } => "host_link",
            Self::HostRefused { .. } => "host_refused",
            Self::Authentication { .. } => "authentication",
            Self::UserChanged { .. } => "user_changed",
            Self::PayloadErased { .. } => "payload_erased",
            Self::PayloadsExpired { .. } => "payloads_expired",
            Self::LegalHoldSet { .. } => "legal_hold_set",
            Self::LegalHoldLifted { .. } => "legal_hold_lifted",
            Self::LogKeyRotated { .. } => "log_key_rotated",
        }
    }

    /// The digest of the action that it is about, if it carries one.
    #[must_use]
    pub fn action_digest(&self) -> Option<ActionDigest> {
        match self {
            Self::Decided { digest, .. } | Self::PersonDecided { digest, .. } => Some(*digest),
            Self::Held { request } => Some(request.digest),
            _ => None,
        }
    }

    /// What was decided, if it is about a decision.
    #[must_use]
    pub fn decision(&self) -> Option<&'static str> {
        match self {
            Self::Decided { verdict, .. }
            | Self::PersonDecided { verdict, .. }
            | Self::Outcome { verdict, .. } => Some(match verdict {
                Verdict::Allow => "allow",
                Verdict::Deny => "deny",
            }),
            Self::Held { .. } => Some("held"),
            _ => None,
        }
    }
}
