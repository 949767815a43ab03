//! One system call, or a few that belong together, timed many times: `cargo xtask bench`.
//!
//! Under QEMU's `-icount` the clock counts instructions of the guest, so a time in ns is a number of them.

use crate::one::told;
use std::{ffi::CString, io, ptr};

/// First UDP port that is connected to: no service has one from here on.
const FIRST_PORT: usize = 20_000;

/// What is timed, on object `i`.
type Attempt = fn(&Objects, usize) -> io::Result<()>;

/// What is attempted on: made before the first time is taken.
struct Objects {
    paths: Vec<CString>,
    open: Vec<i32>,
}

const PROGRAMS: [(&str, Attempt); 9] = [
    ("nothing", |_, _| Ok(())),
    ("open", open),
    ("read", read),
    ("socket", socket),
    ("send", send),
    ("exec", exec),
    ("path", path),
    ("chmod", chmod),
    ("map", map),
];

/// A line for each of `passes` over the objects 0…n-1 of `dir`: the ns of each, in order.
pub(crate) fn run(program: &str, n: usize, passes: usize, dir: &str) -> Result<String, String> {
    let attempt = PROGRAMS.iter().find(|(name, _)| *name == program);
    let (_, attempt) = attempt.ok_or_else(|| format!("`{program}` is not measured"))?;
    let objects = Objects::new(program, n, dir)?;
    let mut lines = String::new();
    for _ in 0..passes {
        let mut times = Vec::with_capacity(n);
        for i in 0..n {
            let start = crate::many::monotonic_ns();
            let done = attempt(&objects, i);
            let end = crate::many::monotonic_ns();
            done.map_err(|error| format!("{program} {i}: {}", told(&error)))?;
            times.push((end - start).to_string());
        }
        lines += &times.join(" ");
        lines.push('\n');
    }
    Ok(lines)
}

impl Objects {
    fn new(program: &str, n: usize, dir: &str) -> Result<Self, String> {
        let path = |i| CString::new(format!("{dir}/{i}")).map_err(|error| error.to_string());
        let paths = (0..n).map(path).collect::<Result<Vec<_>, _>>()?;
        let wanted = if ["read", "map"].contains(&program) { paths.as_slice() } else { &[] };
        let open = wanted.iter().map(|path| checked(open_at(path))).collect::<io::Result<_>>();
        let open = if program == "send" { connected() } else { open };
        let open = open.map_err(|error| told(&error))?;
        Ok(Self { paths, open })
    }
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn close(fd: i32) -> io::Result<()> {
    // SAFETY: a descriptor of ours, closed once.
    checked(unsafe { libc::close(fd) }).map(drop)
}

fn open_at(path: &CString) -> i32 {
    // SAFETY: a NUL-terminated path.
    unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }
}

fn open(objects: &Objects, i: usize) -> io::Result<()> {
    close(checked(open_at(&objects.paths[i]))?)
}

fn read(objects: &Objects, i: usize) -> io::Result<()> {
    let mut byte = 0_u8;
    // SAFETY: one writable byte.
    let read = unsafe { libc::pread(objects.open[i], (&raw mut byte).cast(), 1, 0) };
    if read == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn socket(_: &Objects, i: usize) -> io::Result<()> {
    let port = u16::try_from(FIRST_PORT + i).map_err(io::Error::other)?;
    let fd = udp()?;
    let connected = connect(fd, &loopback(port));
    close(fd)?;
    connected
}

fn loopback(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    }
}

fn udp() -> io::Result<i32> {
    // SAFETY: no pointers.
    checked(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })
}

const ADDRESS_LEN: u32 = size_of::<libc::sockaddr_in>() as u32;

fn connect(fd: i32, address: &libc::sockaddr_in) -> io::Result<()> {
    // SAFETY: a whole address and its length.
    checked(unsafe { libc::connect(fd, ptr::from_ref(address).cast(), ADDRESS_LEN) }).map(drop)
}

/// A socket that is connected to another one, which takes what comes and is never read.
fn connected() -> io::Result<Vec<i32>> {
    let (from, to) = (udp()?, udp()?);
    let (mut address, mut len) = (loopback(0), ADDRESS_LEN);
    // SAFETY: a whole address and its length.
    checked(unsafe { libc::bind(to, (&raw const address).cast(), len) })?;
    // SAFETY: as above, both writable.
    checked(unsafe { libc::getsockname(to, (&raw mut address).cast(), &raw mut len) })?;
    connect(from, &address)?;
    Ok(vec![from, to])
}

fn send(objects: &Objects, _: usize) -> io::Result<()> {
    // SAFETY: one readable byte.
    let sent = unsafe { libc::send(objects.open[0], (&raw const *b"x").cast(), 1, 0) };
    if sent == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `posix_spawn` is vfork, exec and little else.
fn exec(objects: &Objects, i: usize) -> io::Result<()> {
    // The name by which the one static program knows what to do.
    let argv = [c"true".as_ptr().cast_mut(), ptr::null_mut()];
    let environment: [*mut libc::c_char; 1] = [ptr::null_mut()];
    let mut pid = 0;
    // SAFETY: NUL-terminated strings in lists that end with a null pointer; no actions or attributes.
    let errno = unsafe {
        let path = objects.paths[i].as_ptr();
        libc::posix_spawn(
            &raw mut pid,
            path,
            ptr::null(),
            ptr::null(),
            argv.as_ptr(),
            environment.as_ptr(),
        )
    };
    if errno != 0 {
        return Err(io::Error::from_raw_os_error(errno));
    }
    let mut status = 0;
    // SAFETY: `status` is writable.
    checked(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    if status == 0 { Ok(()) } else { Err(io::Error::other(format!("wait status {status}"))) }
}

/// A directory is made and removed.
fn path(objects: &Objects, i: usize) -> io::Result<()> {
    let path = objects.paths[i].as_ptr();
    // SAFETY: a NUL-terminated path.
    checked(unsafe { libc::mkdir(path, 0o700) })?;
    // SAFETY: as above.
    checked(unsafe { libc::rmdir(path) }).map(drop)
}

fn chmod(objects: &Objects, i: usize) -> io::Result<()> {
    // SAFETY: a NUL-terminated path.
    checked(unsafe { libc::chmod(objects.paths[i].as_ptr(), 0o644) }).map(drop)
}

/// Code is mapped from a file and unmapped.
fn map(objects: &Objects, i: usize) -> io::Result<()> {
    const LEN: usize = 4096;
    let access = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: a fresh private mapping, which nobody uses.
    unsafe {
        let at = libc::mmap(ptr::null_mut(), LEN, access, libc::MAP_PRIVATE, objects.open[i], 0);
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        checked(libc::munmap(at, LEN)).map(drop)
    }
}
