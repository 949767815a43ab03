//! What reaches out of the session, or for the kernel itself: refused at once, and written down.

use crate::{
    Trouble,
    answer::How,
    command::User::{Dev, Root},
    scenario::{Stage, expect},
};
use serde_json::Value;

const EPERM: &str = "Operation not permitted";

pub(super) fn signal(stage: &mut Stage) -> Result<(), Trouble> {
    // The init of the VM would ignore it.
    stage.session(Root, How::Nothing, &["sh", "-c", "kill -9 1"])?.expect_failure(EPERM)?;
    stage.evidence(|record| {
        blocked(record, "signal", "outside_the_session") && record["action"]["target"]["pid"] == 1
    })?;
    let inside = "sleep 60 & kill -9 $!; wait $!; test $? -eq 137 && echo killed";
    stage.session(Root, How::Nothing, &["sh", "-c", inside])?.expect_success("killed")
}

pub(super) fn ptrace(stage: &mut Stage) -> Result<(), Trouble> {
    let look = ["readlink", "/proc/1/exe"];
    let outcome = stage.start_unlabelled(Root, &look)?.finish()?;
    expect(outcome.code == 0, format!("outside of sessions: {outcome:?}"))?;
    let outcome = stage.session(Root, How::Nothing, &look)?;
    expect(outcome.code != 0 && outcome.out.is_empty(), format!("{outcome:?}"))?;
    stage.evidence(|record| blocked(record, "ptrace", "outside_the_session"))?;
    let own = ["sh", "-c", "sleep 60 & readlink /proc/$!/exe; kill $!"];
    stage.session(Root, How::Nothing, &own)?.expect_success("/")
}

pub(super) fn capability(stage: &mut Stage) -> Result<(), Trouble> {
    // By python: the policy holds the program `unshare` by its name.
    let code = "import ctypes, os; c = ctypes.CDLL(None, use_errno=True); \
                r = c.unshare(0x20000000); print(os.strerror(ctypes.get_errno())); exit(r != 0)";
    let outcome = stage.session(Root, How::Nothing, &["python3", "-c", code])?;
    outcome.expect_failure(EPERM)?;
    stage.evidence(|record| {
        blocked(record, "capability", "not_holdable") && record["allowed_from_now"] == false
    })?;
    Ok(())
}

pub(super) fn standing(stage: &mut Stage) -> Result<(), Trouble> {
    // iopl(3), until guard-agent has asked the policy about the first refusal.
    let code = "import ctypes, time, os
c = ctypes.CDLL(None, use_errno=True)
first = c.syscall(172, 3)
print('first', first, os.strerror(ctypes.get_errno()))
for _ in range(100):
    time.sleep(0.1)
    if c.syscall(172, 3) == 0: print('then allowed'); break";
    let outcome = stage.session(Root, How::Nothing, &["python3", "-c", code])?;
    outcome.expect_success(&format!("first -1 {EPERM}"))?;
    outcome.expect_success("then allowed")?;
    stage.evidence(|record| {
        blocked(record, "capability", "not_holdable") && record["allowed_from_now"] == true
    })?;
    Ok(())
}

/// Nobody has to fail once for what the policy permits to everybody: `ipc` and `keyring`.
pub(super) fn beforehand(stage: &mut Stage) -> Result<(), Trouble> {
    let code = "import ctypes
c = ctypes.CDLL(None, use_errno=True)
memory = c.shmget(0, 4096, 0o600)
print('memory', memory >= 0, 'used', c.shmctl(memory, 0, None))
print('keyring', c.syscall(250, 0, -3, 1) > 0)";
    for user in [Root, Dev] {
        let outcome = stage.session(user, How::Nothing, &["python3", "-c", code])?;
        outcome.expect_success("memory True used 0\nkeyring True")?;
    }
    Ok(())
}

/// `capset` is no action: the kernel itself gives nobody what he has not.
pub(super) fn capset(stage: &mut Stage) -> Result<(), Trouble> {
    let code = "import ctypes
c = ctypes.CDLL(None, use_errno=True)
head, data = (ctypes.c_uint * 2)(0x20080522, 0), (ctypes.c_uint * 6)()
print('read', c.syscall(125, head, data))
all = list(data)
less = [word & ~(1 << 21) if i < 3 else word for i, word in enumerate(all)]
print('less', c.syscall(126, head, (ctypes.c_uint * 6)(*less)))
print('again', c.syscall(126, head, (ctypes.c_uint * 6)(*all)), ctypes.get_errno())
print('mount', c.mount(b'capset', b'/mnt', b'tmpfs', 0, None), ctypes.get_errno())";
    let outcome = stage.session(Root, How::Nothing, &["python3", "-c", code])?;
    outcome.expect_success("read 0\nless 0\nagain -1 1\nmount -1 1\n")
}

/// Whether `record` says that an action was denied at once, for this reason.
fn blocked(record: &Value, name: &str, reason: &str) -> bool {
    let action = &record["action"];
    record["event"] == "blocked"
        && record["reason"] == reason
        && (action["action"] == name || action["operation"] == name)
}
