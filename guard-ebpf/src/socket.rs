//! `connect` of a socket of any family.

use crate::{
    hold,
    kernel::{Socket, Task, pointer_arg, read_kernel},
    lineage::label_of,
    record::set_plain,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use guard_common::hold::{KIND_CONNECT, OBJECT_BYTES};

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
    hold::answer(task, &label, &key, |body| {
        // SAFETY: a fresh reservation.
        unsafe { set_plain(body, family) };
    })
}
