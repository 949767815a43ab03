//! What would act after the session, or outside of it, under the policy that is shipped: files that others run, daemons
//! and programs that act for their caller.

use crate::{
    Trouble,
    answer::How,
    command::User::Root,
    evidence,
    scenario::{Outcome, Stage, expect, shell, write},
};
use serde_json::Value;
use std::path::Path;

const POLICY: &str = "/run/guard/shipped.cedar";
const SCRIPT: &str = "/home/dev/plain/outlive.py";
/// `EPERM`.
const REFUSED: &str = "1";

/// What is tried, on what, and the statement of the shipped policy that holds it.
const ATTEMPTS: [(&str, &str, &str); 17] = [
    ("append", "/home/dev/.bashrc", "login-files"),
    ("append", "/root/.profile", "login-files"),
    ("append", "/home/dev/.config/systemd/user/outlive.service", "login-files"),
    ("append", "/home/dev/outlive/.git/hooks/pre-commit", "git-hooks"),
    ("append", "/home/dev/.ssh/authorized_keys", "ssh-keys"),
    ("append", "/var/spool/cron/crontabs/dev", "machine-configuration"),
    ("append", "/var/spool/cron/atjobs/a0000101c0ffee", "machine-configuration"),
    ("append", "/etc/cron.d/outlive", "machine-configuration"),
    ("append", "/etc/systemd/system/outlive.service", "machine-configuration"),
    ("append", "/run/systemd/transient/outlive.service", "machine-configuration"),
    ("append", "/usr/local/bin/outlive", "installed-software"),
    ("talk", "/home/dev/outlive/docker.sock", "daemon-sockets"),
    ("talk", "/home/dev/outlive/containerd.sock", "daemon-sockets"),
    ("talk", "/run/dbus/system_bus_socket", "daemon-sockets"),
    ("talk", "/run/systemd/private", "daemon-sockets"),
    ("ssh", "127.0.0.1:22", "loopback-doors"),
    ("run", "/usr/bin/su", "other-powers"),
];

const PRELUDE: &str = "import os, socket, time
def append(path): os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644))
def talk(path): socket.socket(socket.AF_UNIX).connect(path)
def ssh(address): socket.create_connection(address.split(':')).close()
def run(path): os.waitpid(os.posix_spawn(path, [path, '--version'], {}, file_actions=[(os.POSIX_SPAWN_CLOSE, 1)]), 0)
def attempt(how, what):
    try: how(what); print(what, 0)
    except OSError as error: print(what, error.errno)
";
/// Nobody is there to be talked to: what is not refused fails otherwise.
const PREPARE: &str = "set -e; mkdir -p /home/dev/.config/systemd/user /home/dev/outlive/.git/hooks /home/dev/.ssh \
                       /var/spool/cron/crontabs /var/spool/cron/atjobs /etc/cron.d /etc/systemd/system \
                       /run/systemd/transient /run/dbus /usr/local/bin
touch /home/dev/.bashrc /root/.profile
/usr/local/bin/guard policy default > /run/guard/shipped.cedar";
const CLEAR: &str = "rm -rf /home/dev/.config /home/dev/outlive /home/dev/.ssh /etc/cron.d/outlive \
                     /etc/systemd/system/outlive.service /run/systemd/transient /usr/local/bin/outlive \
                     /var/spool/cron/crontabs/dev /var/spool/cron/atjobs/a0000101c0ffee";

pub(super) fn held(stage: &mut Stage) -> Result<(), Trouble> {
    shell(PREPARE)?;
    let lines: String =
        ATTEMPTS.iter().map(|(how, what, _)| format!("attempt({how}, '{what}')\n")).collect();
    write(Path::new(SCRIPT), &format!("{PRELUDE}{lines}"))?;
    stage.under(POLICY, play).and(shell(CLEAR))
}

fn play(stage: &Stage) -> Result<(), Trouble> {
    let argv = ["python3", SCRIPT];
    let inside = stage.session_named("outlive", Root, How::Deny, &argv)?;
    let is_there = |(how, what, _): &&(&str, &str, &str)| {
        *how == "append" && std::fs::metadata(what).is_ok_and(|file| file.len() > 0)
    };
    expect(!ATTEMPTS.iter().any(|one| is_there(&one)), "something was written")?;
    let outside = stage.start_unlabelled(Root, &argv)?.finish()?;
    for (_, what, statement) in ATTEMPTS {
        let (got, free) = (errno(&inside, what), errno(&outside, what));
        expect(got == Some(REFUSED), format!("{what}: {got:?}: {inside:?}"))?;
        let is_possible = free.is_some_and(|free| free != REFUSED);
        expect(is_possible, format!("{what}: {free:?} outside of a session: {outside:?}"))?;
        let is_held = evidence::any(|record| was_held(record, what, statement));
        expect(is_held, format!("{what} was not held by {statement}"))?;
    }
    Ok(())
}

fn errno<'a>(outcome: &'a Outcome, what: &str) -> Option<&'a str> {
    outcome.out.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(' '))
}

fn was_held(record: &Value, what: &str, statement: &str) -> bool {
    let request = &record["request"];
    let (ip, port) = what.split_once(':').unwrap_or_default();
    let is_it = ["/action/file/path", "/action/program/file/path", "/action/endpoint/path"]
        .iter()
        .any(|at| request.pointer(at).is_some_and(|path| path == what));
    let endpoint = &request["action"]["endpoint"];
    let is_address = endpoint["ip"] == ip && endpoint["port"].as_u64() == port.parse().ok();
    let statements = request["statements"].as_array();
    record["event"] == "held"
        && (is_it || is_address)
        && statements.is_some_and(|all| all.iter().any(|one| one["id"] == statement))
}
