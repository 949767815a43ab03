//! `openat` through io_uring: it cannot be restarted, so it must fail with `EPERM` (H5).
//!
//! Raw system calls: the four pages of setup are less than a dependency.

use crate::one::told;
use std::{
    ffi::{CStr, CString},
    io, ptr,
    sync::atomic::{AtomicU32, Ordering},
};

const IORING_OP_OPENAT: u8 = 18;
const IOSQE_ASYNC: u8 = 1 << 4;
const IORING_ENTER_GETEVENTS: u32 = 1;
const IORING_OFF_SQ_RING: i64 = 0;
const IORING_OFF_CQ_RING: i64 = 0x800_0000;
const IORING_OFF_SQES: i64 = 0x1000_0000;
const ENTRIES: u32 = 4;
/// Bytes of each ring that are mapped; far more than four entries need.
const RING_BYTES: usize = 4096;

/// `struct io_uring_params` as words: two `io_*ring_offsets` of ten words behind ten.
#[repr(C)]
#[derive(Default)]
struct Params([u32; 30]);

/// Word offsets of `struct io_sqring_offsets` in [`Params`].
const SQ_OFF: usize = 10;
/// Word offsets of `struct io_cqring_offsets` in [`Params`].
const CQ_OFF: usize = 20;

#[repr(C)]
#[derive(Default)]
struct Sqe {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    addr: u64,
    len: u32,
    open_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

pub(crate) struct Ring {
    fd: i32,
    params: Params,
    submissions: *mut u8,
    completions: *mut u8,
    entries: *mut Sqe,
}

impl Ring {
    pub(crate) fn new() -> Result<Self, String> {
        let mut params = Params::default();
        // SAFETY: `params` is a writable `struct io_uring_params` of 120 bytes.
        let fd =
            unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, &raw mut params) } as i32;
        if fd < 0 {
            return Err(format!("io_uring_setup: {}", told(&io::Error::last_os_error())));
        }
        Ok(Self {
            fd,
            params,
            submissions: map(fd, IORING_OFF_SQ_RING)?,
            completions: map(fd, IORING_OFF_CQ_RING)?,
            entries: map(fd, IORING_OFF_SQES)?.cast(),
        })
    }

    fn word(base: *mut u8, offset: u32) -> &'static AtomicU32 {
        // SAFETY: the kernel's offsets are within the ring and aligned.
        unsafe { AtomicU32::from_ptr(base.add(offset as usize).cast()) }
    }

    /// Submits one entry and waits for its result.
    fn run(&self, entry: Sqe) -> Result<i32, String> {
        let Params(words) = &self.params;
        let (tail, mask) = (words[SQ_OFF + 1], words[SQ_OFF + 2]);
        let array = words[SQ_OFF + 6];
        let tail = Self::word(self.submissions, tail);
        let at = tail.load(Ordering::Acquire);
        let slot = at & Self::word(self.submissions, mask).load(Ordering::Relaxed);
        // SAFETY: the slot is below the number of entries.
        unsafe { self.entries.add(slot as usize).write(entry) };
        Self::word(self.submissions, array + slot * 4).store(slot, Ordering::Relaxed);
        tail.store(at + 1, Ordering::Release);
        // SAFETY: no pointers that count.
        let done = unsafe {
            let none = ptr::null::<u8>();
            let get = IORING_ENTER_GETEVENTS;
            libc::syscall(libc::SYS_io_uring_enter, self.fd, 1, 1, get, none, 0)
        };
        if done < 0 {
            return Err(format!("io_uring_enter: {}", told(&io::Error::last_os_error())));
        }
        let head = Self::word(self.completions, words[CQ_OFF]);
        let at = head.load(Ordering::Acquire);
        let mask = Self::word(self.completions, words[CQ_OFF + 2]).load(Ordering::Relaxed);
        let result_at = words[CQ_OFF + 5] + (at & mask) * 16 + 8;
        let result = Self::word(self.completions, result_at).load(Ordering::Acquire);
        head.store(at + 1, Ordering::Release);
        Ok(result.cast_signed())
    }
}

fn map(fd: i32, offset: i64) -> Result<*mut u8, String> {
    // SAFETY: a fresh shared mapping of the ring.
    let at = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        libc::mmap(ptr::null_mut(), RING_BYTES, access, flags, fd, offset)
    };
    if at == libc::MAP_FAILED {
        return Err(format!("mmap of the ring: {}", told(&io::Error::last_os_error())));
    }
    Ok(at.cast())
}

pub(crate) fn open(path: &str) -> Result<String, String> {
    let ring = Ring::new()?;
    let path = CString::new(path).map_err(|error| error.to_string())?;
    for (how, flags) in [("inline", 0), ("by a worker", IOSQE_ASYNC)] {
        refused(&ring, &path, flags).map_err(|why| format!("open {how}: {why}"))?;
    }
    Ok("ok: EPERM inline and by a worker".to_owned())
}

/// One open through the ring, inline: a descriptor, which is closed again, or minus the errno.
pub(crate) fn opened(ring: &Ring, path: &CStr, flags: i32) -> Result<i32, String> {
    let entry = Sqe {
        opcode: IORING_OP_OPENAT,
        fd: libc::AT_FDCWD,
        addr: path.as_ptr() as u64,
        len: 0o600,
        open_flags: flags.cast_unsigned(),
        ..Sqe::default()
    };
    let result = ring.run(entry)?;
    if result >= 0 {
        // SAFETY: a fresh descriptor that nobody else has.
        unsafe { libc::close(result) };
    }
    Ok(result)
}

/// One attempt, which must fail with `EPERM`.
fn refused(ring: &Ring, path: &CStr, flags: u8) -> Result<(), String> {
    let entry = Sqe {
        opcode: IORING_OP_OPENAT,
        flags,
        fd: libc::AT_FDCWD,
        addr: path.as_ptr() as u64,
        open_flags: libc::O_RDONLY.cast_unsigned(),
        ..Sqe::default()
    };
    let result = ring.run(entry)?;
    if result == -libc::EPERM {
        return Ok(());
    }
    Err(format!("result {result}, expected {}", -libc::EPERM))
}

/// Fills the kernel's ring buffer while nobody reads it.
pub(crate) fn flood(n: usize, dir: &str) -> Result<String, String> {
    let ring = Ring::new()?;
    let secret = format!("{dir}/secret");
    let path = CString::new(secret.as_str()).map_err(|error| error.to_string())?;
    std::fs::write(format!("{dir}/flooding"), "").map_err(|error| told(&error))?;
    // Looking at a name is no action: nothing is held here.
    while std::fs::metadata(format!("{dir}/go")).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for i in 0..n {
        refused(&ring, &path, 0).map_err(|why| format!("attempt {i}: {why}"))?;
    }
    match std::fs::File::open(&secret) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            Ok("ok: every attempt failed with EPERM, the open after them too".to_owned())
        }
        other => Err(format!("the open after {n} attempts: {other:?}")),
    }
}

/// One small record after the other, as fast as a session can cause them. Makes DIR/ready, waits for DIR/go.
pub(crate) fn burst(n: usize, dir: &str, path: &str) -> Result<String, String> {
    let ring = Ring::new()?;
    let path = CString::new(path).map_err(|error| error.to_string())?;
    std::fs::write(format!("{dir}/ready"), "").map_err(|error| told(&error))?;
    while std::fs::metadata(format!("{dir}/go")).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for i in 0..n {
        refused(&ring, &path, 0).map_err(|why| format!("attempt {i}: {why}"))?;
    }
    Ok(format!("ok: {n} attempts refused"))
}
