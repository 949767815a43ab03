//! An action is held, and goes on or fails as decided.

use crate::{
    Trouble,
    answer::How,
    command::User::{Dev, Root},
    evidence,
    scenario::{Stage, expect},
};
use serde_json::Value;
use std::{path::Path, thread, time::Duration};

const EPERM: &str = "Operation not permitted";
const WORKLOAD: &str = "/usr/local/bin/guard-workload";

pub(super) fn open_approved(stage: &mut Stage) -> Result<(), Trouble> {
    stage
        .session(Dev, How::Approve, &["cat", "/home/dev/held/secret"])?
        .expect_success("the secret")
}

pub(super) fn open_denied(stage: &mut Stage) -> Result<(), Trouble> {
    let outcome = stage.session(Dev, How::Deny, &["cat", "/home/dev/held/secret"])?;
    outcome.expect_failure(EPERM)?;
    expect(outcome.out.is_empty(), format!("something was read: {outcome:?}"))
}

pub(super) fn script_approved(stage: &mut Stage) -> Result<(), Trouble> {
    stage.session(Dev, How::Approve, &[WORKLOAD, "script", "/home/dev"])?.expect_success("ok")?;
    stage
        .evidence(|record| is_held(record, "exec", "/home/dev/script-"))
        .map_err(|error| format!("the script was not held: {error}"))?;
    Ok(())
}

pub(super) fn script_denied(stage: &mut Stage) -> Result<(), Trouble> {
    stage.session(Dev, How::Deny, &[WORKLOAD, "script", "/home/dev"])?.expect_failure("errno 1:")
}

pub(super) fn memfd(stage: &mut Stage) -> Result<(), Trouble> {
    stage.session(Dev, How::Deny, &[WORKLOAD, "memfd"])?.expect_failure("errno 1:")?;
    stage.session(Dev, How::Approve, &[WORKLOAD, "memfd"])?.expect_success("ok")
}

const UNLISTED: &str = "http://198.51.100.7/";

pub(super) fn connect_approved(stage: &mut Stage) -> Result<(), Trouble> {
    stage.session(Dev, How::Approve, &["curl", "-sS", UNLISTED])?.expect_success("hello from")
}

pub(super) fn connect_denied(stage: &mut Stage) -> Result<(), Trouble> {
    let outcome = stage.session(Dev, How::Deny, &["curl", "-sS", UNLISTED])?;
    expect(outcome.code == 7 && outcome.out.is_empty(), format!("curl: {outcome:?}"))
}

pub(super) fn connect_listed(stage: &mut Stage) -> Result<(), Trouble> {
    let listed = "http://198.51.100.10/";
    stage.session(Dev, How::Nothing, &["curl", "-sS", listed])?.expect_success("hello from")
}

pub(super) fn connect_ipv6(stage: &mut Stage) -> Result<(), Trouble> {
    let url = "http://[2001:db8::7]/";
    stage.session(Dev, How::Approve, &["curl", "-sS", url])?.expect_success("hello from")?;
    let outcome = stage.session(Dev, How::Deny, &["curl", "-sS", url])?;
    expect(outcome.code == 7, format!("curl: {outcome:?}"))
}

pub(super) fn shadow(stage: &mut Stage) -> Result<(), Trouble> {
    stage.session(Root, How::Deny, &["cat", "/etc/shadow"])?.expect_failure(EPERM)?;
    stage.session(Root, How::Approve, &["cat", "/etc/shadow"])?.expect_success("root:")
}

pub(super) fn create_exclusive(stage: &mut Stage) -> Result<(), Trouble> {
    let path = "/home/dev/held/made-exclusively";
    let outcome = stage.session(Dev, How::Approve, &[WORKLOAD, "create-exclusive", path])?;
    outcome.expect_success("ok")?;
    let holds = evidence::count(|record| is_held(record, "open", path) && create(record));
    expect(holds == 1, format!("{holds} holds of the creation, expected 1"))
}

fn create(record: &Value) -> bool {
    record.pointer("/request/action/access/create") == Some(&Value::Bool(true))
}

pub(super) fn truncate_denied(stage: &mut Stage) -> Result<(), Trouble> {
    let path = "/home/dev/held/secret-deny";
    let outcome = stage.session(Dev, How::Deny, &[WORKLOAD, "create-truncate", path])?;
    outcome.expect_failure("errno 1:")?;
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    expect(text == "the secret\n", format!("the content is {text:?}"))
}

pub(super) fn tmpfile(stage: &mut Stage) -> Result<(), Trouble> {
    let directory = "/home/dev/held";
    stage.session(Dev, How::Approve, &[WORKLOAD, "tmpfile", directory])?.expect_success("ok")
}

pub(super) fn orphan(stage: &mut Stage) -> Result<(), Trouble> {
    let path = "/home/dev/held/secret-deny";
    let outcome = stage.session(Dev, How::ByName, &[WORKLOAD, "setsid", path])?;
    outcome.expect_failure("the orphan's open was refused")
}

/// The label was given once, and does not ask where the process is.
pub(super) fn other_cgroup(stage: &mut Stage) -> Result<(), Trouble> {
    let script = "mkdir -p /sys/fs/cgroup/elsewhere && echo $$ > /sys/fs/cgroup/elsewhere/cgroup.procs \
                  && grep -o elsewhere /proc/self/cgroup; cat /home/dev/held/secret-deny";
    let outcome = stage.session(Root, How::ByName, &["sh", "-c", script])?;
    expect(outcome.out == "elsewhere\n", format!("it did not move, or it read: {outcome:?}"))?;
    outcome.expect_failure(EPERM)
}

/// `clone3` with `CLONE_INTO_CGROUP`.
pub(super) fn born_in_cgroup(stage: &mut Stage) -> Result<(), Trouble> {
    let script = "import ctypes, os
c = ctypes.CDLL(None, use_errno=True)
os.makedirs('/sys/fs/cgroup/born', exist_ok=True)
group = os.open('/sys/fs/cgroup/born', os.O_RDONLY | os.O_DIRECTORY)
args = (ctypes.c_ulonglong * 11)()
args[0], args[4], args[10] = 0x200000000, 17, group
child = c.syscall(435, args, 88)
if child == 0:
    print(open('/proc/self/cgroup').read().strip(), flush=True)
    try:
        print(open('/home/dev/held/secret-deny').read(), flush=True)
    except PermissionError:
        print('refused', flush=True)
    os._exit(0)
assert child > 0, ctypes.get_errno()
os.waitpid(child, 0)";
    let outcome = stage.session(Root, How::ByName, &["python3", "-c", script])?;
    expect(outcome.out == "0::/born\nrefused\n", format!("{outcome:?}"))
}

pub(super) fn pid_namespace(stage: &mut Stage) -> Result<(), Trouble> {
    let (path, denied) = ("/home/dev/held/secret", "/home/dev/held/secret-deny");
    let outcome = stage.session(Root, How::ByName, &[WORKLOAD, "pid-namespace", path])?;
    outcome.expect_success("ok")?;
    let outcome = stage.session(Root, How::ByName, &[WORKLOAD, "pid-namespace", denied])?;
    outcome.expect_failure("wait status 256")
}

pub(super) fn spoofed_name(stage: &mut Stage) -> Result<(), Trouble> {
    let path = "/home/dev/held/secret-deny";
    stage.session(Dev, How::ByName, &[WORKLOAD, "hide", path])?.expect_failure("errno 1:")
}

pub(super) fn unlabelled(stage: &mut Stage) -> Result<(), Trouble> {
    let running = stage.start_unlabelled(Dev, &["cat", "/home/dev/held/secret"])?;
    running.finish()?.expect_success("the secret")
}

pub(super) fn stray_sigcont(stage: &mut Stage) -> Result<(), Trouble> {
    let path = "/home/dev/held/secret-deny";
    let mut running = stage.start(Dev, &[WORKLOAD, "stray-sigcont", path])?;
    stage.wait_for_pending(1)?;
    // The workload sends its 100 SIGCONTs as soon as it sees its child stopped.
    thread::sleep(Duration::from_secs(2));
    expect(!running.has_ended(), "the child got past its hold")?;
    expect(stage.pending()?.len() == 1, "a stray SIGCONT made another hold")?;
    stage.answer(How::ByName);
    running.finish()?.expect_success("after 100 stray SIGCONTs")
}

/// Opens the same file, one after the other: itself, itself again, by another thread, by a child.
const AGAIN: &str = "
import os, threading
def look(who):
    try: print(who, open('/home/dev/held/secret').read().strip(), flush=True)
    except OSError as error: print(who, error.errno, flush=True)
look('first')
look('again')
thread = threading.Thread(target=look, args=('thread',)); thread.start(); thread.join()
child = os.fork()
if child == 0: look('child'); os._exit(0)
os.waitpid(child, 0)
";

/// What a person allowed once is allowed to nobody else, and not again: each is asked for anew.
pub(super) fn granted_once(stage: &mut Stage) -> Result<(), Trouble> {
    let running = stage.start(Dev, &["python3", "-c", AGAIN])?;
    let mut hold = stage.wait_for_pending(1)?.swap_remove(0);
    stage.answer(How::Approve);
    for _ in 0..3 {
        hold = stage.wait_for_another(&hold)?;
        stage.answer(How::Deny);
    }
    let outcome = running.finish()?;
    outcome.expect_success("first the secret\nagain 1\nthread 1\nchild 1")
}

pub(super) fn killed(stage: &mut Stage) -> Result<(), Trouble> {
    let path = "/home/dev/held/secret";
    stage.session(Dev, How::Nothing, &[WORKLOAD, "sigkill", path])?.expect_success("ok")?;
    stage.wait_for_pending(0).map_err(|error| format!("after the kill: {error}"))?;
    stage.evidence(|record| {
        record.get("event").is_some_and(|event| event == "withdrawn")
            && record.get("why").is_some_and(|why| why == "abandoned")
    })?;
    Ok(())
}

pub(super) fn hostile_text(stage: &mut Stage) -> Result<(), Trouble> {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    let name: &[u8] = b"deny\x1b[2K\n\xe2\x80\xae\xff<script>";
    let path = Path::new("/home/dev/held").join(OsStr::from_bytes(name));
    crate::scenario::write(&path, "x")?;
    // A shell glob, so that the bytes need not be an argument of the VM's own commands.
    let outcome =
        stage.session(Dev, How::Deny, &["sh", "-c", "cat /home/dev/held/deny*script*"])?;
    outcome.expect_failure(EPERM)?;
    let exact = "/home/dev/held/deny\u{1b}[2K\n\u{202e}\\xff<script>";
    stage.evidence(|record| path_of(record).is_some_and(|path| path == exact))?;
    Ok(())
}

/// Whether the record is a hold of `action` on an object whose path begins with `path`.
fn is_held(record: &Value, action: &str, path: &str) -> bool {
    record.get("event").is_some_and(|event| event == "held")
        && record.pointer("/request/action/action").is_some_and(|found| found == action)
        && path_of(record).is_some_and(|found| found.starts_with(path))
}

fn path_of(record: &Value) -> Option<&str> {
    let file = record.pointer("/request/action/file/path");
    let program = record.pointer("/request/action/program/file/path");
    file.or(program)?.as_str()
}

/// Linux 6.1 frees the parent's task storage when a fork fails early; the label was in it.
pub(super) fn failed_fork(stage: &mut Stage) -> Result<(), Trouble> {
    let code = "import os, resource
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
for _ in range(3):
    try: os.fork(); raise SystemExit('forked')
    except BlockingIOError: print('no fork', flush=True)
print(open('/home/dev/held/secret').read())";
    let outcome = stage.session(Dev, How::Deny, &["python3", "-c", code])?;
    expect(outcome.out.matches("no fork").count() == 3, format!("{outcome:?}"))?;
    outcome.expect_failure("Operation not permitted")?;
    expect(!outcome.out.contains("the secret"), "the session was free")
}
