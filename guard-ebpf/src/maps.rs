//! The maps, each with its reader and writer.

use crate::{
    exec::{HashWork, StackWork},
    kernel::{Inode, Task, fetch_add},
    path::name::PathWork,
};
use aya_ebpf::{
    bindings::{
        BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE,
        bpf_map_type::{BPF_MAP_TYPE_INODE_STORAGE, BPF_MAP_TYPE_TASK_STORAGE},
    },
    helpers::generated::{bpf_inode_storage_get, bpf_task_storage_get},
    macros::{btf_map, map},
    maps::{Array, HashMap, LruHashMap, RingBuf},
};
use guard_common::{
    counter::COUNTERS as COUNTER_ENTRIES,
    event::{ARG_BYTES, ARGV_BYTES, CONTENT_BYTES, RING_BYTES},
    guardian::Guardian,
    hold::{
        ActionKey, Config, DECISIONS_MAX, DecisionKey, GRANTS_MAX, Grant, HOLDS_MAX, HoldRecord,
        STANDING_MAX, StandingKey,
    },
    label::{BACKUPS_MAX, Label, SELECTORS_MAX, SelectorKey, TaskKey},
    sent::{SENT_MAX, SentKey, SentRecord},
};

/// Task storage as a BTF map definition; aya-ebpf 0.2 has no type for it.
#[repr(C)]
pub struct TaskStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: only the map's address is used; the kernel synchronises access to its values.
unsafe impl<T> Sync for TaskStorage<T> {}

impl<T> TaskStorage<T> {
    const fn new() -> Self {
        use core::ptr::null;
        Self { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }

    #[inline(always)]
    fn get_with(&self, task: Task, flags: u64) -> Option<*mut T> {
        // SAFETY: the map and a typed task pointer, which the verifier checks.
        let slot = unsafe {
            bpf_task_storage_get(
                (&raw const *self).cast_mut().cast(),
                task.as_ptr().cast(),
                core::ptr::null_mut(),
                flags,
            )
        };
        (!slot.is_null()).then_some(slot.cast())
    }

    /// The task's value, if it has one.
    #[inline(always)]
    pub fn get(&self, task: Task) -> Option<*mut T> {
        self.get_with(task, 0)
    }

    /// The task's value, made (zeroed) if it has none. `None`: no memory.
    #[inline(always)]
    pub fn get_or_create(&self, task: Task) -> Option<*mut T> {
        self.get_with(task, BPF_LOCAL_STORAGE_GET_F_CREATE.into())
    }
}

/// Inode storage as a BTF map definition.
#[repr(C)]
pub struct InodeStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_INODE_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: as for `TaskStorage`.
unsafe impl<T> Sync for InodeStorage<T> {}

impl<T> InodeStorage<T> {
    const fn new() -> Self {
        use core::ptr::null;
        Self { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }

    #[inline(always)]
    fn get_with(&self, inode: Inode, flags: u64) -> Option<*mut T> {
        // SAFETY: the map and a typed inode pointer, which the verifier checks.
        let slot = unsafe {
            bpf_inode_storage_get(
                (&raw const *self).cast_mut().cast(),
                inode.as_ptr().cast(),
                core::ptr::null_mut(),
                flags,
            )
        };
        (!slot.is_null()).then_some(slot.cast())
    }

    /// The inode's value, if it has one.
    #[inline(always)]
    pub fn get(&self, inode: Inode) -> Option<*mut T> {
        self.get_with(inode, 0)
    }

    /// The inode's value, made (zeroed) if it has none. `None`: no memory.
    #[inline(always)]
    pub fn get_or_create(&self, inode: Inode) -> Option<*mut T> {
        self.get_with(inode, BPF_LOCAL_STORAGE_GET_F_CREATE.into())
    }
}

/// Which state a file that a session executes is in. See `exec/state.rs`.
#[btf_map]
pub static STATES: InodeStorage<u64> = InodeStorage::new();

/// Labels: guard-agent and the exec selectors write, `task_alloc` copies, every program reads.
#[btf_map]
pub static LABELS: TaskStorage<Label> = TaskStorage::new();

/// Second copies of the labels, where the kernel loses the first ones: see `lineage.rs`.
#[map]
pub static BACKUPS: HashMap<TaskKey, Label> =
    HashMap::with_max_entries(BACKUPS_MAX, BPF_F_NO_PREALLOC);

/// What a thread carries from one hook of a system call to the next (or to its restart).
#[btf_map]
pub static PASSES: TaskStorage<Passes> = TaskStorage::new();

/// Images before the last of one exec chain, of which the kernel's own limit is 5 in all, and the loader.
pub const EXEC_PASSES: usize = 5;

/// See [`PASSES`]; only ever read and written by its own thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Passes {
    /// Dentry whose creation was granted at `path_mknod`: its `file_open` is the same action (H11).
    pub created_dentry: u64,
    /// Valid entries of `exec`.
    pub exec_count: u32,
    /// 1 while the exec restarts for the sake of a later image: only then do the entries count.
    pub exec_restarts: u32,
    /// Images whose grant was consumed in this exec, so that the restart for a script's interpreter
    /// or a loader does not ask for them again. See `exec/passes.rs`.
    pub exec: [ExecPass; EXEC_PASSES],
    /// 1: the image that was allowed last is ELF; what is opened for execution next is its loader.
    pub names_loader: u32,
    pub _pad: u32,
    /// What was decided on, to be compared with what is committed.
    pub check: ExecCheck,
    /// A walk of the decision cache that is under way.
    pub path: PathWork,
}

/// The arguments and environment that a decision on an exec was about (H12).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ExecCheck {
    /// 1: the fields below are of the exec that is under way.
    pub made: u32,
    /// `ACCESS_*`, here for the verifier's sake.
    pub access: u32,
    /// 1: the image is ELF.
    pub elf: u32,
    pub _pad: u32,
    /// 0: the exec could not be described.
    pub known: u64,
    /// Bits of `ENVIRONMENT_NAMES`.
    pub environment: u32,
    /// `ARGV_*`.
    pub argv_flags: u32,
    /// Arguments in `argv`.
    pub argc: u32,
    /// Bytes in `argv`.
    pub argv_len: u32,
    /// `CONTENT_*`, of `content`.
    pub content_kind: u32,
    pub _pad_content: u32,
    /// SHA-256 of the image.
    pub content: [u64; CONTENT_BYTES / 8],
    /// Bytes of argv[0] with its NUL.
    pub first_len: u32,
    /// Bytes of argv that are known, from argv[0] on.
    pub sure_len: u32,
    /// Address of argv[0] on the new stack.
    pub argv_at: u64,
    /// Device and inode of the image that was checked last.
    pub image: [u64; 2],
    /// The hash of the action's key.
    pub hash: [u64; 2],
    /// Hash of argv[0].
    pub first: [u64; 2],
    /// Hash of what follows it.
    pub rest: [u64; 2],
    /// A hash that is under way.
    pub hashing: HashWork,
    /// A look at the new stack that is under way.
    pub walking: StackWork,
    /// The arguments, one after the other, each with its NUL. They wait here for their record: what reads them may
    /// sleep for as long as another thread of the session likes, and no room in the ring buffer may be taken then.
    pub argv: [u8; ARGV_BYTES + ARG_BYTES],
}

/// What 7.x can allocate where these are made: no more than two pages, with the kernel's own head.
const _: () = assert!(size_of::<Passes>() <= 8192 - 128);

/// One image of an exec chain.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ExecPass {
    pub dev: u64,
    pub ino: u64,
    pub generation: u64,
    pub hash: [u64; 2],
}

/// Kernel writes, guard-agent reads (adoption) and removes (dead tasks).
#[map]
pub static HOLDS: HashMap<ActionKey, HoldRecord> = HashMap::with_max_entries(HOLDS_MAX, 0);

/// guard-agent writes, the kernel deletes: whoever deletes has consumed (H2).
#[map]
pub static GRANTS: HashMap<ActionKey, Grant> = HashMap::with_max_entries(GRANTS_MAX, 0);

/// guard-agent writes, the kernel reads: what cannot be held and was allowed beforehand.
#[map]
pub static STANDING: LruHashMap<StandingKey, u64> = LruHashMap::with_max_entries(STANDING_MAX, 0);

/// The decision cache: the kernel writes what a grant allows it to repeat. See `cache.rs`.
#[map]
pub static DECISIONS: LruHashMap<DecisionKey, u64> = LruHashMap::with_max_entries(DECISIONS_MAX, 0);

/// The kernel adds, guard-agent reads and removes what is over.
#[map]
pub static SENT: HashMap<SentKey, SentRecord> = HashMap::with_max_entries(SENT_MAX, 0);

/// guard-agent writes; value: its number of the session name that the selector gives.
#[map]
pub static SELECTORS: HashMap<SelectorKey, u64> = HashMap::with_max_entries(SELECTORS_MAX, 0);

/// Records to guard-agent.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);

/// `guard_common::counter`.
#[map]
pub static COUNTERS: Array<u64> = Array::with_max_entries(COUNTER_ENTRIES, 0);

/// One entry, written by the loader before any program is attached.
#[map]
pub static CONFIG: Array<Config> = Array::with_max_entries(1, 0);

/// One entry: guard-agent writes itself, its exit clears it.
#[map]
pub static GUARDIAN: Array<Guardian> = Array::with_max_entries(1, 0);

/// Whether a map at this address of the kernel is one of these.
#[inline(always)]
pub fn is_ours(address: u64) -> bool {
    // References to maps are their addresses once the program is loaded.
    let is = |map: *const ()| map as u64 == address;
    is((&raw const LABELS).cast())
        || is((&raw const BACKUPS).cast())
        || is((&raw const PASSES).cast())
        || is((&raw const STATES).cast())
        || is((&raw const HOLDS).cast())
        || is((&raw const GRANTS).cast())
        || is((&raw const STANDING).cast())
        || is((&raw const DECISIONS).cast())
        || is((&raw const SENT).cast())
        || is((&raw const SELECTORS).cast())
        || is((&raw const EVENTS).cast())
        || is((&raw const COUNTERS).cast())
        || is((&raw const CONFIG).cast())
        || is((&raw const GUARDIAN).cast())
}

/// Adds one to a counter and returns its new value (0 only if the index does not exist).
#[inline(always)]
pub fn count(index: u32) -> u64 {
    match COUNTERS.get_ptr_mut(index) {
        Some(counter) => fetch_add(counter, 1) + 1,
        None => 0,
    }
}

/// The loader's settings.
#[inline(always)]
pub fn config() -> Option<Config> {
    CONFIG.get(0).copied()
}
