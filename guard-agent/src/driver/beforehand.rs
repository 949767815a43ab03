//! What cannot wait for a decision is permitted when a session begins, where the policy permits it to every
//! program: else its first use would fail although nobody objects.
//!
//! Only what is one action for a whole session can be: where the object counts, it is not known yet.

use super::Driver;
use crate::{
    clock,
    decide::Question,
    kernel::{Kernel, action_of_kind},
};
use guard_common::hold::{KIND_IPC, KIND_KEYRING, StandingKey};
use guard_model::ProcessContext;

const KINDS: [u32; 2] = [KIND_IPC, KIND_KEYRING];

impl<K: Kernel> Driver<K> {
    /// For the session with this handle, whose processes have the identity of `pid`. One that is gone leaves all
    /// to the first use.
    pub(super) fn allow_beforehand(&mut self, handle: u64, pid: u32) {
        let parts = &mut self.parts;
        let Some((uid, gid)) = parts.proc.ids(pid) else { return };
        let process = ProcessContext { pid, tid: pid, uid, gid, ..ProcessContext::default() };
        for kind in KINDS {
            let Some(view) = parts.sessions.view(handle) else { return };
            let question = Question {
                hold: 0,
                session: &view,
                process: &process,
                action: &action_of_kind(kind),
                now_ns: clock::boottime_ns(),
                deadline_ns: 0,
            };
            if parts.decider.permits_whoever(&question) {
                let ids = ids(uid, gid);
                let standing = StandingKey { session: handle, ids, kind, ..StandingKey::default() };
                allow(&mut parts.kernel, standing);
            }
        }
    }
}

/// As the kernel puts the two together.
pub(super) fn ids(uid: u32, gid: u32) -> u64 {
    u64::from(uid) | u64::from(gid) << 32
}

/// Whether the kernel was told.
pub(super) fn allow(kernel: &mut impl Kernel, standing: StandingKey) -> bool {
    match kernel.allow_standing(standing) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!("{:#}", anyhow::Error::new(error));
            false
        }
    }
}
