//! Which state of a file a decision on its execution is about, beyond the time of its last change.
//!
//! That time does not tell of everything: a file in memory (tmpfs) that somebody has mapped and read is written to
//! without a fault, and so without a trace; of a file on overlayfs the kernel sees the lower file's times late. But
//! whoever writes has to open for writing first, and nobody has it open so while it is executed
//! (`deny_write_access`). So each opening for writing by a session makes it another state. The number is never used
//! again: a file whose inode the kernel has dropped meanwhile is in another state too.

use crate::{
    kernel::{Inode, begin},
    maps::{STATES, count},
};
use guard_common::counter;

/// The state that the file is in. `None`: no memory, and then nothing is known of it.
#[inline(always)]
pub fn of(inode: Inode) -> Option<u64> {
    let state = STATES.get_or_create(inode)?;
    // SAFETY: the inode's own slot.
    match unsafe { *state } {
        0 => Some(begin(state, count(counter::FILE_STATES))),
        state => Some(state),
    }
}

/// It is opened for writing: what was decided on it is about another state.
#[inline(always)]
pub fn changes(inode: Inode) {
    if let Some(state) = STATES.get(inode) {
        // SAFETY: the inode's own slot.
        unsafe { *state = count(counter::FILE_STATES) };
    }
}
