//! The raw system calls that no crate has: task storage by pidfd, pidfds, boot time, bpf objects by pin
//! and id.

use super::KernelError;
use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
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

/// `union bpf_attr` for `BPF_OBJ_*`, `BPF_*_GET_FD_BY_ID` and `BPF_OBJ_GET_INFO_BY_FD`: three different
/// heads of one size.
#[repr(C)]
struct Object {
    /// A path, an id, or a descriptor and the length of what `pointer` has room for.
    head: u64,
    /// A descriptor, or a pointer.
    second: u64,
    flags: u64,
}

const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_MAP_GET_FD_BY_ID: libc::c_int = 14;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;

fn bpf_object(command: libc::c_int, attr: &Object) -> io::Result<libc::c_int> {
    // SAFETY: `attr` is a valid prefix of `union bpf_attr` of the size given, and the callers keep what it
    // points to alive and large enough.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<Object>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(|_| io::Error::other("descriptor out of range"))
}

fn bpf_descriptor(command: libc::c_int, attr: &Object) -> io::Result<OwnedFd> {
    let fd = bpf_object(command, attr)?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The object that is pinned at `path`.
pub(crate) fn obj_get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    bpf_descriptor(BPF_OBJ_GET, &Object { head: path.as_ptr() as u64, second: 0, flags: 0 })
}

/// Pins the object at `path`, where nothing may be yet.
pub(crate) fn obj_pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let second = u64::from(fd.as_raw_fd().cast_unsigned());
    bpf_object(BPF_OBJ_PIN, &Object { head: path.as_ptr() as u64, second, flags: 0 }).map(drop)
}

/// The program with this id.
pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    bpf_descriptor(BPF_PROG_GET_FD_BY_ID, &Object { head: id.into(), second: 0, flags: 0 })
}

/// The map with this id.
pub(crate) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    bpf_descriptor(BPF_MAP_GET_FD_BY_ID, &Object { head: id.into(), second: 0, flags: 0 })
}

/// Words of `struct bpf_{link,map,prog}_info`: more than any of them has.
const INFO_WORDS: usize = 64;

fn info(fd: BorrowedFd<'_>, words: &mut [u32; INFO_WORDS]) -> io::Result<()> {
    let len = size_of::<[u32; INFO_WORDS]>() as u64;
    let head = u64::from(fd.as_raw_fd().cast_unsigned()) | len << 32;
    let second = words.as_mut_ptr() as u64;
    bpf_object(BPF_OBJ_GET_INFO_BY_FD, &Object { head, second, flags: 0 }).map(drop)
}

/// The id of a link, and of its program.
pub(crate) fn link_ids(fd: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut words = [0; INFO_WORDS];
    info(fd, &mut words)?;
    // struct bpf_link_info: type, id, prog_id.
    let [_, id, program, ..] = words;
    Ok((id, program))
}

/// The id and the name (at most 15 bytes, as the kernel keeps it) of a map.
pub(crate) fn map_id_and_name(fd: BorrowedFd<'_>) -> io::Result<(u32, String)> {
    let mut words = [0; INFO_WORDS];
    info(fd, &mut words)?;
    // struct bpf_map_info: type, id, key_size, value_size, max_entries, map_flags, name[16].
    let [_, id, _, _, _, _, name @ ..] = words;
    let bytes = name.iter().take(4).flat_map(|word| word.to_ne_bytes());
    let name = bytes.take_while(|byte| *byte != 0).map(char::from).collect();
    Ok((id, name))
}

/// Most maps of one program that are looked at: more than we have.
const PROGRAM_MAPS_MAX: usize = 64;

/// The ids of the maps that a program uses.
pub(crate) fn program_maps(fd: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; PROGRAM_MAPS_MAX];
    let mut words = [0; INFO_WORDS];
    let pointer = ids.as_mut_ptr() as u64;
    // struct bpf_prog_info: nr_map_ids is word 13, map_ids the 64 bits behind it.
    words[13] = PROGRAM_MAPS_MAX as u32;
    words[14] = pointer as u32;
    words[15] = (pointer >> 32) as u32;
    info(fd, &mut words)?;
    Ok(ids.into_iter().take(words[13] as usize).filter(|id| *id != 0).collect())
}

/// How often the kernel did not run a program because it was at work on the same CPU already.
pub(crate) fn program_misses(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut words = [0; INFO_WORDS];
    info(fd, &mut words)?;
    // struct bpf_prog_info: recursion_misses are words 52 and 53, behind run_time_ns and run_cnt.
    Ok(u64::from(words[52]) | u64::from(words[53]) << 32)
}

/// Mounts a bpf file system at `path`.
pub(crate) fn mount_bpffs(path: &Path) -> io::Result<()> {
    use nix::mount::{MsFlags, mount};
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("bpf"), path, Some("bpf"), flags, Some("mode=700"))?)
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

/// Kills the process behind `pidfd`.
pub(crate) fn send_kill(pidfd: &OwnedFd) -> io::Result<()> {
    pidfd_send_signal(pidfd, libc::SIGKILL)
}

/// What is known of the file at `path`, which may be a magic link: nobody is asked for news of it, so a file system
/// of somebody's own (FUSE) or a server that is away keeps nobody waiting.
pub(crate) fn statx_at_once(path: &Path) -> io::Result<libc::statx> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    let (flags, mask) = (libc::AT_STATX_DONT_SYNC, libc::STATX_BASIC_STATS);
    // SAFETY: a text that ends in NUL, and room for the answer.
    let result =
        unsafe { libc::statx(libc::AT_FDCWD, name.as_ptr(), flags, mask, found.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeros are a valid value, over which the kernel has written.
    Ok(unsafe { found.assume_init() })
}

/// `CLOCK_BOOTTIME`, ns: the clock of deadlines.
#[must_use]
pub fn boottime_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable; the clock exists since 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// The calling thread gives way to every other.
pub(crate) fn give_way() -> io::Result<()> {
    // SAFETY: three integers; 0 is the calling thread (setpriority(2), "C library/kernel differences").
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Wraps an error with what was attempted.
pub(crate) fn failed(call: impl Into<String>) -> impl FnOnce(io::Error) -> KernelError {
    let call = call.into();
    move |source| KernelError { call, source }
}
