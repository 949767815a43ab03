//! `open` of a file that exists, and of one that `path_mknod` has just granted.

use crate::{
    cache,
    exec::{opened_by_exec, state},
    hold,
    kernel::{File, Inode, Path, Task},
    lineage::label_of,
    maps::PASSES,
    receive::note_opened,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use core::ptr::addr_of_mut;
use guard_common::{
    event::{FileBody, NAME_BYTES, PATH_BYTES},
    hold::{
        ACCESS_APPEND, ACCESS_READ, ACCESS_TMPFILE, ACCESS_TRUNCATE, ACCESS_WRITE, ActionKey,
        FILE_OBJECT_BYTES, KIND_OPEN,
    },
    label::Label,
};

// include/linux/fs.h and include/uapi/asm-generic/fcntl.h; the same from 6.1 to 7.3.
const FMODE_READ: u32 = 0x1;
pub const FMODE_WRITE: u32 = 0x2;
const FMODE_CREATED: u32 = 0x10_0000;
/// Files that a file system opens below itself (overlayfs): the file above was decided.
pub const FMODE_NOACCOUNT: u32 = 0x2000_0000;
/// Opened by `execve`, as the image or as what it names: the exec family decides.
pub const FMODE_EXEC_FLAG: u32 = 0x20;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const O_NOCTTY: u32 = 0o400;
const O_TRUNC: u32 = 0o1000;
const O_APPEND: u32 = 0o2000;
/// `__O_TMPFILE`.
const O_TMPFILE: u32 = 0o20_000_000;

/// Flags that are part of the action: those of the creation are gone once the file is there.
pub const KEPT_FLAGS: u32 = !(O_CREAT | O_EXCL | O_NOCTTY);

#[lsm(hook = "file_open")]
pub fn file_open(ctx: LsmContext) -> i32 {
    bounded(try_file_open(&ctx))
}

/// One program for what a session opens and for what `execve` opens for it: each program of this hook is called at
/// every open of everybody on the host, and being called costs more than the look for a label.
#[inline(always)]
fn try_file_open(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let file = File::arg(ctx, 0);
    if file.mode() & FMODE_NOACCOUNT != 0 {
        Verdict::Allow
    } else if file.flags() & FMODE_EXEC_FLAG != 0 {
        opened_by_exec(task, &label, file)
    } else {
        opened(task, &label, file)
    }
}

/// What is opened by `open` and its like. Not inlined, nor is its counterpart in `exec/`: both do not fit on one stack.
#[inline(never)]
fn opened(task: Task, label: &Label, file: File) -> Verdict {
    let (flags, mode) = (file.flags(), file.mode());
    // Making a pidfd is no use of the process: signals, descriptors and memory are decided where they are asked for.
    if file.inode().pidfs() != 0 {
        return Verdict::Allow;
    }
    let unnamed = flags & O_TMPFILE == O_TMPFILE;
    // An unnamed file has met no path_mknod: a remembered dentry at its address is somebody else's.
    if !unnamed && mode & FMODE_CREATED != 0 && take_creation(task, file) {
        note_opened(task, label, access_of(flags, mode), file.inode());
        return Verdict::Allow;
    }
    let mut access = access_of(flags, mode);
    let inode = if unnamed {
        // Every restart makes another unnamed inode: the object is the directory.
        access |= ACCESS_TMPFILE;
        match file.dentry().parent().inode() {
            Some(inode) => inode,
            None => return Verdict::Deny,
        }
    } else {
        file.inode()
    };
    let mut key = hold::key(task, KIND_OPEN, access, flags & KEPT_FLAGS);
    set_file(&mut key, inode);
    let cached = cache::of_file(task, label, &key, inode, file.path().walk());
    let verdict = hold::answer_cached(task, label, &key, cached.as_ref(), |body| {
        // SAFETY: a fresh reservation.
        unsafe { fill(body, inode, file.path()) };
    });
    if matches!(verdict, Verdict::Allow) && !unnamed {
        note_opened(task, label, access, inode);
        if mode & FMODE_WRITE != 0 {
            state::changes(inode);
        }
    }
    verdict
}

/// Whether this is the `file_open` of the file whose creation this thread was just granted (H11).
#[inline(always)]
fn take_creation(task: Task, file: File) -> bool {
    let Some(passes) = PASSES.get(task) else { return false };
    // SAFETY: a non-null slot that only this thread touches.
    unsafe {
        let created = (*passes).created_dentry;
        (*passes).created_dentry = 0;
        created != 0 && created == file.dentry().address()
    }
}

/// `ACCESS_*` of a file that is opened with these flags and modes.
#[inline(always)]
pub fn access_of(flags: u32, mode: u32) -> u32 {
    let mut access = 0;
    if mode & FMODE_READ != 0 {
        access |= ACCESS_READ;
    }
    if mode & FMODE_WRITE != 0 {
        access |= ACCESS_WRITE;
    }
    if flags & O_APPEND != 0 {
        access |= ACCESS_APPEND;
    }
    if flags & O_TRUNC != 0 {
        access |= ACCESS_TRUNCATE;
    }
    access
}

/// Makes `inode` the object of the action.
#[inline(always)]
pub fn set_file(key: &mut ActionKey, inode: Inode) {
    key.object_len = FILE_OBJECT_BYTES as u32;
    key.object[0] = inode.dev();
    key.object[1] = inode.ino();
    key.object[2] = inode.generation();
}

/// Completes the body of an action on a file whose path may be asked for.
///
/// # Safety
/// `body` must be a ring buffer reservation.
#[inline(always)]
pub unsafe fn fill(body: *mut FileBody, inode: Inode, path: Path) {
    // SAFETY: the caller's promise.
    unsafe {
        fill_inode(body, inode);
        let to = addr_of_mut!((*body).path).cast();
        (*body).path_len = path.d_path(to, PATH_BYTES as u32);
    }
}

/// The same where the path is not known: policy never lets such an action pass without a person (K3).
///
/// # Safety
/// `body` must be a ring buffer reservation.
#[inline(always)]
pub unsafe fn fill_without_path(body: *mut FileBody, inode: Inode) {
    // SAFETY: the caller's promise.
    unsafe {
        fill_inode(body, inode);
        (*body).path_len = 0;
    }
}

/// Sets the text of a body that has been filled; it ends with a NUL.
///
/// # Safety
/// `body` must be a ring buffer reservation.
#[inline(always)]
pub unsafe fn set_name<const BYTES: usize>(body: *mut FileBody, name: [u8; BYTES]) {
    const { assert!(BYTES <= NAME_BYTES) };
    // SAFETY: the caller's promise, and the name is no longer than its room.
    unsafe {
        addr_of_mut!((*body).name).cast::<[u8; BYTES]>().write_unaligned(name);
        (*body).name_len = BYTES as u32;
    }
}

/// Every field but the head, the path's length and unused tails.
#[inline(always)]
unsafe fn fill_inode(body: *mut FileBody, inode: Inode) {
    // SAFETY: the caller's promise.
    unsafe {
        (*body).owner_uid = inode.uid();
        (*body).mode = inode.mode();
        (*body).name_len = 0;
        (*body).components_len = 0;
    }
}
