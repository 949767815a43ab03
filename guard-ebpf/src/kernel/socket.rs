//! Sockets.

use super::getters::{
    Raw, core_msg_name, core_msg_name_len, core_sock_address, core_sock_address6, core_sock_family,
    core_sock_peer, core_sock_peer_port, core_sock_peer6, core_sock_port, core_sock_protocol,
    core_socket_sock, core_socket_type,
};
use super::read_kernel;
use aya_ebpf::programs::LsmContext;

/// A socket.
#[derive(Clone, Copy)]
pub struct Socket(pub(super) Raw);

impl Socket {
    /// Argument `n` of a hook whose prototype has a `struct socket *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    /// `SOCK_*`.
    #[inline(always)]
    pub fn socket_type(self) -> u32 {
        // SAFETY: a typed socket pointer.
        unsafe { core_socket_type(self.0) }
    }

    /// `AF_*` and `IPPROTO_*` of its protocol socket, which is trusted-or-null from 7.x on.
    #[inline(always)]
    pub fn family_and_protocol(self) -> Option<(u32, u32)> {
        // SAFETY: a typed socket pointer.
        let sock = core::hint::black_box(unsafe { core_socket_sock(self.0) });
        // SAFETY: a typed sock pointer that is not null.
        (!sock.is_null()).then(|| unsafe { (core_sock_family(sock), core_sock_protocol(sock)) })
    }

    /// Whether it is of IPv4 or IPv6.
    #[inline(always)]
    pub fn is_internet(self) -> bool {
        matches!(self.family_and_protocol(), Some((AF_INET | AF_INET6, _)))
    }

    /// The internet address that it is connected to, as the first bytes of a `struct sockaddr`. False: there is
    /// none, or it cannot be read.
    #[inline(always)]
    pub fn peer_address(self, to: &mut [u64; 3]) -> bool {
        // SAFETY: as above.
        let sock = core::hint::black_box(unsafe { core_socket_sock(self.0) });
        if sock.is_null() {
            return false;
        }
        // SAFETY: a typed sock pointer that is not null.
        let (family, port) = unsafe { (core_sock_family(sock), core_sock_peer_port(sock)) };
        let head = u64::from(family) | u64::from(port as u16) << 16;
        match family {
            AF_INET => {
                // SAFETY: as above.
                let address = unsafe { core_sock_peer(sock) };
                *to = [head | u64::from(address) << 32, 0, 0];
                address != 0
            }
            AF_INET6 => {
                let mut address = [0u64; 2];
                // SAFETY: as above.
                let from = unsafe { core_sock_peer6(sock) };
                if !read_kernel(address.as_mut_ptr().cast(), 16, from.cast()) {
                    return false;
                }
                *to = [head, address[0], address[1]];
                address != [0, 0]
            }
            _ => false,
        }
    }

    /// Its own address as a `struct sockaddr`, and how many bytes of it count: two (the family) where
    /// the family has none that is known here.
    #[inline(always)]
    pub fn local_address(self, to: &mut [u64; 4]) -> Option<u32> {
        // SAFETY: as above.
        let sock = core::hint::black_box(unsafe { core_socket_sock(self.0) });
        if sock.is_null() {
            return None;
        }
        // SAFETY: a typed sock pointer that is not null.
        let (family, port) = unsafe { (core_sock_family(sock), core_sock_port(sock)) };
        let port = u64::from((port as u16).swap_bytes());
        let head = u64::from(family) | port << 16;
        match family {
            AF_INET => {
                // SAFETY: as above.
                let address = unsafe { core_sock_address(sock) };
                *to = [head | u64::from(address) << 32, 0, 0, 0];
                Some(SOCKADDR_IN)
            }
            AF_INET6 => {
                let mut address = [0u64; 2];
                // SAFETY: as above.
                let from = unsafe { core_sock_address6(sock) };
                if !read_kernel(address.as_mut_ptr().cast(), 16, from.cast()) {
                    return None;
                }
                // Family, port, flow information; then the address, which starts at byte 8.
                *to = [head, address[0], address[1], 0];
                Some(SOCKADDR_IN6)
            }
            _ => {
                *to = [u64::from(family), 0, 0, 0];
                Some(2)
            }
        }
    }
}

// include/linux/socket.h.
/// As the first two bytes of an address have it.
pub const AF_UNIX: u16 = 1;
const AF_INET: u32 = 2;
pub const AF_INET6: u32 = 10;
/// Bytes of `struct sockaddr_in`, and of `struct sockaddr_in6`.
const SOCKADDR_IN: u32 = 16;
const SOCKADDR_IN6: u32 = 28;

/// A message that is about to be sent.
#[derive(Clone, Copy)]
pub struct Message(pub(super) Raw);

impl Message {
    /// Argument `n` of a hook whose prototype has a `struct msghdr *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    /// Where it is addressed to, in kernel memory already, and the address' bytes; `None` without one.
    #[inline(always)]
    pub fn address(self) -> Option<(*const u8, i32)> {
        // SAFETY: a typed msghdr pointer; the verifier checks the relocated loads.
        let (name, len) = unsafe { (core_msg_name(self.0), core_msg_name_len(self.0)) };
        (!name.is_null()).then_some((name.cast(), len as i32))
    }
}
