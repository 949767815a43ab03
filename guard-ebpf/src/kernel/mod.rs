//! Kernel objects behind safe faces: the CO-RE getters of `c/core.c` and the helpers on them.
//!
//! A wrapper can be made only from an argument that the kernel passed to a hook or from another
//! wrapper's getter, so its pointer has the type that the verifier knows; the verifier checks every
//! load again.

mod bprm;
mod cred;
mod getters;
mod iattr;
mod map;
mod name;
mod object;
mod socket;
mod task;
mod user;

pub use bprm::Bprm;
pub use cred::{Cred, first_other};
pub use iattr::Iattr;
pub use map::BpfMap;
pub use name::Name;
pub use object::{Acl, Dentry, File, Inode, Mount, Path, Step, Vma, Walk, walk_from};
pub use socket::{AF_INET6, AF_UNIX, Message, Socket};
pub use task::{Task, cgroup_id, kill_current, read_comm, stop_current, uid_gid};
pub use user::{read_user, read_user_text, read_user_word};

use aya_ebpf::{
    EbpfContext as _,
    cty::c_void,
    helpers::generated::{
        bpf_get_func_arg, bpf_ktime_get_boot_ns, bpf_loop, bpf_probe_read_kernel,
        bpf_probe_read_kernel_str,
    },
    programs::LsmContext,
};
use core::mem::MaybeUninit;
use getters::{Raw, atomic_fetch_add, atomic_replace};

/// `CLOCK_BOOTTIME`, ns.
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// Copies kernel memory. False: not readable.
#[inline(always)]
pub fn read_kernel(to: *mut u8, len: u32, from: *const u8) -> bool {
    // SAFETY: the helper checks the source; the verifier checks `to` and `len`.
    unsafe { bpf_probe_read_kernel(to.cast(), len, from.cast()) == 0 }
}

/// Copies a kernel text; length with NUL, or a negative errno.
#[inline(always)]
pub fn read_kernel_str(to: *mut u8, size: u32, from: *const u8) -> i64 {
    // SAFETY: the helper checks the source; the verifier checks `to` and `size`.
    unsafe { bpf_probe_read_kernel_str(to.cast(), size, from.cast()) }
}

/// The raw pointer argument `n` of a hook.
#[inline(always)]
pub fn pointer_arg(ctx: &LsmContext, n: usize) -> *const u8 {
    let pointer: Raw = ctx.arg(n);
    pointer.cast()
}

/// The raw pointer argument `n` of a hook, which may be null.
///
/// Up to 6.12 the verifier takes every typed argument for non-null and removes a check for null; what
/// this helper returns is a number to it.
#[inline(always)]
pub fn nullable_arg(ctx: &LsmContext, n: u32) -> *const u8 {
    let mut value = 0u64;
    // SAFETY: the hook's own context and a local.
    let result = unsafe { bpf_get_func_arg(ctx.as_ptr(), n, &raw mut value) };
    if result == 0 { value as *const u8 } else { core::ptr::null() }
}

/// Zeros that are written one by one: `memset` would be a call, with a frame of its own on a stack that
/// has 512 bytes for all of them.
#[inline(always)]
pub fn zeroed<const WORDS: usize>(words: &mut MaybeUninit<[u64; WORDS]>) -> &mut [u64; WORDS] {
    for index in 0..WORDS {
        // SAFETY: within the array; volatile, so that the compiler makes no call of it.
        unsafe { words.as_mut_ptr().cast::<u64>().add(index).write_volatile(0) };
    }
    // SAFETY: every word has been written.
    unsafe { words.assume_init_mut() }
}

/// The same for words that have been used.
#[inline(always)]
pub fn clear<const WORDS: usize>(words: &mut [u64; WORDS]) {
    for word in words {
        // SAFETY: a word of the array; volatile as in [`zeroed`].
        unsafe { core::ptr::from_mut(word).write_volatile(0) };
    }
}

/// 1 for every number but 0, without a branch: the verifier would follow every combination of several.
#[inline(always)]
pub fn nonzero(number: u64) -> u32 {
    (core::hint::black_box(number | number.wrapping_neg()) >> 63) as u32
}

/// Adds to a counter in a map and returns its old value.
#[inline(always)]
pub fn fetch_add(counter: *mut u64, by: u64) -> u64 {
    // SAFETY: array elements are 8-byte aligned and never freed; the verifier checks the pointer.
    unsafe { atomic_fetch_add(counter, by) }
}

/// Gives a number in a map its first value, unless it has one, and returns the one that it has then.
#[inline(always)]
pub fn begin(number: *mut u64, value: u64) -> u64 {
    // SAFETY: map values are 8-byte aligned; the verifier checks the pointer.
    let old = unsafe { atomic_replace(number, 0, value) };
    if old == 0 { value } else { old }
}

/// Calls `turn` with 0, 1, … up to `turns` times, until it returns something else than 0.
///
/// The verifier looks at a callback once, where it would follow every turn of a loop.
#[inline(always)]
pub fn repeat<T>(turns: u32, turn: extern "C" fn(u64, &mut T) -> i64, state: &mut T) {
    // SAFETY: the callback's context is exactly the reference it takes, which outlives the call.
    unsafe { bpf_loop(turns, turn as *mut c_void, (&raw mut *state).cast(), 0) };
}
