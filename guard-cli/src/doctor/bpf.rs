//! Whether bpf(2) takes a program from us at all: asked with a socket filter that does nothing,
//! which is never attached.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// `BPF_PROG_LOAD` of `include/uapi/linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_int = 5;
/// `BPF_PROG_TYPE_SOCKET_FILTER`.
const SOCKET_FILTER: u32 = 1;
/// `r0 = 0` and `exit`, as `struct bpf_insn`.
const RETURN_ZERO: [u64; 2] = [0x00b7, 0x0095];

/// The start of `union bpf_attr` for `BPF_PROG_LOAD`; what is left out counts as zero.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

const _: () = assert!(size_of::<LoadAttr>() == 48);

/// Loads and drops it.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn try_harmless_program() -> io::Result<()> {
    let attr = LoadAttr {
        prog_type: SOCKET_FILTER,
        insn_cnt: 2,
        insns: RETURN_ZERO.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    // SAFETY: `attr` and what it points to outlive the call, which reads 48 bytes of it, two
    // instructions and a NUL-terminated string, and writes to none of them (no log buffer).
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attr, size_of_val(&attr)) };
    let fd = i32::try_from(result).ok().filter(|fd| *fd >= 0);
    let fd = fd.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just returned this descriptor to us, and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}
