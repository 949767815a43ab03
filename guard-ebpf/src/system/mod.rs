//! Uses of the kernel that reach beyond files and sockets: namespaces, mounts, code for the kernel,
//! identities and clocks. Held where the caller hands our error on as it is; where it does not, answered
//! at once by a standing permission.

mod code;
mod identity;
mod ipc;
mod keyring;
mod metadata;
mod mount;
pub mod namespace;

use crate::{hold, kernel::Task, lineage::label_of, record::set_fileless, verdict::Verdict};
use guard_common::{hold::ActionKey, label::Label};

/// Answers an action without a file by a hold.
#[inline(always)]
fn held(task: Task, label: &Label, key: &ActionKey) -> Verdict {
    hold::answer(task, label, key, |body| {
        // SAFETY: a fresh reservation.
        unsafe { set_fileless(body) };
    })
}

/// Answers an action without a file at once: by a standing permission, or with a denial.
#[inline(always)]
pub fn at_once(task: Task, label: &Label, key: &ActionKey) -> Verdict {
    hold::answer_at_once(task, label, key, |body| {
        // SAFETY: a fresh reservation.
        unsafe { set_fileless(body) };
    })
}

/// The same of an action that its kind and two numbers tell whole; of a session only.
#[inline(always)]
pub fn ask_at_once(kind: u32, access: u32, flags: u32) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    at_once(task, &label, &hold::key(task, kind, access, flags))
}
