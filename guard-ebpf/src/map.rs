//! Code mapped from a file: `mmap_file`, `file_mprotect`. So `dlopen`, `LD_PRELOAD` and a loader that is
//! run by hand (`ld.so ./program`) show what they load.
//!
//! What `execve` maps, the image and the loader that it names, was decided by the exec family. Anonymous
//! memory is not looked at: what a process makes of it, an interpreter could do as well.

use crate::{
    cache,
    file::{FMODE_WRITE, fill, set_file},
    hold,
    kernel::{File, Task, Vma, nullable_arg},
    lineage::label_of,
    path::name::fill_walked,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use guard_common::hold::{ACCESS_SHARED_WRITE, ACCESS_UNNAMED, ActionKey, KIND_MAP};

// include/uapi/asm-generic/mman-common.h and include/linux/mm.h; the same from 6.1 to 7.3.
const PROT_EXEC: u64 = 0x4;
const MAP_TYPE: u64 = 0xf;
const MAP_PRIVATE: u64 = 0x2;
const VM_EXEC: u64 = 0x4;
const VM_SHARED: u64 = 0x8;
const VM_MAYWRITE: u64 = 0x20;

#[lsm(hook = "mmap_file")]
pub fn mmap_file(ctx: LsmContext) -> i32 {
    bounded(try_mmap_file(&ctx))
}

#[inline(always)]
fn try_mmap_file(ctx: &LsmContext) -> Verdict {
    let prot: u64 = ctx.arg(2);
    if prot & PROT_EXEC == 0 || nullable_arg(ctx, 0).is_null() {
        return Verdict::Allow;
    }
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    if task.is_executing() {
        return Verdict::Allow;
    }
    let flags: u64 = ctx.arg(3);
    let Some(file) = File::nullable_arg(ctx, 0) else { return Verdict::Allow };
    let shared = flags & MAP_TYPE != MAP_PRIVATE && file.mode() & FMODE_WRITE != 0;
    let key = key(task, file, shared);
    let inode = file.inode();
    let cached = cache::of_file(task, &label, &key, inode, file.path().walk());
    hold::answer_cached(task, &label, &key, cached.as_ref(), |body| {
        // SAFETY: a fresh reservation.
        unsafe { fill(body, inode, file.path()) };
    })
}

#[lsm(hook = "file_mprotect")]
pub fn file_mprotect(ctx: LsmContext) -> i32 {
    bounded(try_file_mprotect(&ctx))
}

#[inline(always)]
fn try_file_mprotect(ctx: &LsmContext) -> Verdict {
    let prot: u64 = ctx.arg(2);
    if prot & PROT_EXEC == 0 {
        return Verdict::Allow;
    }
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let vma = Vma::arg(ctx, 0);
    let flags = vma.flags();
    if flags & VM_EXEC != 0 {
        return Verdict::Allow;
    }
    let Some(file) = vma.file() else { return Verdict::Allow };
    let shared = flags & (VM_SHARED | VM_MAYWRITE) == VM_SHARED | VM_MAYWRITE;
    let key = key(task, file, shared);
    let inode = file.inode();
    let walk = file.path().walk();
    let cached = cache::of_file(task, &label, &key, inode, walk);
    // `bpf_d_path` is not for this hook.
    hold::answer_cached(task, &label, &key, cached.as_ref(), |body| {
        // SAFETY: a fresh reservation.
        unsafe { fill_walked(body, inode, walk) };
    })
}

#[inline(always)]
fn key(task: Task, file: File, shared: bool) -> ActionKey {
    let inode = file.inode();
    let mut access = if shared { ACCESS_SHARED_WRITE } else { 0 };
    if inode.is_unnamed() {
        access |= ACCESS_UNNAMED;
    }
    let mut key = hold::key(task, KIND_MAP, access, 0);
    set_file(&mut key, inode);
    key
}
