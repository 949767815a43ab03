//! `connect` of a socket of any family.

use crate::{
    hold::{self, Pending, Ruling},
    kernel::{Socket, Task, pointer_arg, read_kernel},
    lineage::label_of,
    maps::EVENTS,
    record::{ConnectRecord, fill_header},
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use core::ptr::addr_of_mut;
use guard_common::{
    event::EVENT_HELD,
    hold::{ActionKey, KIND_CONNECT, OBJECT_BYTES},
    label::Label,
};

#[lsm(hook = "socket_connect")]
pub fn socket_connect(ctx: LsmContext) -> i32 {
    bounded(try_socket_connect(&ctx))
}

#[inline(always)]
fn try_socket_connect(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let socket = Socket::arg(ctx, 0);
    let address = pointer_arg(ctx, 1);
    let len: i32 = ctx.arg(2);
    let Some((family, protocol)) = socket.family_and_protocol() else { return Verdict::Deny };
    let mut key = hold::key(task, KIND_CONNECT, socket.socket_type(), protocol);
    // The address is in kernel memory already: what is read here is what will be used.
    if len < 2 || len as usize > OBJECT_BYTES {
        return hold::refuse_unreadable(task, &label, &key);
    }
    let len = core::hint::black_box(len as u32 as u64);
    if len > OBJECT_BYTES as u64 {
        return Verdict::Deny;
    }
    if !read_kernel(key.object.as_mut_ptr().cast(), len as u32, address) {
        return hold::refuse_unreadable(task, &label, &key);
    }
    key.object_len = len as u32;
    match hold::rule(task, &label, &key) {
        Ruling::Decided(verdict) => verdict,
        Ruling::Announce(pending) => announce(task, &label, &key, &pending, family),
    }
}

#[inline(always)]
fn announce(task: Task, label: &Label, key: &ActionKey, pending: &Pending, family: u32) -> Verdict {
    let Some(mut entry) = EVENTS.reserve::<ConnectRecord>(0) else {
        return hold::refuse_unannounced();
    };
    let record = entry.as_mut_ptr();
    // SAFETY: a fresh reservation of exactly this type; every field is written.
    unsafe {
        let len = size_of::<ConnectRecord>();
        let header = addr_of_mut!((*record).header);
        fill_header(header, EVENT_HELD, len, task, label, pending.hold_id());
        (*record).body.key = *key;
        (*record).body.deadline_ns = pending.deadline_ns;
        (*record).body.socket_family = family;
        (*record).body._pad = 0;
    }
    match pending.commit(label, key) {
        Ok(()) => {
            entry.submit(0);
            Verdict::Restart
        }
        Err(why) => {
            entry.discard(0);
            why.refuse(task, label, key)
        }
    }
}
