//! What a thread remembers from one hook of an `execve` to the next, and to its restart.
//!
//! An `execve` asks for several images: a script, its interpreter, the loader of that; and for what it gains by
//! the last one's attributes. A held one
//! restarts the whole call, and the checks before it run again although their grants are consumed. So
//! the thread remembers what it was granted in this exec, and that counts only while the exec restarts
//! for a later image. It is still one grant, one program: with these passes a thread gets no further
//! than to the check of the held image, which consumes a grant of its own and ends them.

use crate::{
    kernel::Task,
    maps::{EXEC_PASSES, ExecPass, PASSES, Passes},
    verdict::Verdict,
};
use core::ptr::{addr_of, addr_of_mut};
use guard_common::hold::{ACCESS_FILE_CAPABILITIES, ACCESS_INTERPRETER, ACCESS_LOADER, ActionKey};

/// What is asked for after the first image of an exec.
const LATER: u32 = ACCESS_INTERPRETER | ACCESS_LOADER | ACCESS_FILE_CAPABILITIES;

/// The thread's slot. `None`: no memory, and then nothing is allowed.
#[inline(always)]
pub fn slot(task: Task) -> Option<*mut Passes> {
    PASSES.get_or_create(task)
}

/// Whether this image was granted before a later one was held, in this thread's exec.
#[inline(always)]
pub fn passed(passes: *mut Passes, key: &ActionKey) -> bool {
    // SAFETY: a slot that only this thread touches; indices are within the array.
    unsafe {
        if (*passes).exec_restarts == 0 {
            if key.access & LATER == 0 {
                // Another exec begins: what an earlier one was granted is over.
                (*passes).exec_count = 0;
            }
            return false;
        }
        for index in 0..EXEC_PASSES {
            let pass = addr_of!((*passes).exec[index]);
            if (index as u32) < (*passes).exec_count && is_of(pass, key) {
                if key.access & ACCESS_LOADER == 0 {
                    (*passes).names_loader = (*passes).check.elf;
                }
                return true;
            }
        }
    }
    false
}

/// Field by field: a whole pass on the stack is more than 6.1 has room for.
#[inline(always)]
unsafe fn is_of(pass: *const ExecPass, key: &ActionKey) -> bool {
    // SAFETY: the caller's slot.
    unsafe {
        (*pass).dev == key.object[0]
            && (*pass).ino == key.object[1]
            && (*pass).generation == key.object[2]
            && (*pass).hash[0] == key.object[3]
            && (*pass).hash[1] == key.object[4]
    }
}

/// What a ruling on an image means for the passes.
#[inline(always)]
pub fn settle(passes: *mut Passes, key: &ActionKey, verdict: Verdict) -> Verdict {
    // SAFETY: a slot that only this thread touches; the index is checked.
    unsafe {
        match verdict {
            Verdict::Allow => {
                (*passes).exec_restarts = 0;
                let count = core::hint::black_box(u64::from((*passes).exec_count));
                if key.access & (ACCESS_LOADER | ACCESS_FILE_CAPABILITIES) == 0 {
                    (*passes).names_loader = (*passes).check.elf;
                }
                // Nothing is asked for after the capabilities.
                if key.access & ACCESS_FILE_CAPABILITIES == 0 && count < EXEC_PASSES as u64 {
                    let pass = addr_of_mut!((*passes).exec[count as usize]);
                    (*pass).dev = key.object[0];
                    (*pass).ino = key.object[1];
                    (*pass).generation = key.object[2];
                    (*pass).hash = [key.object[3], key.object[4]];
                    (*passes).exec_count = count as u32 + 1;
                }
            }
            Verdict::Deny => forget(passes),
            // What was granted before this image need not be asked for again.
            Verdict::Restart if key.access & LATER != 0 => {
                (*passes).exec_restarts = 1;
            }
            Verdict::Restart => {}
        }
    }
    verdict
}

/// Ends the passes of this thread's exec: it is denied, or its image is committed.
#[inline(always)]
pub fn forget(passes: *mut Passes) {
    // SAFETY: a slot that only this thread touches.
    unsafe {
        (*passes).exec_count = 0;
        (*passes).exec_restarts = 0;
        (*passes).names_loader = 0;
    }
}
