//! Capabilities, in the system calls that have no better hook.
//!
//! `capable` answers a question: its caller only learns yes or no, and often goes on another way. So it
//! is never held; a standing permission of the session or a denial at once answers it. Only the system
//! calls below are looked at: what the others do is decided at a hook of their own, and a capability
//! that a program merely has (root reading its own files) is not an action.

use crate::{
    hold,
    kernel::Task,
    lineage::label_of,
    system::at_once,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use guard_common::hold::KIND_CAPABILITY;

/// Whether `capable` is where this system call is decided (`arch/x86/entry/syscalls/syscall_64.tbl`).
#[inline(always)]
fn is_decided_here(syscall: u64) -> bool {
    matches!(
        syscall,
        159 // adjtimex
        | 163 // acct
        | 167 | 168 // swapon, swapoff
        | 169 // reboot
        | 172 | 173 // iopl, ioperm
        | 176 // delete_module
        | 179 // quotactl
        | 272 // unshare
        | 304 // open_by_handle_at: opens by number what no path names
        | 305 // clock_adjtime
        | 308 // setns
        | 428 // open_tree: a detached mount has paths of its own
        | 430
            ..=433 // fsopen, fsconfig, fsmount, fspick
        | 442 // mount_setattr
        | 443 // quotactl_fd
        | 467 // open_tree_attr
    )
}

/// The same of 32-bit calls (`arch/x86/entry/syscalls/syscall_32.tbl`), whose last ones have the same
/// numbers.
#[inline(always)]
fn is_decided_here_32(syscall: u64) -> bool {
    matches!(
        syscall,
        124 // adjtimex
        | 51 // acct
        | 87 | 115 // swapon, swapoff
        | 88 // reboot
        | 110 | 101 // iopl, ioperm
        | 129 // delete_module
        | 131 // quotactl
        | 310 // unshare
        | 342 // open_by_handle_at
        | 343 | 405 // clock_adjtime, clock_adjtime64
        | 346 // setns
        | 428 | 430..=433 | 442 | 443 | 467
    )
}

#[lsm(hook = "capable")]
pub fn capable(ctx: LsmContext) -> i32 {
    bounded(try_capable(&ctx))
}

#[inline(always)]
fn try_capable(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let capability: u32 = ctx.arg(2);
    let Some(syscall) = task.syscall() else { return Verdict::Allow };
    let decided =
        if task.is_compat() { is_decided_here_32(syscall) } else { is_decided_here(syscall) };
    if !decided {
        return Verdict::Allow;
    }
    at_once(task, &label, &hold::key(task, KIND_CAPABILITY, capability, syscall as u32))
}
