//! `exec` of a program: `bprm_check_security`, once per image of a script's chain.

mod argv;
mod capabilities;
pub mod commit;
mod content;
mod environment;
mod loader;
mod passes;
pub mod state;

use crate::{
    cache,
    file::set_file,
    hold,
    kernel::{Bprm, File, Task, read_kernel},
    lineage::label_of,
    maps::{ExecCheck, Passes},
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use core::ptr::{addr_of, addr_of_mut};
use guard_common::{
    event::{ARG_BYTES, ARGV_BYTES, ARGV_CUT, ARGV_UNREADABLE, ExecBody, PATH_BYTES},
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
    // SAFETY: the thread's own slot.
    unsafe {
        let check = addr_of_mut!((*passes).check);
        (*check).known = describe(task, bprm, check);
    }
    judge(task, &label, bprm, passes)
}

/// Answers an exec that has been described.
///
/// This and [`describe`] are not inlined: up to 6.1 the loops of both do not fit on one stack.
#[inline(never)]
fn judge(task: Task, label: &Label, bprm: Bprm, passes: *mut Passes) -> Verdict {
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
        forget(passes);
        return hold::refuse_unreadable(task, label, &key);
    }
    [key.object[3], key.object[4]] = hash;
    if passed(passes, &key) {
        return Verdict::Allow;
    }
    let cached = cache::of_file(task, label, &key, inode, file.path().walk());
    let verdict = hold::answer_cached(task, label, &key, cached.as_ref(), |body: *mut ExecBody| {
        // SAFETY: a fresh reservation, and the thread's own slot.
        unsafe { record(body, file, addr_of!((*passes).check)) };
    });
    settle(passes, &key, verdict)
}

/// Every field but the head and unused tails, as it was described.
///
/// # Safety
/// `body` must be a ring buffer reservation, `check` the thread's own.
#[inline(always)]
unsafe fn record(body: *mut ExecBody, file: File, check: *const ExecCheck) {
    let inode = file.inode();
    // SAFETY: the caller's promise.
    unsafe {
        (*body).owner_uid = inode.uid();
        (*body).mode = inode.mode();
        (*body).argc = (*check).argc;
        (*body).argv_len = (*check).argv_len;
        (*body).argv_flags = (*check).argv_flags;
        (*body).environment = (*check).environment;
        content::copy(body, check);
        let to = addr_of_mut!((*body).argv).cast();
        let from = addr_of!((*check).argv).cast();
        if !read_kernel(to, (ARGV_BYTES + ARG_BYTES) as u32, from) {
            (*body).argv_flags = ARGV_UNREADABLE;
        }
        let path = addr_of_mut!((*body).path).cast();
        (*body).path_len = file.path().d_path(path, PATH_BYTES as u32);
    }
}

/// Describes the exec in `check`: for the key, the record and the commit. May sleep, so nothing may be reserved. 0: it
/// cannot be described.
///
/// # Safety
/// `check` must be the thread's own.
#[inline(never)]
unsafe fn describe(task: Task, bprm: Bprm, check: *mut ExecCheck) -> u64 {
    let inode = bprm.file().inode();
    // SAFETY: the caller's promise.
    unsafe {
        argv::read(task, check);
        environment::read(task, check);
        content::read(bprm.file(), check);
        (*check).elf = bprm.is_elf();
        (*check).image = [inode.dev(), inode.ino()];
        // Without a branch: each would double the program to the verifier.
        (*check).access = bprm.is_interpreter() * ACCESS_INTERPRETER
            | inode.unnamed() * ACCESS_UNNAMED
            | inode.gives_ids(task) * ACCESS_GAINS;
        let Some(state) = state::of(inode) else { return 0 };
        let Some(hash) = argv::hash(check, inode.changed_ns(), state) else { return 0 };
        (*check).hash = hash;
        if (*check).access & ACCESS_INTERPRETER != 0 {
            return 1;
        }
        (*check).argv_at = bprm.p();
        (*check).made = 1;
        // The kernel's own argv is there already: with more or fewer arguments it is another one.
        let whole = (*check).argv_flags & (ARGV_CUT | ARGV_UNREADABLE) == 0;
        let (read, copied) = ((*check).argc, bprm.argc());
        // Of none it makes one, which is empty.
        u64::from(!whole || read == copied || (read == 0 && copied == 1))
    }
}
