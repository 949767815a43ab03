//! Uses of the kernel itself by a root session: held and refused, or refused at once; and done once
//! somebody approves.

use crate::{
    Trouble,
    answer::How,
    command::User::Root,
    evidence,
    scenario::{Outcome, Stage, expect, shell, was_held, write},
};
use std::{os::unix::fs::MetadataExt as _, path::Path};

/// What every attempt below needs: `t(name, call)` prints how a raw call ended.
const PRELUDE: &str = "import ctypes, os, time
c = ctypes.CDLL(None, use_errno=True)
def t(name, result):
    print(name, 'ok' if result != -1 else 'errno %d' % ctypes.get_errno(), flush=True)
def child(result):
    if result == 0: os._exit(0)
    if result > 0: os.waitpid(result, 0)
    return result
attr = ctypes.create_string_buffer(256)
some = os.open('/etc/passwd', os.O_RDONLY)
";

/// One attempt each, in an order in which none takes away what a later one needs. Where nothing is
/// approved that would not end well (a module that is none), the kernel's own error is told.
const ATTEMPTS: [(&str, &str); 23] = [
    ("user_namespace", "child(c.syscall(56, 0x10000000 | 17, 0, 0, 0, 0))"),
    ("namespace", "child(c.syscall(56, 0x04000000 | 17, 0, 0, 0, 0))"),
    ("mount", "c.mount(b'powers', b'/mnt', b'tmpfs', 0, None)"),
    ("unmount", "c.umount2(b'/run/powers', 0)"),
    ("chroot", "c.chroot(b'/')"),
    ("module", "c.syscall(313, some, b'', 0)"),
    ("module", "c.syscall(175, attr, 256, b'')"),
    ("bpf", "c.syscall(321, 0, attr, 72)"),
    ("perf", "c.syscall(298, attr, 0, -1, -1, 0)"),
    ("io_uring", "c.syscall(425, 1, attr)"),
    ("io_uring", "c.syscall(425, 1, sqpoll)"),
    ("settime", "c.clock_settime(0, now)"),
    // The system call, and USERFAULTFD_IOC_NEW of the device.
    ("userfaultfd", "c.syscall(323, 0)"),
    ("userfaultfd", "c.ioctl(os.open('/dev/userfaultfd', 2), 0xaa00, 0)"),
    // move_mount(2).
    ("mount", "c.syscall(429, -100, b'/run/moved', -100, b'/run/moved-to', 0)"),
    // pivot_root(2) onto the root itself: the kernel's own word for it is EBUSY.
    ("chroot", "c.syscall(155, b'/', b'/')"),
    // kexec_load(2) of nothing, and kexec_file_load(2) of what is no kernel.
    ("kexec", "c.syscall(246, 0, 0, None, 0)"),
    ("kexec", "c.syscall(320, some, some, 1, b'', 4)"),
    ("metadata", "c.utimes(b'/home/dev/plain/noted', then)"),
    ("metadata", "c.setxattr(b'/home/dev/plain/noted', b'user.note', b'x', 1, 0)"),
    ("ipc", "c.shmget(0, 4096, 0o600)"),
    ("setid", "c.setresgid(1000, 1000, 1000)"),
    ("setid", "c.setresuid(1000, 1000, 1000)"),
];
/// Refused at once, whatever a person would say.
const AT_ONCE: [usize; 2] = [8, 20];
/// Seconds and microseconds of the times that are set.
const THEN: (i64, i64) = (86_400, 5);
/// Whose times and attributes are set.
const NOTED: &str = "/home/dev/plain/noted";
/// `EPERM`.
const REFUSED: &str = "errno 1";

fn script() -> String {
    let mut script = PRELUDE.to_owned();
    // struct io_uring_params with IORING_SETUP_SQPOLL; struct timespec of a moment ago.
    script.push_str("sqpoll = ctypes.create_string_buffer(256); sqpoll[8] = b'\\2'\n");
    script.push_str("now = (ctypes.c_long * 2)(int(time.time()), 0)\n");
    script.push_str(&format!("then = (ctypes.c_long * 4)(1, 2, {}, {})\n", THEN.0, THEN.1));
    for (index, (name, call)) in ATTEMPTS.iter().enumerate() {
        script.push_str(&format!("t('{index} {name}', {call})\n"));
    }
    script
}

fn said(outcome: &Outcome, index: usize) -> Option<&str> {
    let name = ATTEMPTS[index].0;
    outcome.out.lines().find_map(|line| line.strip_prefix(&format!("{index} {name} ")))
}

fn play(stage: &Stage, how: How) -> Result<Outcome, Trouble> {
    mounted()?;
    // As an argument it would be cut, and the scenarios' policy reads arguments.
    let path = "/home/dev/plain/powers.py";
    write(Path::new(NOTED), "x")?;
    write(Path::new(path), &script())?;
    stage.session_named("powers", Root, how, &["python3", path])
}

/// Mounts that the session finds: one to be unmounted, one to be moved.
fn mounted() -> Result<(), Trouble> {
    for point in ["/run/powers", "/run/moved", "/run/moved-to"] {
        crate::scenario::make_dir(Path::new(point))?;
    }
    for point in ["/run/powers", "/run/moved", "/run/moved-to", "/mnt"] {
        let _ = shell(&format!("umount {point} 2> /dev/null"));
    }
    shell("mount -t tmpfs powers /run/powers && mount -t tmpfs moved /run/moved")
}

pub(super) fn denied(stage: &mut Stage) -> Result<(), Trouble> {
    let outcome = play(stage, How::Deny)?;
    for (index, (name, _)) in ATTEMPTS.iter().enumerate() {
        let got = said(&outcome, index);
        expect(got == Some(REFUSED), format!("{index} {name}: {got:?}: {outcome:?}"))?;
        if AT_ONCE.contains(&index) {
            expect(was_blocked(name), format!("{name} was not blocked"))?;
        } else {
            expect(was_held(name), format!("{name} was not held"))?;
        }
    }
    expect(!outcome.out.contains("513"), "the kernel's own errno was seen")?;
    expect(mounts()?.contains("/run/powers"), "it was unmounted")?;
    expect(!mounts()?.contains(" /mnt "), "it was mounted")?;
    expect(!were_times_set()?, "the times were set")?;
    expect(mounts()?.contains(" /run/moved "), "the mount is gone")?;
    expect(!mounts()?.contains(" /run/moved-to "), "the mount was moved")
}

pub(super) fn approved(stage: &mut Stage) -> Result<(), Trouble> {
    let outcome = play(stage, How::Approve)?;
    for (index, (name, _)) in ATTEMPTS.iter().enumerate() {
        let got = said(&outcome, index);
        let done = got.is_some_and(|got| got != REFUSED);
        // The ring's polling thread is refused at once, after the ring itself was approved.
        let refused = AT_ONCE.contains(&index) || index == 10;
        expect(done != refused, format!("{index} {name}: {got:?}: {outcome:?}"))?;
    }
    expect(!mounts()?.contains("/run/powers"), "it was not unmounted")?;
    expect(mounts()?.contains(" /mnt "), "it was not mounted")?;
    expect(mounts()?.contains(" /run/moved-to "), "the mount was not moved")?;
    expect(were_times_set()?, "the times were not set")?;
    shell("umount /mnt")
}

fn were_times_set() -> Result<bool, Trouble> {
    let meta = std::fs::metadata(NOTED).map_err(|error| format!("{NOTED}: {error}"))?;
    Ok((meta.mtime(), meta.mtime_nsec()) == (THEN.0, THEN.1 * 1000))
}

fn mounts() -> Result<String, Trouble> {
    std::fs::read_to_string("/proc/mounts").map_err(|error| error.to_string())
}

fn was_blocked(operation: &str) -> bool {
    evidence::any(|record| {
        record["event"] == "blocked" && record["action"]["operation"] == operation
    })
}
