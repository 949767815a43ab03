//! What an exec gains by capabilities that the file has as an attribute.
//!
//! Whether it gains any is known only once the kernel has worked the new credentials out, after the image and
//! its loader were decided; until then the exec can still fail like any other.

use super::{
    content,
    loader::describe_bare,
    passes::{settle, slot},
};
use crate::{
    file::set_file,
    hold,
    kernel::{Bprm, File, Task},
    lineage::label_of,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use core::ptr::addr_of;
use guard_common::{
    event::{ARGV_UNREADABLE, ExecBody},
    hold::{ACCESS_FILE_CAPABILITIES, ACCESS_GAINS, KIND_EXEC},
};

#[lsm(hook = "bprm_creds_from_file")]
pub fn bprm_creds_from_file(ctx: LsmContext) -> i32 {
    bounded(try_bprm_creds_from_file(&ctx))
}

#[inline(always)]
fn try_bprm_creds_from_file(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let (Some(new), Some(old)) = (Bprm::arg(ctx, 0).permitted(), task.permitted()) else {
        return Verdict::Deny;
    };
    let gained = new & !old;
    if gained == 0 {
        return Verdict::Allow;
    }
    let Some(passes) = slot(task) else { return Verdict::Deny };
    // Another user's capabilities are what the image was decided on.
    // SAFETY: a slot that only this thread touches.
    if unsafe { (*passes).check.access } & ACCESS_GAINS != 0 {
        return Verdict::Allow;
    }
    let file = File::arg(ctx, 1);
    let inode = file.inode();
    let mut key = hold::key(task, KIND_EXEC, ACCESS_GAINS | ACCESS_FILE_CAPABILITIES, 0);
    set_file(&mut key, inode);
    [key.object[3], key.object[4]] = [inode.changed_ns(), gained];
    let verdict = hold::answer(task, &label, &key, |body: *mut ExecBody| {
        // The arguments were told with the image; a policy that reads them may not take them for none.
        // SAFETY: a fresh reservation, and the thread's own slot: the image that it was decided on.
        unsafe {
            describe_bare(body, file, ARGV_UNREADABLE);
            content::copy(body, addr_of!((*passes).check));
        }
    });
    settle(passes, &key, verdict)
}
