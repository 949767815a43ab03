//! What sessions send to internet addresses, added up (map `SENT`): rate and size of what a permitted address is
//! sent are evidence, though nobody is asked about each message.

use crate::hold::{ActionKey, OBJECT_WORDS};

/// Key: a session's socket family and type, an address, and a minute.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SentKey {
    /// Session handle.
    pub session: u64,
    /// Which [`SENT_WINDOW_NS`] since boot: an entry whose window is over does not change any more.
    pub window: u64,
    /// `SOCK_*`.
    pub socket_type: u32,
    /// `IPPROTO_*`.
    pub protocol: u32,
    /// The first [`SENT_ADDRESS_BYTES`] bytes of a `struct sockaddr_in` or `struct sockaddr_in6`, with zeros for what a
    /// session may choose as it likes (padding, flow information). The scope of a link-local address is left out.
    pub address: [u64; SENT_ADDRESS_WORDS],
}

/// Value: sums of one window.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SentRecord {
    /// Messages (of a stream: writes) that were about to be sent.
    pub messages: u64,
    /// Most further ones that Linux may have sent without asking: of a `sendmmsg` with addresses it asks about the
    /// first of each run to one address only.
    pub unasked_max: u64,
    /// Bytes of `messages`.
    pub bytes: u64,
    /// Bytes of the largest of them.
    pub largest: u64,
}

/// Words of [`SentKey::address`].
pub const SENT_ADDRESS_WORDS: usize = 3;
/// Family, port, flow information and the address of a `struct sockaddr_in6`.
pub const SENT_ADDRESS_BYTES: u32 = 24;
/// One minute: a rate that a person can judge, and one record an address.
pub const SENT_WINDOW_NS: u64 = 60 * 1_000_000_000;
/// Most addresses of all sessions together in the windows that guard-agent has not read yet. What has no room is counted
/// ([`crate::counter::SENT_UNCOUNTED`]).
pub const SENT_MAX: u32 = 1024;

impl SentKey {
    /// The window that a time (`CLOCK_BOOTTIME`, ns) is in.
    #[must_use]
    pub const fn window_of(boottime_ns: u64) -> u64 {
        boottime_ns / SENT_WINDOW_NS
    }

    /// The same address as the object of an action, whose reading of addresses is the only one.
    #[must_use]
    pub fn as_action(&self, kind: u32) -> ActionKey {
        let mut object = [0; OBJECT_WORDS];
        for (word, address) in object.iter_mut().zip(self.address) {
            *word = address;
        }
        ActionKey {
            start_boottime_ns: 0,
            tgid: 0,
            tid: 0,
            kind,
            access: self.socket_type,
            flags: self.protocol,
            object_len: SENT_ADDRESS_BYTES,
            object,
        }
    }
}

const _: () = {
    use core::mem::offset_of;
    assert!(SENT_ADDRESS_BYTES as usize == SENT_ADDRESS_WORDS * 8);
    assert!(size_of::<SentKey>() == 48);
    assert!(offset_of!(SentKey, session) == 0);
    assert!(offset_of!(SentKey, window) == 8);
    assert!(offset_of!(SentKey, socket_type) == 16);
    assert!(offset_of!(SentKey, protocol) == 20);
    assert!(offset_of!(SentKey, address) == 24);
    assert!(size_of::<SentRecord>() == 32);
    assert!(offset_of!(SentRecord, messages) == 0);
    assert!(offset_of!(SentRecord, unasked_max) == 8);
    assert!(offset_of!(SentRecord, bytes) == 16);
    assert!(offset_of!(SentRecord, largest) == 24);
};
