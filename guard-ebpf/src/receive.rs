//! Descriptors that come from another process: `file_receive` (`SCM_RIGHTS`, `pidfd_getfd`, seccomp).
//!
//! A session may receive what it has itself been allowed to open: that is looked up where the decision on
//! its `open` is remembered. The message is gone once it is taken, so nothing is held here; anything else
//! is refused at once, and allowed from then on if the policy permits it. Pipes, sockets and other
//! files without a name in any directory are not asked about.

use crate::{
    cache,
    file::{access_of, fill, set_file},
    hold,
    kernel::{File, Inode, Task, boot_ns},
    lineage::label_of,
    path::{S_IFMT, S_IFREG},
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use guard_common::{
    hold::{ActionKey, KIND_OPEN, KIND_RECEIVE},
    label::Label,
};

// include/uapi/linux/stat.h.
const S_IFDIR: u32 = 0o040_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFCHR: u32 = 0o020_000;

#[lsm(hook = "file_receive")]
pub fn file_receive(ctx: LsmContext) -> i32 {
    bounded(try_file_receive(&ctx))
}

#[inline(always)]
fn try_file_receive(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let file = File::arg(ctx, 0);
    let inode = file.inode();
    if inode.is_unnamed() || inode.pidfs() != 0 || !is_asked_about(inode) {
        return Verdict::Allow;
    }
    let access = access_of(file.flags(), file.mode());
    let mut key = hold::key(task, KIND_RECEIVE, access, 0);
    set_file(&mut key, inode);
    if was_opened(task, &label, &key, file) {
        return Verdict::Allow;
    }
    // A standing permission has no object but its numbers: this one is for this file alone.
    let Some(number) = cache::number(&key) else { return Verdict::Deny };
    key.flags = number;
    hold::answer_at_once(task, &label, &key, |body| {
        // SAFETY: a fresh reservation.
        unsafe { fill(body, inode, file.path()) };
    })
}

#[inline(always)]
fn is_asked_about(inode: Inode) -> bool {
    matches!(inode.mode() & S_IFMT, S_IFREG | S_IFDIR | S_IFBLK | S_IFCHR)
}

/// Whether a decision allowed this session to open this file in this way.
#[inline(always)]
fn was_opened(task: Task, label: &Label, key: &ActionKey, file: File) -> bool {
    let now = boot_ns();
    if cache::of_identity(label, key).is_some_and(|at| cache::allows(&at, now)) {
        return true;
    }
    let mut open = hold::key(task, KIND_OPEN, key.access, file.flags() & crate::file::KEPT_FLAGS);
    set_file(&mut open, file.inode());
    let at = cache::of_file(task, label, &open, file.inode(), file.path().walk());
    at.is_some_and(|at| cache::allows(&at, now))
}

/// Remembers that this session was allowed to open the file: it may hand it to itself.
#[inline(always)]
pub fn note_opened(task: Task, label: &Label, access: u32, inode: Inode) {
    let mut key = hold::key(task, KIND_RECEIVE, access, 0);
    set_file(&mut key, inode);
    if let Some(at) = cache::of_identity(label, &key) {
        cache::remember_for_good(&at);
    }
}
