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

/// `exec` of a program: `bprm_check_security`.
pub const KIND_EXEC: u32 = 1;
/// `open` of a file: `file_open`, or `path_mknod` for one that is about to be created.
pub const KIND_OPEN: u32 = 2;
/// `connect` of a socket: `socket_connect`.
pub const KIND_CONNECT: u32 = 3;

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
/// `exec` of an image without a name in any directory (memfd, deleted file).
pub const ACCESS_UNNAMED: u32 = 1 << 7;

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
    /// `exec`: keyed hash of argv as read at the hook. Creation: keyed hash of the new name.
    pub hash: [u64; 2],
}

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
    /// Keeps the layout free of implicit padding.
    pub _pad: u32,
}

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
    assert!(size_of::<Config>() == 24);
    assert!(offset_of!(Config, hold_ttl_ns) == 0);
    assert!(offset_of!(Config, hash_key) == 8);
};
