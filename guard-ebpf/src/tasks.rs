//! What is done to other tasks: signals and `ptrace`. Inside a session everything goes; what reaches out
//! of it is denied at once, with evidence.
//!
//! Nothing here is held: the callers turn every error into another one, or hold locks. `guard-agent`,
//! its helpers and every other session are "outside" like everything else, so no labelled task can stop,
//! kill, inspect or steer what enforces upon it.

use crate::{
    guardian, hold,
    kernel::Task,
    lineage::label_of,
    record::set_plain,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{bindings::task_struct, macros::lsm, programs::LsmContext};
use guard_common::{
    event::REASON_OUTSIDE,
    hold::{ActionKey, KIND_PTRACE, KIND_SIGNAL, TASK_OBJECT_BYTES},
    label::Label,
};

/// `include/linux/ptrace.h`: attach rather than read.
const PTRACE_MODE_ATTACH: u32 = 0x02;
/// `include/linux/ptrace.h`: a probe whose refusal is nothing to report (`ps`, `/proc/PID/stat`).
const PTRACE_MODE_NOAUDIT: u32 = 0x04;

#[lsm(hook = "task_kill")]
pub fn task_kill(ctx: LsmContext) -> i32 {
    bounded(try_task_kill(&ctx))
}

#[inline(always)]
fn try_task_kill(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let target: *mut task_struct = ctx.arg(0);
    let signal: u32 = ctx.arg(2);
    reach(task, &label, Task::from_ptr(target), KIND_SIGNAL, signal)
}

#[lsm(hook = "ptrace_access_check")]
pub fn ptrace_access_check(ctx: LsmContext) -> i32 {
    bounded(try_ptrace_access_check(&ctx))
}

#[inline(always)]
fn try_ptrace_access_check(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let target: *mut task_struct = ctx.arg(0);
    let target = Task::from_ptr(target);
    let mode: u32 = ctx.arg(1);
    let Some(label) = label_of(task) else {
        return if mode & PTRACE_MODE_ATTACH == 0 {
            Verdict::Allow
        } else {
            guardian::attach(task, target)
        };
    };
    let quiet = mode & PTRACE_MODE_NOAUDIT != 0 && mode & PTRACE_MODE_ATTACH == 0;
    if quiet && !same_session(&label, target) {
        return Verdict::Deny;
    }
    reach(task, &label, target, KIND_PTRACE, mode)
}

/// Whether the target is of the session that has this label.
#[inline(always)]
pub fn same_session(label: &Label, target: Task) -> bool {
    label_of(target).is_some_and(|other| other.session == label.session)
}

/// Allows what stays inside the session.
#[inline(always)]
fn reach(task: Task, label: &Label, target: Task, kind: u32, flags: u32) -> Verdict {
    if same_session(label, target) {
        return Verdict::Allow;
    }
    let mut key = hold::key(task, kind, 0, flags);
    set_task(&mut key, target);
    hold::block(task, label, &key, REASON_OUTSIDE, |body| {
        // SAFETY: a fresh reservation.
        unsafe { set_plain(body, 0) };
    })
}

/// Makes `target` the object of the action.
#[inline(always)]
fn set_task(key: &mut ActionKey, target: Task) {
    let comm = target.comm();
    key.object_len = TASK_OBJECT_BYTES as u32;
    key.object[0] = target.start_boottime_ns();
    key.object[1] = target.tgid().into();
    key.object[2] = target.uid().into();
    key.object[3] = label_of(target).map_or(0, |label| label.session);
    [key.object[4], key.object[5]] = comm;
}
