//! Names and paths on hooks that may not call `bpf_d_path`.

use crate::{
    kernel::{Dentry, Inode, Path, Step, Task, Walk, clear, read_kernel_str, repeat, zeroed},
    maps::{PASSES, config},
};
use core::{mem::MaybeUninit, ptr::addr_of_mut};
use guard_common::{
    event::{FileBody, NAME_BYTES, PATH_BYTES},
    siphash::SipHash,
};

/// Directories and mounts that a walk passes; deeper than any path of 4,096 bytes that people use.
/// A deeper one is unreadable, never cut.
const WALK_STEPS: u32 = 256;

/// Pieces of 31 bytes that a symbolic link's target may have: more than `PATH_MAX`.
const TEXT_PIECES: u32 = 133;

/// Keyed hash of a name in a directory (its device and inode; zeros where the key has them anyway):
/// names are up to 255 bytes, more than a key should hold.
#[inline(always)]
pub fn name_hash(directory: [u64; 2], dentry: Dentry) -> Option<[u64; 2]> {
    let key = config()?.hash_key;
    let len = dentry.name_len();
    if len == 0 || len as usize >= NAME_BYTES {
        return None;
    }
    // The name is hashed in pieces of 32 bytes: a whole one would not fit on the eBPF stack.
    let mut state = SipHash::new(key).word(directory[0]).word(directory[1]);
    for piece in 0..(NAME_BYTES / 32) {
        if piece as u32 * 32 >= len {
            break;
        }
        let words = dentry.name_piece(piece as u32 * 32, len)?;
        state = state.word(words[0]).word(words[1]).word(words[2]).word(words[3]);
    }
    Some(state.finish(u64::from(len)))
}

/// Adds a kernel text to a keyed hash. `None`: it cannot be read or has no end.
#[inline(always)]
pub fn text_hash(seed: [u64; 2], text: *const u8) -> Option<[u64; 2]> {
    let state = SipHash::new(config()?.hash_key).word(seed[0]).word(seed[1]);
    let mut hashing = TextHashing { state, text, done: 0 };
    repeat(TEXT_PIECES, hash_piece, &mut hashing);
    (hashing.done == 1).then(|| hashing.state.finish(0))
}

/// What [`hash_piece`] works on.
struct TextHashing {
    state: SipHash,
    text: *const u8,
    done: u64,
}

/// One turn of the loop in [`text_hash`]; as a callback, the verifier looks at it once.
extern "C" fn hash_piece(index: u64, hashing: &mut TextHashing) -> i64 {
    let mut words = MaybeUninit::uninit();
    let words = zeroed::<4>(&mut words);
    let at = (hashing.text as u64).wrapping_add(index * 31) as *const u8;
    let len = read_kernel_str(words.as_mut_ptr().cast(), 32, at);
    if len <= 0 {
        return 1;
    }
    let state = hashing.state;
    hashing.state = state.word(words[0]).word(words[1]).word(words[2]).word(words[3]);
    // A piece that fills the buffer may have been cut.
    if len < 32 {
        hashing.done = 1;
        return 1;
    }
    0
}

/// Adds the names from where `from` stands up to the task's own root to a keyed hash: what `bpf_d_path`
/// makes a path of. `None`: they cannot be read, or the root is not on the way.
#[inline(always)]
pub fn path_hash(task: Task, state: SipHash, from: Walk) -> Option<SipHash> {
    let passes = PASSES.get_or_create(task)?;
    // SAFETY: a non-null slot that only this thread touches.
    let work = unsafe { addr_of_mut!((*passes).path) };
    // SAFETY: as above.
    unsafe { *work = PathWork { walk: from, root: task.root(), state, name: 0, done: 0 } };
    let mut hashing = PathHashing { work };
    repeat(HASH_TURNS, hash_path, &mut hashing);
    // SAFETY: as above.
    unsafe { ((*work).done == 1).then_some((*work).state) }
}

/// Turns of a path hash: one for every 31 bytes of a component, one for every mount.
const HASH_TURNS: u32 = 1024;

/// What [`hash_path`] works on. In the thread's own storage: up to 6.1 it does not fit on the stack
/// beside an action.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PathWork {
    walk: Walk,
    root: [u64; 2],
    state: SipHash,
    /// Where the rest of a component's name is; 0: the next step finds one.
    name: u64,
    done: u64,
}

struct PathHashing {
    work: *mut PathWork,
}

/// One turn of the loop in [`path_hash`]; as a callback, the verifier looks at it once.
extern "C" fn hash_path(_: u64, hashing: &mut PathHashing) -> i64 {
    let work = hashing.work;
    let mut words = MaybeUninit::uninit();
    let words = zeroed::<4>(&mut words);
    // SAFETY: the slot of `path_hash`, which only this thread touches.
    unsafe {
        if (*work).name == 0 {
            let mut walk = (*work).walk;
            if walk.is_at((*work).root) {
                (*work).done = 1;
                return 1;
            }
            match walk.step() {
                Step::Component => {}
                Step::Crossed => {
                    (*work).walk = walk;
                    return 0;
                }
                Step::Root | Step::Unreadable => return 1,
            }
            let Some(name) = walk.name_by(words) else { return 1 };
            (*work).walk = walk;
            (*work).name = name as u64;
            clear(words);
        }
        let at = (*work).name;
        let len = read_kernel_str(words.as_mut_ptr().cast(), 32, at as *const u8);
        if len <= 0 {
            return 1;
        }
        // Only the words that the text has: its end is in the last of them, so that no two texts have the same.
        let mut state = (*work).state.word(words[0]);
        if len > 8 {
            state = state.word(words[1]);
        }
        if len > 16 {
            state = state.word(words[2]);
        }
        if len > 24 {
            state = state.word(words[3]);
        }
        (*work).state = state;
        // A piece that fills the buffer may have been cut.
        (*work).name = if len < 32 { 0 } else { at.wrapping_add(31) };
    }
    0
}

/// Completes the body of an action on the name `dentry` in a directory.
///
/// # Safety
/// `body` must be a ring buffer reservation.
#[inline(always)]
pub unsafe fn fill_named(body: *mut FileBody, inode: Inode, directory: Path, dentry: Dentry) {
    // SAFETY: the caller's promise; every field but the head and unused tails is written.
    unsafe {
        fill_walked(body, inode, directory.walk());
        let name = addr_of_mut!((*body).name).cast();
        let name_len = dentry.read_name(name, NAME_BYTES as u32);
        (*body).name_len = if name_len > 0 { name_len as u32 } else { 0 };
    }
}

/// Completes the body of an action on the object where `from` stands.
///
/// # Safety
/// `body` must be a ring buffer reservation.
#[inline(always)]
pub unsafe fn fill_walked(body: *mut FileBody, inode: Inode, from: Walk) {
    // SAFETY: the caller's promise; every field but the head and unused tails is written.
    unsafe {
        (*body).owner_uid = inode.uid();
        (*body).mode = inode.mode();
        (*body).name_len = 0;
        let path: *mut u8 = addr_of_mut!((*body).path).cast();
        // With no components, decoded as an unknown path, which no policy allows by path.
        (*body).path_len = 0;
        (*body).components_len = walk(from, path);
    }
}

/// Writes NUL-terminated components from the innermost outwards; returns bytes, 0 if it cannot be had.
/// The root itself is one empty component, so that a directory that is the root has bytes too.
#[inline(always)]
pub fn walk(from: Walk, to: *mut u8) -> u32 {
    let mut walking = Walking { walk: from, to, at: 0, done: 0 };
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
