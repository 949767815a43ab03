//! `exec` of a program: `bprm_check_security`, once per image of a script's chain.

mod argv;
mod capabilities;
pub mod commit;
mod environment;
mod loader;
mod passes;

use crate::{
    cache,
    file::set_file,
    hold::{self, Ruling},
    kernel::{Bprm, Task},
    lineage::label_of,
    maps::{EVENTS, ExecCheck, Passes},
    record::Record,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, maps::ring_buf::RingBufEntry, programs::LsmContext};
use core::ptr::{addr_of, addr_of_mut};
use guard_common::{
    event::{ARGV_CUT, ARGV_UNREADABLE, ExecBody, PATH_BYTES},
    hold::{ACCESS_GAINS, ACCESS_INTERPRETER, ACCESS_UNNAMED, KIND_EXEC},
    label::Label,
};
use passes::{forget, passed, settle, slot};

pub use argv::HashWork;
pub use environment::StackWork;
pub use loader::opened_by_exec;

#[lsm(hook = "bprm_check_security", sleepable)]
pub fn bprm_check_security(ctx: LsmContext) -> i32 {
    bounded(try_bprm_check(&ctx))
}

#[inline(always)]
fn try_bprm_check(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let Some(passes) = slot(task) else { return Verdict::Deny };
    let bprm = Bprm::arg(ctx, 0);
    // argv is part of the key, and is read into the record: the reservation comes first.
    let Some(mut entry) = EVENTS.reserve::<Record<ExecBody>>(0) else {
        return hold::refuse_unannounced();
    };
    // SAFETY: a fresh reservation of exactly this type, and the thread's own slot.
    unsafe {
        let body = addr_of_mut!((*entry.as_mut_ptr()).body);
        let check = addr_of_mut!((*passes).check);
        (*check).known = describe(task, bprm, body, check);
    }
    judge(task, &label, bprm, passes, entry)
}

/// Answers an exec that has been described.
///
/// This and [`describe`] are not inlined: up to 6.1 the loops of both do not fit on one stack.
#[inline(never)]
fn judge(
    task: Task,
    label: &Label,
    bprm: Bprm,
    passes: *mut Passes,
    mut entry: RingBufEntry<Record<ExecBody>>,
) -> Verdict {
    let (file, inode) = (bprm.file(), bprm.file().inode());
    // SAFETY: a slot that only this thread touches; to the verifier these are numbers that it knows
    // nothing of.
    let (known, access, environment, hash) = unsafe {
        let check = addr_of!((*passes).check);
        ((*check).known, (*check).access, (*check).environment, (*check).hash)
    };
    let mut key = hold::key(task, KIND_EXEC, access, environment);
    set_file(&mut key, inode);
    if known == 0 {
        entry.discard(0);
        forget(passes);
        return hold::refuse_unreadable(task, label, &key);
    }
    [key.object[3], key.object[4]] = hash;
    if passed(passes, &key) {
        entry.discard(0);
        return Verdict::Allow;
    }
    let cached = cache::of_file(task, label, &key, inode, file.path().walk());
    let pending = match hold::rule(task, label, &key, cached.as_ref()) {
        Ruling::Decided(verdict) => {
            entry.discard(0);
            return settle(passes, &key, verdict);
        }
        Ruling::Announce(pending) => pending,
    };
    // SAFETY: the reservation of the caller; now every field but the head and unused tails is written.
    unsafe {
        let body = addr_of_mut!((*entry.as_mut_ptr()).body);
        let path = addr_of_mut!((*body).path).cast();
        (*body).path_len = file.path().d_path(path, PATH_BYTES as u32);
    }
    let verdict = pending.place_in(entry, task, label, &key);
    settle(passes, &key, verdict)
}

/// Describes the exec in its record, and in `check` for the key and for the commit. 0: that cannot be done.
///
/// # Safety
/// `body` must be a ring buffer reservation, `check` the thread's own.
#[inline(never)]
unsafe fn describe(task: Task, bprm: Bprm, body: *mut ExecBody, check: *mut ExecCheck) -> u64 {
    let inode = bprm.file().inode();
    // SAFETY: the caller's promise.
    unsafe {
        (*body).owner_uid = inode.uid();
        (*body).mode = inode.mode();
        argv::read(task, body, check);
        environment::read(task, check);
        (*body).environment = (*check).environment;
        (*check).argv_flags = (*body).argv_flags;
        (*check).elf = bprm.is_elf();
        (*check).image = [inode.dev(), inode.ino()];
        // Without a branch: each would double the program to the verifier.
        (*check).access = bprm.is_interpreter() * ACCESS_INTERPRETER
            | inode.unnamed() * ACCESS_UNNAMED
            | inode.gives_ids(task) * ACCESS_GAINS;
        let Some(hash) = argv::hash(body, check, inode.changed_ns()) else { return 0 };
        (*check).hash = hash;
        if (*check).access & ACCESS_INTERPRETER != 0 {
            return 1;
        }
        (*check).argv_at = bprm.p();
        (*check).made = 1;
        // The kernel's own argv is there already: with more or fewer arguments it is another one.
        let whole = (*body).argv_flags & (ARGV_CUT | ARGV_UNREADABLE) == 0;
        let (read, copied) = ((*body).argc, bprm.argc());
        // Of none it makes one, which is empty.
        u64::from(!whole || read == copied || (read == 0 && copied == 1))
    }
}
