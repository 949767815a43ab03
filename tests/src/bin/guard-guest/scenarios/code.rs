//! Code that is mapped, descriptors that are received, and allows that the kernel remembers.

use crate::{
    Trouble,
    answer::How,
    command::User::Dev,
    evidence,
    scenario::{Stage, expect, shell, write},
};
use std::{fs, path::Path};

const EPERM: &str = "Operation not permitted";

/// A copy of a library is the session's own file; `libm` is the smallest that every system has.
const COPY: &str = "cp -L /lib/x86_64-linux-gnu/libm.so.6 /home/dev/plain/own.so";

pub(super) fn mapped(stage: &mut Stage) -> Result<(), Trouble> {
    for (way, command) in LOADED {
        let script = format!("{COPY}; {command}");
        let argv = ["sh", "-c", &script];
        let outcome = stage.session_named("mapped", Dev, How::Deny, &argv)?;
        expect(outcome.code != 0, format!("{way}: {outcome:?}"))?;
        if way != "ld.so" {
            continue;
        }
        let outcome = stage.session_named("mapped", Dev, How::Approve, &argv)?;
        expect(outcome.code == 0, format!("{way}, approved: {outcome:?}"))?;
    }
    let is_held = evidence::any(|record| {
        record["event"] == "held" && record["request"]["action"]["action"] == "map"
    });
    expect(is_held, "no mapping was held")
}

/// Ways to run code from a file that no exec shows.
const LOADED: [(&str, &str); 4] = [
    ("dlopen", "python3 -c 'import ctypes; ctypes.CDLL(\"/home/dev/plain/own.so\")'"),
    ("LD_PRELOAD", "! LD_PRELOAD=/home/dev/plain/own.so /bin/true 2>&1 | grep -q ."),
    ("mprotect", MPROTECT),
    ("ld.so", "cp /bin/true /home/dev/plain/own; /lib64/ld-linux-x86-64.so.2 /home/dev/plain/own"),
];

/// Mapped for reading first, made executable then.
const MPROTECT: &str = "python3 -c '
import ctypes, mmap, os
c = ctypes.CDLL(None, use_errno=True)
c.mmap.restype = ctypes.c_void_p
fd = os.open(\"/home/dev/plain/own.so\", os.O_RDONLY)
at = c.mmap(None, 4096, 1, 2, fd, 0)
exit(c.mprotect(ctypes.c_void_p(at), 4096, 5) != 0)'";

/// Sends itself a descriptor that it opened; then is sent one that it did not.
const RECEIVE: &str = "
import array, os, socket, sys
def receive(sock):
    data, extra, flags, where = sock.recvmsg(1, 64)
    fds = array.array('i')
    for level, kind, payload in extra: fds.frombytes(payload[:len(payload) - len(payload) % 4])
    return os.pread(fds[0], 64, 0).decode().strip() if fds else 'nothing'
a, b = socket.socketpair()
mine = os.open('/home/dev/plain/secret', os.O_RDONLY)
socket.send_fds(a, [b'x'], [mine])
print('own:', receive(b))
other = socket.socket(socket.AF_UNIX)
other.connect('/home/dev/plain/giver')
print('foreign:', receive(other))
";

/// Gives everybody who connects a descriptor of a file that the session may not open.
const GIVE: &str = "
import os, socket
path = '/home/dev/plain/giver'
if os.path.exists(path): os.unlink(path)
server = socket.socket(socket.AF_UNIX)
server.bind(path); server.listen(1)
sock = server.accept()[0]
socket.send_fds(sock, [b'x'], [os.open('/home/dev/held/secret', os.O_RDONLY)])
";

pub(super) fn received(stage: &mut Stage) -> Result<(), Trouble> {
    let giver = stage.start_unlabelled(Dev, &["python3", "-c", GIVE])?;
    crate::scenario::wait_for_file("/home/dev/plain/giver")?;
    let argv = ["python3", "-c", RECEIVE];
    let outcome = stage.session(Dev, How::Deny, &argv)?;
    giver.finish()?;
    outcome.expect_success("own: the secret")?;
    outcome.expect_success("foreign: nothing")?;
    stage.evidence(|record| {
        record["event"] == "blocked" && record["action"]["action"] == "receive"
    })?;
    Ok(())
}

pub(super) fn remembered(stage: &mut Stage) -> Result<(), Trouble> {
    let base = Path::new("/home/dev/plain/cache");
    let _ = fs::remove_dir_all(base);
    let _ = fs::remove_dir_all("/home/dev/held/cache");
    crate::scenario::make_dir(base)?;
    write(&base.join("file"), "content\n")?;
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do \
                  read x < /home/dev/plain/cache/file; done; echo done";
    stage.session(Dev, How::Nothing, &["bash", "-c", script])?.expect_success("done")?;
    let asked = decided("/home/dev/plain/cache/file");
    expect(asked == 1, format!("{asked} decisions for 20 opens of one file"))?;
    for (way, change, path) in POISONS {
        poison(stage, way, change, path)?;
    }
    shell("umount /home/dev/held/mounted")
}

/// What changes the path of a remembered file, and its new path; each leaves the file where the next one
/// looks for it.
const POISONS: [(&str, &str, &str); 4] = [
    (
        "its directory renamed",
        "mv /home/dev/plain/cache /home/dev/held/cache",
        "/home/dev/held/cache/file",
    ),
    (
        "renamed itself",
        "mv /home/dev/held/cache /home/dev/plain/cache; \
         mv /home/dev/plain/cache/file /home/dev/held/moved",
        "/home/dev/held/moved",
    ),
    (
        "linked",
        "mv /home/dev/held/moved /home/dev/plain/cache/file; \
         ln -f /home/dev/plain/cache/file /home/dev/held/linked",
        "/home/dev/held/linked",
    ),
    (
        "mounted",
        "mkdir -p /home/dev/held/mounted; mount --bind /home/dev/plain/cache /home/dev/held/mounted",
        "/home/dev/held/mounted/file",
    ),
];

/// One session opens the file until it is remembered, somebody outside changes what its path is, and the
/// same process opens it again under its new name.
fn poison(stage: &Stage, way: &str, change: &str, path: &str) -> Result<(), Trouble> {
    for file in ["/home/dev/plain/warm", "/home/dev/plain/go"] {
        let _ = fs::remove_file(file);
    }
    let script = format!(
        "for i in 1 2 3 4 5; do cat /home/dev/plain/cache/file > /dev/null; done; : > /home/dev/plain/warm; \
         until [ -e /home/dev/plain/go ]; do sleep 0.1; done; cat {path}"
    );
    let answering = crate::answer::Answering::start(stage.guard.api(), How::Deny);
    let outcome = stage.start(Dev, &["bash", "-c", &script]).and_then(|running| {
        crate::scenario::wait_for_file("/home/dev/plain/warm")?;
        shell(change)?;
        write(Path::new("/home/dev/plain/go"), "")?;
        running.finish()
    });
    answering.stop();
    outcome?.expect_failure(EPERM).map_err(|problem| format!("{way}: {problem}"))
}

/// How often the policy decided on this file, by the evidence.
fn decided(path: &str) -> usize {
    evidence::count(|record| {
        record["event"] == "decided" && record["action"]["file"]["path"] == path
    })
}
