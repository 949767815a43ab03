//! argv: read from user memory at the exec hook, hashed, and hashed again at commit (H12).
//!
//! What is read here is a second fetch; the kernel has copied its own argv before. Once the image is
//! committed, the kernel's copy lies on the new stack, the arguments one after the other as they were
//! read, and where it was put before the hook. A script's interpreter has lost argv[0] by then and has
//! others instead, so the rest has a hash of its own.
//!
//! Reading user memory can last: a page may be one that another thread of the session hands in when it likes
//! (userfaultfd, a hole that is being punched). So everything is read into the thread's storage first, and only then
//! room is taken in the ring buffer, where an unfinished record keeps all that follow it from guard-agent.
//! The loops keep their state there too, whose content the verifier does not follow: on the stack every turn would be
//! another program to it.

use crate::{
    kernel::{Task, read_kernel, read_user, read_user_text, read_user_word, repeat},
    maps::{ExecCheck, config},
};
use core::ptr::addr_of_mut;
use guard_common::{
    event::{ARG_BYTES, ARGV_BYTES, ARGV_CUT, ARGV_MAX, ARGV_UNREADABLE},
    siphash::SipHash,
};

/// Where an argument may begin: a whole one and the rest of a word fit behind it.
const ARG_AT_MAX: usize = ARGV_BYTES - 8;
/// Words of the longest argv.
const WORDS_MAX: u32 = ((ARGV_BYTES + ARG_BYTES) / 8) as u32;

/// Copies argv from user memory, one NUL-terminated argument after the other, up to the first that is
/// cut.
///
/// # Safety
/// `check` must be the thread's own.
#[inline(always)]
pub unsafe fn read(task: Task, check: *mut ExecCheck) {
    // SAFETY: the caller's promise.
    unsafe {
        (*check).argc = 0;
        (*check).argv_len = 0;
        (*check).argv_flags = 0;
        (*check).first_len = 0;
        (*check).sure_len = 0;
        let Some(table) = task.exec_argv() else {
            (*check).argv_flags = ARGV_UNREADABLE;
            return;
        };
        if table != 0 {
            let mut reading = Reading { table, check };
            repeat(ARGV_MAX as u32 + 1, read_arg, &mut reading);
        }
    }
}

/// What [`read_arg`] works on.
struct Reading {
    table: u64,
    check: *mut ExecCheck,
}

/// One turn of the loop in [`read`]; as a callback, the verifier looks at it once.
extern "C" fn read_arg(index: u64, reading: &mut Reading) -> i64 {
    let check = reading.check;
    // SAFETY: the promise of `read`.
    unsafe {
        let Some(pointer) = read_user_word(reading.table.wrapping_add(index * 8)) else {
            (*check).argv_flags |= ARGV_UNREADABLE;
            return 1;
        };
        if pointer == 0 {
            return 1;
        }
        let at = core::hint::black_box(u64::from((*check).argv_len));
        if index >= ARGV_MAX as u64 || at >= ARG_AT_MAX as u64 {
            (*check).argv_flags |= ARGV_CUT;
            return 1;
        }
        let slot = addr_of_mut!((*check).argv).cast::<u8>().add(at as usize);
        let len = read_user_text(slot, ARG_BYTES as u32, pointer);
        if len <= 0 || len > ARG_BYTES as i64 {
            (*check).argv_flags |= ARGV_UNREADABLE;
            return 1;
        }
        let end = (at as i64 + len) as u32;
        (*check).argv_len = end;
        (*check).argc += 1;
        if index == 0 {
            (*check).first_len = len as u32;
        }
        if len == ARG_BYTES as i64 {
            // Its NUL is ours.
            (*check).argv_flags |= ARGV_CUT;
            (*check).sure_len = end - 1;
            return 1;
        }
        (*check).sure_len = end;
    }
    0
}

/// Keyed hash of what [`read`] has read, with its flags (a cut argv never equals a whole one), with
/// the bits of the environment, with `changed_ns` and the state of the file, and with its content's hash, if one was made: what
/// was written to after a decision is another program. `None`: not to be had.
///
/// # Safety
/// As for [`read`], which has been called.
#[inline(always)]
pub unsafe fn hash(check: *mut ExecCheck, changed_ns: u64, state: u64) -> Option<[u64; 2]> {
    // SAFETY: the caller's promise.
    unsafe {
        let from = addr_of_mut!((*check).argv) as u64;
        (*check).hashing.user = 0;
        let both = both(check, from)?;
        (*check).first = both[0];
        (*check).rest = both[1];
        let [first, rest] = both;
        let hash = SipHash::new(config()?.hash_key);
        let hash = hash.word(first[0]).word(first[1]).word(rest[0]).word(rest[1]);
        let lengths = u64::from((*check).argv_len) | u64::from((*check).argc) << 32;
        let flags = u64::from((*check).argv_flags) | u64::from((*check).environment) << 32;
        let [a, b, c, d] = (*check).content;
        let hash = hash.word(a).word(b).word(c).word(d).word((*check).content_kind.into());
        Some(hash.word(changed_ns).word(state).word(lengths).finish(flags))
    }
}

/// Whether argv[0] (unless a script has lost it) and the rest lie at `check.argv_at` as they were hashed.
/// `None`: they cannot be read there.
///
/// # Safety
/// `check` must be the thread's own.
#[inline(always)]
pub unsafe fn is_committed(check: *mut ExecCheck, script: bool) -> Option<bool> {
    // SAFETY: the caller's promise.
    unsafe {
        (*check).hashing.user = 1;
        let [first, rest] = both(check, (*check).argv_at)?;
        Some(rest == (*check).rest && (script || first == (*check).first))
    }
}

/// Hashes of argv[0] and of what follows it, as far as they are sure.
#[inline(always)]
unsafe fn both(check: *mut ExecCheck, from: u64) -> Option<[[u64; 2]; 2]> {
    // SAFETY: the caller's promise.
    unsafe {
        let (first, sure) = (u64::from((*check).first_len), u64::from((*check).sure_len));
        let head = if first < sure { first } else { sure };
        Some([part(check, from, head)?, part(check, from.wrapping_add(head), sure - head)?])
    }
}

#[inline(always)]
unsafe fn part(check: *mut ExecCheck, at: u64, len: u64) -> Option<[u64; 2]> {
    // SAFETY: the caller's promise.
    unsafe {
        let work = addr_of_mut!((*check).hashing);
        (*work).state = SipHash::new(config()?.hash_key);
        (*work).at = at;
        (*work).len = len;
        let mut hashing = Hashing { work };
        repeat(WORDS_MAX, hash_word, &mut hashing);
        // It ends at 0 only if every word could be read.
        ((*work).len == 0).then(|| (*work).state.finish(len))
    }
}

/// What [`hash_word`] works on.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HashWork {
    state: SipHash,
    /// Address of the rest.
    at: u64,
    /// Bytes of the rest.
    len: u64,
    /// 1: the address is one of user memory.
    user: u64,
}

struct Hashing {
    work: *mut HashWork,
}

/// One turn of the loop in [`part`]; as a callback, the verifier looks at it once.
extern "C" fn hash_word(_: u64, hashing: &mut Hashing) -> i64 {
    let work = hashing.work;
    // SAFETY: the thread's own storage.
    unsafe {
        let (at, len) = ((*work).at, (*work).len);
        if len == 0 {
            return 1;
        }
        let mut word = 0u64;
        let to = (&raw mut word).cast();
        // What follows argv is readable too: the tail of a record, or the environment.
        let readable = if (*work).user == 0 {
            read_kernel(to, 8, at as *const u8)
        } else {
            read_user(to, 8, at)
        };
        if !readable {
            return 1;
        }
        let taken = if len < 8 { len } else { 8 };
        let unused = (8 - taken) * 8;
        (*work).state = (*work).state.word(word << (unused & 63) >> (unused & 63));
        (*work).at = at.wrapping_add(taken);
        (*work).len = len - taken;
    }
    0
}
