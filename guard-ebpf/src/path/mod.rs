//! Creation of a file: held at `path_mknod`, before anything has changed (H11).
//!
//! `open(O_CREAT)` calls this hook before it creates, and `file_open` after; a hold at the latter would
//! restart into a file that exists (`O_EXCL` would fail). So the creation is the action, and the
//! `file_open` of exactly the dentry that was granted passes (see `file.rs`).
//!
//! `bpf_d_path` is refused on this hook up to 7.3 (tried: 6.1, 6.12, 7.3), so the directory is walked
//! component by component, to the root of the mount namespace. In a plain chroot that is the path from
//! outside; in a container, whose root is the root of its mount namespace, it is the same path.

mod attribute;
mod change;
pub mod name;

use crate::{
    file::set_file,
    hold,
    kernel::{Dentry, Path, Task},
    lineage::label_of,
    maps::PASSES,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use guard_common::hold::{ACCESS_CREATE, ACCESS_WRITE, KIND_OPEN};
use name::{fill_named, name_hash};

/// `include/uapi/linux/stat.h`: the type of a file in its mode.
pub const S_IFMT: u32 = 0o170_000;
/// A regular file.
pub const S_IFREG: u32 = 0o100_000;

#[lsm(hook = "path_mknod")]
pub fn path_mknod(ctx: LsmContext) -> i32 {
    bounded(try_path_mknod(&ctx))
}

#[inline(always)]
fn try_path_mknod(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let (directory, dentry) = (Path::arg(ctx, 0), Dentry::arg(ctx, 1));
    let mode: u32 = ctx.arg(2);
    if mode & S_IFMT != 0 && mode & S_IFMT != S_IFREG {
        return change::make_special(task, &label, directory, dentry, mode);
    }
    let Some(inode) = directory.dentry().inode() else { return Verdict::Deny };
    let mut key = hold::key(task, KIND_OPEN, ACCESS_CREATE | ACCESS_WRITE, 0);
    set_file(&mut key, inode);
    let Some(hash) = name_hash([0, 0], dentry) else {
        return hold::refuse_unreadable(task, &label, &key);
    };
    [key.object[3], key.object[4]] = hash;
    let verdict = hold::answer(task, &label, &key, |body| {
        // SAFETY: a fresh reservation.
        unsafe { fill_named(body, inode, directory, dentry) };
    });
    if matches!(verdict, Verdict::Allow) && !remember(task, dentry) {
        return Verdict::Deny;
    }
    verdict
}

/// The grant covers the `file_open` of this very dentry by this thread.
#[inline(always)]
fn remember(task: Task, dentry: Dentry) -> bool {
    match PASSES.get_or_create(task) {
        Some(passes) => {
            // SAFETY: a non-null slot that only this thread touches.
            unsafe { (*passes).created_dentry = dentry.address() };
            true
        }
        None => false,
    }
}
