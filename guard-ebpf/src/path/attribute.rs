//! Extended attributes. Those that give rights (`security.*`, file capabilities among them, `trusted.*` and
//! ACLs) are a change of the file; the others are notes about it, and asked about as such.
//!
//! Their hooks know no mount, so the path is unknown: policy never lets a change of the first kind pass
//! without a person (K3).

use super::name::text_hash;
use crate::{
    file::{fill_without_path, set_file, set_name},
    hold,
    kernel::{Acl, Dentry, Task, nullable_arg, read_kernel, read_kernel_str, repeat},
    lineage::label_of,
    maps::config,
    record::set_fileless,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use core::ptr::addr_of_mut;
use guard_common::{
    event::{FileBody, NAME_BYTES},
    hold::{KIND_METADATA, KIND_XATTR, METADATA_ATTRIBUTE, METADATA_REMOVED},
    siphash::SipHash,
};

/// The same number for 32-bit callers.
const NR_FILE_SETATTR: u64 = 469;
/// What counts of a `struct file_kattr`: six numbers of four bytes; what follows says which of them were given.
const FILE_ATTR_BYTES: u32 = 24;

/// `flags` of a removal.
const REMOVED: u32 = 1;
/// Bytes of a value that are hashed at once, and pieces of the largest one (`XATTR_SIZE_MAX`, 64 KiB).
const PIECE: u32 = 32;
const PIECES_MAX: u32 = (64 << 10) / PIECE;

#[lsm(hook = "inode_setxattr")]
pub fn inode_setxattr(ctx: LsmContext) -> i32 {
    let size: u64 = ctx.arg(4);
    bounded(change(&ctx, nullable_arg(&ctx, 3), size, 0))
}

#[lsm(hook = "inode_removexattr")]
pub fn inode_removexattr(ctx: LsmContext) -> i32 {
    bounded(change(&ctx, core::ptr::null(), 0, REMOVED))
}

/// From 6.2 on ACLs have hooks of their own.
#[lsm(hook = "inode_set_acl")]
pub fn inode_set_acl(ctx: LsmContext) -> i32 {
    bounded(try_inode_set_acl(&ctx))
}

#[inline(always)]
fn try_inode_set_acl(ctx: &LsmContext) -> Verdict {
    let at = nullable_arg(ctx, 3);
    if at.is_null() {
        return change(ctx, core::ptr::null(), 0, REMOVED);
    }
    change(ctx, Acl::entries(at), Acl::arg(ctx, 3).bytes(), 0)
}

#[lsm(hook = "inode_remove_acl")]
pub fn inode_remove_acl(ctx: LsmContext) -> i32 {
    bounded(change(&ctx, core::ptr::null(), 0, REMOVED))
}

/// `file_setattr(2)`, from 6.17 on: flags of a file, what its quota is counted to, how it is stored.
#[lsm(hook = "inode_file_setattr")]
pub fn inode_file_setattr(ctx: LsmContext) -> i32 {
    bounded(try_inode_file_setattr(&ctx))
}

#[inline(always)]
fn try_inode_file_setattr(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    // The same by ioctl is decided there (`control.rs`), and overlayfs sets the file below it as well.
    if task.syscall() != Some(NR_FILE_SETATTR) {
        return Verdict::Allow;
    }
    let Some(inode) = Dentry::arg(ctx, 0).inode() else { return Verdict::Deny };
    let mut values = [0u64; 3];
    let given = nullable_arg(ctx, 1);
    let mut key = hold::key(task, KIND_XATTR, 0, NR_FILE_SETATTR as u32);
    set_file(&mut key, inode);
    if !read_kernel(values.as_mut_ptr().cast(), FILE_ATTR_BYTES, given) {
        return hold::refuse_unreadable(task, &label, &key);
    }
    let Some(config) = config() else { return Verdict::Deny };
    let state = SipHash::new(config.hash_key).word(values[0]).word(values[1]).word(values[2]);
    [key.object[3], key.object[4]] = state.finish(FILE_ATTR_BYTES.into());
    hold::answer(task, &label, &key, |body: *mut FileBody| {
        // SAFETY: a fresh reservation.
        unsafe {
            fill_without_path(body, inode);
            set_name(body, *b"flags (by file_setattr)\0");
        }
    })
}

/// The second argument is the dentry and the third the name, at every one of these hooks.
#[inline(always)]
fn change(ctx: &LsmContext, value: *const u8, size: u64, flags: u32) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let (dentry, name) = (Dentry::arg(ctx, 1), nullable_arg(ctx, 2));
    let Some(inode) = dentry.inode() else { return Verdict::Deny };
    let is_note = !gives_rights(name);
    let (kind, flags) = match (is_note, flags) {
        (false, _) => (KIND_XATTR, flags),
        (true, REMOVED) => (KIND_METADATA, METADATA_REMOVED),
        (true, _) => (KIND_METADATA, METADATA_ATTRIBUTE),
    };
    let mut key = hold::key(task, kind, 0, flags);
    set_file(&mut key, inode);
    let hash = value_hash(value, size).and_then(|hash| text_hash(hash, name));
    let Some(hash) = hash else {
        return hold::refuse_unreadable(task, &label, &key);
    };
    [key.object[3], key.object[4]] = hash;
    hold::answer(task, &label, &key, |body: *mut FileBody| {
        // SAFETY: a fresh reservation.
        unsafe {
            if is_note {
                set_fileless(body);
            } else {
                fill_without_path(body, inode);
            }
            let len = read_kernel_str(addr_of_mut!((*body).name).cast(), NAME_BYTES as u32, name);
            (*body).name_len = if len > 0 { len as u32 } else { 0 };
        }
    })
}

/// Whether the attribute is of one of the kinds above; one that cannot be read is.
#[inline(always)]
fn gives_rights(name: *const u8) -> bool {
    let mut first = [0u64; 2];
    if read_kernel_str(first.as_mut_ptr().cast(), 16, name) <= 0 {
        return true;
    }
    first[0] == u64::from_ne_bytes(*b"security")
        || first[0] == u64::from_ne_bytes(*b"trusted.")
        || first[0] == u64::from_ne_bytes(*b"system.p")
}

/// Keyed hash of the value, which the caller could change before a restart.
#[inline(always)]
fn value_hash(value: *const u8, size: u64) -> Option<[u64; 2]> {
    let state = SipHash::new(config()?.hash_key);
    let mut hashing = Hashing { state, value, left: size };
    if size != 0 {
        repeat(PIECES_MAX, hash_value, &mut hashing);
    }
    (hashing.left == 0).then(|| hashing.state.finish(size))
}

/// What [`hash_value`] works on.
struct Hashing {
    state: SipHash,
    value: *const u8,
    left: u64,
}

/// One turn of the loop in [`value_hash`]; as a callback, the verifier looks at it once.
extern "C" fn hash_value(index: u64, hashing: &mut Hashing) -> i64 {
    let mut words = [0u64; PIECE as usize / 8];
    let len = core::hint::black_box(hashing.left.min(PIECE.into()));
    if len > PIECE.into() {
        return 1;
    }
    let at = (hashing.value as u64).wrapping_add(index * u64::from(PIECE)) as *const u8;
    if !read_kernel(words.as_mut_ptr().cast(), len as u32, at) {
        return 1;
    }
    let state = hashing.state.word(words[0]).word(words[1]).word(words[2]).word(words[3]);
    hashing.state = state;
    hashing.left -= len;
    i64::from(hashing.left == 0)
}
