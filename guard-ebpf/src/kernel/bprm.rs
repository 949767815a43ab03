//! An exec in progress.

use super::{
    cred::read_capabilities,
    getters::{
        Raw, core_bprm_argc, core_bprm_envc, core_bprm_file, core_bprm_is_interpreter,
        core_bprm_magic, core_bprm_p, core_bprm_permitted,
    },
    nonzero,
    object::File,
};
use aya_ebpf::programs::LsmContext;

/// What an ELF file begins with.
const ELF_MAGIC: u32 = u32::from_le_bytes(*b"\x7fELF");

/// An exec in progress.
#[derive(Clone, Copy)]
pub struct Bprm(pub(super) Raw);

// The getters below read through a typed bprm pointer; the verifier checks the relocated loads.
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

    /// 1 if the file is the interpreter that a script names.
    #[inline(always)]
    pub fn is_interpreter(self) -> u32 {
        // SAFETY: as for `file`.
        unsafe { core_bprm_is_interpreter(self.0) }
    }

    /// 1 if the file begins as ELF does.
    #[inline(always)]
    pub fn is_elf(self) -> u32 {
        // SAFETY: as for `file`.
        1 - nonzero(u64::from(unsafe { core_bprm_magic(self.0) } ^ ELF_MAGIC))
    }

    /// The capabilities that the new program is permitted, a bit each. `None`: they cannot be read.
    #[inline(always)]
    pub fn permitted(self) -> Option<u64> {
        // SAFETY: as for `file`.
        let at = unsafe { core_bprm_permitted(self.0) };
        read_capabilities(at)
    }

    /// Address of argv[0] in the new memory; the other arguments and then the environment follow it.
    #[inline(always)]
    pub fn p(self) -> u64 {
        // SAFETY: as for `file`.
        unsafe { core_bprm_p(self.0) }
    }

    /// Arguments that the kernel has copied.
    #[inline(always)]
    pub fn argc(self) -> u32 {
        // SAFETY: as for `file`.
        unsafe { core_bprm_argc(self.0) }
    }

    /// Environment variables that the kernel has copied.
    #[inline(always)]
    pub fn envc(self) -> u32 {
        // SAFETY: as for `file`.
        unsafe { core_bprm_envc(self.0) }
    }
}
