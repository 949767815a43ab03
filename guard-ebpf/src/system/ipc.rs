//! System V shared memory, semaphores and message queues, and POSIX message queues: memory and words that
//! others on the host share.
//!
//! Nobody is held here: whether an object may be used is asked for a yes or no. A POSIX queue that exists is
//! opened like a file, and decided as one; only that it is made or removed is seen here.

use crate::{
    kernel::Task,
    system::ask_at_once,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use guard_common::hold::KIND_IPC;

macro_rules! asks {
    ($($(#[$doc:meta])* $hook:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[lsm]
        pub fn $hook(_: LsmContext) -> i32 {
            bounded(ask_at_once(KIND_IPC, 0, 0))
        }
    )+};
}

asks! {
    /// An object that exists is looked up or used.
    ipc_permission,
    shm_alloc_security,
    sem_alloc_security,
    msg_queue_alloc_security,
    /// Its owner changes or removes it without being asked whether it may use it.
    shm_shmctl,
    sem_semctl,
    msg_queue_msgctl,
}

/// A POSIX queue is made. Every other file that is made has met a hook that knows its path.
#[lsm(hook = "inode_create")]
pub fn inode_create(_: LsmContext) -> i32 {
    bounded(ask_in(240, 277))
}

/// A POSIX queue is removed.
#[lsm(hook = "inode_unlink")]
pub fn inode_unlink(_: LsmContext) -> i32 {
    bounded(ask_in(241, 278))
}

/// Asks in one system call only: its number for 64-bit and for 32-bit callers.
#[inline(always)]
fn ask_in(number: u64, compat: u64) -> Verdict {
    let task = Task::current();
    let wanted = if task.is_compat() { compat } else { number };
    if task.syscall() != Some(wanted) {
        return Verdict::Allow;
    }
    ask_at_once(KIND_IPC, 0, 0)
}
