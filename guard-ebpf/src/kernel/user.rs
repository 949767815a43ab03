//! User memory, for sleepable programs.

use aya_ebpf::{
    cty::c_void,
    helpers::generated::{bpf_copy_from_user, bpf_probe_read_user_str},
};

/// Copies user memory, faulting it in. False: there is none. Sleepable programs only.
#[inline(always)]
pub fn read_user(to: *mut u8, len: u32, from: u64) -> bool {
    // SAFETY: the helper checks the source; the verifier checks `to` and `len`.
    unsafe { bpf_copy_from_user(to.cast(), len, from as *const c_void) == 0 }
}

/// Reads a word of user memory, faulting it in. Sleepable programs only.
#[inline(always)]
pub fn read_user_word(from: u64) -> Option<u64> {
    let mut word = 0u64;
    read_user((&raw mut word).cast(), 8, from).then_some(word)
}

/// Copies a user string, faulting its first page in if needed; length with NUL, or a negative errno.
/// Sleepable programs only.
#[inline(always)]
fn read_user_str(to: *mut u8, size: u32, from: u64) -> i64 {
    // SAFETY: the helper checks the source; the verifier checks `to` and `size`.
    let len = unsafe { bpf_probe_read_user_str(to.cast(), size, from as *const c_void) };
    // Of an empty string, 6.1 forgets to count the NUL.
    if len == 0 { 1 } else { len }
}

/// As [`read_user_str`], after the pages at both of its ends were faulted in if it needs them: `size` is
/// less than a page, so there are no others.
#[inline(always)]
pub fn read_user_text(to: *mut u8, size: u32, from: u64) -> i64 {
    let len = read_user_str(to, size, from);
    if len >= 0 {
        return len;
    }
    if !touch_user(from) {
        return len;
    }
    // Beyond the text's end there may be nothing: then it ends before.
    touch_user(from.wrapping_add(u64::from(size) - 1));
    read_user_str(to, size, from)
}

/// Faults in the page of a user address. False: there is none. Sleepable programs only.
#[inline(always)]
fn touch_user(from: u64) -> bool {
    let mut byte = 0u8;
    read_user(&raw mut byte, 1, from)
}
