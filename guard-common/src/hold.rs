//! Holds and grants: the keys and values of the two maps of the hold protocol.
//!
//! `HOLDS` is written by the kernel, `GRANTS` by guard-agent. Both are keyed by [`ActionKey`], the
//! exact action of the exact thread, rebuilt from what the kernel is about to use at every restart
//! of the system call (invariant H1). Whoever deletes the grant has consumed it (H2).

/// Bytes of [`ActionKey::object`]: a whole `struct sockaddr_storage`.
pub const OBJECT_BYTES: usize = 128;
/// [`OBJECT_BYTES`] in 64-bit words.
pub const OBJECT_WORDS: usize = OBJECT_BYTES / 8;

/// Most holds at one time on one host; the next one is denied with evidence (H7). 16,384 stopped
/// threads are far beyond what people can decide, and cost 4 MiB of kernel memory.
pub const HOLDS_MAX: u32 = 16_384;
/// Most unconsumed grants; one per hold.
pub const GRANTS_MAX: u32 = HOLDS_MAX;

/// `exec` of a program: `bprm_check_security`, and what follows it in the same system call.
pub const KIND_EXEC: u32 = 1;
/// `open` of a file: `file_open`, or `path_mknod` for one that is about to be created.
pub const KIND_OPEN: u32 = 2;
/// `connect` of a socket: `socket_connect`.
pub const KIND_CONNECT: u32 = 3;
/// Code mapped from a file: `mmap_file`, `file_mprotect`.
pub const KIND_MAP: u32 = 4;
/// A descriptor received: `file_receive`. Never held: the message is gone at a restart.
pub const KIND_RECEIVE: u32 = 5;

// Changes to the file tree. Two bodies: [`crate::event::FileBody`], and for what has two objects
// (link, rename, symlink) [`crate::event::PairBody`].
/// `path_unlink`: the object is the file; the name is in the record.
pub const KIND_UNLINK: u32 = 0x100;
/// `path_rmdir`.
pub const KIND_RMDIR: u32 = 0x101;
/// `path_mkdir`: the object is the parent directory and the new name.
pub const KIND_MKDIR: u32 = 0x102;
/// `path_mknod` of anything but a regular file; `flags` has the mode.
pub const KIND_MKNOD: u32 = 0x103;
/// `path_symlink`: as `mkdir`; the second path is the target as given.
pub const KIND_SYMLINK: u32 = 0x104;
/// `path_link`: the object is the file; the second path is the new name.
pub const KIND_LINK: u32 = 0x105;
/// `path_rename`: as `link`. `flags` has those of renameat2.
pub const KIND_RENAME: u32 = 0x106;
/// `path_chmod`; `flags` has the new mode.
pub const KIND_CHMOD: u32 = 0x107;
/// `path_chown`; word [`OBJECT_EXTRA`] has uid | gid << 32, each `u32::MAX` if it stays.
pub const KIND_CHOWN: u32 = 0x108;
/// `path_truncate`.
pub const KIND_TRUNCATE: u32 = 0x109;
/// `inode_setxattr`, `inode_removexattr`, `inode_set_acl`, …; the name is the attribute's.
pub const KIND_XATTR: u32 = 0x10a;

// Sockets apart from connect; body [`crate::event::PlainBody`]. `access` is the socket type,
// `flags` the protocol.
/// `socket_create`: the object is the family, two bytes.
pub const KIND_SOCKET: u32 = 0x200;
/// `socket_bind`: the object is the address as the kernel holds it. The path of a UNIX socket is a
/// [`KIND_MKNOD`] instead.
pub const KIND_BIND: u32 = 0x201;
/// `socket_listen`: the object is the address that it is bound to (IPv4, IPv6), or two bytes of family.
pub const KIND_LISTEN: u32 = 0x202;
/// `socket_sendmsg` with an address, which is the object as the kernel holds it.
pub const KIND_SEND: u32 = 0x203;

// Other tasks; body [`crate::event::PlainBody`], object [`TaskObject`]. Never held: their callers
// turn every error into another one, or hold locks.
/// `ptrace_access_check`; `flags` has the mode.
pub const KIND_PTRACE: u32 = 0x300;
/// `task_kill`; `flags` has the signal.
pub const KIND_SIGNAL: u32 = 0x301;

// The kernel itself; body [`crate::event::FileBody`] whose name is a text for people and whose path
// is that of the file that it is about, if there is one. `flags` says what exactly.
/// `userns_create`.
pub const KIND_USER_NAMESPACE: u32 = 0x400;
/// `task_alloc`: `flags` has the clone flags of the new namespaces.
pub const KIND_NAMESPACE: u32 = 0x401;
/// `sb_mount`: `flags` has those of mount(2), remounts included. `move_mount`: `access` is 1.
pub const KIND_MOUNT: u32 = 0x402;
/// `sb_umount`.
pub const KIND_UNMOUNT: u32 = 0x403;
/// `path_chroot`; `sb_pivotroot`: `access` is 1.
pub const KIND_CHROOT: u32 = 0x404;
/// `kernel_read_file`, `kernel_load_data`: `flags` has the kernel's number of what is read. Firmware and
/// all else that is no module is never held: who asks for it looks for another one.
pub const KIND_MODULE: u32 = 0x405;
/// `kernel_read_file`, `kernel_load_data` of a kernel or its initial file system; `flags` as there.
pub const KIND_KEXEC: u32 = 0x406;
/// `bpf`: `flags` has the command.
pub const KIND_BPF: u32 = 0x407;
/// `perf_event_open`. Never held: the kernel asks several times in one call.
pub const KIND_PERF: u32 = 0x408;
/// `inode_init_security_anon` in io_uring_setup(2): `flags` is 0. `uring_sqpoll`, `uring_override_creds`,
/// `uring_cmd`: 1, 2, 3, never held.
pub const KIND_IO_URING: u32 = 0x409;
/// `task_fix_setuid`, `task_fix_setgid`: object word 0 has the first id
/// that the process did not have, word 1 is 1 for gid.
pub const KIND_SETID: u32 = 0x40a;
/// `settime`: the object is seconds and nanoseconds, or empty where only the time zone is set.
pub const KIND_SETTIME: u32 = 0x40b;
/// `capable`: `access` has the capability, `flags` the system call. Never held: the caller sees a bool.
pub const KIND_CAPABILITY: u32 = 0x40c;
/// Another task is steered, or a terminal typed into: `flags` has `CONTROL_*`, `access` the process that
/// is steered, or 0 where it is not known. Never held: the callers hold locks, or go on without.
pub const KIND_CONTROL: u32 = 0x40d;
/// System V shared memory, semaphores and message queues: made, used or changed (`ipc_permission`,
/// `shm_alloc_security`, `shm_shmctl`, …). Never held: `ipc_permission` is asked for a yes or no.
pub const KIND_IPC: u32 = 0x40e;
/// A key or keyring of the kernel (`key_permission`, `key_alloc`). Never held: a search makes another error
/// of ours.
pub const KIND_KEYRING: u32 = 0x40f;
/// What is noted about a file: its times (`inode_setattr`), attributes that give no rights (`inode_setxattr`, …).
/// Words 0 to 2 of the object are its device, inode and generation, what follows is the new value; `flags` has
/// `METADATA_*`, the name is the file's last one or the attribute's. The hooks know no mount, so there is no path.
pub const KIND_METADATA: u32 = 0x410;

/// `inode_init_security_anon` of a userfaultfd, by the system call or its device.
pub const KIND_USERFAULTFD: u32 = 0x411;
/// The last of the kernel itself; the first is [`KIND_USER_NAMESPACE`].
pub const KIND_SYSTEM_LAST: u32 = KIND_USERFAULTFD;

// `flags` of [`KIND_CONTROL`].
/// `task_setnice`: the priority of its threads.
pub const CONTROL_PRIORITY: u32 = 1;
/// `task_setioprio`: the priority of its input and output.
pub const CONTROL_IO_PRIORITY: u32 = 2;
/// `task_setscheduler`: how and where it runs.
pub const CONTROL_SCHEDULER: u32 = 3;
/// `task_movememory`: where its memory is.
pub const CONTROL_MEMORY: u32 = 4;
/// `task_prlimit`: its resource limits.
pub const CONTROL_LIMITS: u32 = 5;
/// `file_fcntl`, `file_ioctl`: it is sent signals by a descriptor.
pub const CONTROL_OWNER: u32 = 6;
/// `file_ioctl`: something is typed into a terminal.
pub const CONTROL_TERMINAL: u32 = 7;

// `flags` of [`KIND_METADATA`].
/// Words 3 and 4: seconds and nanoseconds of the last access, 5 and 6: of the last change; zeros for one that
/// becomes the present or stays, as word 7 tells (`ATTR_*_SET` of `include/linux/fs.h`).
pub const METADATA_TIMES: u32 = 0;
/// Words 3 and 4: keyed hash of the attribute's name and value.
pub const METADATA_ATTRIBUTE: u32 = 1;
/// The attribute is removed.
pub const METADATA_REMOVED: u32 = 2;

/// Word of [`ActionKey::object`] behind a [`FileObject`] that a kind may use for what else counts.
pub const OBJECT_EXTRA: usize = FILE_OBJECT_BYTES / 8;

/// Open for reading.
pub const ACCESS_READ: u32 = 1;
/// Open for writing.
pub const ACCESS_WRITE: u32 = 1 << 1;
/// Opened with `O_APPEND`.
pub const ACCESS_APPEND: u32 = 1 << 2;
/// Opened with `O_TRUNC`.
pub const ACCESS_TRUNCATE: u32 = 1 << 3;
/// The file does not exist yet (`path_mknod`): the object is the directory and the new name.
pub const ACCESS_CREATE: u32 = 1 << 4;
/// An unnamed file (`O_TMPFILE`): the object is the directory.
pub const ACCESS_TMPFILE: u32 = 1 << 5;
/// `exec` of the interpreter that a script names; the script was a separate action of the same call.
pub const ACCESS_INTERPRETER: u32 = 1 << 6;
/// `exec` or mapping of an image without a name in any directory (memfd, deleted file).
pub const ACCESS_UNNAMED: u32 = 1 << 7;
/// `exec` of the program that an ELF file names to load it (`PT_INTERP`).
pub const ACCESS_LOADER: u32 = 1 << 8;
/// The `exec` gives the process another user, group or capability than it has.
pub const ACCESS_GAINS: u32 = 1 << 9;
/// The mapping is or was writable and shared.
pub const ACCESS_SHARED_WRITE: u32 = 1 << 10;
/// The `exec` gives the process capabilities that it does not have, by an attribute of the file: asked apart
/// from the image itself, once the kernel has worked the new credentials out.
pub const ACCESS_FILE_CAPABILITIES: u32 = 1 << 11;

/// The exact action of the exact thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActionKey {
    /// `task_struct.start_boottime` of the thread, ns: tells a reused pid from the old one.
    pub start_boottime_ns: u64,
    /// Process id (`tgid`) in the initial pid namespace.
    pub tgid: u32,
    /// Thread id (`pid`) in the initial pid namespace.
    pub tid: u32,
    /// `KIND_*`.
    pub kind: u32,
    /// `ACCESS_*` for exec and open; socket type for connect (`SOCK_STREAM`…).
    pub access: u32,
    /// `open`: `f_flags` without the creation bits that are gone at a restart. `connect`: protocol.
    pub flags: u32,
    /// Bytes of `object` that count.
    pub object_len: u32,
    /// `exec`, `open`: [`FileObject`] as words. `connect`: the socket address as the kernel holds it.
    pub object: [u64; OBJECT_WORDS],
}

/// Words of [`ActionKey::object`] for exec and open.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileObject {
    /// `super_block.s_dev` (kernel encoding: major << 20 | minor). For a creation: the directory's.
    pub dev: u64,
    /// `inode.i_ino`. For a creation: the directory's.
    pub ino: u64,
    /// `inode.i_generation`. For a creation: the directory's.
    pub generation: u64,
    /// `exec`: keyed hash of argv as read at the hook and of the time of the file's last change (a
    /// loader: that time itself). What is made or gets a second name: keyed hash
    /// of the new name (and of its directory, or of a symbolic link's target).
    pub hash: [u64; 2],
}

/// Words of [`ActionKey::object`] for what is done to another task.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TaskObject {
    /// `task_struct.start_boottime`, ns.
    pub start_boottime_ns: u64,
    /// Process id in the initial pid namespace.
    pub tgid: u64,
    /// Effective user id in the initial user namespace.
    pub uid: u64,
    /// Session that it belongs to, or 0.
    pub session: u64,
    /// `task_struct.comm`.
    pub comm: [u64; 2],
}

/// Bytes of [`TaskObject`].
pub const TASK_OBJECT_BYTES: usize = size_of::<TaskObject>();

/// Bytes of [`FileObject`].
pub const FILE_OBJECT_BYTES: usize = size_of::<FileObject>();

/// A hold, as the kernel records it before it stops the task (H4).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldRecord {
    /// Unique on this host for this boot; never 0.
    pub hold_id: u64,
    /// Session of the task.
    pub session: u64,
    /// `CLOCK_BOOTTIME`, ns.
    pub created_ns: u64,
    /// `CLOCK_BOOTTIME`, ns; a restart past it is a deny (H6).
    pub deadline_ns: u64,
    /// [`HOLD_PENDING`] or [`HOLD_REANNOUNCE`].
    pub state: u32,
    /// Keeps the layout free of implicit padding.
    pub _pad: u32,
}

/// Waits for a grant.
pub const HOLD_PENDING: u32 = 0;
/// A new guard-agent adopted the table: announce again, with the full record, at the next restart (H9).
pub const HOLD_REANNOUNCE: u32 = 1;

/// A decision for exactly one action of one hold.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// The hold that it answers; a grant for an earlier hold of the same action is worth nothing.
    pub hold_id: u64,
    /// `CLOCK_BOOTTIME`, ns; past it the grant is a deny.
    pub expires_ns: u64,
    /// [`VERDICT_ALLOW`] or [`VERDICT_DENY`]; anything else is a deny.
    pub verdict: u32,
    /// [`GRANT_CACHEABLE`].
    pub flags: u32,
}

/// The policy allows this for whoever of this session does it again on the same object under the same
/// name: the kernel may remember the allow (decision cache).
pub const GRANT_CACHEABLE: u32 = 1;

/// Key of what cannot be held but may be allowed beforehand: guard-agent writes, the kernel reads
/// (map `STANDING`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StandingKey {
    /// Session handle.
    pub session: u64,
    /// Real user id, and group id << 32, in the initial user namespace: a policy may go by them.
    pub ids: u64,
    /// `KIND_*`.
    pub kind: u32,
    /// As in [`ActionKey::access`].
    pub access: u32,
    /// As in [`ActionKey::flags`].
    pub flags: u32,
    /// [`Config::policy_epoch`] at the time: another policy forgets all of them.
    pub policy_epoch: u32,
}

/// Key of an allow that the kernel may repeat (map `DECISIONS`, the decision cache). The value is the
/// `CLOCK_BOOTTIME` time in ns until which it may.
///
/// Everything that the decision was about is in the hash, read anew at every attempt: access, object,
/// the path as it is now, owner, mode, user. So nothing has to be thrown away when a name, a mount or a
/// file changes: what has changed has another key. Policies have the epoch, and sessions their handle.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DecisionKey {
    /// Session handle.
    pub session: u64,
    /// [`Config::policy_epoch`] at the time.
    pub policy_epoch: u32,
    /// `KIND_*`.
    pub kind: u32,
    /// Keyed hash (128 bits) of everything else.
    pub hash: [u64; 2],
}

/// Most cached decisions: a large build touches some ten thousand files. The least recently used one
/// goes, and is asked for again.
pub const DECISIONS_MAX: u32 = 65_536;
/// How long an allow may be repeated: what the policy reads beside the object (a group's members, say)
/// counts again after a minute at the latest.
pub const DECISION_TTL_NS: u64 = 60 * 1_000_000_000;

/// An entry that ends only for want of room.
pub const DECISION_FOREVER: u64 = u64::MAX;

/// Most standing permissions; a dozen a session is much. The least recently used one goes, which denies.
pub const STANDING_MAX: u32 = 4096;

/// The action goes on.
pub const VERDICT_ALLOW: u32 = 1;
/// The action fails with `EPERM`.
pub const VERDICT_DENY: u32 = 2;

/// Settings that the loader writes before any program runs (map `CONFIG`, index 0).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// How long the kernel keeps a hold, ns. Default [`HOLD_TTL_DEFAULT_NS`].
    pub hold_ttl_ns: u64,
    /// Key of the hashes in [`FileObject::hash`], random per boot.
    pub hash_key: [u64; 2],
    /// Number of the policy in force; a change empties the decision cache.
    pub policy_epoch: u32,
    /// 1 where the kernel loses a task's storage when a fork of it fails: labels are kept twice then
    /// (map `BACKUPS`).
    pub backups: u32,
    /// 1: the content of what is executed is hashed, as the policy reads it.
    pub hash_content: u32,
    /// Keeps the layout free of implicit padding.
    pub _pad: u32,
}

/// Ten minutes (H6).
pub const HOLD_TTL_DEFAULT_NS: u64 = 600 * 1_000_000_000;

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<ActionKey>() == 160);
    assert!(offset_of!(ActionKey, start_boottime_ns) == 0);
    assert!(offset_of!(ActionKey, tgid) == 8);
    assert!(offset_of!(ActionKey, tid) == 12);
    assert!(offset_of!(ActionKey, kind) == 16);
    assert!(offset_of!(ActionKey, access) == 20);
    assert!(offset_of!(ActionKey, flags) == 24);
    assert!(offset_of!(ActionKey, object_len) == 28);
    assert!(offset_of!(ActionKey, object) == 32);
    assert!(size_of::<FileObject>() == 40);
    assert!(offset_of!(FileObject, dev) == 0);
    assert!(offset_of!(FileObject, ino) == 8);
    assert!(offset_of!(FileObject, generation) == 16);
    assert!(offset_of!(FileObject, hash) == 24);
    assert!(size_of::<HoldRecord>() == 40);
    assert!(offset_of!(HoldRecord, hold_id) == 0);
    assert!(offset_of!(HoldRecord, session) == 8);
    assert!(offset_of!(HoldRecord, created_ns) == 16);
    assert!(offset_of!(HoldRecord, deadline_ns) == 24);
    assert!(offset_of!(HoldRecord, state) == 32);
    assert!(size_of::<Grant>() == 24);
    assert!(offset_of!(Grant, hold_id) == 0);
    assert!(offset_of!(Grant, expires_ns) == 8);
    assert!(offset_of!(Grant, verdict) == 16);
    assert!(offset_of!(Grant, flags) == 20);
    assert!(size_of::<TaskObject>() == 48);
    assert!(offset_of!(TaskObject, tgid) == 8);
    assert!(offset_of!(TaskObject, uid) == 16);
    assert!(offset_of!(TaskObject, session) == 24);
    assert!(offset_of!(TaskObject, comm) == 32);
    assert!(size_of::<StandingKey>() == 32);
    assert!(offset_of!(StandingKey, ids) == 8);
    assert!(offset_of!(StandingKey, kind) == 16);
    assert!(offset_of!(StandingKey, access) == 20);
    assert!(offset_of!(StandingKey, flags) == 24);
    assert!(offset_of!(StandingKey, policy_epoch) == 28);
    assert!(size_of::<DecisionKey>() == 32);
    assert!(offset_of!(DecisionKey, policy_epoch) == 8);
    assert!(offset_of!(DecisionKey, kind) == 12);
    assert!(offset_of!(DecisionKey, hash) == 16);
    assert!(size_of::<Config>() == 40);
    assert!(offset_of!(Config, policy_epoch) == 24);
    assert!(offset_of!(Config, hash_content) == 32);
    assert!(offset_of!(Config, hold_ttl_ns) == 0);
    assert!(offset_of!(Config, hash_key) == 8);
};
