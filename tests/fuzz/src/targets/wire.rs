//! Protobuf messages of both directions, and what becomes of them.

use super::survives_json;
use ed25519_dalek::{Signer as _, SigningKey};
use guard_audit::Record;
use guard_model::{BootId, HoldId, HoldRequest, HostId, Withdrawal};
use guard_proto::{
    decision::{DecisionVerifier, InvalidDecision, sign},
    v1::{FromController, FromHost, SignedDecision, from_host::Message},
};
use prost::Message as _;
use uuid::Uuid;

pub(crate) const HOST: HostId = HostId(Uuid::from_u128(1));
pub(crate) const BOOT: BootId = BootId(Uuid::from_u128(2));
/// What a signature of a decision covers before the payload.
const DOMAIN: &[u8] = b"guard/decision/v1\0";

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// The first byte says who speaks.
pub(crate) fn run(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((0, rest)) => FromHost::decode(rest).is_ok_and(|message| from_host(&message)),
        Some((1, rest)) => FromController::decode(rest).is_ok_and(|message| {
            let again = FromController::decode(&*message.encode_to_vec()).unwrap();
            assert_eq!(again, message);
            message.message.is_some()
        }),
        _ => false,
    }
}

/// As the controller takes it: ids are UUIDs, what is JSON is the model's.
fn from_host(message: &FromHost) -> bool {
    assert_eq!(&FromHost::decode(&*message.encode_to_vec()).unwrap(), message);
    match &message.message {
        Some(Message::HoldRequested(requested)) => {
            let request = serde_json::from_str::<HoldRequest>(&requested.request_json);
            if let Ok(request) = &request {
                survives_json(request);
                let _ = guard_model::ActionDigest::of(
                    request.host,
                    request.boot,
                    request.session.id,
                    &request.process,
                    &request.action,
                );
            }
            requested.hold_id.parse::<HoldId>().is_ok() && request.is_ok()
        }
        Some(Message::HoldWithdrawn(withdrawn)) => {
            let why = serde_json::Value::from(withdrawn.why.as_str());
            serde_json::from_value::<Withdrawal>(why).is_ok()
        }
        Some(Message::Evidence(batch)) => {
            let record = |json: &[u8]| serde_json::from_slice::<Record>(json);
            batch.records.iter().all(|one| record(&one.record_json).is_ok())
        }
        Some(Message::Hello(hello)) => hello.boot_id.parse::<BootId>().is_ok(),
        Some(Message::HoldFinished(_) | Message::Heartbeat(_)) => true,
        None => false,
    }
}

/// The input is a payload, signed by the right key: behind the signature nothing is trusted either.
/// Its last 64 bytes as a signature, on the other hand, are never right.
pub(crate) fn decision(bytes: &[u8]) -> bool {
    let key = key();
    let verifier = DecisionVerifier::new(key.verifying_key().to_bytes(), HOST, BOOT).unwrap();
    if let Some((payload, signature)) = bytes.split_last_chunk::<64>() {
        let (payload, signature) = (payload.to_vec(), signature.to_vec());
        let refused = verifier.verify(&SignedDecision { payload, signature });
        assert!(matches!(refused, Err(InvalidDecision::Signature)), "{refused:?}");
    }
    let signature = key.sign(&[DOMAIN, bytes].concat()).to_bytes().to_vec();
    let signed = SignedDecision { payload: bytes.to_vec(), signature };
    let Ok(verified) = verifier.verify(&signed) else { return false };
    let decision = verified.decision();
    assert!(decision.host == HOST && decision.boot == BOOT, "another host's: {decision:?}");
    let again = verifier.verify(&sign(&key, decision)).unwrap();
    assert_eq!(again, verified, "signed and verified again");
    true
}
