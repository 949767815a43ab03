//! Sessions, processes and actions in few words.

use crate::{Attempt, Outcome, Policy, PolicySource};
use guard_model::{
    Action, Endpoint, FileAccess, FileRef, ProcessContext, ProgramRef, RawText, SessionId,
    SessionInfo,
};
use uuid::Uuid;

pub(super) const DEV: u32 = 1000;

pub(super) fn load(text: &str) -> Policy {
    try_load(text).unwrap_or_else(|error| panic!("{error}"))
}

pub(super) fn try_load(text: &str) -> Result<Policy, crate::PolicyError> {
    Policy::load(&[PolicySource { file: "test.cedar".into(), text: text.into() }])
}

pub(super) fn session(uid: u32) -> SessionInfo {
    SessionInfo {
        id: SessionId(Uuid::from_u128(7)),
        name: "agent".into(),
        principal: if uid == 0 { "root".into() } else { "dev".into() },
        uid,
        started_unix_ms: 0,
        root_pid: 100,
        command: vec!["agent".into()],
    }
}

pub(super) fn process(uid: u32) -> ProcessContext {
    ProcessContext {
        pid: 101,
        tid: 101,
        uid,
        gid: uid,
        exe: "/usr/bin/bash".into(),
        cwd: "/home/dev/work".into(),
        ..ProcessContext::default()
    }
}

pub(super) fn file(path: &str, owner_uid: u32, mode: u32) -> FileRef {
    FileRef { path: path.into(), path_error: None, dev: 1, ino: 2, generation: 0, owner_uid, mode }
}

pub(super) fn access(words: &str) -> FileAccess {
    let has = |word| words.contains(word);
    FileAccess {
        read: has("read"),
        write: has("write"),
        append: has("append"),
        truncate: has("truncate"),
        create: has("create"),
        tmpfile: has("tmpfile"),
    }
}

pub(super) fn open(path: &str, how: &str) -> Action {
    Action::Open { file: file(path, 0, 0o100_644), access: access(how) }
}

pub(super) fn exec(path: &str, owner_uid: u32, mode: u32) -> Action {
    exec_args(path, owner_uid, mode, &[path])
}

pub(super) fn exec_args(path: &str, owner_uid: u32, mode: u32, argv: &[&str]) -> Action {
    Action::Exec {
        program: ProgramRef { file: file(path, owner_uid, 0o100_000 | mode), sha256: None },
        argv: argv.iter().map(|arg| RawText::from(*arg)).collect(),
        argv_complete: true,
        interpreter: false,
        unnamed: false,
        loader: false,
        gains: false,
        environment: Vec::new(),
    }
}

pub(super) fn connect(endpoint: Endpoint) -> Action {
    Action::Connect { endpoint, socket_type: 1, protocol: 6 }
}

pub(super) fn inet(ip: &str, port: u16) -> Action {
    let ip: std::net::IpAddr = ip.parse().unwrap();
    connect(match ip {
        std::net::IpAddr::V4(_) => Endpoint::Inet { ip, port, mapped: false },
        std::net::IpAddr::V6(_) => Endpoint::Inet6 { ip, port },
    })
}

pub(super) fn unix(path: &str) -> Action {
    connect(Endpoint::Unix { path: path.into() })
}

pub(super) fn decide(policy: &Policy, uid: u32, action: &Action) -> Outcome {
    let (session, process) = (session(uid), process(uid));
    policy.decide(&Attempt { session: &session, process: &process, action, host: "host-1" })
}

/// The outcome in one word, with the statements that hold or deny: `allow`, `hold a b`, `deny c`.
pub(super) fn verdict(policy: &Policy, uid: u32, action: &Action) -> String {
    let (word, statements) = match decide(policy, uid, action) {
        Outcome::Allow { .. } => ("allow", Vec::new()),
        Outcome::Deny { statements, .. } => ("deny", statements),
        Outcome::Hold { statements, .. } => ("hold", statements),
    };
    let ids = statements.iter().map(|statement| statement.id.as_str());
    std::iter::once(word).chain(ids).collect::<Vec<_>>().join(" ")
}

/// A statement with this condition, in Cedar's JSON policy format.
pub(crate) fn statement(effect: &str, condition: &str) -> serde_json::Value {
    let text = format!("{effect}(principal, action, resource) when {{ {condition} }};");
    cedar_policy::Policy::parse(None, text).unwrap().to_json().unwrap()
}
