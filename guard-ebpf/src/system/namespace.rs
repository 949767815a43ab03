//! New namespaces: a user namespace at `userns_create`, the others by their clone flags at `task_alloc`.
//! `unshare` and `setns` are capabilities in a system call (`capability.rs`).

use crate::{
    hold,
    kernel::Task,
    lineage::label_of,
    system::held,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use guard_common::{
    hold::{KIND_NAMESPACE, KIND_USER_NAMESPACE},
    label::Label,
};

/// `include/uapi/linux/sched.h`: every `CLONE_NEW…` but `CLONE_NEWUSER`. The kernel has removed the exit
/// signal, whose byte `CLONE_NEWTIME` shares, before any hook.
const CLONE_NEW: u64 = CLONE_NEWTIME
    | CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWPID
    | CLONE_NEWNET;
const CLONE_NEWTIME: u64 = 0x80;
const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_NEWCGROUP: u64 = 0x200_0000;
const CLONE_NEWUTS: u64 = 0x400_0000;
const CLONE_NEWIPC: u64 = 0x800_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;

#[lsm(hook = "userns_create")]
pub fn userns_create(_: LsmContext) -> i32 {
    bounded(try_userns_create())
}

#[inline(always)]
fn try_userns_create() -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    held(task, &label, &hold::key(task, KIND_USER_NAMESPACE, 0, 0))
}

/// Decides on the namespaces of a task that is about to be made.
///
/// With `CLONE_NEWUSER` the same system call was decided at `userns_create`, and what it makes belongs to
/// that namespace: a second hold would restart the call into a second user namespace.
#[inline(always)]
pub fn decide(task: Task, label: &Label, clone_flags: u64) -> Verdict {
    let new = clone_flags & CLONE_NEW;
    if new == 0 || clone_flags & CLONE_NEWUSER != 0 {
        return Verdict::Allow;
    }
    held(task, label, &hold::key(task, KIND_NAMESPACE, 0, new as u32))
}
