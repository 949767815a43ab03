//! Ring buffer records: a [`Header`], then a body that its type names.
//!
//! The kernel reserves the largest form and fills it in place (K2: no per-CPU scratch), so unused
//! tail bytes are undefined; every variable part has its length beside it.

use crate::hold::ActionKey;

/// Longest path that a record carries; the kernel's own `PATH_MAX`.
pub const PATH_BYTES: usize = 4096;
/// Longest argv that a record carries, all arguments with their NULs. Beyond: flagged as cut.
pub const ARGV_BYTES: usize = 4096;
/// Most arguments that a record carries. Beyond: flagged as cut.
pub const ARGV_MAX: usize = 64;
/// Longest single argument (with NUL) that a record carries. Beyond: flagged as cut.
pub const ARG_BYTES: usize = 1024;
/// Longest file name of a creation (`NAME_MAX` and a NUL).
pub const NAME_BYTES: usize = 256;
/// Bytes of `task_struct.comm`.
pub const COMM_BYTES: usize = 16;
/// Ring buffer size: about 1,900 records of the largest kind, or 80,000 small ones.
pub const RING_BYTES: u32 = 16 << 20;

/// A hold was placed; the task stops on its way to user space. Body: [`ExecBody`], [`FileBody`],
/// [`PairBody`] or [`PlainBody`] by the key's kind.
pub const EVENT_HELD: u32 = 1;
/// A grant was consumed. Body: [`OutcomeBody`].
pub const EVENT_CONSUMED: u32 = 2;
/// A hold was restarted past its deadline and denied. Body: [`OutcomeBody`].
pub const EVENT_EXPIRED: u32 = 3;
/// An action was denied without a hold; `reason` says why. Body: [`OutcomeBody`].
pub const EVENT_REFUSED: u32 = 4;
/// A labelled task made a child. Body: [`ForkBody`].
pub const EVENT_FORK: u32 = 5;
/// A labelled task is exiting. Body: none.
pub const EVENT_EXIT: u32 = 6;
/// A labelled task runs a new image. Body: none.
pub const EVENT_EXECUTED: u32 = 7;
/// An exec selector started a session. Body: [`SelectedBody`].
pub const EVENT_SELECTED: u32 = 8;
/// An action that cannot be held was denied at once; the header's `reason` says why. Body: as for
/// [`EVENT_HELD`].
pub const EVENT_BLOCKED: u32 = 9;
/// Somebody who is not guard-agent reached for what Guard is made of, and was refused. Body:
/// [`crate::guardian::TamperBody`].
pub const EVENT_TAMPER: u32 = 10;

/// What every record starts with. All ids are those of the initial namespaces.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `EVENT_*`.
    pub event: u32,
    /// Bytes of the record that count, this header included.
    pub len: u32,
    /// Strictly increasing per boot; a gap is a lost record.
    pub sequence: u64,
    /// `CLOCK_BOOTTIME`, ns.
    pub time_ns: u64,
    /// Session of the task.
    pub session: u64,
    /// Hold that the record is about, else 0.
    pub hold_id: u64,
    /// `task_struct.start_boottime` of the thread, ns.
    pub start_boottime_ns: u64,
    /// cgroup v2 id.
    pub cgroup_id: u64,
    /// Process id.
    pub tgid: u32,
    /// Thread id.
    pub tid: u32,
    /// Process id of the parent.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// System call number (`orig_ax`) that the task is in, or `u32::MAX`.
    pub syscall: u32,
    /// `REASON_*` of an [`EVENT_BLOCKED`], else 0.
    pub reason: u32,
    /// Keeps the layout free of implicit padding.
    pub _pad: u32,
    /// `task_struct.comm`: what the task calls itself. A label for people, never an identity.
    pub comm: [u8; COMM_BYTES],
}

/// Body of a held exec.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExecBody {
    /// The action.
    pub key: ActionKey,
    /// Owner of the file.
    pub owner_uid: u32,
    /// `i_mode`.
    pub mode: u32,
    /// `CLOCK_BOOTTIME` deadline of the hold, ns.
    pub deadline_ns: u64,
    /// Result of `bpf_d_path`: bytes with NUL, or a negative errno.
    pub path_len: i64,
    /// Arguments in `argv`.
    pub argc: u32,
    /// Bytes in `argv`.
    pub argv_len: u32,
    /// [`ARGV_CUT`], [`ARGV_UNREADABLE`].
    pub argv_flags: u32,
    /// Which of [`ENVIRONMENT_NAMES`] are set, one bit each; [`ENVIRONMENT_UNKNOWN`].
    pub environment: u32,
    /// What `content` is: [`CONTENT_UNKNOWN`], [`CONTENT_SHA256`].
    pub content_kind: u32,
    /// Keeps the layout free of implicit padding.
    pub _pad: u32,
    /// SHA-256 of the file's content, or zeros.
    pub content: [u8; CONTENT_BYTES],
    /// Path from the task's root.
    pub path: [u8; PATH_BYTES],
    /// NUL-terminated arguments, as read from user memory at the hook (see H12).
    pub argv: [u8; ARGV_BYTES + ARG_BYTES],
}

/// Bytes of a SHA-256.
pub const CONTENT_BYTES: usize = 32;
/// The content was not hashed: nobody asked for it ([`crate::hold::Config::hash_content`]), or it could not be.
pub const CONTENT_UNKNOWN: u32 = 0;
/// The content's SHA-256 is known.
pub const CONTENT_SHA256: u32 = 1;
/// A longer file's content stays unknown, bytes: the kernel hashes in the system call, and a thread that does so
/// takes no signal. The largest programs of agents are 250 MB; 512 MiB take a second or two.
pub const CONTENT_MAX: u64 = 512 << 20;

/// `argv` is longer than the record.
pub const ARGV_CUT: u32 = 1;
/// `argv` could not be read (bad pointer, 32-bit caller).
pub const ARGV_UNREADABLE: u32 = 2;

/// Environment variables that make a program run or load other code than its arguments say, each
/// with its `=`. The bit of [`ExecBody::environment`] is the index. A name that ends in `*` stands for
/// everything that begins so.
pub const ENVIRONMENT_NAMES: [&str; 14] = [
    "LD_PRELOAD=",
    "LD_LIBRARY_PATH=",
    "LD_AUDIT=",
    "BASH_ENV=",
    "ENV=",
    "PYTHONSTARTUP=",
    "PYTHONPATH=",
    "PYTHONHOME=",
    "NODE_OPTIONS=",
    "PERL5OPT=",
    "RUBYOPT=",
    "JAVA_TOOL_OPTIONS=",
    "GIT_SSH_COMMAND=",
    "GCONV_PATH=",
];
/// The environment could not be read whole: anything may be set.
pub const ENVIRONMENT_UNKNOWN: u32 = 1 << 31;

/// Body of an action on one file: `open`, `map`, `receive`, most changes, and the kernel's own files.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FileBody {
    /// The action.
    pub key: ActionKey,
    /// Owner of the file (of the directory for what is made).
    pub owner_uid: u32,
    /// `i_mode` of the file (of the directory for what is made).
    pub mode: u32,
    /// `CLOCK_BOOTTIME` deadline of the hold, ns.
    pub deadline_ns: u64,
    /// Result of `bpf_d_path`: bytes with NUL, or a negative errno.
    pub path_len: i64,
    /// Bytes of `name` with its NUL, else 0.
    pub name_len: u32,
    /// On a hook where `bpf_d_path` may not be called: bytes in `path`, which then holds the
    /// NUL-terminated components from the innermost directory to the root.
    pub components_len: u32,
    /// Path from the task's root; of the directory where the last component is `name`.
    pub path: [u8; PATH_BYTES],
    /// Last component of the path for what is made or removed; else a text that the kind explains.
    pub name: [u8; NAME_BYTES],
}

/// Body of an action on two names: `link`, `rename`, `symlink`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PairBody {
    /// The file: `link`, `rename`: the existing one; `symlink`: the new name.
    pub first: FileBody,
    /// Bytes in `other` as components, from the innermost outwards; 0 if it could not be walked. For
    /// `symlink`: bytes of the target as given, with NUL.
    pub other_len: u32,
    /// Bytes of `other_name` with its NUL, else 0.
    pub other_name_len: u32,
    /// Directory of the new name, or the symbolic link's target.
    pub other: [u8; PATH_BYTES],
    /// The new name.
    pub other_name: [u8; NAME_BYTES],
}

/// Body of an action whose object is in the key: sockets, tasks.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PlainBody {
    /// The action.
    pub key: ActionKey,
    /// `CLOCK_BOOTTIME` deadline of the hold, ns.
    pub deadline_ns: u64,
    /// Address family of the socket itself (`sock.sk_family`), else 0.
    pub family: u32,
    /// Keeps the layout free of implicit padding.
    pub _pad: u32,
}

/// Body of an outcome.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OutcomeBody {
    /// The action.
    pub key: ActionKey,
    /// `VERDICT_*` that took effect.
    pub verdict: u32,
    /// `REASON_*`.
    pub reason: u32,
}

/// The grant said so.
pub const REASON_GRANT: u32 = 0;
/// Inside io_uring, a kernel worker, or outside a system call (H5).
pub const REASON_NOT_RESTARTABLE: u32 = 1;
/// The hold table is full (H7).
pub const REASON_HOLDS_FULL: u32 = 2;
/// The task could not be stopped (H7).
pub const REASON_NO_STOP: u32 = 3;
/// The object could not be read (K3).
pub const REASON_UNREADABLE: u32 = 4;
/// The deadline has passed (H6).
pub const REASON_EXPIRED: u32 = 5;
/// The grant was for another hold, or older than it may be.
pub const REASON_STALE_GRANT: u32 = 6;
/// A task outside the session was reached for.
pub const REASON_OUTSIDE: u32 = 7;
/// It cannot be held in this place, and no standing permission covers it.
pub const REASON_NOT_HOLDABLE: u32 = 8;
/// The session has not been allowed to open this file itself.
pub const REASON_NOT_OPENED: u32 = 9;
/// The arguments or environment that the kernel copied are not those that were decided (H12).
pub const REASON_ARGV_CHANGED: u32 = 10;

/// Body of a fork: the child, which `task_alloc` has already labelled.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForkBody {
    /// `task_struct.start_boottime` of the child, ns.
    pub child_start_boottime_ns: u64,
    /// Process id of the child; the parent's own for a new thread.
    pub child_tgid: u32,
    /// Thread id of the child.
    pub child_tid: u32,
}

/// Body of a session that a selector started.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelectedBody {
    /// Number of the selector: what guard-agent wrote into the selector map, made from its name.
    pub selector: u64,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Header>() == 104);
    assert!(offset_of!(Header, sequence) == 8);
    assert!(offset_of!(Header, time_ns) == 16);
    assert!(offset_of!(Header, session) == 24);
    assert!(offset_of!(Header, hold_id) == 32);
    assert!(offset_of!(Header, start_boottime_ns) == 40);
    assert!(offset_of!(Header, cgroup_id) == 48);
    assert!(offset_of!(Header, tgid) == 56);
    assert!(offset_of!(Header, tid) == 60);
    assert!(offset_of!(Header, ppid) == 64);
    assert!(offset_of!(Header, uid) == 68);
    assert!(offset_of!(Header, gid) == 72);
    assert!(offset_of!(Header, syscall) == 76);
    assert!(offset_of!(Header, reason) == 80);
    assert!(offset_of!(Header, _pad) == 84);
    assert!(offset_of!(Header, comm) == 88);
    assert!(offset_of!(ExecBody, owner_uid) == 160);
    assert!(offset_of!(ExecBody, deadline_ns) == 168);
    assert!(offset_of!(ExecBody, path_len) == 176);
    assert!(offset_of!(ExecBody, argc) == 184);
    assert!(offset_of!(ExecBody, argv_len) == 188);
    assert!(offset_of!(ExecBody, argv_flags) == 192);
    assert!(offset_of!(ExecBody, environment) == 196);
    assert!(offset_of!(ExecBody, content_kind) == 200);
    assert!(offset_of!(ExecBody, content) == 208);
    assert!(offset_of!(ExecBody, path) == 240);
    assert!(offset_of!(ExecBody, argv) == 240 + PATH_BYTES);
    assert!(size_of::<ExecBody>() == 240 + PATH_BYTES + ARGV_BYTES + ARG_BYTES);
    assert!(offset_of!(FileBody, path_len) == 176);
    assert!(offset_of!(FileBody, name_len) == 184);
    assert!(offset_of!(FileBody, components_len) == 188);
    assert!(offset_of!(FileBody, path) == 192);
    assert!(offset_of!(FileBody, name) == 192 + PATH_BYTES);
    assert!(size_of::<FileBody>() == 192 + PATH_BYTES + NAME_BYTES);
    assert!(offset_of!(PairBody, other_len) == size_of::<FileBody>());
    assert!(offset_of!(PairBody, other_name_len) == size_of::<FileBody>() + 4);
    assert!(offset_of!(PairBody, other) == size_of::<FileBody>() + 8);
    assert!(offset_of!(PairBody, other_name) == size_of::<FileBody>() + 8 + PATH_BYTES);
    assert!(size_of::<PairBody>() == size_of::<FileBody>() + 8 + PATH_BYTES + NAME_BYTES);
    assert!(size_of::<PlainBody>() == 176);
    assert!(offset_of!(PlainBody, family) == 168);
    assert!(size_of::<OutcomeBody>() == 168);
    assert!(offset_of!(OutcomeBody, verdict) == 160);
    assert!(size_of::<ForkBody>() == 16);
    assert!(size_of::<SelectedBody>() == 8);
};
