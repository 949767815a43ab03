//! Creation of a file: held at `path_mknod`, before anything has changed (H11).
//!
//! `open(O_CREAT)` calls this hook before it creates, and `file_open` after; a hold at the latter would
//! restart into a file that exists (`O_EXCL` would fail). So the creation is the action, and the
//! `file_open` of exactly the dentry that was granted passes (see `file.rs`).
//!
//! `bpf_d_path` is refused on this hook up to 7.3 (tried: 6.1, 6.12, 7.3), so the directory is walked
//! component by component, to the root of the mount namespace. In a plain chroot that is the path from
//! outside; in a container, whose root is the root of its mount namespace, it is the same path.

use crate::{
    file::set_file,
    hold,
    kernel::{Dentry, Inode, Path, Step, Task, Walk, repeat},
    lineage::label_of,
    maps::{PASSES, config},
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use core::ptr::addr_of_mut;
use guard_common::{
    event::{FileBody, NAME_BYTES, PATH_BYTES},
    hold::{ACCESS_CREATE, ACCESS_WRITE, KIND_OPEN},
    siphash::SipHash,
};

const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
/// Directories and mounts that a walk passes; deeper than any path of 4,096 bytes that people use.
/// A deeper one is unreadable, never cut.
const WALK_STEPS: u32 = 256;

#[lsm(hook = "path_mknod")]
pub fn path_mknod(ctx: LsmContext) -> i32 {
    bounded(try_path_mknod(&ctx))
}

#[inline(always)]
fn try_path_mknod(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let (directory, dentry) = (Path::arg(ctx, 0), Dentry::arg(ctx, 1));
    let mode: u32 = ctx.arg(2);
    if mode & S_IFMT != 0 && mode & S_IFMT != S_IFREG {
        // Device nodes, FIFOs and sockets: no program yet (SPECIFICATION.md, coverage).
        return Verdict::Allow;
    }
    let Some(inode) = directory.dentry().inode() else { return Verdict::Deny };
    let mut key = hold::key(task, KIND_OPEN, ACCESS_CREATE | ACCESS_WRITE, 0);
    set_file(&mut key, inode);
    let Some(hash) = name_hash(dentry) else {
        return hold::refuse_unreadable(task, &label, &key);
    };
    [key.object[3], key.object[4]] = hash;
    let verdict = hold::answer(task, &label, &key, |body| {
        // SAFETY: a fresh reservation.
        unsafe { fill(body, inode, directory, dentry) };
    });
    if matches!(verdict, Verdict::Allow) && !remember(task, dentry) {
        return Verdict::Deny;
    }
    verdict
}

/// The grant covers the `file_open` of this very dentry by this thread.
#[inline(always)]
fn remember(task: Task, dentry: Dentry) -> bool {
    match PASSES.get_or_create(task) {
        Some(passes) => {
            // SAFETY: a non-null slot that only this thread touches.
            unsafe { (*passes).created_dentry = dentry.address() };
            true
        }
        None => false,
    }
}

/// Keyed hash of the new name: names are up to 255 bytes, more than a key should hold.
#[inline(always)]
fn name_hash(dentry: Dentry) -> Option<[u64; 2]> {
    let key = config()?.hash_key;
    let len = dentry.name_len();
    if len == 0 || len as usize >= NAME_BYTES {
        return None;
    }
    // The name is hashed in pieces of 32 bytes: a whole one would not fit on the eBPF stack.
    let mut state = SipHash::new(key);
    for piece in 0..(NAME_BYTES / 32) {
        if piece as u32 * 32 >= len {
            break;
        }
        let words = dentry.name_piece(piece as u32 * 32, len)?;
        state = state.word(words[0]).word(words[1]).word(words[2]).word(words[3]);
    }
    Some(state.finish(u64::from(len)))
}

/// Completes the body of an action on the name `dentry` in a directory.
///
/// # Safety
/// `body` must be a ring buffer reservation.
#[inline(always)]
unsafe fn fill(body: *mut FileBody, inode: Inode, directory: Path, dentry: Dentry) {
    // SAFETY: the caller's promise; every field but the head and unused tails is written.
    unsafe {
        (*body).owner_uid = inode.uid();
        (*body).mode = inode.mode();
        let name = addr_of_mut!((*body).name).cast();
        let name_len = dentry.read_name(name, NAME_BYTES as u32);
        (*body).name_len = if name_len > 0 { name_len as u32 } else { 0 };
        let path: *mut u8 = addr_of_mut!((*body).path).cast();
        // With no components, decoded as an unknown path, which no policy allows by path.
        (*body).path_len = 0;
        (*body).components_len = walk(directory, path);
    }
}

/// Writes NUL-terminated components from the innermost outwards; returns bytes, 0 if it cannot be had.
/// The root itself is one empty component, so that a directory that is the root has bytes too.
#[inline(always)]
fn walk(directory: Path, to: *mut u8) -> u32 {
    let mut walking = Walking { walk: directory.walk(), to, at: 0, done: 0 };
    repeat(WALK_STEPS, walk_step, &mut walking);
    if walking.done == 1 { walking.at as u32 } else { 0 }
}

/// What [`walk_step`] works on.
struct Walking {
    walk: Walk,
    to: *mut u8,
    at: u64,
    done: u64,
}

/// One turn of the loop in [`walk`]; as a callback, the verifier looks at it once.
extern "C" fn walk_step(_: u64, walking: &mut Walking) -> i64 {
    let at = core::hint::black_box(walking.at);
    if at > (PATH_BYTES - NAME_BYTES - 1) as u64 {
        return 1;
    }
    // SAFETY: `at` leaves room for a whole name.
    let slot = unsafe { walking.to.add(at as usize) };
    match walking.walk.step() {
        Step::Component => {
            let len = walking.walk.read_name(slot, NAME_BYTES as u32);
            if len <= 1 || len > NAME_BYTES as i64 {
                return 1;
            }
            walking.at = (at as i64 + len) as u64;
            0
        }
        Step::Crossed => 0,
        Step::Root => {
            // SAFETY: as above.
            unsafe { *slot = 0 };
            walking.at = at + 1;
            walking.done = 1;
            1
        }
        Step::Unreadable => 1,
    }
}
