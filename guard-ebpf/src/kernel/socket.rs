//! Sockets.

use super::getters::{
    Raw, core_sock_family, core_sock_protocol, core_socket_sock, core_socket_type,
};
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
}
