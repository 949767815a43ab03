//! The SHA-256 of what is executed, where the policy reads it: made by the kernel's IMA from the open image.
//!
//! While an image is checked the kernel denies everybody to write to it (`deny_write_access`), until the exec has
//! failed or the program has ended. So what is hashed here is what runs, and since the hash is part of the key, a
//! decision is about this content and no other. Not so for a memfd: who made it may write to it all the while, so its
//! content is never known.

use crate::{
    kernel::File,
    maps::{ExecCheck, config},
};
use core::ptr::{addr_of, addr_of_mut};
use guard_common::event::{CONTENT_MAX, CONTENT_SHA256, CONTENT_UNKNOWN, ExecBody};

/// Hashes the image, if that is asked for and can be done; may sleep.
///
/// # Safety
/// `check` must be the thread's own.
#[inline(always)]
pub unsafe fn read(file: File, check: *mut ExecCheck) {
    // SAFETY: the caller's promise.
    unsafe {
        (*check).content_kind = CONTENT_UNKNOWN;
        (*check).content = [0; 4];
        let wanted = config().is_some_and(|config| config.hash_content != 0);
        let inode = file.inode();
        // The server behind FUSE can give another content at each look.
        let is_steady = inode.unnamed() == 0 && !inode.is_fuse();
        if !wanted || !is_steady || inode.size() > CONTENT_MAX {
            return;
        }
        if file.sha256(addr_of_mut!((*check).content).cast()) {
            (*check).content_kind = CONTENT_SHA256;
        } else {
            (*check).content = [0; 4];
        }
    }
}

/// Into a record.
///
/// # Safety
/// `body` must be a ring buffer reservation, `check` the thread's own.
#[inline(always)]
pub unsafe fn copy(body: *mut ExecBody, check: *const ExecCheck) {
    // SAFETY: the caller's promise; both are as long and aligned to 8 bytes.
    unsafe {
        (*body).content_kind = (*check).content_kind;
        (*body)._pad = 0;
        *addr_of_mut!((*body).content).cast::<[u64; 4]>() = *addr_of!((*check).content);
    }
}

/// Into a record of what has no hash.
///
/// # Safety
/// `body` must be a ring buffer reservation.
#[inline(always)]
pub unsafe fn none(body: *mut ExecBody) {
    // SAFETY: the caller's promise.
    unsafe {
        (*body).content_kind = CONTENT_UNKNOWN;
        (*body)._pad = 0;
        *addr_of_mut!((*body).content).cast::<[u64; 4]>() = [0; 4];
    }
}
