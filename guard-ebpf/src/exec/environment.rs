//! Which of the environment variables that make a program run other code are set: read from user memory
//! at the exec hook, and from the new stack once the image is committed (H12).

use crate::{
    kernel::{Bprm, Task, nonzero, read_user_text, read_user_word, repeat, zeroed},
    maps::ExecCheck,
};
use core::mem::MaybeUninit;
use guard_common::event::{ENVIRONMENT_NAMES, ENVIRONMENT_UNKNOWN};

/// Variables that are looked at. Whoever sets more has set anything ([`ENVIRONMENT_UNKNOWN`]).
const VARIABLES_MAX: u32 = 1 << 16;
/// Pieces that are looked at on the new stack: a kernel that has taken arguments and environment
/// (6 MiB with their pointers, `fs/exec.c`) has no more.
const PIECES_MAX: u32 = 1 << 20;
/// Bytes of a variable that are compared: the longest name and its `=` fit.
const NAME_WORDS: usize = 3;
/// Bytes of a piece on the new stack.
const PIECE_BYTES: usize = 64;

/// Sets `check.environment` to the bits of what the caller hands to `execve`.
///
/// # Safety
/// `check` must be the thread's own.
#[inline(always)]
pub unsafe fn read(task: Task, check: *mut ExecCheck) {
    // SAFETY: the caller's promise.
    unsafe {
        let Some(table) = task.exec_envp() else {
            (*check).environment = ENVIRONMENT_UNKNOWN;
            return;
        };
        (*check).environment = 0;
        if table != 0 {
            repeat(VARIABLES_MAX, read_variable, &mut Reading { table, check });
        }
    }
}

/// What [`read_variable`] works on.
struct Reading {
    table: u64,
    check: *mut ExecCheck,
}

/// One turn of the loop in [`read`].
extern "C" fn read_variable(index: u64, reading: &mut Reading) -> i64 {
    let check = reading.check;
    let mut words = MaybeUninit::uninit();
    let words = zeroed::<NAME_WORDS>(&mut words);
    let pointer = read_user_word(reading.table.wrapping_add(index * 8));
    if pointer == Some(0) {
        return 1;
    }
    let readable = pointer.is_some_and(|pointer| {
        let size = (NAME_WORDS * 8) as u32;
        read_user_text(words.as_mut_ptr().cast(), size, pointer) > 0
    });
    // SAFETY: the promise of `read`.
    unsafe {
        if !readable || index == u64::from(VARIABLES_MAX) - 1 {
            (*check).environment = ENVIRONMENT_UNKNOWN;
            return 1;
        }
        (*check).environment |= bits(words);
    }
    0
}

/// Whether the new stack has no variable of ours that was not set when it was decided. `None`: it cannot
/// be read.
///
/// # Safety
/// `check` must be the thread's own.
#[inline(always)]
pub unsafe fn is_committed(bprm: Bprm, check: *mut ExecCheck) -> Option<bool> {
    // SAFETY: the caller's promise.
    unsafe {
        if (*check).environment & ENVIRONMENT_UNKNOWN != 0 {
            return Some(true);
        }
        let work = core::ptr::addr_of_mut!((*check).walking);
        *work = StackWork {
            at: bprm.p(),
            arguments: bprm.argc(),
            variables: bprm.envc(),
            inside: 0,
            found: 0,
        };
        repeat(PIECES_MAX, walk_piece, &mut Walking { work });
        let whole = (*work).arguments == 0 && (*work).variables == 0;
        whole.then(|| (*work).found & !(*check).environment == 0)
    }
}

/// What [`walk_piece`] works on.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StackWork {
    /// Address of what has not been looked at.
    at: u64,
    /// Arguments that are still before the variables.
    arguments: u32,
    /// Variables that are left.
    variables: u32,
    /// 1: the last piece had no end.
    inside: u32,
    /// Bits of the names that were found.
    found: u32,
}

struct Walking {
    work: *mut StackWork,
}

/// One turn of the loop in [`is_committed`].
extern "C" fn walk_piece(_: u64, walking: &mut Walking) -> i64 {
    let work = walking.work;
    let mut words = MaybeUninit::uninit();
    let words = zeroed::<{ PIECE_BYTES / 8 }>(&mut words);
    // SAFETY: the thread's own storage.
    unsafe {
        if (*work).arguments == 0 && (*work).variables == 0 {
            return 1;
        }
        let len = read_user_text(words.as_mut_ptr().cast(), PIECE_BYTES as u32, (*work).at);
        if len <= 0 {
            return 1;
        }
        if (*work).arguments == 0 && (*work).inside == 0 {
            (*work).found |= bits(&[words[0], words[1], words[2]]);
        }
        if len == PIECE_BYTES as i64 {
            // Its NUL is ours: the string may go on.
            (*work).at += PIECE_BYTES as u64 - 1;
            (*work).inside = 1;
            return 0;
        }
        (*work).at += len as u64;
        (*work).inside = 0;
        if (*work).arguments > 0 {
            (*work).arguments -= 1;
        } else {
            (*work).variables -= 1;
        }
    }
    0
}

/// The bits of a variable's name. Without a branch: every one would double the program to the verifier.
#[inline(always)]
fn bits(words: &[u64; NAME_WORDS]) -> u32 {
    bit::<0>(words)
        | bit::<1>(words)
        | bit::<2>(words)
        | bit::<3>(words)
        | bit::<4>(words)
        | bit::<5>(words)
        | bit::<6>(words)
        | bit::<7>(words)
        | bit::<8>(words)
        | bit::<9>(words)
        | bit::<10>(words)
        | bit::<11>(words)
        | bit::<12>(words)
        | bit::<13>(words)
}

const _: () = assert!(ENVIRONMENT_NAMES.len() == 14, "every name has its bit in `bits`");

#[inline(always)]
fn bit<const N: usize>(words: &[u64; NAME_WORDS]) -> u32 {
    let name = const { name(ENVIRONMENT_NAMES[N]) };
    let other = (words[0] ^ name.word[0]) & name.mask[0]
        | (words[1] ^ name.word[1]) & name.mask[1]
        | (words[2] ^ name.word[2]) & name.mask[2];
    (1 - nonzero(other)) << N
}

/// A name as the words that it begins with.
struct Name {
    word: [u64; NAME_WORDS],
    mask: [u64; NAME_WORDS],
}

const fn name(text: &str) -> Name {
    let bytes = text.as_bytes();
    assert!(bytes.len() <= NAME_WORDS * 8, "a name is longer than what is compared");
    let mut name = Name { word: [0; NAME_WORDS], mask: [0; NAME_WORDS] };
    let mut at = 0;
    while at < bytes.len() {
        let shift = at % 8 * 8;
        name.word[at / 8] |= (bytes[at] as u64) << shift;
        name.mask[at / 8] |= 0xff << shift;
        at += 1;
    }
    name
}
