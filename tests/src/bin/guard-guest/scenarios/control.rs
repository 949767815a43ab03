//! What steers others without a signal, types into a terminal, or configures the machine through a socket:
//! refused at once in a session, possible outside of one.

use crate::{
    Trouble,
    answer::How,
    command::User::Root,
    evidence,
    scenario::{Outcome, Running, Stage, expect, was_held, write},
};
use std::path::Path;

const SCRIPT: &str = "/home/dev/plain/control.py";
const FLAGGED: &str = "/home/dev/plain/flagged";

/// `t(name, call)` prints how a call ended; the first argument is the process that is reached for.
const PRELUDE: &str = "import ctypes, fcntl, os, pty, resource, socket, struct, sys
victim = int(sys.argv[1])
own = os.getpid()
c = ctypes.CDLL(None, use_errno=True)
def t(name, call):
    try:
        result = call()
    except OSError as error:
        print(name, 'errno', error.errno, flush=True)
        return
    failed = isinstance(result, int) and result == -1
    print(name, 'errno %d' % ctypes.get_errno() if failed else 'ok', flush=True)
def pipe():
    r, w = os.pipe()
    return r
def typed():
    master, slave = pty.openpty()
    return fcntl.ioctl(slave, 0x5412, b'x')
def owned():
    a, b = socket.socketpair()
    return fcntl.ioctl(a, 0x8901, struct.pack('i', victim))
def mtu():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    now = fcntl.ioctl(s, 0x8921, struct.pack('16si12x', b'lo', 0))
    return fcntl.ioctl(s, 0x8922, now)
def route():
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    # RTM_DELROUTE with NLM_F_REQUEST | NLM_F_ACK, of a route that nobody has.
    body = struct.pack('BBBBBBBBI', 2, 32, 0, 0, 254, 4, 0, 1, 0) + struct.pack('HHBBBB', 8, 1, 203, 0, 113, 9)
    s.send(struct.pack('IHHII', 16 + len(body), 25, 5, 1, 0) + body)
    error = -struct.unpack_from('i', s.recv(4096), 16)[0]
    if error not in (0, 3): raise OSError(error, 'netlink')
def flags():
    f = os.open('/home/dev/plain/flagged', os.O_RDONLY)
    now = fcntl.ioctl(f, 0x80086601, bytes(8))
    # FS_NODUMP_FL.
    return fcntl.ioctl(f, 0x40086602, struct.pack('l', struct.unpack('l', now)[0] | 0x40))
name = os.uname().nodename.encode()
";

/// Each with what it reaches for. Outside of a session all of them are done.
const ATTEMPTS: [(&str, &str); 13] = [
    ("owner", "fcntl.fcntl(pipe(), fcntl.F_SETOWN, victim)"),
    ("group", "fcntl.fcntl(pipe(), fcntl.F_SETOWN, -os.getpgid(victim))"),
    ("owner-ex", "fcntl.fcntl(pipe(), 15, struct.pack('ii', 1, victim))"),
    ("owner-ioctl", "owned()"),
    ("limits", "resource.prlimit(victim, resource.RLIMIT_CORE, (0, 0))"),
    ("priority", "os.setpriority(os.PRIO_PROCESS, victim, 1)"),
    ("scheduling", "os.sched_setaffinity(victim, {0})"),
    ("io-priority", "c.syscall(251, 1, victim, (2 << 13) | 4)"),
    ("terminal", "typed()"),
    ("hostname", "c.sethostname(name, len(name))"),
    ("interface", "mtu()"),
    ("route", "route()"),
    ("flags", "flags()"),
];
/// What a session does with itself.
const OWN: [(&str, &str); 5] = [
    ("own-owner", "fcntl.fcntl(pipe(), fcntl.F_SETOWN, own)"),
    ("own-limits", "resource.prlimit(0, resource.RLIMIT_CORE, (0, 0))"),
    ("own-priority", "os.setpriority(os.PRIO_PROCESS, own, 1)"),
    ("own-scheduling", "os.sched_setaffinity(own, {0})"),
    ("own-io-priority", "c.syscall(251, 1, own, (2 << 13) | 4)"),
];
/// `EPERM`.
const REFUSED: &str = "errno 1";

fn prepare(stage: &Stage) -> Result<(Running, String), Trouble> {
    let mut script = PRELUDE.to_owned();
    for (name, call) in ATTEMPTS.iter().chain(&OWN) {
        script.push_str(&format!("t('{name}', lambda: {call})\n"));
    }
    // As an argument it would be cut, and the scenarios' policy reads arguments.
    write(Path::new(SCRIPT), &script)?;
    write(Path::new(FLAGGED), "x")?;
    let victim = stage.start_unlabelled(Root, &["sleep", "1000"])?;
    let pid = victim.pid().to_string();
    Ok((victim, pid))
}

fn said<'a>(outcome: &'a Outcome, name: &str) -> Option<&'a str> {
    outcome.out.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

fn blocked(detail: &str) -> bool {
    evidence::any(|record| {
        let text = record["action"]["detail"].as_str();
        record["event"] == "blocked"
            && record["action"]["operation"] == "control"
            && text.is_some_and(|text| text.starts_with(detail))
    })
}

pub(super) fn refused(stage: &mut Stage) -> Result<(), Trouble> {
    let (victim, pid) = prepare(stage)?;
    let outside = stage.start_unlabelled(Root, &["python3", SCRIPT, &pid])?.finish()?;
    for (name, _) in ATTEMPTS.iter().chain(&OWN) {
        expect(said(&outside, name) == Some("ok"), format!("outside: {name}: {outside:?}"))?;
    }
    let inside = stage.session_named("powers", Root, How::Deny, &["python3", SCRIPT, &pid])?;
    victim.kill();
    for (name, _) in &ATTEMPTS {
        expect(said(&inside, name) == Some(REFUSED), format!("{name}: {inside:?}"))?;
    }
    for (name, _) in &OWN {
        expect(said(&inside, name) == Some("ok"), format!("{name}: {inside:?}"))?;
    }
    for what in [
        "owner of",
        "resource limits",
        "priority of process",
        "scheduling of",
        "priority of input",
        "input of a terminal",
    ] {
        expect(blocked(what), format!("no evidence of `{what}`"))?;
    }
    expect(blocked(&format!("priority of process {pid}")), "whose priority is not told")?;
    expect(was_held("xattr"), "the flags of a file were not held")
}

/// The signal of a descriptor kills an unlabelled process that a session could not signal: the owner is
/// refused, so nothing comes.
pub(super) fn no_signal_by_descriptor(stage: &mut Stage) -> Result<(), Trouble> {
    let kill = "import fcntl, os, sys, time
r, w = os.pipe()
fcntl.fcntl(r, 10, 9)
try:
    fcntl.fcntl(r, fcntl.F_SETOWN, int(sys.argv[1]))
except PermissionError:
    print('refused')
fcntl.fcntl(r, fcntl.F_SETFL, os.O_ASYNC)
os.write(w, b'x')
time.sleep(0.5)
";
    write(Path::new(SCRIPT), kill)?;
    let mut victim = stage.start_unlabelled(Root, &["sleep", "1000"])?;
    let pid = victim.pid().to_string();
    let outcome = stage.session_named("powers", Root, How::Nothing, &["python3", SCRIPT, &pid])?;
    outcome.expect_success("refused")?;
    expect(!victim.has_ended(), "it was killed")?;
    // That the way is one: outside of a session it kills.
    stage.start_unlabelled(Root, &["python3", SCRIPT, &pid])?.finish()?;
    expect(victim.has_ended(), "this does not kill anybody")
}
