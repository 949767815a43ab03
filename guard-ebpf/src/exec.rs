//! `exec` of a program: `bprm_check_security`, once per image of a script's chain.
//!
//! A held interpreter restarts the whole `execve`, so the check of its script runs again although its
//! grant is consumed. The thread therefore remembers the images that it was granted in this exec
//! (`PASSES.exec`), and they count only while the exec restarts for a held interpreter. That is still one
//! grant, one program: with a pass a script gets no further than to its interpreter's check, which
//! consumes a grant of its own and ends the passes.

use crate::{
    cache,
    file::set_file,
    hold::{self, Ruling},
    kernel::{Bprm, File, Inode, Task, read_user_text, read_user_word, repeat},
    lineage::label_of,
    maps::{EVENTS, EXEC_PASSES, ExecPass, PASSES, config},
    record::Record,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use core::ptr::addr_of_mut;
use guard_common::{
    event::{ARG_BYTES, ARGV_BYTES, ARGV_CUT, ARGV_MAX, ARGV_UNREADABLE, ExecBody, PATH_BYTES},
    hold::{ACCESS_INTERPRETER, ACCESS_UNNAMED, ActionKey, KIND_EXEC},
    siphash::SipHash,
};

#[lsm(hook = "bprm_check_security", sleepable)]
pub fn bprm_check_security(ctx: LsmContext) -> i32 {
    bounded(try_bprm_check(&ctx))
}

#[inline(always)]
fn try_bprm_check(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let bprm = Bprm::arg(ctx, 0);
    let (file, inode) = (bprm.file(), bprm.file().inode());
    let mut access = 0;
    if bprm.is_interpreter() {
        access |= ACCESS_INTERPRETER;
    }
    if inode.is_unnamed() {
        access |= ACCESS_UNNAMED;
    }
    // argv is part of the key, and is read into the record: the reservation comes first.
    let Some(mut entry) = EVENTS.reserve::<Record<ExecBody>>(0) else {
        return hold::refuse_unannounced();
    };
    let record = entry.as_mut_ptr();
    let mut key = hold::key(task, KIND_EXEC, access, 0);
    set_file(&mut key, inode);
    // SAFETY: a fresh reservation of exactly this type.
    let argv = unsafe { read_argv(task, addr_of_mut!((*record).body.argv).cast()) };
    // SAFETY: as above; `read_argv` has written `argv.len` bytes and the padding of the last word.
    let hash = unsafe { argv_hash(addr_of_mut!((*record).body.argv).cast(), &argv) };
    let Some(hash) = hash else {
        entry.discard(0);
        return hold::refuse_unreadable(task, &label, &key);
    };
    [key.object[3], key.object[4]] = hash;
    if passed(task, &key) {
        entry.discard(0);
        return Verdict::Allow;
    }
    let cached = cache::of_file(task, &label, &key, inode, file.path().walk());
    let pending = match hold::rule(task, &label, &key, cached.as_ref()) {
        Ruling::Decided(verdict) => {
            entry.discard(0);
            return settle(task, &key, verdict);
        }
        Ruling::Announce(pending) => pending,
    };
    // SAFETY: as above; every field but the head and unused tails is written.
    unsafe { fill(addr_of_mut!((*record).body), file, inode, &argv) };
    let verdict = pending.place_in(entry, task, &label, &key);
    settle(task, &key, verdict)
}

#[inline(always)]
unsafe fn fill(body: *mut ExecBody, file: File, inode: Inode, argv: &Argv) {
    // SAFETY: the caller's reservation.
    unsafe {
        (*body).owner_uid = inode.uid();
        (*body).mode = inode.mode();
        (*body).argc = argv.count;
        (*body).argv_len = argv.len as u32;
        (*body).argv_flags = argv.flags;
        (*body).environment = 0;
        let path = addr_of_mut!((*body).path).cast();
        (*body).path_len = file.path().d_path(path, PATH_BYTES as u32);
    }
}

/// What was read of argv.
struct Argv {
    len: usize,
    count: u32,
    flags: u32,
}

/// Copies argv from user memory, one NUL-terminated argument after the other.
///
/// This is a second fetch: the kernel has copied its own argv before (H12, SPECIFICATION.md).
///
/// # Safety
/// `to` must be writable for `ARGV_BYTES + ARG_BYTES`.
#[inline(always)]
unsafe fn read_argv(task: Task, to: *mut u8) -> Argv {
    let mut argv = Argv { len: 0, count: 0, flags: 0 };
    let Some(table) = task.exec_argv() else {
        argv.flags = ARGV_UNREADABLE;
        return argv;
    };
    if table == 0 {
        return argv;
    }
    let mut reading = Reading { argv, table, to };
    repeat(ARGV_MAX as u32 + 1, read_arg, &mut reading);
    reading.argv
}

/// What [`read_arg`] works on.
struct Reading {
    argv: Argv,
    table: u64,
    to: *mut u8,
}

/// One turn of the loop in [`read_argv`]; as a callback, the verifier looks at it once.
extern "C" fn read_arg(index: u64, reading: &mut Reading) -> i64 {
    let Some(pointer) = read_user_word(reading.table.wrapping_add(index * 8)) else {
        reading.argv.flags |= ARGV_UNREADABLE;
        return 1;
    };
    if pointer == 0 {
        return 1;
    }
    let at = core::hint::black_box(reading.argv.len as u64);
    if index >= ARGV_MAX as u64 || at >= ARGV_BYTES as u64 {
        reading.argv.flags |= ARGV_CUT;
        return 1;
    }
    // SAFETY: `at < ARGV_BYTES` leaves room for a whole argument.
    let slot = unsafe { reading.to.add(at as usize) };
    let len = read_user_text(slot, ARG_BYTES as u32, pointer);
    if len <= 0 || len > ARG_BYTES as i64 {
        reading.argv.flags |= ARGV_UNREADABLE;
        return 1;
    }
    if len == ARG_BYTES as i64 {
        reading.argv.flags |= ARGV_CUT;
    }
    reading.argv.len = (at as i64 + len) as usize;
    reading.argv.count += 1;
    0
}

/// Keyed hash of what was read, with the flags: a cut argv never equals a whole one.
///
/// # Safety
/// `bytes` must be readable and writable for `ARGV_BYTES + ARG_BYTES`, and written for `argv.len`.
#[inline(always)]
unsafe fn argv_hash(bytes: *mut u8, argv: &Argv) -> Option<[u64; 2]> {
    let len = core::hint::black_box(argv.len as u64);
    if len > (ARGV_BYTES + ARG_BYTES - 8) as u64 {
        return None;
    }
    // The last word's padding is zeroed, so that the reservation's old content does not count.
    // SAFETY: `len + 8` bytes are there.
    unsafe { bytes.add(len as usize).cast::<u64>().write_unaligned(0) };
    let mut hashing = Hashing { state: SipHash::new(config()?.hash_key), bytes };
    let words = (len as u32).div_ceil(8);
    repeat(words, hash_word, &mut hashing);
    Some(hashing.state.finish(len | u64::from(argv.flags) << 32))
}

/// What [`hash_word`] works on.
struct Hashing {
    state: SipHash,
    bytes: *mut u8,
}

/// One turn of the loop in [`argv_hash`]; as a callback, the verifier looks at it once.
extern "C" fn hash_word(index: u64, hashing: &mut Hashing) -> i64 {
    let index = core::hint::black_box(index);
    if index >= ((ARGV_BYTES + ARG_BYTES) / 8) as u64 {
        return 1;
    }
    // SAFETY: within the buffer by the check above.
    let word = unsafe { hashing.bytes.cast::<u64>().add(index as usize).read() };
    hashing.state = hashing.state.word(word);
    0
}

/// Whether this image was granted before its interpreter was held, in this thread's exec.
#[inline(always)]
fn passed(task: Task, key: &ActionKey) -> bool {
    let Some(passes) = PASSES.get(task) else { return false };
    // SAFETY: a non-null slot that only this thread touches; indices are within the array.
    unsafe {
        if (*passes).exec_restarts == 0 {
            if key.access & ACCESS_INTERPRETER == 0 {
                // Another exec begins: what an earlier one was granted is over.
                (*passes).exec_count = 0;
            }
            return false;
        }
        let wanted = exec_pass(key);
        for index in 0..EXEC_PASSES {
            if (index as u32) < (*passes).exec_count && (*passes).exec[index] == wanted {
                return true;
            }
        }
    }
    false
}

#[inline(always)]
fn exec_pass(key: &ActionKey) -> ExecPass {
    ExecPass {
        dev: key.object[0],
        ino: key.object[1],
        generation: key.object[2],
        hash: [key.object[3], key.object[4]],
    }
}

/// What a ruling means for the passes of this thread's exec.
#[inline(always)]
fn settle(task: Task, key: &ActionKey, verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Allow => {
            let Some(passes) = PASSES.get_or_create(task) else { return Verdict::Deny };
            // SAFETY: a non-null slot that only this thread touches; the index is checked.
            unsafe {
                (*passes).exec_restarts = 0;
                let count = core::hint::black_box(u64::from((*passes).exec_count));
                if count < EXEC_PASSES as u64 {
                    (*passes).exec[count as usize] = exec_pass(key);
                    (*passes).exec_count = count as u32 + 1;
                }
            }
        }
        Verdict::Deny => forget_passes(task),
        Verdict::Restart => keep_passes(task, key),
    }
    verdict
}

/// The exec restarts; if it is for an interpreter, its script need not be asked for again.
#[inline(always)]
fn keep_passes(task: Task, key: &ActionKey) {
    if key.access & ACCESS_INTERPRETER == 0 {
        return;
    }
    if let Some(passes) = PASSES.get(task) {
        // SAFETY: a non-null slot that only this thread touches.
        unsafe { (*passes).exec_restarts = 1 };
    }
}

/// Ends the passes of this thread's exec: it is denied, or its image is committed.
#[inline(always)]
pub fn forget_passes(task: Task) {
    if let Some(passes) = PASSES.get(task) {
        // SAFETY: a non-null slot that only this thread touches.
        unsafe {
            (*passes).exec_count = 0;
            (*passes).exec_restarts = 0;
        }
    }
}
