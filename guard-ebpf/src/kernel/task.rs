//! Tasks: who, in which system call, and whether they can be held.

use super::{
    cred::read_capabilities,
    getters::{
        core_regs_dx, core_regs_orig_ax, core_regs_r10, core_regs_si, core_task_comm,
        core_task_flags, core_task_gid, core_task_parent_tgid, core_task_permitted, core_task_pid,
        core_task_root_dentry, core_task_root_mnt, core_task_start, core_task_status,
        core_task_storage, core_task_tgid, core_task_uid,
    },
    read_kernel,
};
use aya_ebpf::{
    bindings::{pt_regs, task_struct},
    helpers::{
        bpf_get_current_task_btf,
        generated::{
            bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_uid_gid,
            bpf_send_signal, bpf_send_signal_thread, bpf_task_pt_regs,
        },
    },
};
use guard_common::event::COMM_BYTES;

/// `include/linux/sched.h`; the values have been the same since 6.0 at least.
mod task_flags {
    /// Inline io_uring worker thread.
    pub const IO_WORKER: u32 = 0x0000_0010;
    /// Getting shut down.
    pub const EXITING: u32 = 0x0000_0004;
    /// Dumped core.
    pub const DUMPCORE: u32 = 0x0000_0200;
    /// Killed by a signal.
    pub const SIGNALED: u32 = 0x0000_0400;
    /// Kernel thread cloned from user space (vhost; from 6.4).
    pub const USER_WORKER: u32 = 0x0000_4000;
    /// Kernel thread.
    pub const KTHREAD: u32 = 0x0020_0000;
    /// Nobody who will return to user space and restart a system call.
    pub const NOT_RESTARTABLE: u32 =
        IO_WORKER | EXITING | DUMPCORE | SIGNALED | USER_WORKER | KTHREAD;
}

/// `io_uring_enter`: requests run inline in it, and it does not restart one of them.
const NR_IO_URING_ENTER: u64 = 426;
const NR_EXECVE: u64 = 59;
const NR_EXECVEAT: u64 = 322;
const NR32_EXECVE: u64 = 11;
const NR32_EXECVEAT: u64 = 358;
/// Set in the number of a call by the x32 convention (`arch/x86/include/uapi/asm/unistd.h`).
const X32_BIT: u64 = 0x4000_0000;
/// A 32-bit system call (`arch/x86/include/asm/thread_info.h`).
const TS_COMPAT: u32 = 0x0002;
const SIGSTOP: u32 = 19;
const SIGKILL: u32 = 9;

/// A task.
#[derive(Clone, Copy)]
pub struct Task(*mut task_struct);

impl Task {
    /// The caller of the hook.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: the helper has no preconditions and never returns null.
        Self(unsafe { bpf_get_current_task_btf() })
    }

    /// Argument `n` of a tracepoint or hook whose prototype has a `struct task_struct *` there.
    #[inline(always)]
    pub fn from_ptr(task: *mut task_struct) -> Self {
        Self(task)
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *mut task_struct {
        self.0
    }

    #[inline(always)]
    pub fn tid(self) -> u32 {
        // SAFETY: a typed task pointer; the verifier checks the relocated load.
        unsafe { core_task_pid(self.0.cast()) }
    }

    #[inline(always)]
    pub fn tgid(self) -> u32 {
        // SAFETY: as for `tid`.
        unsafe { core_task_tgid(self.0.cast()) }
    }

    #[inline(always)]
    pub fn parent_tgid(self) -> u32 {
        // SAFETY: as for `tid`; `real_parent` is never null, and a fault reads as 0.
        unsafe { core_task_parent_tgid(self.0.cast()) }
    }

    #[inline(always)]
    pub fn start_boottime_ns(self) -> u64 {
        // SAFETY: as for `tid`.
        unsafe { core_task_start(self.0.cast()) }
    }

    /// Effective user id in the initial user namespace; a fault reads as 0.
    #[inline(always)]
    pub fn uid(self) -> u32 {
        // SAFETY: as for `tid`; `real_cred` is never null.
        unsafe { core_task_uid(self.0.cast()) }
    }

    /// The capabilities that it is permitted, a bit each. `None`: they cannot be read.
    #[inline(always)]
    pub fn permitted(self) -> Option<u64> {
        // SAFETY: as for `uid`.
        read_capabilities(unsafe { core_task_permitted(self.0.cast()) })
    }

    /// Effective group id in the initial user namespace; a fault reads as 0.
    #[inline(always)]
    pub fn gid(self) -> u32 {
        // SAFETY: as for `uid`.
        unsafe { core_task_gid(self.0.cast()) }
    }

    /// What the task calls itself; zeros if it cannot be read.
    #[inline(always)]
    pub fn comm(self) -> [u64; COMM_BYTES / 8] {
        let mut comm = [0; COMM_BYTES / 8];
        // SAFETY: as for `tid`; the array lies inside the task.
        let from = unsafe { core_task_comm(self.0.cast()) };
        read_kernel(comm.as_mut_ptr().cast(), COMM_BYTES as u32, from.cast());
        comm
    }

    #[inline(always)]
    fn regs(self) -> *mut pt_regs {
        // SAFETY: the helper takes a typed task pointer.
        unsafe { bpf_task_pt_regs(self.0) as *mut pt_regs }
    }

    /// Whether it has task storage of any program's. Without, a look for ours finds nothing: it is what the
    /// kernel asks first, and most tasks of a host have none.
    #[inline(always)]
    pub fn has_storage(self) -> bool {
        // SAFETY: as for `tid`.
        unsafe { core_task_storage(self.0.cast()) != 0 }
    }

    /// Dentry and mount of its root directory, to compare with a walk's end; a fault reads as 0.
    #[inline(always)]
    pub fn root(self) -> [u64; 2] {
        // SAFETY: as for `tid`.
        unsafe { [core_task_root_dentry(self.0.cast()), core_task_root_mnt(self.0.cast())] }
    }

    /// Whether the system call is a 32-bit one, whose numbers are others
    /// (`arch/x86/entry/syscalls/syscall_32.tbl`; the same from 424 on).
    #[inline(always)]
    pub fn is_compat(self) -> bool {
        // SAFETY: as for `tid`.
        unsafe { core_task_status(self.0.cast()) & TS_COMPAT != 0 }
    }

    /// Whether the task is in an `execve`.
    #[inline(always)]
    pub fn is_executing(self) -> bool {
        if self.is_compat() {
            return matches!(self.syscall(), Some(NR32_EXECVE | NR32_EXECVEAT));
        }
        matches!(self.syscall(), Some(NR_EXECVE | NR_EXECVEAT))
    }

    /// The system call that the task is in, or `None` outside of one.
    #[inline(always)]
    pub fn syscall(self) -> Option<u64> {
        // SAFETY: typed pt_regs; the verifier checks the relocated load.
        let number = unsafe { core_regs_orig_ax(self.regs().cast()) };
        (number.cast_signed() >= 0).then_some(number & !X32_BIT)
    }

    /// The third argument of the system call that the task is in, as 64-bit and 32-bit calls have it alike.
    #[inline(always)]
    pub fn third_argument(self) -> u64 {
        // SAFETY: typed pt_regs; the verifier checks the relocated load.
        unsafe { core_regs_dx(self.regs().cast()) }
    }

    /// Whether a stop and `-ERESTARTNOINTR` bring this very check back (H5).
    #[inline(always)]
    pub fn is_restartable(self) -> bool {
        // SAFETY: as for `tid`.
        let flags = unsafe { core_task_flags(self.0.cast()) };
        if flags & task_flags::NOT_RESTARTABLE != 0 {
            return false;
        }
        match self.syscall() {
            Some(number) => number != NR_IO_URING_ENTER,
            None => false,
        }
    }

    /// User address of argv of the `execve` or `execveat` that the task is in; `None` where the
    /// calling convention is another one (32-bit, x32).
    #[inline(always)]
    pub fn exec_argv(self) -> Option<u64> {
        if self.is_compat() {
            return None;
        }
        let regs = self.regs().cast();
        // SAFETY: typed pt_regs; the verifier checks the relocated loads.
        match self.syscall()? {
            NR_EXECVE => Some(unsafe { core_regs_si(regs) }),
            // SAFETY: as above.
            NR_EXECVEAT => Some(unsafe { core_regs_dx(regs) }),
            _ => None,
        }
    }

    /// As [`Task::exec_argv`], of the environment.
    #[inline(always)]
    pub fn exec_envp(self) -> Option<u64> {
        if self.is_compat() {
            return None;
        }
        let regs = self.regs().cast();
        // SAFETY: typed pt_regs; the verifier checks the relocated loads.
        match self.syscall()? {
            NR_EXECVE => Some(unsafe { core_regs_dx(regs) }),
            // SAFETY: as above.
            NR_EXECVEAT => Some(unsafe { core_regs_r10(regs) }),
            _ => None,
        }
    }
}

/// Stops the calling process on its way to user space. False: the signal could not be sent.
///
/// The signal goes to the thread, not to the process: a SIGSTOP that another thread of the process has
/// pending would swallow ours (`legacy_queue` in kernel/signal.c) without marking this thread, which
/// would then return to user space with the errno 513 (seen with 200 threads on 6.12). The stop is the
/// whole process's either way.
#[inline(always)]
pub fn stop_current() -> bool {
    // SAFETY: no preconditions; fails for tasks that take no signals.
    unsafe { bpf_send_signal_thread(SIGSTOP) == 0 }
}

/// Kills the calling process before it returns to user space.
#[inline(always)]
pub fn kill_current() {
    // SAFETY: no preconditions.
    unsafe { bpf_send_signal(SIGKILL) };
}

/// Real user id (low) and group id (high) of the caller, in the initial user namespace.
#[inline(always)]
pub fn uid_gid() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bpf_get_current_uid_gid() }
}

/// cgroup v2 id of the caller.
#[inline(always)]
pub fn cgroup_id() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bpf_get_current_cgroup_id() }
}

/// What the caller calls itself.
#[inline(always)]
pub fn read_comm(to: *mut [u8; COMM_BYTES]) {
    // SAFETY: `to` is writable for its whole length; the verifier checks it.
    unsafe { bpf_get_current_comm(to.cast(), COMM_BYTES as u32) };
}
