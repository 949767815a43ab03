//! Sockets: every family and every way to an address is decided.

use super::coverage::degraded;
use crate::{
    Trouble,
    answer::How,
    command::User::{Dev, Root},
    evidence,
    scenario::{Stage, expect, was_held, write},
};
use guard_common::sent::SENT_MAX;
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Prints how each attempt ended.
const PRELUDE: &str = "import socket as s, errno
def t(name, call):
    try:
        call(); print(name, 'ok', flush=True)
    except OSError as e: print(name, 'errno', e.errno, flush=True)
";

/// What the scenarios' policy holds; the last word is the action.
const ATTEMPTS: [(&str, &str); 10] = [
    ("send", "s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'x', ('198.51.100.7', 53))"),
    ("send", "s.socket(s.AF_INET6, s.SOCK_DGRAM).sendto(b'x', ('2001:db8::7', 53))"),
    ("send", "s.socket(s.AF_INET, s.SOCK_DGRAM).sendmsg([b'x'], [], 0, ('198.51.100.7', 53))"),
    ("send", "s.socket().sendto(b'x', s.MSG_FASTOPEN, ('198.51.100.7', 80))"),
    ("bind", "s.socket().bind(('0.0.0.0', 4711))"),
    ("listen", "s.socket().listen(1)"),
    ("socket", "s.socket(s.AF_PACKET, s.SOCK_RAW)"),
    ("socket", "s.socket(s.AF_VSOCK, s.SOCK_STREAM)"),
    ("connect", "s.socket(s.AF_UNIX).connect('\\0others')"),
    ("send", "s.socket(s.AF_UNIX, s.SOCK_DGRAM).sendto(b'x', '\\0others')"),
];
/// What it permits: goes on without anybody.
const PLAIN: [&str; 4] = [
    "s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 4712))",
    "s.socket().bind(('127.0.0.1', 0))",
    "s.socket(s.AF_UNIX).bind('\\0abstract-scenario')",
    "(lambda pair: pair[0].send(b'x'))(s.socketpair())",
];

fn script(calls: impl Iterator<Item = (usize, &'static str)>) -> String {
    let mut script = PRELUDE.to_owned();
    for (index, call) in calls {
        script.push_str(&format!("t('{index}', lambda: {call})\n"));
    }
    script
}

pub(super) fn denied(stage: &mut Stage) -> Result<(), Trouble> {
    let script = script(ATTEMPTS.iter().enumerate().map(|(index, (_, call))| (index, *call)));
    let argv = ["python3", "-c", &script];
    let outcome = stage.session_named("network", Root, How::Deny, &argv)?;
    for (index, (name, _)) in ATTEMPTS.iter().enumerate() {
        let refused = outcome.out.lines().any(|line| line == format!("{index} errno 1"));
        expect(refused, format!("{index} {name}: {outcome:?}"))?;
        expect(was_held(name), format!("{name} was not held"))?;
    }
    Ok(())
}

pub(super) fn plain(stage: &mut Stage) -> Result<(), Trouble> {
    let script = script(PLAIN.iter().copied().enumerate());
    let argv = ["python3", "-c", &script];
    let outcome = stage.session_named("network", Dev, How::Nothing, &argv)?;
    for (index, call) in PLAIN.iter().enumerate() {
        let done = outcome.out.lines().any(|line| line == format!("{index} ok"));
        expect(done, format!("{call}: {outcome:?}"))?;
    }
    Ok(())
}

/// Sends to sockets of its own: by address, connected, over IPv6, by stream, from a file, and in one `sendmmsg` call.
const SENDS: &str = r"import ctypes as c, os, socket as s
def bound(family, kind, host):
    x = s.socket(family, kind); x.bind((host, 0)); return x
known = bound(s.AF_INET, s.SOCK_DGRAM, '127.0.0.2')
out = s.socket(s.AF_INET, s.SOCK_DGRAM)
for i in range(40): out.sendto(b'x' * (1200 if i == 7 else 100), known.getsockname())
other = bound(s.AF_INET, s.SOCK_DGRAM, '127.0.0.3')
out = s.socket(s.AF_INET, s.SOCK_DGRAM); out.connect(other.getsockname())
for i in range(30): out.send(b'x' * 50)
six = bound(s.AF_INET6, s.SOCK_DGRAM, '::1')
out = s.socket(s.AF_INET6, s.SOCK_DGRAM); out.connect(six.getsockname())
for i in range(20): out.send(b'x' * 10)
server = bound(s.AF_INET, s.SOCK_STREAM, '127.0.0.4'); server.listen(1)
out = s.socket(); out.connect(server.getsockname()); out.sendall(b'x' * 500)
server = bound(s.AF_INET, s.SOCK_STREAM, '127.0.0.6'); server.listen(1)
out = s.socket(); out.connect(server.getsockname())
with open(__file__, 'rb') as file: print('from file', os.sendfile(out.fileno(), file.fileno(), 0, 300))
class Vec(c.Structure): _fields_ = [('base', c.c_char_p), ('len', c.c_size_t)]
class Msg(c.Structure): _fields_ = [('name', c.c_void_p), ('namelen', c.c_uint32), ('iov', c.POINTER(Vec)),
    ('iovlen', c.c_size_t), ('control', c.c_void_p), ('controllen', c.c_size_t), ('flags', c.c_size_t), ('sent', c.c_size_t)]
batch = bound(s.AF_INET, s.SOCK_DGRAM, '127.0.0.5')
name = c.create_string_buffer(b'\2\0' + batch.getsockname()[1].to_bytes(2, 'big') + b'\x7f\0\0\5' + bytes(8), 16)
messages = (Msg * 10)(*[Msg(c.addressof(name), 16, c.pointer(Vec(b'x' * 70, 70)), 1) for _ in range(10)])
out = s.socket(s.AF_INET, s.SOCK_DGRAM)
print('batch', c.CDLL(None).sendmmsg(out.fileno(), messages, 10, 0), flush=True)
";

/// To which `sendfile` has sent.
const FROM_FILE: &str = "127.0.0.6";
/// Address, messages, bytes, largest, and whether more may have been sent unasked.
const SUMS: [(&str, u64, u64, u64, u64); 6] = [
    ("127.0.0.2", 40, 5100, 1200, 0),
    ("127.0.0.3", 30, 1500, 50, 0),
    ("::1", 20, 200, 10, 0),
    ("127.0.0.4", 1, 500, 500, 0),
    ("127.0.0.5", 1, 70, 70, 9),
    (FROM_FILE, 1, 300, 300, 0),
];

pub(super) fn sums(stage: &mut Stage) -> Result<(), Trouble> {
    // Too long for an argument that a decision could be about.
    let script = "/home/dev/plain/sends.py";
    write(Path::new(script), SENDS)?;
    let outcome = stage.session_named("resolver", Dev, How::Nothing, &["python3", script])?;
    outcome.expect_success("from file 300\nbatch 10")?;
    let sees_files = !degraded()?.iter().any(|action| action == "send");
    let info = stage.evidence(|record| {
        record["event"] == "session_started" && record["info"]["name"] == "resolver"
    })?;
    let session = info["session"].clone();
    stage.evidence(|record| record["event"] == "session_ended" && record["session"] == session)?;
    let sent: Vec<_> = (evidence::records().into_iter())
        .filter(|record| record["event"] == "sent" && record["session"] == session)
        .collect();
    for (ip, messages, bytes, largest, unasked) in SUMS {
        let here: Vec<_> = sent.iter().filter(|record| record["endpoint"]["ip"] == ip).collect();
        let field =
            |name: &'static str| here.iter().map(move |record| record[name].as_u64().unwrap_or(0));
        let found = (
            field("messages").sum(),
            field("bytes").sum(),
            field("largest").max().unwrap_or(0),
            field("unasked_max").sum(),
        );
        let is_seen = ip != FROM_FILE || sees_files;
        let wanted = if is_seen { (messages, bytes, largest, unasked) } else { (0, 0, 0, 0) };
        expect(found == wanted, format!("{ip}: {found:?}, expected {wanted:?}: {here:?}"))?;
        // Two if a minute was over meanwhile.
        expect(here.len() <= 2, format!("{ip}: {} records", here.len()))?;
    }
    Ok(())
}

/// More addresses than there is room for ([`SENT_MAX`] and a few), within one minute: guard-agent decides on each the
/// first time, which takes long on a busy machine, and the kernel repeats that at once the next times.
const MANY: &str = "import socket as s, sys
out = s.socket(s.AF_INET, s.SOCK_DGRAM)
for turn in range(3):
    for i in range(int(sys.argv[1])): out.sendto(b'x', ('127.%d.%d.1' % (1 + i // 250, i % 250), 9))
print('sent', flush=True)
";
/// A minute may be over in the middle; hardly twice.
const TRIES: u32 = 3;

pub(super) fn many(stage: &mut Stage) -> Result<(), Trouble> {
    let before = lost();
    let addresses = (SENT_MAX + 20).to_string();
    let argv = ["python3", "-c", MANY, &addresses];
    for _ in 0..TRIES {
        let outcome = stage.session_named("resolver", Dev, How::Nothing, &argv)?;
        outcome.expect_success("sent")?;
        // Counters are read every ten seconds.
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if lost() > before {
                return Ok(());
            }
            thread::sleep(Duration::from_secs(1));
        }
    }
    Err("no loss was told".to_owned())
}

fn lost() -> u64 {
    let all = evidence::records();
    let lost = all.iter().filter(|record| record["counter"] == "sent_uncounted");
    lost.map(|record| record["count"].as_u64().unwrap_or(0)).sum()
}
