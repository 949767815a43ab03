//! H12: what the kernel has committed is compared with what was decided, before the image's first
//! instruction. A difference kills the process and is evidence.

use super::{
    argv, environment,
    passes::{forget, slot},
};
use crate::{
    file::set_file,
    hold,
    kernel::{Bprm, Task, kill_current},
    maps::count,
    record,
};
use core::ptr::addr_of_mut;
use guard_common::{
    counter,
    event::{ARGV_UNREADABLE, EVENT_REFUSED, REASON_ARGV_CHANGED, REASON_UNREADABLE},
    hold::{KIND_EXEC, VERDICT_DENY},
    label::Label,
};

/// Ends the exec of a labelled task: its passes are over, and it goes on as it was decided or not at all.
#[inline(always)]
pub fn verify(task: Task, label: &Label, bprm: Bprm) {
    let Some(passes) = slot(task) else { return end(task, label, bprm, REASON_UNREADABLE) };
    forget(passes);
    // SAFETY: a slot that only this thread touches.
    let same = unsafe {
        let check = addr_of_mut!((*passes).check);
        // Not made: the label came after the check, and nothing was decided. A 32-bit caller's arguments
        // are not known to any policy, so there is nothing to compare.
        let made = (*check).made != 0 && (*check).argv_flags & ARGV_UNREADABLE == 0;
        (*check).made = 0;
        if !made {
            return;
        }
        match argv::is_committed(check, bprm.is_interpreter() != 0) {
            Some(true) => environment::is_committed(bprm, check),
            other => other,
        }
    };
    match same {
        Some(true) => {}
        Some(false) => end(task, label, bprm, REASON_ARGV_CHANGED),
        None => end(task, label, bprm, REASON_UNREADABLE),
    }
}

/// Past the point of no return nothing can be refused, so the new image must not run.
#[inline(always)]
fn end(task: Task, label: &Label, bprm: Bprm, reason: u32) {
    count(counter::KILLED_ARGV);
    let mut key = hold::key(task, KIND_EXEC, 0, 0);
    set_file(&mut key, bprm.file().inode());
    record::outcome(EVENT_REFUSED, task, label, 0, &key, VERDICT_DENY, reason);
    kill_current();
}
