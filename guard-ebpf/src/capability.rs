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

/// `include/uapi/linux/capability.h`: addresses, routes, packet filters.
const CAP_NET_ADMIN: u32 = 12;
/// The same: rules and state of the audit system.
const CAP_AUDIT_CONTROL: u32 = 30;

/// Whether `capable` is where this system call is decided (`arch/x86/entry/syscalls/syscall_64.tbl`).
#[inline(always)]
fn is_decided_here(syscall: u64) -> bool {
    matches!(
        syscall,
        16 // ioctl: what needs a capability there is about devices, file systems or the network
        | 103 // syslog
        | 153 // vhangup
        | 159 // adjtimex
        | 163 // acct
        | 167 | 168 // swapon, swapoff
        | 169 // reboot
        | 170 | 171 // sethostname, setdomainname
        | 172 | 173 // iopl, ioperm
        | 176 // delete_module
        | 179 // quotactl
        | 272 // unshare
        | 300 // fanotify_init
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
        54 // ioctl
        | 103 // syslog
        | 111 // vhangup
        | 124 // adjtimex
        | 51 // acct
        | 87 | 115 // swapon, swapoff
        | 88 // reboot
        | 74 | 121 // sethostname, setdomainname
        | 110 | 101 // iopl, ioperm
        | 129 // delete_module
        | 131 // quotactl
        | 310 // unshare
        | 338 // fanotify_init
        | 342 // open_by_handle_at
        | 343 | 405 // clock_adjtime, clock_adjtime64
        | 346 // setns
        | 428 | 430..=433 | 442 | 443 | 467
    )
}

/// The system calls by which the network and the audit system are configured: netlink messages and
/// socket options. Other capabilities are asked for there as well, for what the socket was created for.
#[inline(always)]
fn is_configuration(syscall: u64, compat: bool) -> bool {
    if compat {
        // socketcall, sendmmsg, setsockopt, sendto, sendmsg.
        matches!(syscall, 102 | 345 | 366 | 369 | 370)
    } else {
        // sendto, sendmsg, setsockopt, sendmmsg.
        matches!(syscall, 44 | 46 | 54 | 307)
    }
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
    let compat = task.is_compat();
    let decided = if compat { is_decided_here_32(syscall) } else { is_decided_here(syscall) }
        || matches!(capability, CAP_NET_ADMIN | CAP_AUDIT_CONTROL)
            && is_configuration(syscall, compat);
    if !decided {
        return Verdict::Allow;
    }
    at_once(task, &label, &hold::key(task, KIND_CAPABILITY, capability, syscall as u32))
}
