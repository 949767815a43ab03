//! Inodes, dentries, paths and files.

use super::read_kernel_str;
use super::{
    getters::{
        Raw, core_acl_count, core_acl_offset_of_entries, core_dentry_inode, core_dentry_name,
        core_dentry_name_len, core_dentry_offset_of_name, core_dentry_offset_of_parent,
        core_dentry_parent, core_file_dentry, core_file_flags, core_file_inode, core_file_mode,
        core_file_path, core_inode_changed, core_inode_dev, core_inode_generation, core_inode_gid,
        core_inode_ino, core_inode_is_bpffs, core_inode_is_fuse, core_inode_is_procfs,
        core_inode_mode, core_inode_nlink, core_inode_not_pidfs, core_inode_size, core_inode_uid,
        core_mount_offset_of_id, core_mount_offset_of_mnt, core_mount_offset_of_mountpoint,
        core_mount_offset_of_parent, core_path_dentry, core_path_mnt, core_vfsmount_offset_of_root,
        core_vfsmount_root, core_vma_file, core_vma_flags,
    },
    nonzero,
    task::Task,
};
use aya_ebpf::{
    bindings::inode,
    helpers::generated::{
        bpf_d_path, bpf_ima_file_hash, bpf_probe_read_kernel, bpf_probe_read_kernel_str,
    },
    programs::LsmContext,
};

// Bits of `i_mode` (include/uapi/linux/stat.h).
const S_ISUID_SHIFT: u32 = 11;
const S_ISGID_SHIFT: u32 = 10;
const S_IXGRP_SHIFT: u32 = 3;

/// `include/uapi/asm-generic/errno-base.h`: what the helpers return where nothing can be read.
const EFAULT: i64 = 14;

/// `include/uapi/linux/hash_info.h`.
const HASH_ALGO_SHA256: i64 = 4;

/// An inode.
#[derive(Clone, Copy)]
pub struct Inode(pub(super) Raw);

// The getters below read through pointers with the verifier's types: see the module's first lines.
impl Inode {
    /// For helpers.
    #[inline(always)]
    pub fn as_ptr(self) -> *mut inode {
        self.0.cast_mut().cast()
    }

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

    /// 1 if it stands for a process, as every pidfd does from 6.9 on. Without a branch.
    #[inline(always)]
    pub fn pidfs(self) -> u32 {
        // SAFETY: as for `dev`.
        1 - nonzero(unsafe { core_inode_not_pidfs(self.0) })
    }

    /// Whether it is of procfs, where one path means another file for every process.
    #[inline(always)]
    pub fn is_procfs(self) -> bool {
        // SAFETY: as for `dev`.
        unsafe { core_inode_is_procfs(self.0) != 0 }
    }

    /// Whether it is of a FUSE file system (or virtiofs).
    #[inline(always)]
    pub fn is_fuse(self) -> bool {
        // SAFETY: as for `dev`.
        unsafe { core_inode_is_fuse(self.0) != 0 }
    }

    /// Bytes.
    #[inline(always)]
    pub fn size(self) -> u64 {
        // SAFETY: as for `dev`.
        unsafe { core_inode_size(self.0) }
    }

    /// Whether it is of a bpf file system, where maps and links are pinned.
    #[inline(always)]
    pub fn is_bpffs(self) -> bool {
        // SAFETY: as for `dev`.
        unsafe { core_inode_is_bpffs(self.0) != 0 }
    }

    /// Whether no directory names it (memfd, deleted).
    #[inline(always)]
    pub fn is_unnamed(self) -> bool {
        // SAFETY: as for `dev`.
        unsafe { core_inode_nlink(self.0) == 0 }
    }

    /// As [`Inode::is_unnamed`], as 0 or 1.
    #[inline(always)]
    pub fn unnamed(self) -> u32 {
        // SAFETY: as for `dev`.
        1 - nonzero(unsafe { core_inode_nlink(self.0) }.into())
    }

    /// When its content or attributes changed last, ns; the kernel's clock for this has the grain of a
    /// tick (4 ms) up to 6.12.
    #[inline(always)]
    pub fn changed_ns(self) -> u64 {
        // SAFETY: as for `dev`.
        unsafe { core_inode_changed(self.0) }
    }

    /// 1 if its mode bits give whoever executes it a user or group id that `task` does not have.
    /// Whether the mount or the task refuses that (`nosuid`, `no_new_privs`) is not looked at.
    #[inline(always)]
    pub fn gives_ids(self, task: Task) -> u32 {
        let mode = self.mode();
        // SAFETY: as for `dev`.
        let gid = unsafe { core_inode_gid(self.0) };
        let user = (mode >> S_ISUID_SHIFT & 1) & nonzero((self.uid() ^ task.uid()).into());
        let group = (mode >> S_ISGID_SHIFT & mode >> S_IXGRP_SHIFT & 1)
            & nonzero((gid ^ task.gid()).into());
        user | group
    }
}

/// A dentry.
#[derive(Clone, Copy)]
pub struct Dentry(pub(super) Raw);

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
pub struct Path(pub(super) Raw);

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

/// A mount.
#[derive(Clone, Copy)]
pub struct Mount(pub(super) Raw);

impl Mount {
    /// Argument `n` of a hook whose prototype has a `struct vfsmount *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    /// The root directory of what is mounted.
    #[inline(always)]
    pub fn root(self) -> Dentry {
        // SAFETY: a typed vfsmount pointer; `mnt_root` is never null.
        Dentry(unsafe { core_vfsmount_root(self.0) })
    }

    /// Its id, as in `/proc/PID/mountinfo`. `None`: it cannot be read.
    #[inline(always)]
    pub fn id(self) -> Option<u32> {
        let mut id = 0u32;
        // SAFETY: relocated constants and a local; the helper checks the source.
        let result = unsafe {
            let mount = self.0 as u64 - core_mount_offset_of_mnt();
            let from = (mount + core_mount_offset_of_id()) as Raw;
            bpf_probe_read_kernel((&raw mut id).cast(), size_of::<u32>() as u32, from)
        };
        (result == 0).then_some(id)
    }

    /// Starts a walk from the mount point.
    #[inline(always)]
    pub fn walk(self) -> Walk {
        Walk { dentry: self.root().0, mnt: self.0 }
    }
}

/// A walk from a dentry of the same mount as `path`.
#[inline(always)]
pub fn walk_from(dentry: Dentry, path: Path) -> Walk {
    // SAFETY: a typed path pointer.
    Walk { dentry: dentry.0, mnt: unsafe { core_path_mnt(path.0) } }
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

    /// Whether the walk stands at this dentry of this mount.
    #[inline(always)]
    pub fn is_at(&self, [dentry, mnt]: [u64; 2]) -> bool {
        self.dentry as u64 == dentry && self.mnt as u64 == mnt
    }

    /// Address of the component's name; goes to its parent.
    #[inline(always)]
    fn name(&mut self) -> Option<*const u8> {
        // SAFETY: relocated constants.
        let (name_at, parent_at) =
            unsafe { (core_dentry_offset_of_name(), core_dentry_offset_of_parent()) };
        let name = Self::read(self.dentry, name_at)?;
        self.dentry = Self::read(self.dentry, parent_at)?;
        Some(name.cast())
    }

    /// As [`Walk::name`], by one read. `words` is room for it: up to 6.1 the stack has none for a second buffer.
    #[inline(always)]
    pub fn name_by(&mut self, words: &mut [u64; 4]) -> Option<*const u8> {
        // SAFETY: relocated constants.
        let (name_at, parent_at) =
            unsafe { (core_dentry_offset_of_name(), core_dentry_offset_of_parent()) };
        // They stand like this in every kernel that we know.
        if name_at.wrapping_sub(parent_at) != 16 {
            return self.name();
        }
        // SAFETY: room for three words; the helper checks the source.
        let result = unsafe {
            let from = (self.dentry as u64 + parent_at) as Raw;
            bpf_probe_read_kernel(words.as_mut_ptr().cast(), 24, from)
        };
        let [parent, _, name, _] = *words;
        if result != 0 || parent == 0 || name == 0 {
            return None;
        }
        self.dentry = parent as Raw;
        Some(name as *const u8)
    }

    /// Copies the name of the component and goes to its parent; length with NUL or negative errno.
    #[inline(always)]
    pub fn read_name(&mut self, to: *mut u8, size: u32) -> i64 {
        let Some(name) = self.name() else { return -EFAULT };
        read_kernel_str(to, size, name)
    }
}

/// An open file, or one about to be.
#[derive(Clone, Copy)]
pub struct File(pub(super) Raw);

impl File {
    /// Argument `n` of a hook whose prototype has a `struct file *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    /// As [`File::arg`], where the prototype of some kernels says that it may be null.
    #[inline(always)]
    pub fn nullable_arg(ctx: &LsmContext, n: usize) -> Option<Self> {
        let file: Raw = core::hint::black_box(ctx.arg(n));
        (!file.is_null()).then_some(Self(file))
    }

    #[inline(always)]
    pub fn inode(self) -> Inode {
        // SAFETY: a typed file pointer; `f_inode` is set before any hook that sees the file.
        Inode(unsafe { core_file_inode(self.0) })
    }

    /// The SHA-256 of the content into 32 bytes at `to`. False: the kernel's IMA is not there, hashes otherwise
    /// (`ima_hash=`), or cannot read the file. Sleepable programs only.
    #[inline(always)]
    pub fn sha256(self, to: *mut u8) -> bool {
        // SAFETY: a typed file pointer; the verifier checks `to` and the length.
        unsafe { bpf_ima_file_hash(self.0.cast_mut().cast(), to.cast(), 32) == HASH_ALGO_SHA256 }
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

/// A mapping.
#[derive(Clone, Copy)]
pub struct Vma(pub(super) Raw);

impl Vma {
    /// Argument `n` of a hook whose prototype has a `struct vm_area_struct *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    /// The file that is mapped; `None` for anonymous memory.
    #[inline(always)]
    pub fn file(self) -> Option<File> {
        // SAFETY: a typed vma pointer.
        let file = core::hint::black_box(unsafe { core_vma_file(self.0) });
        (!file.is_null()).then_some(File(file))
    }

    /// `VM_*`.
    #[inline(always)]
    pub fn flags(self) -> u64 {
        // SAFETY: as for `file`.
        unsafe { core_vma_flags(self.0) }
    }
}

/// An access control list.
#[derive(Clone, Copy)]
pub struct Acl(pub(super) Raw);

/// `struct posix_acl_entry`: tag, permissions, id.
const ACL_ENTRY_BYTES: u64 = 8;

impl Acl {
    /// Argument `n` of a hook whose prototype has a `struct posix_acl *` there, which is not null.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    /// Where the entries of the list at this address begin: as a number, because the verifier lets nobody
    /// count within a typed pointer.
    #[inline(always)]
    pub fn entries(at: *const u8) -> *const u8 {
        // SAFETY: a relocated constant.
        at.wrapping_add(unsafe { core_acl_offset_of_entries() } as usize)
    }

    /// Bytes of its entries.
    #[inline(always)]
    pub fn bytes(self) -> u64 {
        // SAFETY: a typed pointer; the verifier checks the relocated load.
        u64::from(unsafe { core_acl_count(self.0) }) * ACL_ENTRY_BYTES
    }
}
