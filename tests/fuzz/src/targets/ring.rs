//! Ring buffer records, from bytes to what the policy says of them.

use super::survives_json;
use guard_agent::kernel::{KernelBody, action_name, decode_event};
use guard_common::{
    decode::{Body, decode},
    hold::OBJECT_BYTES,
};
use guard_model::{Action, ActionDigest, BootId, HostId, ProcessContext, SessionId, SessionInfo};
use guard_policy::{Attempt, Outcome, Policy};
use std::sync::LazyLock;
use uuid::Uuid;

static POLICY: LazyLock<Policy> = LazyLock::new(Policy::default_policy);

pub(crate) fn run(bytes: &[u8]) -> bool {
    let Ok(event) = decode_event(bytes) else { return false };
    if let Body::Held(held) | Body::Blocked(held) = decode(bytes).unwrap().body {
        assert!(held.key.object_bytes().1 <= OBJECT_BYTES);
    }
    let (KernelBody::Held { key, action, .. } | KernelBody::Blocked { key, action, .. }) =
        event.body
    else {
        return true;
    };
    assert_eq!(action.name(), action_name(key.kind), "an action is of the kind that the key has");
    survives_json(&*action);
    let [host, boot, session] = [1, 2, 3].map(Uuid::from_u128);
    let process = ProcessContext::default();
    let digest =
        ActionDigest::of(HostId(host), BootId(boot), SessionId(session), &process, &action);
    assert_eq!(
        digest,
        ActionDigest::of(HostId(host), BootId(boot), SessionId(session), &process, &action)
    );
    judge(&action, &process, session);
    true
}

/// What cannot be determined is never allowed for others to repeat (K3).
fn judge(action: &Action, process: &ProcessContext, session: Uuid) {
    let session = SessionInfo {
        id: SessionId(session),
        name: "fuzz".into(),
        principal: "dev".into(),
        uid: 1000,
        started_unix_ms: 0,
        root_pid: 1,
        command: vec![],
    };
    let attempt = Attempt { session: &session, process, action, host: "fuzz" };
    if let Outcome::Allow { cacheable: true, .. } = POLICY.decide(&attempt)
        && let Action::Open { file, .. } = action
    {
        assert_eq!(file.path_error, None, "an open of an unknown path may be repeated by others");
    }
}
