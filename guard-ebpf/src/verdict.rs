//! From a verdict to an errno: one total function, and the bound that the verifier asks for.

/// `EPERM`.
const EPERM: i32 = 1;
/// Restart the system call after the signal, whatever its handler says (`include/linux/errno.h`).
const ERESTARTNOINTR: i32 = 513;

/// What a program has found.
#[derive(Clone, Copy)]
pub enum Verdict {
    /// The action goes on.
    Allow,
    /// It fails.
    Deny,
    /// The task has been sent its stop; the system call restarts when it is continued.
    Restart,
}

impl Verdict {
    /// The only place where a verdict becomes a return value.
    #[inline(always)]
    pub fn errno(self) -> i32 {
        match self {
            Self::Allow => 0,
            Self::Deny => -EPERM,
            Self::Restart => -ERESTARTNOINTR,
        }
    }
}

/// Kernels from 6.8 on refuse an LSM program whose return value is not provably an errno, and LLVM turns
/// `if c { 0 } else { -1 }` into arithmetic that 6.12 cannot bound (K1). This bound survives LLVM.
#[inline(always)]
pub fn bounded(verdict: Verdict) -> i32 {
    let errno = core::hint::black_box(i64::from(verdict.errno()));
    if (-4095..=0).contains(&errno) { errno as i32 } else { -EPERM }
}
