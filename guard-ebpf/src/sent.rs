//! What a session sends to internet addresses, added up for each of them and minute: see `guard_common::sent`.
//!
//! Nothing is decided here. A message that finds no room is counted, and its loss is evidence.

use crate::{
    kernel::{AF_INET6, Socket, Task, boot_ns, fetch_add},
    maps::{SENT, count},
};
use guard_common::{
    counter::SENT_UNCOUNTED,
    hold::ActionKey,
    label::Label,
    sent::{SENT_ADDRESS_WORDS, SentKey, SentRecord},
};

/// `BPF_NOEXIST`: another CPU's entry stays.
const BPF_NOEXIST: u64 = 1;
// arch/x86/entry/syscalls/syscall_64.tbl and syscall_32.tbl.
const NR_SENDMMSG: u64 = 307;
const NR32_SENDMMSG: u64 = 345;
const NR32_SOCKETCALL: u64 = 102;
/// `UIO_MAXIOV`: most messages of one `sendmmsg`.
const BATCH_MAX: u64 = 1024;

/// A message without an address: it goes where its socket is connected to.
#[inline(always)]
pub fn to_peer(label: &Label, socket: Socket, size: u64) {
    let mut address = [0; SENT_ADDRESS_WORDS];
    if socket.peer_address(&mut address) {
        add(label, socket, address, size, 0);
    }
}

/// A message with the address in `key`.
#[inline(always)]
pub fn to_address(task: Task, label: &Label, socket: Socket, key: &ActionKey, size: u64) {
    let head = key.object[0];
    let address = if u32::from(head as u16) == AF_INET6 {
        [head & 0xffff_ffff, key.object[1], key.object[2]]
    } else {
        // Also AF_UNSPEC, which IPv4 takes for itself.
        [head, 0, 0]
    };
    if socket.is_internet() {
        add(label, socket, address, size, unasked_max(task));
    }
}

/// How many more messages this system call may send to the same address without another look at them.
#[inline(always)]
fn unasked_max(task: Task) -> u64 {
    let batch = match (task.is_compat(), task.syscall()) {
        (false, Some(NR_SENDMMSG)) | (true, Some(NR32_SENDMMSG)) => task.third_argument(),
        // Which call it is lies in user memory.
        (true, Some(NR32_SOCKETCALL)) => BATCH_MAX,
        _ => 1,
    };
    (batch & 0xffff_ffff).min(BATCH_MAX).saturating_sub(1)
}

#[inline(always)]
fn add(
    label: &Label,
    socket: Socket,
    address: [u64; SENT_ADDRESS_WORDS],
    size: u64,
    unasked_max: u64,
) {
    let key = SentKey {
        session: label.session,
        window: SentKey::window_of(boot_ns()),
        socket_type: socket.socket_type(),
        protocol: socket.family_and_protocol().map_or(0, |(_, protocol)| protocol),
        address,
    };
    if SENT.get_ptr_mut(&key).is_none() {
        // If another CPU was first, or there is no room, the next look tells.
        let _ = SENT.insert(&key, &SentRecord::default(), BPF_NOEXIST);
    }
    let Some(sums) = SENT.get_ptr_mut(&key) else {
        count(SENT_UNCOUNTED);
        return;
    };
    // SAFETY: fields of a map's value, which is never freed; the verifier checks the pointer.
    unsafe {
        fetch_add(&raw mut (*sums).messages, 1);
        fetch_add(&raw mut (*sums).unasked_max, unasked_max);
        fetch_add(&raw mut (*sums).bytes, size);
        // Of two at once the smaller may stand: their sum does not depend on it.
        if (*sums).largest < size {
            (*sums).largest = size;
        }
    }
}
