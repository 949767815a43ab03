//! bpf(2), as far as the guest asks the kernel about what guard-agent has pinned.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

// include/uapi/linux/bpf.h; the same from 6.1 to 7.3.
const BPF_MAP_GET_NEXT_KEY: libc::c_int = 4;
const BPF_OBJ_GET: libc::c_int = 7;
pub(crate) const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
pub(crate) const BPF_MAP_GET_FD_BY_ID: libc::c_int = 14;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;

/// What is pinned there.
pub(crate) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(io::Error::other)?;
    bpf_fd(BPF_OBJ_GET, &[path.as_ptr() as u64])
}

/// The map that is pinned there, for reading only: guard-agent lets nobody else write.
pub(crate) fn pinned_map_to_read(path: &Path) -> io::Result<OwnedFd> {
    const BPF_F_RDONLY: u64 = 1 << 3;
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(io::Error::other)?;
    // The flags are the upper half of the second word.
    bpf_fd(BPF_OBJ_GET, &[path.as_ptr() as u64, BPF_F_RDONLY << 32])
}

/// The key that follows `key` in a map, or the first one; `false`: there is none.
pub(crate) fn next_key(map: &OwnedFd, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
    let map = u64::from(map.as_raw_fd().cast_unsigned());
    let key = key.map_or(0, |key| key.as_ptr() as u64);
    match bpf(BPF_MAP_GET_NEXT_KEY, &[map, key, next.as_mut_ptr() as u64]) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The number that begins there.
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_ne_bytes)
}

/// What the kernel tells of an object.
pub(crate) fn info<const N: usize>(fd: &OwnedFd) -> io::Result<[u8; N]> {
    filled(fd, [0; N])
}

/// The instructions of a program as the kernel has rewritten them, those of its functions included.
pub(crate) fn instructions(program: &OwnedFd) -> io::Result<Vec<u8>> {
    // `struct bpf_prog_info`: `xlated_prog_len`, `xlated_prog_insns`.
    const LEN: usize = 20;
    const AT: usize = 32;
    let len = word(&info::<40>(program)?, LEN);
    let mut bytes = vec![0u8; len as usize];
    let mut wanted = [0u8; 40];
    wanted[LEN..LEN + 4].copy_from_slice(&len.to_ne_bytes());
    wanted[AT..AT + 8].copy_from_slice(&(bytes.as_mut_ptr() as u64).to_ne_bytes());
    filled(program, wanted)?;
    Ok(bytes)
}

/// `info`, whose numbers and addresses say what is wanted, as the kernel gives it back.
fn filled<const N: usize>(fd: &OwnedFd, mut info: [u8; N]) -> io::Result<[u8; N]> {
    let sizes = u64::from(fd.as_raw_fd().cast_unsigned()) | (N as u64) << 32;
    bpf(BPF_OBJ_GET_INFO_BY_FD, &[sizes, info.as_mut_ptr() as u64])?;
    Ok(info)
}

/// A call that gives a descriptor.
pub(crate) fn bpf_fd(command: libc::c_int, attributes: &[u64]) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `bpf(2)` with a union whose rest is zero.
fn bpf(command: libc::c_int, attributes: &[u64]) -> io::Result<libc::c_int> {
    let mut attr = [0_u64; 8];
    for (to, from) in attr.iter_mut().zip(attributes) {
        *to = *from;
    }
    // SAFETY: a whole union of the size given; what it points to is the caller's, and lives.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), size_of_val(&attr)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}
