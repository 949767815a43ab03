//! An exec in progress.

use super::{
    getters::{Raw, core_bprm_file, core_bprm_is_interpreter},
    object::File,
};
use aya_ebpf::programs::LsmContext;

/// An exec in progress.
#[derive(Clone, Copy)]
pub struct Bprm(pub(super) Raw);

impl Bprm {
    /// Argument `n` of a hook whose prototype has a `struct linux_binprm *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    #[inline(always)]
    pub fn file(self) -> File {
        // SAFETY: a typed bprm pointer.
        File(unsafe { core_bprm_file(self.0) })
    }

    /// Whether the file is the interpreter that a script names.
    #[inline(always)]
    pub fn is_interpreter(self) -> bool {
        // SAFETY: a typed bprm pointer.
        unsafe { core_bprm_is_interpreter(self.0) != 0 }
    }
}
