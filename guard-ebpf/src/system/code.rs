//! Code and settings for the kernel itself: modules, kexec, firmware, bpf(2), perf, io_uring,
//! userfaultfd.

use crate::{
    file::{fill, set_file},
    hold,
    kernel::{File, Name, Task},
    lineage::label_of,
    system::{self, ask_at_once},
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use guard_common::hold::{
    KIND_BPF, KIND_IO_URING, KIND_KEXEC, KIND_MODULE, KIND_PERF, KIND_USERFAULTFD,
};

// include/linux/kernel_read_file.h, whose numbers `kernel_load_data_id` shares.
const READING_MODULE: u32 = 2;
const READING_KEXEC_IMAGE: u32 = 3;
const READING_KEXEC_INITRAMFS: u32 = 4;

/// `io_uring_setup`.
const NR_IO_URING_SETUP: u64 = 425;

// `flags` of `KIND_IO_URING`.
const RING: u32 = 0;
const RING_SQPOLL: u32 = 1;
const RING_CREDENTIALS: u32 = 2;
const RING_COMMAND: u32 = 3;

#[lsm(hook = "kernel_read_file")]
pub fn kernel_read_file(ctx: LsmContext) -> i32 {
    bounded(try_kernel_read_file(&ctx))
}

#[inline(always)]
fn try_kernel_read_file(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let what: u32 = ctx.arg(1);
    let file = File::arg(ctx, 0);
    let inode = file.inode();
    let mut key = hold::key(task, kind_of(what), 0, what);
    set_file(&mut key, inode);
    let fill = |body| {
        // SAFETY: a fresh reservation.
        unsafe { fill(body, inode, file.path()) };
    };
    if is_holdable(what) {
        hold::answer(task, &label, &key, fill)
    } else {
        hold::answer_at_once(task, &label, &key, fill)
    }
}

/// `init_module(2)`, `kexec_load(2)`: from memory, so there is no file to name.
#[lsm(hook = "kernel_load_data")]
pub fn kernel_load_data(ctx: LsmContext) -> i32 {
    bounded(try_kernel_load_data(&ctx))
}

#[inline(always)]
fn try_kernel_load_data(ctx: &LsmContext) -> Verdict {
    let what: u32 = ctx.arg(0);
    if is_holdable(what) { held(kind_of(what), what) } else { ask_at_once(kind_of(what), 0, what) }
}

/// Whether the caller hands our error on as it is; a driver that wants firmware looks for another one.
#[inline(always)]
fn is_holdable(what: u32) -> bool {
    matches!(what, READING_MODULE | READING_KEXEC_IMAGE | READING_KEXEC_INITRAMFS)
}

#[inline(always)]
fn kind_of(what: u32) -> u32 {
    match what {
        READING_KEXEC_IMAGE | READING_KEXEC_INITRAMFS => KIND_KEXEC,
        // Firmware, keys and policies of the kernel are code for it as well.
        _ => KIND_MODULE,
    }
}

#[lsm(hook = "bpf")]
pub fn bpf(ctx: LsmContext) -> i32 {
    let command: u32 = ctx.arg(0);
    bounded(held(KIND_BPF, command))
}

/// At once: the kernel asks several times in one call, and its versions differ in what they hand over.
#[lsm(hook = "perf_event_open")]
pub fn perf_event_open(_: LsmContext) -> i32 {
    bounded(ask_at_once(KIND_PERF, 0, 0))
}

/// The only anonymous inode that `io_uring_setup` makes is the ring.
#[lsm(hook = "inode_init_security_anon")]
pub fn inode_init_security_anon(_: LsmContext) -> i32 {
    if Task::current().syscall() != Some(NR_IO_URING_SETUP) {
        return 0;
    }
    bounded(held(KIND_IO_URING, RING))
}

/// Of the anonymous inodes the one that lets a process answer faults of its own memory, whatever has made it: the
/// kernel's name of it is no process's to choose.
#[lsm(hook = "inode_init_security_anon")]
pub fn userfaultfd(ctx: LsmContext) -> i32 {
    if !Name::arg(&ctx, 1).is(*b"[userfaultfd]") {
        return 0;
    }
    bounded(held(KIND_USERFAULTFD, 0))
}

#[lsm(hook = "uring_sqpoll")]
pub fn uring_sqpoll(_: LsmContext) -> i32 {
    bounded(ask_at_once(KIND_IO_URING, 0, RING_SQPOLL))
}

#[lsm(hook = "uring_override_creds")]
pub fn uring_override_creds(_: LsmContext) -> i32 {
    bounded(ask_at_once(KIND_IO_URING, 0, RING_CREDENTIALS))
}

#[lsm(hook = "uring_cmd")]
pub fn uring_cmd(_: LsmContext) -> i32 {
    bounded(ask_at_once(KIND_IO_URING, 0, RING_COMMAND))
}

#[inline(always)]
fn held(kind: u32, flags: u32) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    system::held(task, &label, &hold::key(task, kind, 0, flags))
}
