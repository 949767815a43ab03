//! Sockets: every family and every way to an address is decided.

use crate::{
    Trouble,
    answer::How,
    command::User::{Dev, Root},
    scenario::{Stage, expect, was_held},
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
