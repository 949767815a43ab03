//! Keys and keyrings of the kernel: tickets, passwords of mounts and keys of disks that others put there.
//!
//! Nobody is held here: a search of a keyring makes another error of ours. The kernel's own look-ups for a
//! task (names for a network file system, module signatures) are not the task's action.

use crate::{
    kernel::Task,
    system::ask_at_once,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use guard_common::hold::KIND_KEYRING;

#[lsm(hook = "key_permission")]
pub fn key_permission(_: LsmContext) -> i32 {
    bounded(ask())
}

#[lsm(hook = "key_alloc")]
pub fn key_alloc(_: LsmContext) -> i32 {
    bounded(ask())
}

#[inline(always)]
fn ask() -> Verdict {
    let task = Task::current();
    let Some(syscall) = task.syscall() else { return Verdict::Allow };
    // add_key, request_key, keyctl.
    let is_own =
        if task.is_compat() { matches!(syscall, 286..=288) } else { matches!(syscall, 248..=250) };
    if is_own { ask_at_once(KIND_KEYRING, 0, 0) } else { Verdict::Allow }
}
