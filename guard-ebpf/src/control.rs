//! What steers other tasks by other means than signals and `ptrace`, or types into a terminal.
//!
//! Each of these has the effect of something that is refused elsewhere: the owner of a descriptor is sent
//! any signal that its opener chose (`F_SETOWN`, `F_SETSIG`), a limit kills (`RLIMIT_CPU`), and what is
//! typed into a terminal (`TIOCSTI`) is a command to whoever reads it after the session. So they are
//! answered at once, by a standing permission or a denial; inside the session tasks may be steered.

use crate::{
    file::{fill, fill_without_path, set_file, set_name},
    hold,
    kernel::{File, Task},
    lineage::label_of,
    system::{ask_at_once, at_once},
    tasks::same_session,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{bindings::task_struct, macros::lsm, programs::LsmContext};
use guard_common::{
    event::FileBody,
    hold::{
        CONTROL_IO_PRIORITY, CONTROL_LIMITS, CONTROL_MEMORY, CONTROL_OWNER, CONTROL_PRIORITY,
        CONTROL_SCHEDULER, CONTROL_TERMINAL, KIND_CONTROL, KIND_XATTR,
    },
};

/// `include/linux/security.h`: another process's limits are written, not only read.
const LSM_PRLIMIT_WRITE: u32 = 2;

// include/uapi/asm-generic/fcntl.h.
const F_SETOWN: u32 = 8;
const F_SETOWN_EX: u32 = 15;

// include/uapi/asm-generic/sockios.h: `F_SETOWN` of a socket, through a pointer.
const FIOSETOWN: u32 = 0x8901;
const SIOCSPGRP: u32 = 0x8902;
// include/uapi/asm-generic/ioctls.h.
/// Types a character into a terminal.
const TIOCSTI: u32 = 0x5412;
/// Among others, pastes a selection into a console.
const TIOCLINUX: u32 = 0x541c;

// include/uapi/linux/fs.h, fsverity.h and fscrypt.h: they change a file through a descriptor that need
// not be open for writing. The second of each is that of 32-bit callers, where it is another.
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
const FS_IOC32_SETFLAGS: u32 = 0x4004_6602;
const FS_IOC_SETVERSION: u32 = 0x4008_7602;
const FS_IOC32_SETVERSION: u32 = 0x4004_7602;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
const FS_IOC_ENABLE_VERITY: u32 = 0x4080_6685;
const FS_IOC_SET_ENCRYPTION_POLICY: u32 = 0x800c_6613;

#[lsm(hook = "task_setnice")]
pub fn task_setnice(ctx: LsmContext) -> i32 {
    bounded(steer(&ctx, CONTROL_PRIORITY))
}

#[lsm(hook = "task_setioprio")]
pub fn task_setioprio(ctx: LsmContext) -> i32 {
    bounded(steer(&ctx, CONTROL_IO_PRIORITY))
}

#[lsm(hook = "task_setscheduler")]
pub fn task_setscheduler(ctx: LsmContext) -> i32 {
    bounded(steer(&ctx, CONTROL_SCHEDULER))
}

#[lsm(hook = "task_movememory")]
pub fn task_movememory(ctx: LsmContext) -> i32 {
    bounded(steer(&ctx, CONTROL_MEMORY))
}

/// The first argument of each of these hooks is the task that is steered.
#[inline(always)]
fn steer(ctx: &LsmContext, what: u32) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let target: *mut task_struct = ctx.arg(0);
    let target = Task::from_ptr(target);
    if same_session(&label, target) {
        return Verdict::Allow;
    }
    at_once(task, &label, &hold::key(task, KIND_CONTROL, target.tgid(), what))
}

/// The hook is given credentials and no task, so the session's own processes are asked about as well.
/// A thread that sets its own limits does not come here.
#[lsm(hook = "task_prlimit")]
pub fn task_prlimit(ctx: LsmContext) -> i32 {
    let flags: u32 = ctx.arg(2);
    if flags & LSM_PRLIMIT_WRITE == 0 {
        return 0;
    }
    bounded(ask(CONTROL_LIMITS, 0))
}

/// Who is signalled when a descriptor has something to say: the process itself, or nobody.
#[lsm(hook = "file_fcntl")]
pub fn file_fcntl(ctx: LsmContext) -> i32 {
    let command: u32 = ctx.arg(1);
    match command {
        F_SETOWN => bounded(set_owner(ctx.arg(2))),
        // The owner is in memory that can change after this look.
        F_SETOWN_EX => bounded(ask(CONTROL_OWNER, 0)),
        _ => 0,
    }
}

#[inline(always)]
fn set_owner(owner: u32) -> Verdict {
    if owner == 0 || owner == Task::current().tgid() {
        return Verdict::Allow;
    }
    ask(CONTROL_OWNER, owner)
}

#[lsm(hook = "file_ioctl")]
pub fn file_ioctl(ctx: LsmContext) -> i32 {
    bounded(try_ioctl(&ctx, |body, file| {
        // SAFETY: a fresh reservation.
        unsafe { fill(body, file.inode(), file.path()) };
    }))
}

/// 32-bit callers, from 6.8 on. The path is unknown: `bpf_d_path` is not for this hook.
#[lsm(hook = "file_ioctl_compat")]
pub fn file_ioctl_compat(ctx: LsmContext) -> i32 {
    bounded(try_ioctl(&ctx, |body, file| {
        // SAFETY: a fresh reservation.
        unsafe { fill_without_path(body, file.inode()) };
    }))
}

/// Answers what is to be looked at. `describe` completes the body of a file's change.
#[inline(always)]
fn try_ioctl(ctx: &LsmContext, describe: impl FnOnce(*mut FileBody, File)) -> Verdict {
    let command: u32 = ctx.arg(1);
    match command {
        TIOCSTI | TIOCLINUX => ask(CONTROL_TERMINAL, 0),
        FIOSETOWN | SIOCSPGRP => ask(CONTROL_OWNER, 0),
        FS_IOC_SETFLAGS
        | FS_IOC32_SETFLAGS
        | FS_IOC_SETVERSION
        | FS_IOC32_SETVERSION
        | FS_IOC_FSSETXATTR
        | FS_IOC_ENABLE_VERITY
        | FS_IOC_SET_ENCRYPTION_POLICY => change_file(File::arg(ctx, 0), command, describe),
        _ => Verdict::Allow,
    }
}

/// What the file system keeps about a file beside its attributes: immutable, append-only, … The new
/// value is not looked at: it is in memory that can change after this look.
#[inline(always)]
fn change_file(file: File, command: u32, describe: impl FnOnce(*mut FileBody, File)) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let mut key = hold::key(task, KIND_XATTR, 0, command);
    set_file(&mut key, file.inode());
    hold::answer(task, &label, &key, |body: *mut FileBody| {
        describe(body, file);
        // SAFETY: a fresh reservation.
        unsafe { set_name(body, *b"flags (by ioctl)\0") };
    })
}

/// Asks about the process `whom`, or about one that is not known (0).
#[inline(always)]
fn ask(what: u32, whom: u32) -> Verdict {
    ask_at_once(KIND_CONTROL, whom, what)
}
