//! Kernel objects behind safe faces: the CO-RE getters of `c/core.c` and the helpers on them.
//!
//! A wrapper can be made only from an argument that the kernel passed to a hook or from another
//! wrapper's getter, so its pointer has the type that the verifier knows; the verifier checks every
//! load again.

use aya_ebpf::{
    bindings::{pt_regs, task_struct},
    cty::c_void,
    helpers::{
        bpf_get_current_task_btf, bpf_ktime_get_boot_ns,
        generated::{
            bpf_copy_from_user, bpf_d_path, bpf_get_current_cgroup_id, bpf_get_current_comm,
            bpf_get_current_uid_gid, bpf_loop, bpf_probe_read_kernel, bpf_probe_read_kernel_str,
            bpf_probe_read_user_str, bpf_send_signal, bpf_send_signal_thread, bpf_task_pt_regs,
        },
    },
    programs::LsmContext,
};
use guard_common::event::COMM_BYTES;

type Raw = *const c_void;

unsafe extern "C" {
    fn core_inode_dev(inode: Raw) -> u32;
    fn core_inode_ino(inode: Raw) -> u64;
    fn core_inode_generation(inode: Raw) -> u32;
    fn core_inode_uid(inode: Raw) -> u32;
    fn core_inode_mode(inode: Raw) -> u32;
    fn core_inode_nlink(inode: Raw) -> u32;
    fn core_file_inode(file: Raw) -> Raw;
    fn core_file_flags(file: Raw) -> u32;
    fn core_file_mode(file: Raw) -> u32;
    fn core_file_path(file: Raw) -> Raw;
    fn core_file_dentry(file: Raw) -> Raw;
    fn core_path_dentry(path: Raw) -> Raw;
    fn core_path_mnt(path: Raw) -> Raw;
    fn core_dentry_inode(dentry: Raw) -> Raw;
    fn core_dentry_parent(dentry: Raw) -> Raw;
    fn core_dentry_name_len(dentry: Raw) -> u32;
    fn core_dentry_name(dentry: Raw) -> Raw;
    fn core_mount_offset_of_mnt() -> u64;
    fn core_mount_offset_of_parent() -> u64;
    fn core_mount_offset_of_mountpoint() -> u64;
    fn core_vfsmount_offset_of_root() -> u64;
    fn core_dentry_offset_of_parent() -> u64;
    fn core_dentry_offset_of_name() -> u64;
    fn core_bprm_file(bprm: Raw) -> Raw;
    fn core_bprm_is_interpreter(bprm: Raw) -> u32;
    fn core_task_flags(task: Raw) -> u32;
    fn core_task_pid(task: Raw) -> u32;
    fn core_task_tgid(task: Raw) -> u32;
    fn core_task_parent_tgid(task: Raw) -> u32;
    fn core_task_start(task: Raw) -> u64;
    fn core_task_status(task: Raw) -> u32;
    fn core_regs_si(regs: Raw) -> u64;
    fn core_regs_dx(regs: Raw) -> u64;
    fn core_regs_orig_ax(regs: Raw) -> u64;
    fn core_socket_type(socket: Raw) -> u32;
    fn core_socket_sock(socket: Raw) -> Raw;
    fn core_sock_family(sock: Raw) -> u32;
    fn core_sock_protocol(sock: Raw) -> u32;
    fn atomic_fetch_add(to: *mut u64, by: u64) -> u64;
}

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

    #[inline(always)]
    fn regs(self) -> *mut pt_regs {
        // SAFETY: the helper takes a typed task pointer.
        unsafe { bpf_task_pt_regs(self.0) as *mut pt_regs }
    }

    /// The system call that the task is in, or `None` outside of one.
    #[inline(always)]
    pub fn syscall(self) -> Option<u64> {
        // SAFETY: typed pt_regs; the verifier checks the relocated load.
        let number = unsafe { core_regs_orig_ax(self.regs().cast()) };
        (number.cast_signed() >= 0).then_some(number)
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
        // SAFETY: as for `tid`.
        if unsafe { core_task_status(self.0.cast()) } & TS_COMPAT != 0 {
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

/// `CLOCK_BOOTTIME`, ns.
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bpf_ktime_get_boot_ns() }
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

/// An inode.
#[derive(Clone, Copy)]
pub struct Inode(Raw);

// The getters below read through pointers with the verifier's types: see the module's first lines.
impl Inode {
    #[inline(always)]
    pub fn dev(self) -> u64 {
        // SAFETY: a typed inode pointer; the verifier checks the relocated loads.
        unsafe { u64::from(core_inode_dev(self.0)) }
    }

    #[inline(always)]
    pub fn ino(self) -> u64 {
        // SAFETY: as for `dev`.
        unsafe { core_inode_ino(self.0) }
    }

    #[inline(always)]
    pub fn generation(self) -> u64 {
        // SAFETY: as for `dev`.
        unsafe { u64::from(core_inode_generation(self.0)) }
    }

    #[inline(always)]
    pub fn uid(self) -> u32 {
        // SAFETY: as for `dev`.
        unsafe { core_inode_uid(self.0) }
    }

    #[inline(always)]
    pub fn mode(self) -> u32 {
        // SAFETY: as for `dev`.
        unsafe { core_inode_mode(self.0) }
    }

    /// Whether no directory names it (memfd, deleted).
    #[inline(always)]
    pub fn is_unnamed(self) -> bool {
        // SAFETY: as for `dev`.
        unsafe { core_inode_nlink(self.0) == 0 }
    }
}

/// A dentry.
#[derive(Clone, Copy)]
pub struct Dentry(Raw);

impl Dentry {
    /// Argument `n` of a hook whose prototype has a `struct dentry *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// Its inode; `None` for a negative dentry. `d_inode` is trusted-or-null from 7.x on.
    #[inline(always)]
    pub fn inode(self) -> Option<Inode> {
        // SAFETY: a typed dentry pointer.
        let inode = core::hint::black_box(unsafe { core_dentry_inode(self.0) });
        (!inode.is_null()).then_some(Inode(inode))
    }

    #[inline(always)]
    pub fn parent(self) -> Self {
        // SAFETY: a typed dentry pointer; `d_parent` is never null.
        Self(unsafe { core_dentry_parent(self.0) })
    }

    /// Copies the name; returns its length with the NUL, or a negative errno.
    #[inline(always)]
    pub fn read_name(self, to: *mut u8, size: u32) -> i64 {
        // SAFETY: the helper checks the source; the verifier checks `to` and `size`.
        unsafe { bpf_probe_read_kernel_str(to.cast(), size, core_dentry_name(self.0)) }
    }

    /// 32 bytes of a name of `len` bytes from `offset`, zero-padded; `None` if they cannot be read.
    #[inline(always)]
    pub fn name_piece(self, offset: u32, len: u32) -> Option<[u64; 4]> {
        let mut words = [0u64; 4];
        let rest = core::hint::black_box(len.wrapping_sub(offset) as u64);
        let rest = if rest > 32 { 32 } else { rest };
        // SAFETY: a typed dentry pointer; the helper checks the source.
        let result = unsafe {
            let name = core_dentry_name(self.0) as u64 + u64::from(offset);
            bpf_probe_read_kernel(words.as_mut_ptr().cast(), rest as u32, name as Raw)
        };
        (result == 0).then_some(words)
    }

    /// Length of the name without NUL.
    #[inline(always)]
    pub fn name_len(self) -> u32 {
        // SAFETY: a typed dentry pointer.
        unsafe { core_dentry_name_len(self.0) }
    }
}

/// A path (mount and dentry).
#[derive(Clone, Copy)]
pub struct Path(Raw);

impl Path {
    /// Argument `n` of a hook whose prototype has a `const struct path *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    #[inline(always)]
    pub fn dentry(self) -> Dentry {
        // SAFETY: a typed path pointer.
        Dentry(unsafe { core_path_dentry(self.0) })
    }

    /// `bpf_d_path`: bytes with NUL, or a negative errno. Only in programs on hooks that allow it.
    #[inline(always)]
    pub fn d_path(self, to: *mut u8, size: u32) -> i64 {
        // SAFETY: a typed path pointer; the verifier checks `to` and `size`.
        unsafe { bpf_d_path(self.0.cast_mut().cast(), to.cast(), size) }
    }

    /// Starts a walk from the dentry to the root of the mount tree, for hooks that may not d_path.
    #[inline(always)]
    pub fn walk(self) -> Walk {
        // SAFETY: a typed path pointer; what follows reads through `bpf_probe_read_kernel`.
        unsafe { Walk { dentry: core_path_dentry(self.0), mnt: core_path_mnt(self.0) } }
    }
}

/// Where a walk towards the root stands. Its pointers have no type any more: all reads are
/// `bpf_probe_read_kernel`, which cannot fault.
#[derive(Clone, Copy)]
pub struct Walk {
    dentry: Raw,
    mnt: Raw,
}

/// What a step of a walk found.
pub enum Step {
    /// A directory below the root of its file system: its name is next.
    Component,
    /// The root of a mount: the walk went on at its mount point.
    Crossed,
    /// The root of everything.
    Root,
    /// A read failed.
    Unreadable,
}

impl Walk {
    #[inline(always)]
    fn read(from: Raw, offset: u64) -> Option<Raw> {
        let mut value: Raw = core::ptr::null();
        // SAFETY: the destination is a local of pointer size; the helper checks the source.
        let result = unsafe {
            bpf_probe_read_kernel(
                (&raw mut value).cast(),
                size_of::<Raw>() as u32,
                (from as u64 + offset) as Raw,
            )
        };
        (result == 0 && !value.is_null()).then_some(value)
    }

    /// Looks where the walk stands.
    #[inline(always)]
    pub fn step(&mut self) -> Step {
        // SAFETY: these getters are relocated constants.
        let (root_at, mnt_at, parent_at, point_at) = unsafe {
            (
                core_vfsmount_offset_of_root(),
                core_mount_offset_of_mnt(),
                core_mount_offset_of_parent(),
                core_mount_offset_of_mountpoint(),
            )
        };
        let Some(root) = Self::read(self.mnt, root_at) else { return Step::Unreadable };
        if root != self.dentry {
            return Step::Component;
        }
        let mount = (self.mnt as u64 - mnt_at) as Raw;
        let Some(parent) = Self::read(mount, parent_at) else { return Step::Unreadable };
        if parent == mount {
            return Step::Root;
        }
        let Some(point) = Self::read(mount, point_at) else { return Step::Unreadable };
        self.dentry = point;
        self.mnt = (parent as u64 + mnt_at) as Raw;
        Step::Crossed
    }

    /// Copies the name of the component and goes to its parent; length with NUL or negative errno.
    #[inline(always)]
    pub fn read_name(&mut self, to: *mut u8, size: u32) -> i64 {
        // SAFETY: relocated constants.
        let (name_at, parent_at) =
            unsafe { (core_dentry_offset_of_name(), core_dentry_offset_of_parent()) };
        let (Some(name), Some(parent)) =
            (Self::read(self.dentry, name_at), Self::read(self.dentry, parent_at))
        else {
            return -14;
        };
        self.dentry = parent;
        // SAFETY: the helper checks the source; the verifier checks `to` and `size`.
        unsafe { bpf_probe_read_kernel_str(to.cast(), size, name) }
    }
}

/// An open file, or one about to be.
#[derive(Clone, Copy)]
pub struct File(Raw);

impl File {
    /// Argument `n` of a hook whose prototype has a `struct file *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    #[inline(always)]
    pub fn inode(self) -> Inode {
        // SAFETY: a typed file pointer; `f_inode` is set before any hook that sees the file.
        Inode(unsafe { core_file_inode(self.0) })
    }

    #[inline(always)]
    pub fn path(self) -> Path {
        // SAFETY: as for `inode`.
        Path(unsafe { core_file_path(self.0) })
    }

    #[inline(always)]
    pub fn dentry(self) -> Dentry {
        // SAFETY: as for `inode`.
        Dentry(unsafe { core_file_dentry(self.0) })
    }

    /// `f_flags`.
    #[inline(always)]
    pub fn flags(self) -> u32 {
        // SAFETY: as for `inode`.
        unsafe { core_file_flags(self.0) }
    }

    /// `f_mode`.
    #[inline(always)]
    pub fn mode(self) -> u32 {
        // SAFETY: as for `inode`.
        unsafe { core_file_mode(self.0) }
    }
}

/// An exec in progress.
#[derive(Clone, Copy)]
pub struct Bprm(Raw);

impl Bprm {
    /// Argument `n` of a hook whose prototype has a `struct linux_binprm *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    #[inline(always)]
    pub fn file(self) -> File {
        // SAFETY: a typed bprm pointer.
        File(unsafe { core_bprm_file(self.0) })
    }

    /// Whether the file is the interpreter that a script names.
    #[inline(always)]
    pub fn is_interpreter(self) -> bool {
        // SAFETY: a typed bprm pointer.
        unsafe { core_bprm_is_interpreter(self.0) != 0 }
    }
}

/// A socket.
#[derive(Clone, Copy)]
pub struct Socket(Raw);

impl Socket {
    /// Argument `n` of a hook whose prototype has a `struct socket *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    /// `SOCK_*`.
    #[inline(always)]
    pub fn socket_type(self) -> u32 {
        // SAFETY: a typed socket pointer.
        unsafe { core_socket_type(self.0) }
    }

    /// `AF_*` and `IPPROTO_*` of its protocol socket, which is trusted-or-null from 7.x on.
    #[inline(always)]
    pub fn family_and_protocol(self) -> Option<(u32, u32)> {
        // SAFETY: a typed socket pointer.
        let sock = core::hint::black_box(unsafe { core_socket_sock(self.0) });
        // SAFETY: a typed sock pointer that is not null.
        (!sock.is_null()).then(|| unsafe { (core_sock_family(sock), core_sock_protocol(sock)) })
    }
}

/// Copies kernel memory. False: not readable.
#[inline(always)]
pub fn read_kernel(to: *mut u8, len: u32, from: *const u8) -> bool {
    // SAFETY: the helper checks the source; the verifier checks `to` and `len`.
    unsafe { bpf_probe_read_kernel(to.cast(), len, from.cast()) == 0 }
}

/// Reads a word of user memory, faulting it in. Sleepable programs only.
#[inline(always)]
pub fn read_user_word(from: u64) -> Option<u64> {
    let mut word = 0u64;
    // SAFETY: the destination is a local; the helper checks the source.
    let result = unsafe { bpf_copy_from_user((&raw mut word).cast(), 8, from as *const c_void) };
    (result == 0).then_some(word)
}

/// Copies a user string, faulting its first page in if needed; length with NUL, or a negative errno.
/// Sleepable programs only.
#[inline(always)]
pub fn read_user_str(to: *mut u8, size: u32, from: u64) -> i64 {
    // SAFETY: the helper checks the source; the verifier checks `to` and `size`.
    unsafe { bpf_probe_read_user_str(to.cast(), size, from as *const c_void) }
}

/// Faults in the page of a user address. False: there is none. Sleepable programs only.
#[inline(always)]
pub fn touch_user(from: u64) -> bool {
    let mut byte = 0u8;
    // SAFETY: the destination is a local; the helper checks the source.
    unsafe { bpf_copy_from_user((&raw mut byte).cast(), 1, from as *const c_void) == 0 }
}

/// The raw pointer argument `n` of a hook.
#[inline(always)]
pub fn pointer_arg(ctx: &LsmContext, n: usize) -> *const u8 {
    let pointer: Raw = ctx.arg(n);
    pointer.cast()
}

/// Adds to a counter in a map and returns its old value.
#[inline(always)]
pub fn fetch_add(counter: *mut u64, by: u64) -> u64 {
    // SAFETY: array elements are 8-byte aligned and never freed; the verifier checks the pointer.
    unsafe { atomic_fetch_add(counter, by) }
}

/// Calls `turn` with 0, 1, … up to `turns` times, until it returns something else than 0.
///
/// The verifier looks at a callback once, where it would follow every turn of a loop.
#[inline(always)]
pub fn repeat<T>(turns: u32, turn: extern "C" fn(u64, &mut T) -> i64, state: &mut T) {
    // SAFETY: the callback's context is exactly the reference it takes, which outlives the call.
    unsafe { bpf_loop(turns, turn as *mut c_void, (&raw mut *state).cast(), 0) };
}
