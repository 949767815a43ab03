//! An `execve` whose array of arguments goes away once the kernel has copied them, and comes back when somebody
//! likes (userfaultfd): whoever reads it a second time waits.

use super::one::told;
use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::FromRawFd as _,
    path::Path,
    ptr, slice, thread,
    time::Duration,
};

const PAGE: usize = 4096;

// include/uapi/linux/userfaultfd.h.
const UFFD_API: u64 = 0xaa;
const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const UFFDIO_COPY: libc::c_ulong = 0xc028_aa03;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;
const UFFD_EVENT_PAGEFAULT: u64 = 0x12;
/// `struct uffd_msg`, as words: the event, flags, the address.
const MESSAGE_WORDS: usize = 4;
const ADDRESS: usize = 2;

/// Execs `/bin/true` with an argument table that is gone at the second look. Says so in `ready`, which is opened before,
/// and gives it back once `go` is there.
pub(crate) fn argv(ready: &str, go: &str) -> Result<String, String> {
    let failed = |what: &str| format!("{what}: {}", told(&io::Error::last_os_error()));
    let mut ready = File::create(ready).map_err(|error| told(&error))?;
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(|| failed("userfaultfd"))?;
    // SAFETY: a descriptor that was just made.
    let mut faults = unsafe { File::from_raw_fd(fd) };
    let control = |request, words: &mut [u64], what: &str| {
        // SAFETY: as many words as the request says.
        let done = unsafe { libc::ioctl(fd, request, words.as_mut_ptr()) };
        if done == 0 { Ok(()) } else { Err(failed(what)) }
    };
    control(UFFDIO_API, &mut [UFFD_API, 0, 0], "UFFDIO_API")?;
    // SAFETY: a fresh anonymous mapping.
    let area = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(
            ptr::null_mut(),
            2 * PAGE,
            access,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if area == libc::MAP_FAILED {
        return Err(failed("mmap"));
    }
    let (table, text) = (area as u64, area as u64 + PAGE as u64);
    let mut register = [table, 2 * PAGE as u64, UFFDIO_REGISTER_MODE_MISSING, 0];
    control(UFFDIO_REGISTER, &mut register, "UFFDIO_REGISTER")?;
    let copy = |to: u64, content: &[u64; PAGE / 8]| {
        let mut words = [to, content.as_ptr() as u64, PAGE as u64, 0, 0];
        control(UFFDIO_COPY, &mut words, "UFFDIO_COPY")
    };
    let (mut pointers, mut argument) = ([0; PAGE / 8], [0; PAGE / 8]);
    pointers[0] = text;
    argument[0] = u64::from_le_bytes(*b"argument");

    thread::spawn(move || {
        // SAFETY: NUL-terminated texts; the kernel checks the address of the array.
        unsafe { libc::execve(c"/bin/true".as_ptr(), table as *const _, ptr::null()) };
        // SAFETY: ends the process, which has nothing that needs an end.
        unsafe { libc::_exit(io::Error::last_os_error().raw_os_error().unwrap_or(255)) }
    });
    // The kernel counts the arguments, then copies them: for that it wants the table, then the text.
    fault_at(&mut faults, table)?;
    copy(table, &pointers)?;
    fault_at(&mut faults, text)?;
    // SAFETY: a page of the mapping above.
    if unsafe { libc::madvise(table as *mut _, PAGE, libc::MADV_DONTNEED) } != 0 {
        return Err(failed("madvise"));
    }
    copy(text, &argument)?;
    // Whoever wants the table now has not copied it with the kernel.
    fault_at(&mut faults, table)?;
    ready.write_all(b"stalled").map_err(|error| told(&error))?;
    while !Path::new(go).exists() {
        thread::sleep(Duration::from_millis(20));
    }
    copy(table, &pointers)?;
    loop {
        // The exec ends this thread.
        thread::sleep(Duration::from_secs(1));
    }
}

/// Waits for a page fault, which has to be at this page.
fn fault_at(faults: &mut File, page: u64) -> Result<(), String> {
    let mut message = [0u64; MESSAGE_WORDS];
    // SAFETY: the words' own bytes.
    let bytes =
        unsafe { slice::from_raw_parts_mut(message.as_mut_ptr().cast(), 8 * MESSAGE_WORDS) };
    faults.read_exact(bytes).map_err(|error| told(&error))?;
    let (event, at) = (message[0] & 0xff, message[ADDRESS] & !(PAGE as u64 - 1));
    if event == UFFD_EVENT_PAGEFAULT && at == page {
        return Ok(());
    }
    Err(format!("event {event:#x} at {at:#x} instead of a fault at {page:#x}"))
}
