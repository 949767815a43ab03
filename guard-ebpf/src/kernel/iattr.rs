//! Attributes of a file that are about to be set.

use super::getters::{
    Raw, core_iattr_atime_nsec, core_iattr_atime_sec, core_iattr_mtime_nsec, core_iattr_mtime_sec,
    core_iattr_valid,
};
use aya_ebpf::programs::LsmContext;

// `include/linux/fs.h`: to a given time, not to the present.
const ATTR_ATIME_SET: u32 = 1 << 7;
const ATTR_MTIME_SET: u32 = 1 << 8;

/// New attributes of a file.
#[derive(Clone, Copy)]
pub struct Iattr(Raw);

// The getters below read through a typed iattr pointer; the verifier checks the relocated loads.
impl Iattr {
    /// Argument `n` of a hook whose prototype has a `struct iattr *` there.
    #[inline(always)]
    pub fn arg(ctx: &LsmContext, n: usize) -> Self {
        Self(ctx.arg(n))
    }

    /// The times that are given: seconds and nanoseconds of the last access and of the last change, and which of
    /// them are. The present is not among them: it would be another one at every restart.
    #[inline(always)]
    pub fn times(self) -> [u64; 5] {
        // SAFETY: a typed iattr pointer.
        let given = unsafe { core_iattr_valid(self.0) } & (ATTR_ATIME_SET | ATTR_MTIME_SET);
        let mut times = [0, 0, 0, 0, given.into()];
        if given & ATTR_ATIME_SET != 0 {
            // SAFETY: as above.
            [times[0], times[1]] =
                unsafe { [core_iattr_atime_sec(self.0), core_iattr_atime_nsec(self.0)] };
        }
        if given & ATTR_MTIME_SET != 0 {
            // SAFETY: as above.
            [times[2], times[3]] =
                unsafe { [core_iattr_mtime_sec(self.0), core_iattr_mtime_nsec(self.0)] };
        }
        times
    }
}
