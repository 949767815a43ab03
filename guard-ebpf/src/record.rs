//! Building ring buffer records in place (K2), and the small ones whole.

use crate::{
    kernel::{Task, boot_ns, cgroup_id, read_comm, uid_gid},
    maps::{EVENTS, count},
};
use core::ptr::addr_of_mut;
use guard_common::{
    counter,
    event::{
        EVENT_TAMPER, ExecBody, FileBody, ForkBody, Header, OutcomeBody, PairBody, PlainBody,
        SelectedBody,
    },
    guardian::{TAMPER_NAME_BYTES, TamperBody},
    hold::ActionKey,
    label::Label,
};

/// A header and its body, as they lie in the ring buffer.
#[repr(C)]
pub struct Record<B> {
    pub header: Header,
    pub body: B,
}

/// The body of a held or blocked action: its head is the same for all.
pub trait ActionBody: 'static {
    /// Writes the action and its deadline (0: not held).
    ///
    /// # Safety
    /// `body` must be writable and 8-byte aligned, as a ring buffer reservation is.
    unsafe fn set_action(body: *mut Self, key: &ActionKey, deadline_ns: u64);
}

macro_rules! action_body {
    ($($body:ty: $($head:ident).*;)*) => {$(
        impl ActionBody for $body {
            #[inline(always)]
            unsafe fn set_action(body: *mut Self, key: &ActionKey, deadline_ns: u64) {
                // SAFETY: the caller's promise.
                unsafe {
                    (*body)$(.$head)*.key = *key;
                    (*body)$(.$head)*.deadline_ns = deadline_ns;
                }
            }
        }
    )*};
}

action_body! {
    ExecBody: ;
    FileBody: ;
    PairBody: first;
    PlainBody: ;
}

/// Completes the body of an action whose object is in its key.
///
/// # Safety
/// `body` must be a ring buffer reservation.
#[inline(always)]
pub unsafe fn set_plain(body: *mut PlainBody, family: u32) {
    // SAFETY: the caller's promise; every field but the head is written.
    unsafe {
        (*body).family = family;
        (*body)._pad = 0;
    }
}

/// Completes the body of an action that is about the kernel, not about a file.
///
/// # Safety
/// `body` must be a ring buffer reservation.
#[inline(always)]
pub unsafe fn set_fileless(body: *mut FileBody) {
    // SAFETY: the caller's promise; every field but the head and unused tails is written.
    unsafe {
        (*body).owner_uid = 0;
        (*body).mode = 0;
        (*body).name_len = 0;
        (*body).components_len = 0;
        (*body).path_len = 0;
    }
}

/// Fills the header of a reserved record.
///
/// # Safety
/// `header` must be writable and 8-byte aligned, as a ring buffer reservation is.
#[inline(always)]
pub unsafe fn fill_header(
    header: *mut Header,
    event: u32,
    len: usize,
    task: Task,
    label: &Label,
    hold_id: u64,
) {
    let ids = uid_gid();
    let syscall = task.syscall().map_or(u32::MAX, |number| number as u32);
    // SAFETY: the caller's promise; every field is written.
    unsafe {
        (*header).event = event;
        (*header).len = len as u32;
        (*header).sequence = count(counter::EVENT_SEQUENCE);
        (*header).time_ns = boot_ns();
        (*header).session = label.session;
        (*header).hold_id = hold_id;
        (*header).start_boottime_ns = task.start_boottime_ns();
        (*header).cgroup_id = cgroup_id();
        (*header).tgid = task.tgid();
        (*header).tid = task.tid();
        (*header).ppid = task.parent_tgid();
        (*header).uid = ids as u32;
        (*header).gid = (ids >> 32) as u32;
        (*header).syscall = syscall;
        (*header).reason = 0;
        (*header)._pad = 0;
        read_comm(addr_of_mut!((*header).comm));
    }
}

/// Counts a record that found no room.
#[inline(always)]
pub fn lost() {
    count(counter::EVENT_SEQUENCE);
    count(counter::EVENTS_LOST);
}

/// Says how an action ended. A lost one is counted.
#[inline(always)]
pub fn outcome(
    event: u32,
    task: Task,
    label: &Label,
    hold_id: u64,
    key: &ActionKey,
    verdict: u32,
    reason: u32,
) {
    let Some(mut entry) = EVENTS.reserve::<Record<OutcomeBody>>(0) else {
        lost();
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: a fresh reservation of exactly this type.
    unsafe {
        let len = size_of::<Record<OutcomeBody>>();
        fill_header(addr_of_mut!((*record).header), event, len, task, label, hold_id);
        (*record).body.key = *key;
        (*record).body.verdict = verdict;
        (*record).body.reason = reason;
    }
    entry.submit(0);
}

/// Says that something happened to a task, without more.
#[inline(always)]
pub fn plain(event: u32, task: Task, label: &Label) {
    let Some(mut entry) = EVENTS.reserve::<Record<()>>(0) else {
        lost();
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: a fresh reservation of exactly this type.
    unsafe {
        let len = size_of::<Record<()>>();
        fill_header(addr_of_mut!((*record).header), event, len, task, label, 0);
    }
    entry.submit(0);
}

/// Says that a task made a child.
#[inline(always)]
pub fn fork(event: u32, task: Task, label: &Label, child: Task) {
    let Some(mut entry) = EVENTS.reserve::<Record<ForkBody>>(0) else {
        lost();
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: a fresh reservation of exactly this type.
    unsafe {
        let len = size_of::<Record<ForkBody>>();
        fill_header(addr_of_mut!((*record).header), event, len, task, label, 0);
        (*record).body.child_start_boottime_ns = child.start_boottime_ns();
        (*record).body.child_tgid = child.tgid();
        (*record).body.child_tid = child.tid();
    }
    entry.submit(0);
}

/// Says that a selector started a session.
#[inline(always)]
pub fn selected(event: u32, task: Task, label: &Label, selector: u64) {
    let Some(mut entry) = EVENTS.reserve::<Record<SelectedBody>>(0) else {
        lost();
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: a fresh reservation of exactly this type.
    unsafe {
        let len = size_of::<Record<SelectedBody>>();
        fill_header(addr_of_mut!((*record).header), event, len, task, label, 0);
        (*record).body.selector = selector;
    }
    entry.submit(0);
}

/// Says that an attempt on Guard itself was refused; `name` copies a name and returns its length with the NUL,
/// or nothing above 0.
#[inline(always)]
pub fn tamper(task: Task, label: &Label, what: u32, name: impl FnOnce(*mut u8, u32) -> i64) {
    let Some(mut entry) = EVENTS.reserve::<Record<TamperBody>>(0) else {
        lost();
        return;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: a fresh reservation of exactly this type.
    unsafe {
        (*record).body.what = what;
        let len = name(addr_of_mut!((*record).body.name).cast(), TAMPER_NAME_BYTES as u32);
        (*record).body.name_len = if len > 0 { len as u32 } else { 0 };
        let len = size_of::<Record<TamperBody>>();
        fill_header(addr_of_mut!((*record).header), EVENT_TAMPER, len, task, label, 0);
    }
    entry.submit(0);
}
