//! Mounts of every kind, and other roots: `mount`, `move_mount`, `umount`, `pivot_root`, `chroot`.
//!
//! The mount API in steps (`open_tree`, `fsopen`, `fsconfig`, `fsmount`, `mount_setattr`) is decided as
//! capabilities in those system calls (`capability.rs`): a detached mount has paths of its own.

use crate::{
    file::set_file,
    guardian, hold,
    kernel::{Dentry, Mount, Path, Task, Walk, pointer_arg, read_kernel_str},
    lineage::label_of,
    path::name::{fill_walked, name_hash, text_hash},
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use core::ptr::addr_of_mut;
use guard_common::{
    event::{FileBody, NAME_BYTES},
    hold::{KIND_CHROOT, KIND_MOUNT, KIND_UNMOUNT},
};

/// Room for the type of a file system in the text, with its NUL. Types are short words; a longer one is
/// unreadable, never cut.
const TYPE_BYTES: usize = 64;
/// `access` of a mount that is moved rather than made.
const MOVED: u32 = 1;

#[lsm(hook = "sb_mount")]
pub fn sb_mount(ctx: LsmContext) -> i32 {
    bounded(try_sb_mount(&ctx))
}

#[inline(always)]
fn try_sb_mount(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let (source, path, kind) = (pointer_arg(ctx, 0), Path::arg(ctx, 1), pointer_arg(ctx, 2));
    let flags: u64 = ctx.arg(3);
    let Some(inode) = path.dentry().inode() else { return Verdict::Deny };
    let mut key = hold::key(task, KIND_MOUNT, 0, flags as u32);
    set_file(&mut key, inode);
    // Either may be absent (a remount has no type); an absent text is not an empty one.
    let hash = text_or_none([0, 0], kind).and_then(|hash| text_or_none(hash, source));
    let Some(hash) = hash else {
        return hold::refuse_unreadable(task, &label, &key);
    };
    [key.object[3], key.object[4]] = hash;
    hold::answer(task, &label, &key, |body: *mut FileBody| {
        // SAFETY: a fresh reservation; every field but the head and unused tails is written.
        unsafe {
            fill_walked(body, inode, path.walk());
            (*body).name_len = texts(addr_of_mut!((*body).name).cast(), kind, source);
        }
    })
}

/// Adds a text that may be absent to a keyed hash. `None`: it cannot be read.
#[inline(always)]
fn text_or_none(seed: [u64; 2], text: *const u8) -> Option<[u64; 2]> {
    if text.is_null() { Some([seed[0] ^ 1, seed[1]]) } else { text_hash(seed, text) }
}

/// Writes `TYPE SOURCE` with a NUL; returns its bytes with it. A source that does not fit ends cut: the
/// key has all of it.
///
/// # Safety
/// `to` must be writable for `NAME_BYTES`.
#[inline(always)]
unsafe fn texts(to: *mut u8, kind: *const u8, source: *const u8) -> u32 {
    let mut at = 0u64;
    if !kind.is_null() {
        let len = read_kernel_str(to, TYPE_BYTES as u32, kind);
        if len > 1 && len <= TYPE_BYTES as i64 {
            at = len as u64;
        }
    }
    let at = core::hint::black_box(at);
    if at > TYPE_BYTES as u64 {
        return 0;
    }
    if at > 0 {
        // SAFETY: the NUL of the type, which becomes the gap.
        unsafe { *to.add(at as usize - 1) = b' ' };
    }
    // SAFETY: `at <= TYPE_BYTES` leaves room.
    let slot = unsafe { to.add(at as usize) };
    let len = if source.is_null() {
        0
    } else {
        read_kernel_str(slot, (NAME_BYTES - TYPE_BYTES) as u32, source)
    };
    if len > 0 {
        return (at as i64 + len) as u32;
    }
    // SAFETY: as above.
    unsafe { *slot = 0 };
    at as u32 + 1
}

#[lsm(hook = "move_mount")]
pub fn move_mount(ctx: LsmContext) -> i32 {
    bounded(try_move_mount(&ctx))
}

#[inline(always)]
fn try_move_mount(ctx: &LsmContext) -> Verdict {
    let (from, to) = (Path::arg(ctx, 0), Path::arg(ctx, 1));
    pair(from, to, KIND_MOUNT, MOVED)
}

#[lsm(hook = "sb_pivotroot")]
pub fn sb_pivotroot(ctx: LsmContext) -> i32 {
    bounded(try_sb_pivotroot(&ctx))
}

#[inline(always)]
fn try_sb_pivotroot(ctx: &LsmContext) -> Verdict {
    let (old, new) = (Path::arg(ctx, 0), Path::arg(ctx, 1));
    pair(old, new, KIND_CHROOT, MOVED)
}

/// An action on `path` that `other` is part of: by its identity, and for people by its last name.
#[inline(always)]
fn pair(other: Path, path: Path, kind: u32, access: u32) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let dentry = other.dentry();
    let (Some(inode), Some(from)) = (path.dentry().inode(), dentry.inode()) else {
        return Verdict::Deny;
    };
    let mut key = hold::key(task, kind, access, 0);
    set_file(&mut key, inode);
    let Some(hash) = name_hash([from.dev(), from.ino()], dentry) else {
        return hold::refuse_unreadable(task, &label, &key);
    };
    [key.object[3], key.object[4]] = hash;
    hold::answer(task, &label, &key, |body: *mut FileBody| {
        // SAFETY: a fresh reservation; every field but the head and unused tails is written.
        unsafe {
            fill_walked(body, inode, path.walk());
            let len = dentry.read_name(addr_of_mut!((*body).name).cast(), NAME_BYTES as u32);
            (*body).name_len = if len > 0 { len as u32 } else { 0 };
        }
    })
}

#[lsm(hook = "sb_umount")]
pub fn sb_umount(ctx: LsmContext) -> i32 {
    bounded(try_sb_umount(&ctx))
}

#[inline(always)]
fn try_sb_umount(ctx: &LsmContext) -> Verdict {
    let flags: u32 = ctx.arg(1);
    let mount = Mount::arg(ctx, 0);
    match guardian::unmount(Task::current(), mount) {
        Verdict::Allow => {}
        verdict => return verdict,
    }
    single(mount.root(), mount.walk(), KIND_UNMOUNT, flags)
}

#[lsm(hook = "path_chroot")]
pub fn path_chroot(ctx: LsmContext) -> i32 {
    bounded(try_path_chroot(&ctx))
}

#[inline(always)]
fn try_path_chroot(ctx: &LsmContext) -> Verdict {
    let path = Path::arg(ctx, 0);
    single(path.dentry(), path.walk(), KIND_CHROOT, 0)
}

/// An action on one directory.
#[inline(always)]
fn single(dentry: Dentry, walk: Walk, kind: u32, flags: u32) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let Some(inode) = dentry.inode() else { return Verdict::Deny };
    let mut key = hold::key(task, kind, 0, flags);
    set_file(&mut key, inode);
    hold::answer(task, &label, &key, |body: *mut FileBody| {
        // SAFETY: a fresh reservation.
        unsafe { fill_walked(body, inode, walk) };
    })
}
