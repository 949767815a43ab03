//! Signing and verifying decisions.
//!
//! A [`VerifiedDecision`] can be made only by [`DecisionVerifier::verify`]; the hold engine takes nothing
//! else for a person's word.

use crate::{InvalidField, v1};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use guard_model::{ActionDigest, BootId, Decision, HostId, Verdict};
use prost::Message as _;

/// What a signature covers besides the payload, so that it means nothing anywhere else.
const DOMAIN: &[u8] = b"guard/decision/v1\0";

/// Largest payload that is looked at, bytes: names and a reason.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 10;

/// Signs `decision` for its host.
#[must_use]
pub fn sign(key: &SigningKey, decision: &Decision) -> v1::SignedDecision {
    let payload = v1::Decision {
        host_id: decision.host.to_string(),
        boot_id: decision.boot.to_string(),
        hold_id: decision.hold_id.to_string(),
        action_digest: decision.digest.0.to_vec(),
        verdict: match decision.verdict {
            Verdict::Allow => v1::Verdict::Allow,
            Verdict::Deny => v1::Verdict::Deny,
        }
        .into(),
        decided_by: decision.decided_by.clone(),
        reason: decision.reason.clone(),
        decided_at_unix_ms: decision.decided_at_unix_ms,
    }
    .encode_to_vec();
    let signature = key.sign(&message(&payload)).to_bytes().to_vec();
    v1::SignedDecision { payload, signature }
}

fn message(payload: &[u8]) -> Vec<u8> {
    [DOMAIN, payload].concat()
}

/// A decision whose signature, host and boot are right. Only [`DecisionVerifier::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedDecision(Decision);

impl VerifiedDecision {
    /// What was decided.
    #[must_use]
    pub fn decision(&self) -> &Decision {
        &self.0
    }
}

/// Why a decision is worth nothing here.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDecision {
    /// Longer than [`PAYLOAD_BYTES_MAX`].
    #[error("payload of {0} bytes, at most {PAYLOAD_BYTES_MAX} are read")]
    TooLong(usize),
    /// Not signed by the controller that this host enrolled with.
    #[error("the signature is not by this host's controller")]
    Signature,
    /// Not a decision.
    #[error("the payload is not a guard.v1.Decision")]
    Payload(#[source] prost::DecodeError),
    /// A field does not say what it must.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// Signed, but for another host.
    #[error("it is for host {0}")]
    OtherHost(HostId),
    /// Signed, but for another boot of this host.
    #[error("it is for boot {0}")]
    OtherBoot(BootId),
}

/// Knows the controller's key, and which host and boot this is.
#[derive(Clone, Debug)]
pub struct DecisionVerifier {
    key: VerifyingKey,
    host: HostId,
    boot: BootId,
}

impl DecisionVerifier {
    /// For the controller with public key `key`, on `boot` of `host`.
    ///
    /// # Errors
    /// The key is not a point on the curve.
    pub fn new(key: [u8; 32], host: HostId, boot: BootId) -> Result<Self, InvalidField> {
        let key = VerifyingKey::from_bytes(&key)
            .map_err(|error| InvalidField::new("EnrolResponse", "decision_key", error))?;
        Ok(Self { key, host, boot })
    }

    /// Checks signature, then host, then boot. Hold and action digest are the hold engine's to match.
    ///
    /// # Errors
    /// [`InvalidDecision`] says which.
    pub fn verify(&self, signed: &v1::SignedDecision) -> Result<VerifiedDecision, InvalidDecision> {
        if signed.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(InvalidDecision::TooLong(signed.payload.len()));
        }
        let signature =
            Signature::from_slice(&signed.signature).map_err(|_| InvalidDecision::Signature)?;
        self.key
            .verify_strict(&message(&signed.payload), &signature)
            .map_err(|_| InvalidDecision::Signature)?;
        let decoded =
            v1::Decision::decode(signed.payload.as_slice()).map_err(InvalidDecision::Payload)?;
        let decision = from_wire(&decoded)?;
        if decision.host != self.host {
            return Err(InvalidDecision::OtherHost(decision.host));
        }
        if decision.boot != self.boot {
            return Err(InvalidDecision::OtherBoot(decision.boot));
        }
        Ok(VerifiedDecision(decision))
    }
}

fn from_wire(wire: &v1::Decision) -> Result<Decision, InvalidField> {
    let invalid =
        |field, problem: &dyn ToString| InvalidField::new("Decision", field, problem.to_string());
    Ok(Decision {
        host: wire.host_id.parse().map_err(|e: uuid::Error| invalid("host_id", &e))?,
        boot: wire.boot_id.parse().map_err(|e: uuid::Error| invalid("boot_id", &e))?,
        hold_id: wire.hold_id.parse().map_err(|e: uuid::Error| invalid("hold_id", &e))?,
        digest: ActionDigest(
            wire.action_digest
                .as_slice()
                .try_into()
                .map_err(|_| invalid("action_digest", &"must be 32 bytes"))?,
        ),
        verdict: match v1::Verdict::try_from(wire.verdict) {
            Ok(v1::Verdict::Allow) => Verdict::Allow,
            Ok(v1::Verdict::Deny) => Verdict::Deny,
            _ => return Err(invalid("verdict", &"must be allow or deny")),
        },
        decided_by: wire.decided_by.clone(),
        reason: wire.reason.clone(),
        decided_at_unix_ms: wire.decided_at_unix_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_model::HoldId;
    use uuid::Uuid;

    fn decision() -> Decision {
        Decision {
            host: HostId(Uuid::from_u128(1)),
            boot: BootId(Uuid::from_u128(2)),
            hold_id: HoldId(Uuid::from_u128(3)),
            digest: ActionDigest([4; 32]),
            verdict: Verdict::Allow,
            decided_by: "ann".into(),
            reason: "needed".into(),
            decided_at_unix_ms: 5,
        }
    }

    fn verifier(key: &SigningKey, host: u128, boot: u128) -> DecisionVerifier {
        let (host, boot) = (HostId(Uuid::from_u128(host)), BootId(Uuid::from_u128(boot)));
        DecisionVerifier::new(key.verifying_key().to_bytes(), host, boot).unwrap()
    }

    #[test]
    fn a_signed_decision_verifies_on_its_host_and_boot_only() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let signed = sign(&key, &decision());
        assert_eq!(verifier(&key, 1, 2).verify(&signed).unwrap().decision(), &decision());
        let error = verifier(&key, 9, 2).verify(&signed).unwrap_err();
        assert!(matches!(error, InvalidDecision::OtherHost(_)));
        let error = verifier(&key, 1, 9).verify(&signed).unwrap_err();
        assert!(matches!(error, InvalidDecision::OtherBoot(_)));
    }

    #[test]
    fn another_key_or_any_flipped_bit_is_refused() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let signed = sign(&SigningKey::from_bytes(&[8; 32]), &decision());
        let error = verifier(&key, 1, 2).verify(&signed).unwrap_err();
        assert!(matches!(error, InvalidDecision::Signature));
        let good = sign(&key, &decision());
        for bit in 0..good.payload.len() * 8 {
            let mut bad = good.clone();
            bad.payload[bit / 8] ^= 1 << (bit % 8);
            let error = verifier(&key, 1, 2).verify(&bad).unwrap_err();
            assert!(matches!(error, InvalidDecision::Signature));
        }
        for bit in 0..good.signature.len() * 8 {
            let mut bad = good.clone();
            bad.signature[bit / 8] ^= 1 << (bit % 8);
            assert!(verifier(&key, 1, 2).verify(&bad).is_err());
        }
    }

    #[test]
    fn an_unspecified_verdict_is_refused_even_if_signed() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let mut wire = v1::Decision::decode(sign(&key, &decision()).payload.as_slice()).unwrap();
        wire.verdict = 0;
        let payload = wire.encode_to_vec();
        let signature = key.sign(&message(&payload)).to_bytes().to_vec();
        let error =
            verifier(&key, 1, 2).verify(&v1::SignedDecision { payload, signature }).unwrap_err();
        assert!(matches!(error, InvalidDecision::Field(_)), "{error}");
    }
}
