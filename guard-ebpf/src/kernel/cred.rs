//! Credentials of a task.

use super::{
    getters::{
        Raw, core_cred_egid, core_cred_euid, core_cred_fsgid, core_cred_fsuid, core_cred_gid,
        core_cred_sgid, core_cred_suid, core_cred_uid,
    },
    nonzero, read_kernel,
};
use aya_ebpf::programs::LsmContext;

/// Credentials.
#[derive(Clone, Copy)]
pub struct Cred(pub(super) Raw);

impl Cred {
    /// Argument `n` of a hook whose prototype has a `struct cred *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    /// Real, effective, saved and file system user id, in the initial user namespace.
    #[inline(always)]
    pub fn uids(self) -> [u32; 4] {
        let cred = self.0;
        // SAFETY: a typed cred pointer; the verifier checks the relocated loads.
        unsafe {
            [core_cred_uid(cred), core_cred_euid(cred), core_cred_suid(cred), core_cred_fsuid(cred)]
        }
    }

    /// Real, effective, saved and file system group id, in the initial user namespace.
    #[inline(always)]
    pub fn gids(self) -> [u32; 4] {
        let cred = self.0;
        // SAFETY: as for `uids`.
        unsafe {
            [core_cred_gid(cred), core_cred_egid(cred), core_cred_sgid(cred), core_cred_fsgid(cred)]
        }
    }
}

/// One number on every kernel; up to 6.2 an array of two halves.
#[inline(always)]
pub(super) fn read_capabilities(at: u64) -> Option<u64> {
    let mut bits = 0u64;
    read_kernel((&raw mut bits).cast(), 8, at as *const u8).then_some(bits)
}

/// The first id of `new` that `old` has in none of its places.
#[inline(always)]
pub fn first_other(new: [u32; 4], old: [u32; 4]) -> Option<u32> {
    let [a, b, c, d] = others(new, old);
    if a | b | c | d == 0 {
        return None;
    }
    let later = c * u64::from(new[2]) + (1 - c) * u64::from(new[3]);
    let last = b * u64::from(new[1]) + (1 - b) * later;
    Some((a * u64::from(new[0]) + (1 - a) * last) as u32)
}

/// 1 for each id of `new` that `old` has in none of its places. Without a branch: the verifier would
/// follow every combination of sixteen comparisons.
#[inline(always)]
fn others(new: [u32; 4], old: [u32; 4]) -> [u64; 4] {
    [other(new[0], old), other(new[1], old), other(new[2], old), other(new[3], old)]
}

#[inline(always)]
fn other(id: u32, old: [u32; 4]) -> u64 {
    differ(id, old[0]) & differ(id, old[1]) & differ(id, old[2]) & differ(id, old[3])
}

#[inline(always)]
fn differ(a: u32, b: u32) -> u64 {
    u64::from(nonzero((a ^ b).into()))
}
