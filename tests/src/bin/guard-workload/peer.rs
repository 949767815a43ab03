//! Two other ways in which user space can decide a system call, as small programs: a fanotify permission
//! event, and seccomp's user notification. What they cost is what Guard is compared with.
//!
//! Both answer "allow" as plainly as it can be done: no thread of their own for it, no allocation.

use crate::one::told;
use std::{ffi::CString, io, ptr};

const FAN_CLASS_CONTENT: u32 = 0x4;
const FAN_CLOEXEC: u32 = 0x1;
const FAN_MARK_ADD: u32 = 0x1;
const FAN_OPEN_PERM: u64 = 0x1_0000;
const FAN_OPEN_EXEC_PERM: u64 = 0x4_0000;
const FAN_EVENT_ON_CHILD: u64 = 0x0800_0000;
const FAN_ALLOW: u32 = 1;

/// `struct fanotify_event_metadata` (`include/uapi/linux/fanotify.h`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    event_len: u32,
    vers: u8,
    reserved: u8,
    metadata_len: u16,
    mask: u64,
    fd: i32,
    pid: i32,
}

/// `struct fanotify_response`.
#[repr(C)]
struct Response {
    fd: i32,
    response: u32,
}

/// Answers every open (or exec) of a file in `dir` until it is killed. Makes `ready` once it does.
pub(crate) fn fanotify(program: &str, dir: &str, ready: &str) -> Result<String, String> {
    let mask = if program == "exec" { FAN_OPEN_EXEC_PERM } else { FAN_OPEN_PERM };
    let path = CString::new(dir).map_err(|error| error.to_string())?;
    let flags = libc::O_RDONLY.cast_unsigned() | libc::O_CLOEXEC.cast_unsigned();
    // SAFETY: no pointers.
    let group = unsafe { libc::fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, flags) };
    if group < 0 {
        return Err(format!("fanotify_init: {}", told(&io::Error::last_os_error())));
    }
    // SAFETY: a NUL-terminated path.
    let marked = unsafe {
        let mask = mask | FAN_EVENT_ON_CHILD;
        libc::fanotify_mark(group, FAN_MARK_ADD, mask, libc::AT_FDCWD, path.as_ptr())
    };
    if marked < 0 {
        return Err(format!("fanotify_mark: {}", told(&io::Error::last_os_error())));
    }
    std::fs::write(ready, "").map_err(|error| told(&error))?;
    let mut events = [Event::default(); 64];
    loop {
        // SAFETY: a writable buffer and its size.
        let read = unsafe { libc::read(group, events.as_mut_ptr().cast(), size_of_val(&events)) };
        let Ok(bytes) = usize::try_from(read) else {
            return Err(format!("fanotify: {}", told(&io::Error::last_os_error())));
        };
        for event in events.iter().take(bytes / size_of::<Event>()) {
            let response = Response { fd: event.fd, response: FAN_ALLOW };
            // SAFETY: a whole response; the descriptor is ours to close.
            unsafe {
                libc::write(group, (&raw const response).cast(), size_of::<Response>());
                libc::close(event.fd);
            }
        }
    }
}

const RECV: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
const ID_VALID: libc::c_ulong = 0x4008_2102;
const SECCOMP_SET_MODE_FILTER: libc::c_ulong = 1;
const SECCOMP_FILTER_FLAG_NEW_LISTENER: libc::c_ulong = 1 << 3;
const SECCOMP_RET_USER_NOTIF: u32 = 0x7fc0_0000;
const SECCOMP_RET_ALLOW: u32 = 0x7fff_0000;
const SECCOMP_USER_NOTIF_FLAG_CONTINUE: u32 = 1;
/// Longest argument that is read: a path, or an address.
const ARGUMENT_BYTES: usize = 256;

/// `struct seccomp_notif` (`include/uapi/linux/seccomp.h`).
#[repr(C)]
#[derive(Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    nr: i32,
    arch: u32,
    instruction_pointer: u64,
    args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

/// The system call that `program` is measured by, and the argument that is looked at.
fn watched(program: &str) -> Result<(libc::c_long, usize), String> {
    match program {
        "open" => Ok((libc::SYS_openat, 1)),
        "socket" => Ok((libc::SYS_connect, 1)),
        "exec" => Ok((libc::SYS_execve, 0)),
        _ => Err(format!("no filter for `{program}`")),
    }
}

/// Measures `program` in this process while a child answers its system call.
pub(crate) fn seccomp(program: &str, n: usize, dir: &str) -> Result<String, String> {
    let (number, argument) = watched(program)?;
    // One table of descriptors for both, so that the listener that is made here is the child's as well.
    // SAFETY: as fork, with no other thread.
    let child =
        unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_FILES | libc::SIGCHLD, 0, 0, 0, 0) };
    if child == 0 {
        // SAFETY: no pointers.
        while unsafe { libc::fcntl(LISTENER, libc::F_GETFD) } < 0 {
            std::thread::yield_now();
        }
        supervise(LISTENER, argument);
        std::process::exit(1);
    }
    let child = i32::try_from(child).map_err(|error| error.to_string())?;
    if child < 0 {
        return Err(format!("clone: {}", told(&io::Error::last_os_error())));
    }
    let times = filter(number).and_then(|()| crate::measure::run(program, n, 1, dir));
    // SAFETY: no pointers that count; the child is ours.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, ptr::null_mut(), 0);
    }
    times
}

/// Where the listener is put: far above what either has open.
const LISTENER: i32 = 200;

/// Every call of `number` waits for the listener.
fn filter(number: libc::c_long) -> Result<(), String> {
    let number = u32::try_from(number).map_err(|error| error.to_string())?;
    let statement = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // Load the number; compare; two returns (include/uapi/linux/bpf_common.h).
    let mut program = [
        statement(0x20, 0, 0, 0),
        statement(0x15, 0, 1, number),
        statement(0x06, 0, 0, SECCOMP_RET_USER_NOTIF),
        statement(0x06, 0, 0, SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: program.as_mut_ptr() };
    // SAFETY: a program of four statements that outlives the call.
    let fd = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
        libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    let failed = || format!("seccomp: {}", told(&io::Error::last_os_error()));
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(failed)?;
    // SAFETY: two descriptors of ours.
    if unsafe { libc::dup3(fd, LISTENER, libc::O_CLOEXEC) } < 0 {
        return Err(failed());
    }
    // SAFETY: a descriptor of ours. The supervisor keeps its table: two processes that share one pay for
    // that at every descriptor.
    unsafe {
        libc::close(fd);
        libc::unshare(libc::CLONE_FILES);
        // Yama asks for it where the supervisor is a child.
        libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0);
    }
    Ok(())
}

/// Reads the argument, checks that the call still waits, lets it go on; until nobody is left.
fn supervise(listener: i32, argument: usize) {
    let mut text = [0_u8; ARGUMENT_BYTES];
    loop {
        let mut call = Notification::default();
        // SAFETY: a zeroed notification.
        if unsafe { libc::ioctl(listener, RECV, &raw mut call) } < 0 {
            // ENOENT: the task was killed meanwhile, or nobody has the filter any more.
            return;
        }
        let local = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
        let remote = libc::iovec {
            iov_base: ptr::without_provenance_mut(call.args[argument] as usize),
            iov_len: text.len(),
        };
        let answer =
            Answer { id: call.id, val: 0, error: 0, flags: SECCOMP_USER_NOTIF_FLAG_CONTINUE };
        // SAFETY: the local buffer is writable; the remote one is the kernel's to check.
        unsafe {
            let pid = call.pid.cast_signed();
            libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0);
            if libc::ioctl(listener, ID_VALID, &raw const call.id) == 0 {
                libc::ioctl(listener, SEND, &raw const answer);
            }
        }
    }
}
