//! The session label that lives in task storage and is inherited at `task_alloc`.

/// What a labelled task carries. Only guard-agent (by pidfd) and the exec selectors write it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// Kernel handle of the session, unique on this host for this boot; never 0.
    pub session: u64,
    /// [`LABEL_FLAG_ROOT`], [`LABEL_FLAG_UNSEEN`].
    pub flags: u32,
    /// Keeps the layout free of implicit padding.
    pub _pad: u32,
}

/// Set on the first task of a session only.
pub const LABEL_FLAG_ROOT: u32 = 1;
/// Set on the first task of a session that a selector began: it was stopped before its first instruction, until
/// guard-agent has seen which descriptors it was handed.
pub const LABEL_FLAG_UNSEEN: u32 = 2;

impl Label {
    /// What a child has of it: the session.
    #[must_use]
    #[inline(always)]
    pub const fn of_child(self) -> Self {
        Self { flags: 0, ..self }
    }

    /// Whether its process stands still until guard-agent has seen what it was handed.
    #[must_use]
    pub const fn is_unseen(self) -> bool {
        self.flags & LABEL_FLAG_UNSEEN != 0
    }
}

/// Key of the exec selectors: which freshly executed images start a session of their own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SelectorKey {
    /// [`SELECT_PROGRAM`], [`SELECT_UID`] or [`SELECT_CGROUP`].
    pub kind: u32,
    /// Keeps the layout free of implicit padding.
    pub _pad: u32,
    /// Kernel device number (`super_block.s_dev`) for a program, else 0.
    pub dev: u64,
    /// Inode of the program, user id, or cgroup v2 id.
    pub id: u64,
}

/// The image's own file (device and inode).
pub const SELECT_PROGRAM: u32 = 1;
/// The real user id of the task in the initial user namespace.
pub const SELECT_UID: u32 = 2;
/// The id of the task's cgroup v2 (as in `bpf_get_current_cgroup_id`).
pub const SELECT_CGROUP: u32 = 3;

/// Key of a label's second copy (map `BACKUPS`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskKey {
    /// `task_struct.start_boottime` of the thread, ns.
    pub start_boottime_ns: u64,
    /// Thread id in the initial pid namespace.
    pub tid: u32,
    /// Keeps the layout free of implicit padding.
    pub _pad: u32,
}

/// Most labelled threads whose labels are kept twice. A session that makes more is killed: a label that
/// could be lost is none.
pub const BACKUPS_MAX: u32 = 1 << 17;

/// Most selectors of one host; a table of names that people write by hand.
pub const SELECTORS_MAX: u32 = 4096;

const _: () = {
    assert!(size_of::<Label>() == 16);
    assert!(core::mem::offset_of!(Label, session) == 0);
    assert!(core::mem::offset_of!(Label, flags) == 8);
    assert!(core::mem::offset_of!(Label, _pad) == 12);
    assert!(size_of::<TaskKey>() == 16);
    assert!(core::mem::offset_of!(TaskKey, tid) == 8);
    assert!(size_of::<SelectorKey>() == 24);
    assert!(core::mem::offset_of!(SelectorKey, kind) == 0);
    assert!(core::mem::offset_of!(SelectorKey, _pad) == 4);
    assert!(core::mem::offset_of!(SelectorKey, dev) == 8);
    assert!(core::mem::offset_of!(SelectorKey, id) == 16);
};
