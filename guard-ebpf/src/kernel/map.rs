//! Maps of BPF programs, as a hook is given them.

use super::{
    getters::{Raw, core_map_name},
    read_kernel_str,
};
use aya_ebpf::programs::LsmContext;

/// A map, ours or anybody's.
#[derive(Clone, Copy)]
pub struct BpfMap(Raw);

impl BpfMap {
    /// Argument `n` of a hook whose prototype has a `struct bpf_map *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    /// Where the kernel has it: what a program's reference to a map is, too.
    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    /// Copies the name; returns its length with the NUL, or a negative errno.
    #[inline(always)]
    pub fn read_name(self, to: *mut u8, size: u32) -> i64 {
        // SAFETY: a typed map pointer; the name lies inside the map.
        read_kernel_str(to, size, unsafe { core_map_name(self.0) }.cast())
    }
}
