//! Races: what the policy looks at is changed while the kernel takes it.

use super::one::told;
use std::{
    ffi::{CStr, c_char},
    io,
    ptr::null,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

/// Bytes of the page that both texts take turns in.
const PAGE: usize = 4096;

/// How long each text stays, in turns: some of it is about the time between the kernel's look and ours,
/// whatever the machine.
const TURN_SPINS: [u32; 3] = [5, 20, 80];

/// What takes turns with what: the first four bytes of a text.
struct Turns {
    harmless: u32,
    forbidden: u32,
}

/// `n` times `echo good-argument`, whose argument is `evil-argument` half of the time.
pub(crate) fn argv(n: usize) -> Result<String, String> {
    let turns =
        Turns { harmless: u32::from_le_bytes(*b"good"), forbidden: u32::from_le_bytes(*b"evil") };
    race(n, c"good-argument", &turns, |text| {
        let argv = [c"echo".as_ptr(), text, null()];
        // SAFETY: NUL-terminated texts and arrays that end with null.
        unsafe { libc::execve(c"/bin/echo".as_ptr(), argv.as_ptr(), [null()].as_ptr()) };
    })
}

/// `n` times `env` with a harmless variable that is `LD_PRELOAD` half of the time.
pub(crate) fn environment(n: usize) -> Result<String, String> {
    let turns =
        Turns { harmless: u32::from_le_bytes(*b"XX_P"), forbidden: u32::from_le_bytes(*b"LD_P") };
    race(n, c"XX_PRELOAD=/nothing", &turns, |text| {
        let argv = [c"env".as_ptr(), null()];
        let others =
            c"PADDING=this is longer than one piece of what is read of the stack at a time";
        // SAFETY: as above.
        unsafe {
            libc::execve(
                c"/usr/bin/env".as_ptr(),
                argv.as_ptr(),
                [others.as_ptr(), text, null()].as_ptr(),
            )
        };
    })
}

/// Lets `n` children call `exec` with a text that changes all the time. `RAN, DENIED, KILLED`.
fn race(
    n: usize,
    text: &CStr,
    turns: &Turns,
    exec: impl Fn(*const c_char),
) -> Result<String, String> {
    let page = shared(text)?;
    let stop = Arc::new(AtomicBool::new(false));
    let (harmless, forbidden) = (turns.harmless, turns.forbidden);
    // SAFETY: the page is aligned, shared, and never unmapped.
    let word: &'static AtomicU32 = unsafe { &*page.cast::<AtomicU32>() };
    word.store(harmless, Ordering::SeqCst);
    let turner = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for spins in TURN_SPINS {
                    for text in [forbidden, harmless] {
                        word.store(text, Ordering::SeqCst);
                        (0..spins).for_each(|_| std::hint::spin_loop());
                    }
                }
            }
        })
    };
    let (mut ran, mut denied, mut killed) = (0, 0, 0);
    for _ in 0..n {
        match child(&exec, page) {
            Ok(0) => ran += 1,
            Ok(status) if status == -libc::SIGKILL => killed += 1,
            Ok(status) if status == libc::EPERM => denied += 1,
            other => return Err(format!("a child ended with {other:?}")),
        }
    }
    stop.store(true, Ordering::Relaxed);
    turner.join().map_err(|_| "the turning thread panicked".to_owned())?;
    Ok(format!("ran {ran}, denied {denied}, killed {killed}"))
}

/// Exit code of a child that calls `exec`, or minus its signal; the errno if the exec failed.
fn child(exec: impl Fn(*const c_char), text: *const c_char) -> Result<i32, String> {
    // SAFETY: the child calls nothing but execve and _exit.
    match unsafe { libc::fork() } {
        -1 => Err(told(&io::Error::last_os_error())),
        0 => {
            exec(text);
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(255);
            // SAFETY: ends the child, which shares nothing that needs an end.
            unsafe { libc::_exit(errno) }
        }
        pid => {
            let mut status = 0;
            // SAFETY: a child of ours and a local.
            if unsafe { libc::waitpid(pid, &raw mut status, 0) } != pid {
                return Err(told(&io::Error::last_os_error()));
            }
            if libc::WIFSIGNALED(status) {
                return Ok(-libc::WTERMSIG(status));
            }
            Ok(libc::WEXITSTATUS(status))
        }
    }
}

/// A page with `text` that children share.
fn shared(text: &CStr) -> Result<*const c_char, String> {
    // SAFETY: a fresh anonymous mapping.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(told(&io::Error::last_os_error()));
    }
    let bytes = text.to_bytes_with_nul();
    // SAFETY: a text is shorter than the page.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), page.cast(), bytes.len()) };
    Ok(page.cast_const().cast())
}
