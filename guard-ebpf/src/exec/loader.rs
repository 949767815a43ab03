//! The program that an ELF file names to load it (`PT_INTERP`): opened by `execve` after the file's own
//! check and before the point of no return, without a check of its own. So it is decided where it is
//! opened.

use super::{
    content,
    passes::{passed, settle, slot},
    state,
};
use crate::{
    cache,
    file::set_file,
    hold,
    kernel::{File, Task},
    verdict::Verdict,
};
use core::ptr::addr_of_mut;
use guard_common::{
    event::{ExecBody, PATH_BYTES},
    hold::{ACCESS_LOADER, KIND_EXEC},
    label::Label,
};

/// What `execve` opens: an image, whose check is to come, or the loader that one names. Not inlined: see `file.rs`.
#[inline(never)]
pub fn opened_by_exec(task: Task, label: &Label, file: File) -> Verdict {
    // Made here, where the image is opened, and not by the sleepable program that checks it: up to 6.1 the
    // kernel refuses every look at task storage while another task of the same CPU sleeps in making some, and
    // then a fork, a creation or an exec is denied for nothing. And who cannot know whether this is a loader
    // does not let it pass.
    let Some(passes) = slot(task) else { return Verdict::Deny };
    // SAFETY: a slot that only this thread touches.
    unsafe {
        if (*passes).names_loader == 0 {
            return Verdict::Allow;
        }
        (*passes).names_loader = 0;
    }
    let inode = file.inode();
    // After an exec that failed on its way, the next one's image is opened here: it has a check to come.
    // SAFETY: as above.
    if unsafe { (*passes).check.image } == [inode.dev(), inode.ino()] {
        return Verdict::Allow;
    }
    let mut key = hold::key(task, KIND_EXEC, ACCESS_LOADER, 0);
    set_file(&mut key, inode);
    // As for any image: what was written to after a decision is another one.
    let Some(state) = state::of(inode) else { return Verdict::Deny };
    [key.object[3], key.object[4]] = [inode.changed_ns(), state];
    if passed(passes, &key) {
        return Verdict::Allow;
    }
    let cached = cache::of_file(task, label, &key, inode, file.path().walk());
    let verdict = hold::answer_cached(task, label, &key, cached.as_ref(), |body: *mut ExecBody| {
        // SAFETY: a fresh reservation.
        unsafe { describe_bare(body, file, 0) };
    });
    settle(passes, &key, verdict)
}

/// Every field but the head and unused tails, without arguments: what of them is known is in `argv_flags`.
///
/// # Safety
/// `body` must be a ring buffer reservation.
#[inline(always)]
pub unsafe fn describe_bare(body: *mut ExecBody, file: File, argv_flags: u32) {
    let inode = file.inode();
    // SAFETY: the caller's promise.
    unsafe {
        (*body).owner_uid = inode.uid();
        (*body).mode = inode.mode();
        (*body).argc = 0;
        (*body).argv_len = 0;
        (*body).argv_flags = argv_flags;
        (*body).environment = 0;
        content::none(body);
        let path = addr_of_mut!((*body).path).cast();
        (*body).path_len = file.path().d_path(path, PATH_BYTES as u32);
    }
}
