//! H12: what the kernel has committed is compared with what was decided, before the image's first
//! instruction. A difference kills the process and is evidence.

use super::{argv, environment, passes::forget};
use crate::{
    file::set_file,
    hold,
    kernel::{Bprm, Task, kill_current},
    maps::{PASSES, count},
    record,
};
use core::ptr::addr_of_mut;
use guard_common::{
    counter,
    event::{ARGV_UNREADABLE, EVENT_REFUSED, REASON_ARGV_CHANGED},
    hold::{KIND_EXEC, VERDICT_DENY},
    label::Label,
};

/// Ends the exec of a labelled task: its passes are over, and it goes on as it was decided or not at all.
#[inline(always)]
pub fn verify(task: Task, label: &Label, bprm: Bprm) {
    // Without a slot nothing was decided: the label came after the check.
    let Some(passes) = PASSES.get(task) else { return };
    forget(passes);
    // SAFETY: a slot that only this thread touches.
    let same = unsafe {
        let check = addr_of_mut!((*passes).check);
        let made = (*check).made;
        (*check).made = 0;
        // A 32-bit caller's arguments are not known to any policy, so there is nothing to compare.
        made == 0
            || (*check).argv_flags & ARGV_UNREADABLE != 0
            || argv::is_committed(check, bprm.is_interpreter() != 0)
                && environment::is_committed(bprm, check)
    };
    if same {
        return;
    }
    count(counter::KILLED_ARGV);
    let mut key = hold::key(task, KIND_EXEC, 0, 0);
    set_file(&mut key, bprm.file().inode());
    record::outcome(EVENT_REFUSED, task, label, 0, &key, VERDICT_DENY, REASON_ARGV_CHANGED);
    kill_current();
}
