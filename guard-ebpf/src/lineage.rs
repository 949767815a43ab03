//! Labels: inherited at fork, given at exec by selectors; and the life of labelled tasks as records.
//!
//! Labels lie in task storage. Linux 6.1 copies the pointer to it with the task when it forks, and a fork
//! that fails early (`RLIMIT_NPROC` is enough) frees the parent's storage with the child: the session
//! would be free. There every label has a second copy under the thread's identity, from before the child
//! can run to its exit, and a task without storage is looked for among these.

use crate::{
    exec::commit,
    guardian,
    kernel::{Bprm, Task, cgroup_id, stop_current, uid_gid},
    maps::{BACKUPS, LABELS, SELECTORS, config, count},
    record,
    system::namespace,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{
    bindings::task_struct,
    macros::{btf_tracepoint, lsm},
    programs::{BtfTracePointContext, LsmContext},
};
use guard_common::{
    counter,
    event::{EVENT_EXECUTED, EVENT_EXIT, EVENT_FORK, EVENT_SELECTED},
    label::{
        LABEL_FLAG_ROOT, LABEL_FLAG_UNSEEN, Label, SELECT_CGROUP, SELECT_PROGRAM, SELECT_UID,
        SelectorKey, TaskKey,
    },
};

/// The label of a task.
#[inline(always)]
pub fn label_of(task: Task) -> Option<Label> {
    let stored = if task.has_storage() { LABELS.get(task) } else { None };
    match stored {
        // SAFETY: a non-null storage slot of this type; a label's session is written once, before the task runs.
        Some(label) => Some(unsafe { *label }),
        None if keeps_backups() => restored(task),
        None => None,
    }
}

#[inline(always)]
fn keeps_backups() -> bool {
    config().is_some_and(|config| config.backups != 0)
}

/// The label from its second copy, back in its place.
#[inline(always)]
fn restored(task: Task) -> Option<Label> {
    // SAFETY: the value is copied at once.
    let label = unsafe { BACKUPS.get(&identity(task)) }.copied()?;
    if let Some(slot) = LABELS.get_or_create(task) {
        // SAFETY: a storage slot of this type, which had no label.
        unsafe { *slot = label };
    }
    Some(label)
}

/// Keeps a second copy. False: it is needed and there is no room.
#[inline(always)]
fn back_up(task: Task, label: &Label) -> bool {
    !keeps_backups() || BACKUPS.insert(&identity(task), label, 0).is_ok()
}

#[inline(always)]
fn identity(task: Task) -> TaskKey {
    TaskKey { start_boottime_ns: task.start_boottime_ns(), tid: task.tid(), _pad: 0 }
}

/// A child has its parent's label from before it can run: a session is its whole process tree,
/// whatever setsid, double fork or reparenting do.
#[lsm(hook = "task_alloc")]
pub fn task_alloc(ctx: LsmContext) -> i32 {
    bounded(try_task_alloc(&ctx))
}

#[inline(always)]
fn try_task_alloc(ctx: &LsmContext) -> Verdict {
    let Some(label) = label_of(Task::current()) else { return Verdict::Allow };
    let child: *mut task_struct = ctx.arg(0);
    let clone_flags: u64 = ctx.arg(1);
    match namespace::decide(Task::current(), &label, clone_flags) {
        Verdict::Allow => {}
        verdict => return verdict,
    }
    match LABELS.get_or_create(Task::from_ptr(child)) {
        Some(slot) => {
            // SAFETY: a fresh storage slot of a task that does not run yet.
            unsafe { *slot = label.of_child() };
            Verdict::Allow
        }
        None => {
            // An unlabelled child would be free of everything: no child then (K3).
            count(counter::DENIED_LABEL);
            Verdict::Deny
        }
    }
}

/// The image is committed and has not run yet: selectors label here, so no instruction of a selected
/// program runs unlabelled.
#[lsm(hook = "bprm_committed_creds", sleepable)]
pub fn bprm_committed_creds(ctx: LsmContext) -> i32 {
    let task = Task::current();
    match label_of(task) {
        Some(label) => {
            commit::verify(task, &label, Bprm::arg(&ctx, 0));
            // The first process of a session was labelled from user space.
            keep(task, &label);
            record::plain(EVENT_EXECUTED, task, &label);
        }
        None => select(task, Bprm::arg(&ctx, 0)),
    }
    0
}

/// Keeps a second copy of the caller's label, or ends the caller.
#[inline(always)]
fn keep(task: Task, label: &Label) {
    if !back_up(task, label) {
        count(counter::DENIED_LABEL);
        crate::kernel::kill_current();
    }
}

#[inline(always)]
fn select(task: Task, bprm: Bprm) {
    let inode = bprm.file().inode();
    let by_program =
        SelectorKey { kind: SELECT_PROGRAM, _pad: 0, dev: inode.dev(), id: inode.ino() };
    let uid = u64::from(uid_gid() as u32);
    let by_uid = SelectorKey { kind: SELECT_UID, _pad: 0, dev: 0, id: uid };
    let by_cgroup = SelectorKey { kind: SELECT_CGROUP, _pad: 0, dev: 0, id: cgroup_id() };
    // SAFETY: the values are copied at once.
    let selector = unsafe {
        SELECTORS.get(&by_program).or(SELECTORS.get(&by_uid)).or(SELECTORS.get(&by_cgroup)).copied()
    };
    let Some(selector) = selector else { return };
    let Some(slot) = LABELS.get_or_create(task) else {
        // Past the point of no return nothing can be refused, so the new image must not run.
        count(counter::DENIED_LABEL);
        crate::kernel::kill_current();
        return;
    };
    let handle = SELECTED_SESSIONS | count(counter::SESSION_HANDLES);
    let label = Label { session: handle, flags: LABEL_FLAG_ROOT, _pad: 0 };
    // SAFETY: a fresh storage slot of the task that is running this program.
    unsafe { *slot = Label { flags: label.flags | LABEL_FLAG_UNSEEN, ..label } };
    // Without the flag: a copy that is needed one day is of a process that has been seen.
    keep(task, &label);
    // What it was handed it could read and write without asking anybody. Stopped before it is said: guard-agent
    // continues it as soon as it reads that.
    if !stop_current() {
        count(counter::DENIED_LABEL);
        crate::kernel::kill_current();
    }
    record::selected(EVENT_SELECTED, task, &label, selector);
}

/// Session handles that the kernel gives have this bit; those that guard-agent gives do not.
const SELECTED_SESSIONS: u64 = 1 << 63;

#[btf_tracepoint(function = "sched_process_fork")]
pub fn sched_process_fork(ctx: BtfTracePointContext) -> i32 {
    let task = Task::current();
    if let Some(label) = label_of(task) {
        let child: *mut task_struct = ctx.arg(1);
        let child = Task::from_ptr(child);
        // It does not run yet. Its parent ends with it if it could lose its label.
        if !back_up(child, &label.of_child()) {
            count(counter::DENIED_LABEL);
            crate::kernel::kill_current();
        }
        record::fork(EVENT_FORK, task, &label, child);
    }
    0
}

#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(_: BtfTracePointContext) -> i32 {
    let task = Task::current();
    guardian::left(task);
    if let Some(label) = label_of(task) {
        let _ = BACKUPS.remove(&identity(task));
        record::plain(EVENT_EXIT, task, &label);
    }
    0
}
