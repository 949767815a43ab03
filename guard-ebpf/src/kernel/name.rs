//! Names that the kernel gives, as a hook is given them.

use super::{
    getters::{Raw, core_qstr_len, core_qstr_name},
    read_kernel,
};
use aya_ebpf::programs::LsmContext;

/// A `struct qstr`.
#[derive(Clone, Copy)]
pub struct Name(Raw);

impl Name {
    /// Argument `n` of a hook whose prototype has a `struct qstr *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    /// Whether it is exactly this. One that cannot be read is (K3).
    #[inline(always)]
    pub fn is<const N: usize>(self, expected: [u8; N]) -> bool {
        // SAFETY: a typed pointer, which the verifier checks.
        let (len, name) = unsafe { (core_qstr_len(self.0), core_qstr_name(self.0)) };
        if len as usize != N {
            return false;
        }
        let mut bytes = [0u8; N];
        !read_kernel(bytes.as_mut_ptr(), N as u32, name.cast()) || bytes == expected
    }
}
