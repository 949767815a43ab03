//! Who a process is, and what time it is: `setuid` and its family, and the clock.

use crate::{
    hold,
    kernel::{Cred, Task, first_other, nullable_arg, read_kernel},
    lineage::label_of,
    system::held,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use guard_common::hold::{KIND_SETID, KIND_SETTIME};

/// Bytes of the object of both actions: two words.
const OBJECT: u32 = 16;

#[lsm(hook = "task_fix_setuid")]
pub fn task_fix_setuid(ctx: LsmContext) -> i32 {
    let (new, old) = (Cred::arg(&ctx, 0), Cred::arg(&ctx, 1));
    bounded(assume(new.uids(), old.uids(), 0))
}

#[lsm(hook = "task_fix_setgid")]
pub fn task_fix_setgid(ctx: LsmContext) -> i32 {
    let (new, old) = (Cred::arg(&ctx, 0), Cred::arg(&ctx, 1));
    bounded(assume(new.gids(), old.gids(), 1))
}

/// Asks about the first id that the process did not have in any of its four places. Going back and forth
/// between ids that it has (what a set-user-id program does) is not an action.
#[inline(always)]
fn assume(new: [u32; 4], old: [u32; 4], group: u64) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let Some(id) = first_other(new, old) else { return Verdict::Allow };
    let mut key = hold::key(task, KIND_SETID, 0, 0);
    key.object[0] = id.into();
    key.object[1] = group;
    key.object_len = OBJECT;
    held(task, &label, &key)
}

#[lsm(hook = "settime")]
pub fn settime(ctx: LsmContext) -> i32 {
    bounded(try_settime(&ctx))
}

#[inline(always)]
fn try_settime(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let time = nullable_arg(ctx, 0);
    let mut key = hold::key(task, KIND_SETTIME, 0, 0);
    // Seconds and nanoseconds; nothing where only the time zone is set.
    if !time.is_null() {
        if !read_kernel(key.object.as_mut_ptr().cast(), OBJECT, time) {
            return hold::refuse_unreadable(task, &label, &key);
        }
        key.object_len = OBJECT;
    }
    held(task, &label, &key)
}
