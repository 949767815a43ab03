//! Changes to the file tree: names that are made, moved and removed, and a file's own attributes.
//!
//! The object of what is removed or changed is the file; of what is made, the directory and the name;
//! of `link` and `rename`, the file and, hashed, the directory and name that it gets. Paths are walked:
//! none of these hooks may call `bpf_d_path`.

use super::name::{fill_named, fill_walked, name_hash, text_hash, walk};
use crate::{
    file::set_file,
    hold,
    kernel::{Dentry, Inode, Path, Task, pointer_arg, read_kernel_str, walk_from},
    lineage::label_of,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use core::ptr::addr_of_mut;
use guard_common::{
    event::{NAME_BYTES, PATH_BYTES, PairBody},
    hold::{
        ActionKey, KIND_CHMOD, KIND_CHOWN, KIND_LINK, KIND_MKDIR, KIND_MKNOD, KIND_RENAME,
        KIND_RMDIR, KIND_SYMLINK, KIND_TRUNCATE, KIND_UNLINK, OBJECT_BYTES, OBJECT_EXTRA,
    },
    label::Label,
};

/// `truncate(2)`. An open with `O_TRUNC` and `ftruncate` were decided when the file was opened.
const NR_TRUNCATE: u64 = 76;
const NR32_TRUNCATE: u64 = 92;
const NR32_TRUNCATE64: u64 = 193;

#[lsm(hook = "path_unlink")]
pub fn path_unlink(ctx: LsmContext) -> i32 {
    bounded(remove(&ctx, KIND_UNLINK))
}

#[lsm(hook = "path_rmdir")]
pub fn path_rmdir(ctx: LsmContext) -> i32 {
    bounded(remove(&ctx, KIND_RMDIR))
}

#[inline(always)]
fn remove(ctx: &LsmContext, kind: u32) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let (directory, dentry) = (Path::arg(ctx, 0), Dentry::arg(ctx, 1));
    // Of a name that does not exist nothing is removed.
    let Some(inode) = dentry.inode() else { return Verdict::Allow };
    let Some(parent) = directory.dentry().inode() else { return Verdict::Deny };
    let mut key = hold::key(task, kind, 0, 0);
    set_file(&mut key, inode);
    let Some(hash) = name_hash(place(parent), dentry) else {
        return hold::refuse_unreadable(task, &label, &key);
    };
    [key.object[3], key.object[4]] = hash;
    hold::answer(task, &label, &key, |body| {
        // SAFETY: a fresh reservation.
        unsafe { fill_named(body, inode, directory, dentry) };
    })
}

#[lsm(hook = "path_mkdir")]
pub fn path_mkdir(ctx: LsmContext) -> i32 {
    bounded(try_path_mkdir(&ctx))
}

#[inline(always)]
fn try_path_mkdir(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    make(task, &label, Path::arg(ctx, 0), Dentry::arg(ctx, 1), KIND_MKDIR, 0)
}

/// A device node, FIFO or socket is made.
#[inline(always)]
pub fn make_special(
    task: Task,
    label: &Label,
    directory: Path,
    dentry: Dentry,
    mode: u32,
) -> Verdict {
    make(task, label, directory, dentry, KIND_MKNOD, mode)
}

#[inline(always)]
fn make(
    task: Task,
    label: &Label,
    directory: Path,
    dentry: Dentry,
    kind: u32,
    flags: u32,
) -> Verdict {
    let Some(inode) = directory.dentry().inode() else { return Verdict::Deny };
    let mut key = hold::key(task, kind, 0, flags);
    set_file(&mut key, inode);
    let Some(hash) = name_hash([0, 0], dentry) else {
        return hold::refuse_unreadable(task, label, &key);
    };
    [key.object[3], key.object[4]] = hash;
    hold::answer(task, label, &key, |body| {
        // SAFETY: a fresh reservation.
        unsafe { fill_named(body, inode, directory, dentry) };
    })
}

#[lsm(hook = "path_symlink")]
pub fn path_symlink(ctx: LsmContext) -> i32 {
    bounded(try_path_symlink(&ctx))
}

#[inline(always)]
fn try_path_symlink(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let (directory, dentry) = (Path::arg(ctx, 0), Dentry::arg(ctx, 1));
    let target = pointer_arg(ctx, 2);
    let Some(inode) = directory.dentry().inode() else { return Verdict::Deny };
    let mut key = hold::key(task, KIND_SYMLINK, 0, 0);
    set_file(&mut key, inode);
    let hash = name_hash([0, 0], dentry).and_then(|name| text_hash(name, target));
    let Some(hash) = hash else {
        return hold::refuse_unreadable(task, &label, &key);
    };
    [key.object[3], key.object[4]] = hash;
    hold::answer(task, &label, &key, |body: *mut PairBody| {
        // SAFETY: a fresh reservation; every field but the head and unused tails is written.
        unsafe {
            fill_named(addr_of_mut!((*body).first), inode, directory, dentry);
            let other: *mut u8 = addr_of_mut!((*body).other).cast();
            let len = read_kernel_str(other, PATH_BYTES as u32, target);
            (*body).other_len = if len > 0 { len as u32 } else { 0 };
            (*body).other_name_len = 0;
        }
    })
}

#[lsm(hook = "path_link")]
pub fn path_link(ctx: LsmContext) -> i32 {
    bounded(try_path_link(&ctx))
}

#[inline(always)]
fn try_path_link(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let (old, directory, new) = (Dentry::arg(ctx, 0), Path::arg(ctx, 1), Dentry::arg(ctx, 2));
    let Some(inode) = old.inode() else { return Verdict::Deny };
    let mut key = hold::key(task, KIND_LINK, 0, 0);
    let Some(()) = set_pair(&mut key, inode, [0, 0], directory, new) else {
        return hold::refuse_unreadable(task, &label, &key);
    };
    hold::answer(task, &label, &key, |body: *mut PairBody| {
        // SAFETY: a fresh reservation. Both names are on one mount: `link` refuses anything else.
        unsafe {
            fill_walked(addr_of_mut!((*body).first), inode, walk_from(old, directory));
            fill_other(body, directory, new);
        }
    })
}

#[lsm(hook = "path_rename")]
pub fn path_rename(ctx: LsmContext) -> i32 {
    bounded(try_path_rename(&ctx))
}

#[inline(always)]
fn try_path_rename(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let (from, old) = (Path::arg(ctx, 0), Dentry::arg(ctx, 1));
    let (to, new) = (Path::arg(ctx, 2), Dentry::arg(ctx, 3));
    let flags: u32 = ctx.arg(4);
    let Some(inode) = old.inode() else { return Verdict::Deny };
    let Some(parent) = from.dentry().inode() else { return Verdict::Deny };
    let mut key = hold::key(task, KIND_RENAME, 0, flags);
    let seed = name_hash(place(parent), old);
    let set = seed.and_then(|seed| set_pair(&mut key, inode, seed, to, new));
    let Some(()) = set else {
        return hold::refuse_unreadable(task, &label, &key);
    };
    hold::answer(task, &label, &key, |body: *mut PairBody| {
        // SAFETY: a fresh reservation.
        unsafe {
            fill_named(addr_of_mut!((*body).first), inode, from, old);
            fill_other(body, to, new);
        }
    })
}

/// Device and inode number of a directory.
#[inline(always)]
fn place(directory: Inode) -> [u64; 2] {
    [directory.dev(), directory.ino()]
}

/// Makes `inode` the object, and `new` in `directory` (with `seed`) its hash.
#[inline(always)]
fn set_pair(
    key: &mut ActionKey,
    inode: Inode,
    seed: [u64; 2],
    directory: Path,
    new: Dentry,
) -> Option<()> {
    set_file(key, inode);
    let [dev, ino] = place(directory.dentry().inode()?);
    let hash = name_hash([seed[0] ^ dev, seed[1] ^ ino], new)?;
    [key.object[3], key.object[4]] = hash;
    Some(())
}

/// Writes the second name of a pair.
///
/// # Safety
/// `body` must be a ring buffer reservation.
#[inline(always)]
unsafe fn fill_other(body: *mut PairBody, directory: Path, new: Dentry) {
    // SAFETY: the caller's promise; every field of the second name is written.
    unsafe {
        let name = addr_of_mut!((*body).other_name).cast();
        let len = new.read_name(name, NAME_BYTES as u32);
        (*body).other_name_len = if len > 0 { len as u32 } else { 0 };
        let other: *mut u8 = addr_of_mut!((*body).other).cast();
        (*body).other_len = walk(directory.walk(), other);
    }
}

#[lsm(hook = "path_chmod")]
pub fn path_chmod(ctx: LsmContext) -> i32 {
    let mode: u32 = ctx.arg(1);
    bounded(change(&ctx, KIND_CHMOD, mode & 0o7777, 0))
}

#[lsm(hook = "path_chown")]
pub fn path_chown(ctx: LsmContext) -> i32 {
    let (uid, gid): (u32, u32) = (ctx.arg(1), ctx.arg(2));
    bounded(change(&ctx, KIND_CHOWN, 0, u64::from(uid) | u64::from(gid) << 32))
}

#[lsm(hook = "path_truncate")]
pub fn path_truncate(ctx: LsmContext) -> i32 {
    if !is_truncate(Task::current()) {
        return 0;
    }
    bounded(change(&ctx, KIND_TRUNCATE, 0, 0))
}

#[inline(always)]
fn is_truncate(task: Task) -> bool {
    if task.is_compat() {
        return matches!(task.syscall(), Some(NR32_TRUNCATE | NR32_TRUNCATE64));
    }
    task.syscall() == Some(NR_TRUNCATE)
}

/// A file's own attributes or content change. `extra` is part of the object.
#[inline(always)]
fn change(ctx: &LsmContext, kind: u32, flags: u32, extra: u64) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let path = Path::arg(ctx, 0);
    let Some(inode) = path.dentry().inode() else { return Verdict::Deny };
    let mut key = hold::key(task, kind, 0, flags);
    set_file(&mut key, inode);
    key.object[OBJECT_EXTRA] = extra;
    key.object_len = OBJECT_BYTES as u32;
    hold::answer(task, &label, &key, |body| {
        // SAFETY: a fresh reservation.
        unsafe { fill_walked(body, inode, path.walk()) };
    })
}
