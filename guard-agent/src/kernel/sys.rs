//! The raw system calls that no crate has: task storage by pidfd, pidfds, boot time.

use super::KernelError;
use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// `union bpf_attr` for `BPF_MAP_*_ELEM` (`include/uapi/linux/bpf.h`).
#[repr(C)]
struct MapElement {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;

fn bpf_element(command: libc::c_int, attr: &MapElement) -> io::Result<()> {
    // SAFETY: `attr` is a valid prefix of `union bpf_attr` of the size given, and the callers keep
    // what its `key` and `value` point to alive and large enough for the map.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<MapElement>())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Plain data whose every bit pattern is valid and that has no padding.
///
/// # Safety
/// The implementor promises just that.
pub(crate) unsafe trait Plain: Copy + 'static {}

// SAFETY: integers with explicit padding, asserted in guard-common.
unsafe impl Plain for guard_common::label::Label {}

/// Sets the task storage value of the thread-group leader behind `pidfd`.
pub(crate) fn task_storage_set<T: Plain>(
    map: BorrowedFd<'_>,
    pidfd: BorrowedFd<'_>,
    value: &T,
) -> io::Result<()> {
    let key = pidfd.as_raw_fd();
    bpf_element(
        BPF_MAP_UPDATE_ELEM,
        &MapElement {
            map_fd: map.as_raw_fd().cast_unsigned(),
            _pad: 0,
            key: std::ptr::from_ref(&key) as u64,
            value: std::ptr::from_ref(value) as u64,
            flags: 0,
        },
    )
}

/// Reads the task storage value of the thread-group leader behind `pidfd`.
pub(crate) fn task_storage_get<T: Plain + Default>(
    map: BorrowedFd<'_>,
    pidfd: BorrowedFd<'_>,
) -> io::Result<Option<T>> {
    let key = pidfd.as_raw_fd();
    let mut value = T::default();
    let result = bpf_element(
        BPF_MAP_LOOKUP_ELEM,
        &MapElement {
            map_fd: map.as_raw_fd().cast_unsigned(),
            _pad: 0,
            key: std::ptr::from_ref(&key) as u64,
            value: std::ptr::from_mut(&mut value) as u64,
            flags: 0,
        },
    );
    match result {
        Ok(()) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A pidfd of the process `tgid`.
pub(crate) fn pidfd_open(tgid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, tgid.cast_signed(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = libc::c_int::try_from(fd).map_err(|_| io::Error::other("pidfd out of range"))?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends `signal` to the process behind `pidfd`.
pub(crate) fn pidfd_send_signal(pidfd: impl AsFd, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: a null siginfo means the kernel fills it as kill(2) would.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `CLOCK_BOOTTIME`, ns: the clock of deadlines.
#[must_use]
pub fn boottime_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable; the clock exists since 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Wraps an error with what was attempted.
pub(crate) fn failed(call: impl Into<String>) -> impl FnOnce(io::Error) -> KernelError {
    let call = call.into();
    move |source| KernelError { call, source }
}
