//! The decision cache: allows that the policy gives for a session, a user, an object and its name, whoever
//! of the session asks. `GRANT_CACHEABLE` says that an allow is one of these.
//!
//! Everything that such a decision was about is hashed anew at every attempt, the path by a walk to the
//! root included. So there is nothing to invalidate: a file that was renamed, replaced, given another
//! owner or mode, or is reached through another name, mount or root has another key. What the walk
//! cannot tell from the path that the policy saw (a task with a root of its own, procfs, a file without
//! a name) is not cached.

use crate::{
    kernel::{AF_UNIX, Inode, Task, Walk, boot_ns, uid_gid},
    maps::{DECISIONS, config, count},
    path::name::path_hash,
};
use guard_common::{
    counter::CACHE_HITS,
    hold::{
        ACCESS_CREATE, ACCESS_GAINS, ACCESS_SHARED_WRITE, ACCESS_TMPFILE, ACCESS_UNNAMED,
        ActionKey, DECISION_FOREVER, DECISION_TTL_NS, DecisionKey, OBJECT_BYTES,
    },
    label::Label,
    siphash::SipHash,
};

/// What is never remembered: the object has no name yet, or none at all, or is more than a file.
const NEVER: u32 =
    ACCESS_CREATE | ACCESS_TMPFILE | ACCESS_UNNAMED | ACCESS_GAINS | ACCESS_SHARED_WRITE;

/// Where a decision on a file, reached where `walk` stands, is remembered.
#[inline(always)]
pub fn of_file(
    task: Task,
    label: &Label,
    key: &ActionKey,
    inode: Inode,
    walk: Walk,
) -> Option<DecisionKey> {
    // What cannot be held is refused whatever is remembered, and should not cost a walk.
    if !task.is_restartable() {
        return None;
    }
    if key.access & NEVER != 0 || inode.is_unnamed() || inode.is_procfs() {
        return None;
    }
    let owner = u64::from(inode.uid()) | u64::from(inode.mode()) << 32;
    let state = start(key)?
        .word(key.object[0])
        .word(key.object[1])
        .word(key.object[2])
        .word(key.object[3])
        .word(key.object[4])
        .word(owner);
    let state = path_hash(task, state, walk)?;
    finish(label, key, state)
}

/// Where it is remembered that a session was allowed to open a file, whatever its name.
#[inline(always)]
pub fn of_identity(label: &Label, key: &ActionKey) -> Option<DecisionKey> {
    finish(label, key, identity(key)?)
}

/// A number for a file and an access that nobody outside can choose.
#[inline(always)]
pub fn number(key: &ActionKey) -> Option<u32> {
    Some(identity(key)?.finish(u64::from(key.kind))[0] as u32)
}

/// Which file, whatever its name, and how it is used.
#[inline(always)]
fn identity(key: &ActionKey) -> Option<SipHash> {
    let state = SipHash::new(config()?.hash_key).word(u64::from(key.access));
    Some(state.word(key.object[0]).word(key.object[1]).word(key.object[2]))
}

/// Where a decision on a socket is remembered: its address is whole in the key. The path of a UNIX socket
/// is not, as it depends on where the process is.
#[inline(always)]
pub fn of_address(label: &Label, key: &ActionKey) -> Option<DecisionKey> {
    if key.object[0] as u16 == AF_UNIX && key.object_len > 2 {
        return None;
    }
    let mut state = start(key)?;
    for word in 0..OBJECT_BYTES / 8 {
        state = state.word(key.object[word]);
    }
    finish(label, key, state)
}

#[inline(always)]
fn start(key: &ActionKey) -> Option<SipHash> {
    let numbers = u64::from(key.access) | u64::from(key.flags) << 32;
    Some(SipHash::new(config()?.hash_key).word(uid_gid()).word(numbers))
}

#[inline(always)]
fn finish(label: &Label, key: &ActionKey, state: SipHash) -> Option<DecisionKey> {
    Some(DecisionKey {
        session: label.session,
        policy_epoch: config()?.policy_epoch,
        kind: key.kind,
        hash: state.finish(u64::from(key.object_len)),
    })
}

/// Whether this was allowed not long before `now_ns` and may be repeated.
#[inline(always)]
pub fn allows(at: &DecisionKey, now_ns: u64) -> bool {
    // SAFETY: the value is copied at once.
    let Some(until_ns) = (unsafe { DECISIONS.get(at) }).copied() else { return false };
    let live = now_ns < until_ns;
    if live {
        count(CACHE_HITS);
    }
    live
}

/// Remembers an allow. Without room it is asked for again.
#[inline(always)]
pub fn remember(at: &DecisionKey) {
    let until_ns = boot_ns().saturating_add(DECISION_TTL_NS);
    let _ = DECISIONS.insert(at, &until_ns, 0);
}

/// As [`remember`], for as long as there is room. A look keeps it among what was used last, as writing it does, and
/// costs a third.
#[inline(always)]
pub fn remember_for_good(at: &DecisionKey) {
    // SAFETY: only its presence counts.
    if unsafe { DECISIONS.get(at) }.is_none() {
        let _ = DECISIONS.insert(at, &DECISION_FOREVER, 0);
    }
}
