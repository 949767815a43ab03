//! Sockets: created, bound, listening, connected, and messages with an address of their own.
//!
//! The addresses are in kernel memory already: what is read here is what will be used. A socket that the
//! kernel makes for itself is nobody's action.

use crate::{
    cache, hold,
    kernel::{AF_UNIX, Message, Socket, Task, pointer_arg, read_kernel},
    lineage::label_of,
    record::set_plain,
    sent,
    verdict::{Verdict, bounded},
};
use aya_ebpf::{macros::lsm, programs::LsmContext};
use guard_common::{
    hold::{ActionKey, KIND_BIND, KIND_CONNECT, KIND_LISTEN, KIND_SEND, KIND_SOCKET, OBJECT_BYTES},
    label::Label,
};

/// `SOCK_TYPE_MASK`: the rest of `type` are flags.
const SOCK_TYPE_MASK: u32 = 0xf;
// arch/x86/entry/syscalls/syscall_64.tbl.
const NR_SENDTO: u64 = 44;
const NR_SENDMSG: u64 = 46;
const NR_SENDMMSG: u64 = 307;

#[lsm(hook = "socket_create")]
pub fn socket_create(ctx: LsmContext) -> i32 {
    bounded(try_socket_create(&ctx))
}

#[inline(always)]
fn try_socket_create(ctx: &LsmContext) -> Verdict {
    let kern: i32 = ctx.arg(3);
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    if kern != 0 {
        return Verdict::Allow;
    }
    let (family, kind, protocol): (u32, u32, u32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let mut key = hold::key(task, KIND_SOCKET, kind & SOCK_TYPE_MASK, protocol);
    key.object[0] = u64::from(family as u16);
    key.object_len = 2;
    answer(task, &label, &key, family)
}

#[lsm(hook = "socket_connect")]
pub fn socket_connect(ctx: LsmContext) -> i32 {
    let len: i32 = ctx.arg(2);
    let address = pointer_arg(&ctx, 1);
    bounded(addressed(Socket::arg(&ctx, 0), address, len, KIND_CONNECT, |_, _| {}))
}

/// A UNIX socket's path is made as a file (`path_mknod`), and decided as that: two holds in one call
/// would take turns for ever.
#[lsm(hook = "socket_bind")]
pub fn socket_bind(ctx: LsmContext) -> i32 {
    let len: i32 = ctx.arg(2);
    let address = pointer_arg(&ctx, 1);
    bounded(addressed(Socket::arg(&ctx, 0), address, len, KIND_BIND, |_, _| {}))
}

/// Also `MSG_FASTOPEN`, which connects, and every datagram with an address. What goes out is added up.
#[lsm(hook = "socket_sendmsg")]
pub fn socket_sendmsg(ctx: LsmContext) -> i32 {
    bounded(try_socket_sendmsg(&ctx))
}

#[inline(always)]
fn try_socket_sendmsg(ctx: &LsmContext) -> Verdict {
    let socket = Socket::arg(ctx, 0);
    let task = Task::current();
    let size: i32 = ctx.arg(2);
    let size = u64::from(size.cast_unsigned());
    let Some((address, len)) = Message::arg(ctx, 1).address() else {
        if let Some(label) = label_of(task) {
            sent::to_peer(&label, socket, size);
        }
        return Verdict::Allow;
    };
    // The kernel's own clients (a network file system) send in the name of whoever waits for them; their
    // sockets were never the session's. io_uring is not restartable, and refused for that.
    let by_the_session =
        task.is_compat() || matches!(task.syscall(), Some(NR_SENDTO | NR_SENDMSG | NR_SENDMMSG));
    if !by_the_session && task.is_restartable() {
        return Verdict::Allow;
    }
    addressed(socket, address, len, KIND_SEND, |label, key| {
        sent::to_address(task, label, socket, key, size);
    })
}

/// Answers what a socket does with an address; `allowed` sees what goes on.
#[inline(always)]
fn addressed(
    socket: Socket,
    address: *const u8,
    len: i32,
    kind: u32,
    allowed: impl FnOnce(&Label, &ActionKey),
) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let Some((family, protocol)) = socket.family_and_protocol() else { return Verdict::Deny };
    let mut key = hold::key(task, kind, socket.socket_type(), protocol);
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
    if kind == KIND_BIND && has_path(&key) {
        return Verdict::Allow;
    }
    let verdict = answer(task, &label, &key, family);
    if matches!(verdict, Verdict::Allow) {
        allowed(&label, &key);
    }
    verdict
}

/// Whether the address is the path of a UNIX socket, neither abstract nor for the kernel to choose.
#[inline(always)]
fn has_path(key: &ActionKey) -> bool {
    let first = (key.object[0] >> 16) as u8;
    key.object[0] as u16 == AF_UNIX && key.object_len > 2 && first != 0
}

#[lsm(hook = "socket_listen")]
pub fn socket_listen(ctx: LsmContext) -> i32 {
    bounded(try_socket_listen(&ctx))
}

/// The object is the address that it is bound to: port 0 where the kernel will choose one, on every
/// address of the machine.
#[inline(always)]
fn try_socket_listen(ctx: &LsmContext) -> Verdict {
    let task = Task::current();
    let Some(label) = label_of(task) else { return Verdict::Allow };
    let socket = Socket::arg(ctx, 0);
    let Some((family, protocol)) = socket.family_and_protocol() else { return Verdict::Deny };
    let mut key = hold::key(task, KIND_LISTEN, socket.socket_type(), protocol);
    let mut address = [0u64; 4];
    let Some(len) = socket.local_address(&mut address) else {
        return hold::refuse_unreadable(task, &label, &key);
    };
    [key.object[0], key.object[1], key.object[2], key.object[3]] = address;
    key.object_len = len;
    answer(task, &label, &key, family)
}

#[inline(always)]
fn answer(task: Task, label: &Label, key: &ActionKey, family: u32) -> Verdict {
    let cached = cache::of_address(label, key);
    hold::answer_cached(task, label, key, cached.as_ref(), |body| {
        // SAFETY: a fresh reservation.
        unsafe { set_plain(body, family) };
    })
}
