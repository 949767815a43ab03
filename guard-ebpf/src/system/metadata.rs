//! The times of a file, set by `utimensat(2)` and its like: when it was changed, as everybody is told.
//!
//! The hook knows no mount, so there is no path that a policy could go by; and setting times is what every
//! unpacking does. So it is an action about the kernel, permitted or held as a whole.

use crate::{
    hold,
    kernel::{Dentry, Iattr, Task},
    lineage::label_of,
    record::set_fileless,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use core::ptr::addr_of_mut;
use guard_common::{
    event::{FileBody, NAME_BYTES},
    hold::{KIND_METADATA, METADATA_TIMES},
};

/// Bytes of the object: device, inode, generation, and the times.
const OBJECT: u32 = 64;

#[lsm(hook = "inode_setattr")]
pub fn inode_setattr(ctx: LsmContext) -> i32 {
    bounded(set(Dentry::arg(&ctx, 1), Iattr::arg(&ctx, 2)))
}

/// Up to 6.8 the hook takes no mapping of ids before the dentry.
#[lsm(hook = "inode_setattr")]
pub fn inode_setattr_unmapped(ctx: LsmContext) -> i32 {
    bounded(set(Dentry::arg(&ctx, 0), Iattr::arg(&ctx, 1)))
}

#[inline(always)]
fn set(dentry: Dentry, new: Iattr) -> Verdict {
    let task = Task::current();
    // First, because every chmod and every truncation comes here, too.
    if !task.syscall().is_some_and(|syscall| sets_times(syscall, task.is_compat())) {
        return Verdict::Allow;
    }
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let Some(inode) = dentry.inode() else { return Verdict::Deny };
    let mut key = hold::key(task, KIND_METADATA, 0, METADATA_TIMES);
    key.object_len = OBJECT;
    [key.object[0], key.object[1], key.object[2]] = [inode.dev(), inode.ino(), inode.generation()];
    [key.object[3], key.object[4], key.object[5], key.object[6], key.object[7]] = new.times();
    hold::answer(task, &label, &key, |body: *mut FileBody| {
        // SAFETY: a fresh reservation; the name is within its room.
        unsafe {
            set_fileless(body);
            let len = dentry.read_name(addr_of_mut!((*body).name).cast(), NAME_BYTES as u32);
            (*body).name_len = if len > 0 { len as u32 } else { 0 };
        }
    })
}

/// Everything else that sets attributes has a hook of its own, or sets what follows from it.
#[inline(always)]
fn sets_times(syscall: u64, compat: bool) -> bool {
    if compat {
        // utime, utimes, futimesat, utimensat, utimensat_time64.
        matches!(syscall, 30 | 271 | 299 | 320 | 412)
    } else {
        // utime, utimes, futimesat, utimensat.
        matches!(syscall, 132 | 235 | 261 | 280)
    }
}
