//! Everything that a program can try to reach: one system call each, made by a child of its own.
//!
//! Which of them works is for the caller to judge: outside of a session none may be refused, or the attempt
//! proves nothing; inside of one that may do nothing, all are.

use crate::one::told;
use std::{
    ffi::{CStr, CString},
    io, ptr,
};

/// An argument of a system call.
#[derive(Clone, Copy)]
enum Arg {
    Number(i64),
    /// An address of this.
    Text(&'static CStr),
    Bytes(&'static [u8]),
    /// An address of a name in the directory that is given.
    Below(&'static str),
    /// An address of room that holds zeros.
    Room,
    /// The process that is reached for.
    Victim,
    Pidfd,
    Pipe,
    Memfd,
    /// An address of a handle of the file `file` in the directory.
    Handle,
}

use Arg::{Below, Bytes, Handle, Memfd, Number as N, Pidfd, Pipe, Room, Text, Victim};

struct Attempt {
    name: &'static str,
    number: i64,
    args: &'static [Arg],
}

const fn attempt(name: &'static str, number: i64, args: &'static [Arg]) -> Attempt {
    Attempt { name, number, args }
}

/// `AT_FDCWD`.
const HERE: Arg = N(-100);
const NULL: Arg = N(0);
/// A capability attribute, version 2: `CAP_CHOWN`, permitted and effective.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// `IPC_CREAT` with 0600.
const MADE: Arg = N(0o1600);
/// The key of the System V objects that are there before.
const IPC_KEY: i64 = 0x4755;
const KEY: Arg = N(IPC_KEY);
/// Another one.
const NEW_KEY: Arg = N(0x4756);

/// Outside of a session each does what it says, or fails for a reason of its own.
const ATTEMPTS: &[Attempt] = &[
    // Files.
    attempt("open-read", 2, &[Below("file"), N(0)]),
    attempt("open-write", 2, &[Below("file"), N(1)]),
    attempt("open-directory", 2, &[Below("."), N(0o200_000)]),
    attempt("openat2", 437, &[HERE, Below("file"), Room, N(24)]),
    attempt("create", 257, &[HERE, Below("new"), N(0o301), N(0o600)]),
    attempt("unnamed", 257, &[HERE, Below("."), N(0o20_200_002), N(0o600)]),
    attempt("handle", 304, &[HERE, Handle, N(0)]),
    attempt("raw-disk", 2, &[Text(c"/dev/vda"), N(0)]),
    attempt("memory", 2, &[Text(c"/dev/mem"), N(0)]),
    attempt("kernel-log", 2, &[Text(c"/dev/kmsg"), N(0)]),
    attempt("terminal", 2, &[Text(c"/dev/console"), N(2)]),
    attempt("sysctl", 2, &[Text(c"/proc/sys/kernel/core_pattern"), N(1)]),
    attempt("other-memory", 2, &[Text(c"/proc/1/mem"), N(0)]),
    attempt("mkdir", 83, &[Below("new-directory"), N(0o700)]),
    attempt("fifo", 133, &[Below("new-fifo"), N(0o010_600), NULL]),
    attempt("device", 133, &[Below("new-device"), N(0o060_600), N(0x800)]),
    attempt("symlink", 88, &[Below("file"), Below("new-symlink")]),
    attempt("link", 86, &[Below("file"), Below("new-link")]),
    attempt("exchange", 316, &[HERE, Below("file"), HERE, Below("other"), N(2)]),
    attempt("rename", 82, &[Below("other"), Below("renamed")]),
    attempt("chmod", 90, &[Below("file"), N(0o600)]),
    attempt("fchmodat2", 452, &[HERE, Below("file"), N(0o644), NULL]),
    attempt("chown", 92, &[Below("file"), N(0), N(0)]),
    attempt("truncate", 76, &[Below("file"), N(1)]),
    attempt("times", 280, &[HERE, Below("file"), NULL, NULL]),
    attempt("times-before", 132, &[Below("file"), Room]),
    attempt("attribute", 188, &[Below("file"), Text(c"user.note"), Text(c"x"), N(1), NULL]),
    attempt("no-attribute", 197, &[Below("file"), Text(c"user.there")]),
    attempt(
        "capability-attribute",
        188,
        &[Below("file"), Text(c"security.capability"), Bytes(CAPABILITY), N(20), NULL],
    ),
    attempt("file-flags", 469, &[HERE, Below("file"), Room, N(24), NULL]),
    attempt("unlink", 87, &[Below("unlinked")]),
    attempt("rmdir", 84, &[Below("directory")]),
    // Programs and code.
    attempt("exec", 59, &[Text(c"/usr/bin/true"), NULL, NULL]),
    attempt("exec-unnamed", 322, &[Memfd, Text(c""), NULL, NULL, N(0x1000)]),
    attempt("map-code", 9, &[NULL, N(4096), N(5), N(2), Memfd, NULL]),
    // The network: TCP, UDP, raw, IPv6, UNIX, netlink, packet, AF_ALG, vsock, Bluetooth, a family that nobody has.
    attempt("tcp", 41, &[N(2), N(1), NULL]),
    attempt("udp", 41, &[N(2), N(2), NULL]),
    attempt("raw", 41, &[N(2), N(3), N(1)]),
    attempt("ipv6", 41, &[N(10), N(1), NULL]),
    attempt("unix", 41, &[N(1), N(1), NULL]),
    attempt("netlink", 41, &[N(16), N(3), NULL]),
    attempt("packet", 41, &[N(17), N(3), NULL]),
    attempt("alg", 41, &[N(38), N(5), NULL]),
    attempt("vsock", 41, &[N(40), N(1), NULL]),
    attempt("bluetooth", 41, &[N(31), N(3), NULL]),
    attempt("unknown-family", 41, &[N(44), N(1), NULL]),
    attempt("socketpair", 53, &[N(1), N(1), NULL, Room]),
    // Other processes.
    attempt("kill", 62, &[Victim, N(23)]),
    attempt("tgkill", 234, &[Victim, Victim, N(23)]),
    attempt("queued-signal", 129, &[Victim, N(23), Bytes(&SIGNAL)]),
    attempt("pidfd-signal", 424, &[Pidfd, N(23), NULL, NULL]),
    attempt("pidfd-descriptor", 438, &[Pidfd, N(0), NULL]),
    attempt("read-memory", 310, &[Victim, Bytes(&PIECE), N(1), Bytes(&PIECE), N(1), NULL]),
    attempt("write-memory", 311, &[Victim, Bytes(&PIECE), N(1), Bytes(&PIECE), N(1), NULL]),
    attempt("compare", 312, &[Victim, Victim, NULL, NULL, NULL]),
    attempt("limits", 302, &[Victim, N(4), Room, NULL]),
    attempt("priority", 141, &[NULL, Victim, N(1)]),
    attempt("scheduler", 144, &[Victim, N(0), Room]),
    attempt("affinity", 203, &[Victim, N(8), Bytes(&[1, 0, 0, 0, 0, 0, 0, 0])]),
    attempt("io-priority", 251, &[N(1), Victim, N((2 << 13) | 4)]),
    attempt("memory-placement", 256, &[Victim, N(8), Room, Bytes(&[1, 0, 0, 0, 0, 0, 0, 0])]),
    attempt("descriptor-owner", 72, &[Pipe, N(8), Victim]),
    attempt("trace", 101, &[N(0x4206), Victim, NULL, NULL]),
    // What processes share without a file.
    attempt("shared-memory", 29, &[NEW_KEY, N(4096), MADE]),
    attempt("semaphores", 64, &[NEW_KEY, N(1), MADE]),
    attempt("queue", 68, &[NEW_KEY, MADE]),
    attempt("others-shared-memory", 29, &[KEY, N(0), N(0o600)]),
    attempt("others-semaphores", 64, &[KEY, N(0), N(0o600)]),
    attempt("others-queue", 68, &[KEY, N(0o600)]),
    attempt("posix-queue", 240, &[Text(c"reach-new"), N(0o102), N(0o600), NULL]),
    attempt("no-posix-queue", 241, &[Text(c"reach-there")]),
    attempt("keyring", 250, &[NULL, N(-3), N(1)]),
    attempt("key", 248, &[Text(c"user"), Text(c"guard"), Text(c"x"), N(1), N(-4)]),
    attempt("others-keys", 250, &[N(11), N(-4), Room, N(64)]),
    // The machine.
    attempt("user-namespace", 272, &[N(0x1000_0000)]),
    attempt("network-namespace", 272, &[N(0x4000_0000)]),
    attempt("other-namespace", 308, &[Pidfd, N(0x0400_0000)]),
    attempt("mount", 165, &[Text(c"reach"), Below("mounted"), Text(c"tmpfs"), NULL, NULL]),
    attempt("bind", 165, &[Below("."), Below("mounted"), NULL, N(4096), NULL]),
    attempt("mount-flags", 442, &[HERE, Below("mounted"), NULL, Room, N(32)]),
    attempt("unmount", 166, &[Below("mounted"), NULL]),
    attempt("fsopen", 430, &[Text(c"tmpfs"), NULL]),
    attempt("open-tree", 428, &[HERE, Below("."), N(1)]),
    attempt("chroot", 161, &[Text(c"/")]),
    attempt("pivot-root", 155, &[Text(c"/"), Text(c"/")]),
    attempt("module", 175, &[Room, N(64), Text(c"")]),
    attempt("module-file", 313, &[Memfd, Text(c""), NULL]),
    attempt("no-module", 176, &[Text(c"reach"), NULL]),
    attempt("kexec", 246, &[NULL, NULL, NULL, NULL]),
    attempt("bpf-map", 321, &[NULL, Bytes(&BPF_MAP), N(72)]),
    attempt("bpf-by-id", 321, &[N(14), Bytes(&BPF_MAP), N(16)]),
    // Of a processor: for an event of a task the kernel patches its scheduler a second later, and QEMU's emulation
    // was seen to run what had stood there before.
    attempt("perf", 298, &[Bytes(&PERF), N(-1), N(0), N(-1), NULL]),
    attempt("io-uring", 425, &[N(4), Room]),
    attempt("userfaultfd", 323, &[N(0)]),
    attempt("userfaultfd-device", 2, &[Text(c"/dev/userfaultfd"), N(2)]),
    attempt("fanotify", 300, &[N(4), NULL]),
    attempt("user", 117, &[N(33), N(33), N(33)]),
    attempt("group", 119, &[N(33), N(33), N(33)]),
    attempt("ports", 172, &[N(3)]),
    attempt("port", 173, &[N(0x80), N(1), N(1)]),
    attempt("swap", 168, &[Text(c"/nowhere")]),
    attempt("accounting", 163, &[NULL]),
    attempt("kernel-messages", 103, &[N(3), Room, N(100)]),
    attempt("quota", 179, &[N(0x0080_0001), Text(c"/dev/vda"), NULL, NULL]),
    attempt("time-zone", 164, &[NULL, Room]),
    attempt("host-name", 170, &[Text(c"guard-vm"), N(8)]),
    // LINUX_REBOOT_CMD_CAD_OFF: what Ctrl-Alt-Del does.
    attempt("reboot", 169, &[N(0xfee1_dead), N(672_274_793), NULL, NULL]),
];

/// `struct siginfo` of `SI_QUEUE`: the number, no error, the code.
const SIGNAL: [u8; 128] = {
    let mut info = [0; 128];
    info[0] = 23;
    (info[8], info[9], info[10], info[11]) = (0xff, 0xff, 0xff, 0xff);
    info
};
/// `struct iovec`: eight bytes where nobody has memory, which is looked at last.
const PIECE: [u8; 16] = [0, 0x10, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];
/// `union bpf_attr`: an array of one number, by a number.
const BPF_MAP: [u8; 72] = {
    let mut attr = [0; 72];
    (attr[0], attr[4], attr[8], attr[12]) = (2, 4, 4, 1);
    attr
};
/// `struct perf_event_attr`: `PERF_TYPE_SOFTWARE`, the processor's clock.
const PERF: [u8; 128] = {
    let mut attr = [0; 128];
    (attr[0], attr[4]) = (1, 128);
    attr
};

/// Bytes of [`Arg::Room`], and of a handle with its head.
const ROOM: usize = 4096;
const HANDLE: usize = 136;

/// What the arguments refer to.
struct World<'a> {
    dir: &'a str,
    victim: i64,
    pidfd: i64,
    pipe: i64,
    memfd: i64,
    handle: [u8; HANDLE],
}

/// A line for each: its name and the errno, 0 where it worked.
pub(crate) fn run(victim: usize, dir: &str) -> Result<String, String> {
    let world = World::new(victim as i64, dir).map_err(|error| told(&error))?;
    let mut lines = Vec::new();
    for attempt in ATTEMPTS {
        let errno = world.errno(attempt).map_err(|error| told(&error))?;
        lines.push(format!("{} {errno}", attempt.name));
    }
    Ok(lines.join("\n"))
}

impl<'a> World<'a> {
    /// With what nobody is asked about.
    fn new(victim: i64, dir: &'a str) -> io::Result<Self> {
        let mut handle = [0; HANDLE];
        handle[0] = 128;
        let path = CString::new(format!("{dir}/file"))?;
        let mut ends = [0i32; 2];
        let mut mount = 0i32;
        // SAFETY: names that outlive the calls, room for two descriptors, for a handle of 128 bytes with its head
        // and for the number of a mount.
        let (pidfd, memfd) = unsafe {
            checked(libc::syscall(libc::SYS_pipe2, &raw mut ends, 0))?;
            checked(libc::syscall(
                libc::SYS_name_to_handle_at,
                -100,
                path.as_ptr(),
                handle.as_mut_ptr(),
                &raw mut mount,
                0,
            ))?;
            let pidfd = checked(libc::syscall(libc::SYS_pidfd_open, victim, 0))?;
            let memfd = checked(libc::syscall(libc::SYS_memfd_create, c"reach".as_ptr(), 0))?;
            // Not empty: what is, is not looked at.
            checked(libc::syscall(libc::SYS_write, memfd, handle.as_ptr(), HANDLE))?;
            (pidfd, memfd)
        };
        Ok(Self { dir, victim, pidfd, pipe: ends[0].into(), memfd, handle })
    }

    /// How the attempt ends, by a child that does nothing else.
    fn errno(&self, attempt: &Attempt) -> io::Result<i32> {
        let mut rooms = Vec::new();
        let mut names = Vec::new();
        let mut args = [0i64; 6];
        for (to, arg) in args.iter_mut().zip(attempt.args) {
            *to = self.value(*arg, &mut rooms, &mut names)?;
        }
        let [a, b, c, d, e, f] = args;
        // SAFETY: single-threaded here; the child makes one system call, whose addresses are of texts, of what the
        // kernel reads, and of zeroed room that is larger than anything it writes for these calls, and leaves.
        let child = unsafe {
            let child = libc::fork();
            if child == 0 {
                let result = libc::syscall(attempt.number, a, b, c, d, e, f);
                let errno = if result == -1 { *libc::__errno_location() } else { 0 };
                libc::_exit(errno);
            }
            child
        };
        if child < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut status = 0;
        // SAFETY: `status` is writable.
        checked(unsafe { libc::waitpid(child, &raw mut status, 0) }.into())?;
        if libc::WIFEXITED(status) {
            return Ok(libc::WEXITSTATUS(status));
        }
        Err(io::Error::other(format!("{} ended with wait status {status}", attempt.name)))
    }

    fn value(
        &self,
        arg: Arg,
        rooms: &mut Vec<Box<[u8; ROOM]>>,
        names: &mut Vec<CString>,
    ) -> io::Result<i64> {
        Ok(match arg {
            N(number) => number,
            Text(text) => text.as_ptr() as i64,
            Bytes(bytes) => bytes.as_ptr() as i64,
            Below(name) => {
                names.push(CString::new(format!("{}/{name}", self.dir))?);
                names.last().map_or(ptr::null(), |name| name.as_ptr()) as i64
            }
            Room => {
                rooms.push(Box::new([0; ROOM]));
                rooms.last_mut().map_or(ptr::null_mut(), |room| room.as_mut_ptr()) as i64
            }
            Victim => self.victim,
            Pidfd => self.pidfd,
            Pipe => self.pipe,
            Memfd => self.memfd,
            Handle => self.handle.as_ptr() as i64,
        })
    }
}

fn checked(result: i64) -> io::Result<i64> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
