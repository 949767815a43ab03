//! At least one record of every variant.

use super::super::{Context, HeldAction};
use crate::{Event, Record};
use guard_model::{
    Action, ActionDigest, BootId, ChangeOperation, Coverage, CoverageState, DecisionTerms,
    Endpoint, FileAccess, FileRef, HoldId, HoldRequest, HoldState, HostId, PolicyStatement,
    ProcessContext, ProcessNode, ProgramRef, RawText, SessionId, SessionInfo, SocketOperation,
    SystemOperation, TaskOperation, TaskRef, Tier, Verdict, Withdrawal,
};
use uuid::Uuid;

pub(crate) const INDEX: u64 = 41;

const WHEN_UNIX_MS: u64 = 1_795_000_000_123;

pub(crate) fn host() -> HostId {
    HostId(Uuid::from_u128(1))
}

fn boot() -> BootId {
    BootId(Uuid::from_u128(2))
}

fn session() -> SessionId {
    SessionId(Uuid::from_u128(3))
}

pub(crate) fn hold_id() -> HoldId {
    HoldId(Uuid::from_u128(4))
}

pub(crate) fn text(bytes: &[u8]) -> RawText {
    RawText::new(bytes.to_vec())
}

pub(crate) fn context(held: Option<&HeldAction>) -> Context<'_> {
    Context { index: INDEX, leaf_hash: [7; 32], hostname: Some("box-1"), held }
}

pub(crate) fn record(event: Event) -> Record {
    Record {
        host: host(),
        boot: boot(),
        sequence: 9,
        boottime_ns: 1_000_000,
        unix_ms: WHEN_UNIX_MS,
        session: Some(session()),
        event,
    }
}

pub(crate) fn file(path: &str) -> FileRef {
    FileRef {
        path: path.into(),
        path_error: None,
        dev: 0x80_0001,
        ino: 77,
        generation: 3,
        owner_uid: 0,
        mode: 0o100_644,
    }
}

pub(crate) fn program(path: &str) -> ProgramRef {
    ProgramRef { file: file(path), sha256: Some("ab".repeat(32)) }
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let v4 = [203, 0, 113, 9].into();
    vec![
        Endpoint::Inet { ip: v4, port: 443, mapped: false },
        Endpoint::Inet { ip: v4, port: 443, mapped: true },
        Endpoint::Inet6 { ip: "2001:db8::1".parse().unwrap(), port: 53 },
        Endpoint::Unix { path: "/run/x.sock".into() },
        Endpoint::Unix { path: RawText::default() },
        Endpoint::Abstract { name: text(b"a\0\xff") },
        Endpoint::Unspec,
        Endpoint::Other { number: 16, address_hex: "00ff".into() },
    ]
}

pub(crate) fn connect() -> Action {
    Action::Connect { endpoint: endpoints().remove(0), socket_type: 1, protocol: 0 }
}

fn open(path: &str, access: FileAccess) -> Action {
    Action::Open { file: file(path), access }
}

/// At least one of every [`Action`]; a test compares with the enum.
pub(crate) fn actions() -> Vec<Action> {
    let read = FileAccess { read: true, ..FileAccess::default() };
    let mut no_path = file("");
    no_path.path_error = Some("too long".into());
    let mut all = vec![
        Action::Exec {
            program: program("/usr/bin/curl"),
            argv: vec!["curl".into(), "-d @/etc/shadow".into(), text(b"\xff\n\x1b[2K")],
            argv_complete: true,
            interpreter: false,
            unnamed: false,
            loader: false,
            gains: false,
            environment: Vec::new(),
        },
        open("/etc/shadow", read),
        open("/tmp/new", FileAccess { create: true, write: true, ..FileAccess::default() }),
        open("/tmp/old", FileAccess { write: true, truncate: true, ..FileAccess::default() }),
        Action::Open { file: no_path, access: read },
    ];
    let socket = |endpoint| Action::Connect { endpoint, socket_type: 2, protocol: 0 };
    all.extend(endpoints().into_iter().map(socket));
    all.extend(more_actions());
    all
}

fn more_actions() -> Vec<Action> {
    let mut all: Vec<_> = ChangeOperation::ALL
        .iter()
        .map(|&operation| Action::Change {
            operation,
            file: file("/home/dev/a"),
            to: Some(file("/home/dev/b")),
            detail: "mode 0755".into(),
        })
        .collect();
    all.extend(SocketOperation::ALL.iter().map(|&operation| Action::Socket {
        operation,
        endpoint: Endpoint::Family { number: 17 },
        socket_type: 3,
        protocol: 0,
    }));
    all.extend(TaskOperation::ALL.iter().map(|&operation| Action::Task {
        operation,
        target: TaskRef {
            pid: 1,
            start_boottime_ns: 2,
            uid: 0,
            comm: "systemd".into(),
            own_session: false,
        },
        detail: "9".into(),
    }));
    all.extend(SystemOperation::ALL.iter().map(|&operation| Action::System {
        operation,
        detail: "command 5".into(),
        file: Some(file("/lib/modules/x.ko")),
    }));
    all.push(Action::Map { program: program("/tmp/a.so"), unnamed: false, writable: true });
    let access = FileAccess { read: true, ..FileAccess::default() };
    all.push(Action::Receive { file: file("/etc/shadow"), access });
    all
}

fn process() -> ProcessContext {
    let node = |pid: u32, ppid: u32, exe: &str| ProcessNode {
        pid,
        ppid,
        uid: 1000,
        exe: exe.into(),
        cmdline: vec![exe.into()],
        labelled: true,
    };
    ProcessContext {
        pid: 700,
        tid: 701,
        ppid: 600,
        uid: 1000,
        gid: 1000,
        comm: "node".into(),
        exe: "/usr/bin/node".into(),
        cmdline: vec!["node".into(), "agent.js".into()],
        cwd: "/home/dev/project".into(),
        ancestors: vec![node(700, 600, "/usr/bin/node"), node(600, 1, "/usr/bin/bash")],
        ..ProcessContext::default()
    }
}

fn statements() -> Vec<PolicyStatement> {
    vec![PolicyStatement {
        id: "secrets".into(),
        file: "base.cedar".into(),
        line: 12,
        text: "forbid (principal, action, resource);".into(),
        reason: Some("secrets need a person".into()),
    }]
}

fn info() -> SessionInfo {
    SessionInfo {
        id: session(),
        name: "claude".into(),
        principal: "dev".into(),
        uid: 1000,
        started_unix_ms: WHEN_UNIX_MS,
        root_pid: 600,
        command: vec!["claude".into()],
    }
}

pub(crate) fn held(action: Action) -> HeldAction {
    let digest = ActionDigest::of(host(), boot(), session(), &process(), &action);
    HeldAction { hold_id: hold_id(), digest, process: process(), action, statements: statements() }
}

fn held_of(action: Action) -> Event {
    let HeldAction { digest, action, .. } = held(action);
    Event::Held {
        request: Box::new(HoldRequest {
            hold_id: hold_id(),
            host: host(),
            boot: boot(),
            session: info(),
            process: process(),
            action,
            digest,
            statements: statements(),
            terms: DecisionTerms {
                approver_groups: vec!["approvers".into()],
                quorum: 1,
                ttl_ms: 60_000,
                scope: "once".into(),
                stepup: None,
            },
            recent: Vec::new(),
            held_at_unix_ms: WHEN_UNIX_MS,
            deadline_unix_ms: WHEN_UNIX_MS + 60_000,
        }),
    }
}

pub(crate) fn held_event() -> Event {
    held_of(connect())
}

fn decided(action: Action, verdict: Verdict, tier: Tier) -> Event {
    let HeldAction { hold_id, digest, process, action, statements } = held(action);
    Event::Decided { hold_id, digest, process, action, verdict, tier, statements }
}

fn person(verdict: Verdict) -> Event {
    Event::PersonDecided {
        hold_id: hold_id(),
        digest: held(connect()).digest,
        verdict,
        decided_by: "ann".into(),
        reason: "known host = ok|fine".into(),
    }
}

fn outcome(hold: bool, action: &str, verdict: Verdict, reason: &str) -> Event {
    Event::Outcome {
        hold_id: hold.then(hold_id),
        pid: 700,
        tid: 701,
        action: action.into(),
        verdict,
        reason: reason.into(),
    }
}

fn changed(to: &str) -> Event {
    Event::ApprovalChanged {
        hold_id: hold_id(),
        from: "pending".into(),
        to: to.into(),
        by: "ann".into(),
        reason: "known host".into(),
    }
}

fn coverage(state: CoverageState) -> Coverage {
    Coverage {
        action: "exec".into(),
        hook: "bprm_check_security".into(),
        state,
        reason: String::new(),
    }
}

/// Class, activity, action, disposition and status of each row of the design's table.
pub(crate) fn table() -> Vec<(Event, [u64; 5])> {
    use Verdict::{Allow, Deny};
    let exec = || actions().remove(0);
    let read = || actions().remove(1);
    vec![
        (decided(exec(), Allow, Tier::Agent), [1007, 1, 1, 1, 1]),
        (decided(exec(), Deny, Tier::Agent), [1007, 1, 2, 2, 2]),
        (Event::Executed { pid: 1, exe: "/x".into() }, [1007, 1, 3, 17, 1]),
        (decided(read(), Allow, Tier::Kernel), [1001, 14, 1, 1, 1]),
        (decided(actions().remove(3), Deny, Tier::Agent), [1001, 3, 2, 2, 2]),
        (decided(connect(), Allow, Tier::Agent), [4001, 1, 1, 1, 1]),
        (held_of(read()), [1001, 14, 99, 14, 99]),
        (held_event(), [4001, 1, 99, 14, 99]),
        (person(Allow), [4001, 1, 1, 8, 1]),
        (person(Deny), [4001, 1, 2, 25, 2]),
        (Event::Withdrawn { hold_id: hold_id(), why: Withdrawal::Expired }, [4001, 1, 2, 26, 2]),
        (outcome(true, "connect", Deny, "expired"), [4001, 1, 2, 26, 2]),
        (outcome(true, "connect", Allow, "grant"), [4001, 1, 1, 1, 1]),
        (outcome(false, "open", Deny, "holds_full"), [1001, 14, 2, 27, 2]),
        (changed("approved"), [6003, 3, 1, 8, 1]),
        (changed("rejected"), [6003, 3, 2, 25, 2]),
        (changed("expired"), [6003, 3, 2, 26, 2]),
        (
            Event::PolicyLoaded { digest: "d".into(), files: vec![], texts: vec![] },
            [3004, 3, 3, 17, 1],
        ),
        (auth("password", true), [3002, 1, 1, 1, 1]),
        (auth("sign_out", true), [3002, 2, 1, 1, 1]),
        (Event::DecisionRefused { hold_id: None, why: "key".into() }, [2004, 1, 2, 2, 2]),
        (Event::Lost { counter: "events_lost".into(), count: 4 }, [1008, 99, 2, 27, 2]),
        (
            Event::Stopped { component: "guard-agent".into(), reason: "x".into() },
            [6002, 4, 3, 17, 1],
        ),
    ]
}

fn auth(method: &str, success: bool) -> Event {
    Event::Authentication { user: "ann".into(), method: method.into(), success }
}

/// At least one of every [`Event`]; a test compares with the enum.
pub(crate) fn events() -> Vec<Event> {
    use Verdict::{Allow, Deny};
    let started = |state| Event::Started {
        component: "guard-agent".into(),
        version: "0.1.0".into(),
        kernel: "6.12.0".into(),
        coverage: vec![coverage(state)],
    };
    let user_changed = |user: &str, change: &str| Event::UserChanged {
        user: user.into(),
        change: change.into(),
        by: "admin".into(),
    };
    let mut all = vec![
        started(CoverageState::Enforced),
        started(CoverageState::Absent),
        started(CoverageState::Degraded),
        Event::Heartbeat { counters: [("holds".to_owned(), 4)].into(), pending_holds: 2 },
        Event::Lost { counter: "events_lost".into(), count: u64::MAX },
        Event::SessionStarted { info: info() },
        Event::SessionEnded {},
        Event::Forked { pid: 600, child_pid: 700, child_tid: 700 },
        Event::Forked { pid: 700, child_pid: 700, child_tid: 701 },
        Event::Exited { pid: 700, tid: 700 },
        Event::Sent {
            endpoint: Endpoint::Inet6 { ip: "2001:db8::53".parse().unwrap(), port: 53 },
            socket_type: 2,
            protocol: 17,
            from_boottime_ns: 60_000_000_000,
            messages: u64::MAX,
            unasked_max: 2046,
            bytes: 9000,
            largest: 1500,
        },
        Event::Withdrawn { hold_id: hold_id(), why: Withdrawal::Abandoned },
        Event::Withdrawn { hold_id: hold_id(), why: Withdrawal::Superseded },
        Event::DecisionRefused { hold_id: Some(hold_id()), why: "wrong key".into() },
        Event::Enrolled { enrolled: host(), hostname: "not a dns name!".into() },
        Event::HostLink { linked: host(), up: true },
        Event::HostLink { linked: host(), up: false },
        Event::HostRefused { refused: host(), what: "hold".into(), why: "digest".into() },
        auth("token", false),
        user_changed("bob", "created: approver"),
        user_changed("bob", "disabled"),
        user_changed("bob", "enabled"),
        user_changed("", "host x is not accepted any more"),
        changed("nonsense"),
        Event::PayloadErased {
            index: 3,
            leaf_hash: "ab".repeat(32),
            reason: "request of a person".into(),
            by: "ann".into(),
        },
        Event::LogKeyRotated { old: "log+1+a".into(), new: "log+2+b".into(), by: "ann".into() },
        Event::PayloadsExpired {
            of: "executed".into(),
            days: 30,
            before_unix_ms: 1_700_000_000_000,
            count: u64::MAX,
            kept: 2,
            entries: vec![(3, 4), (9, 1)],
        },
        Event::LegalHoldSet {
            legal_hold: Uuid::from_u128(7),
            scope: crate::HoldScope {
                class: Some("held".into()),
                host: Some(host()),
                to_unix_ms: Some(1_700_000_000_000),
                ..crate::HoldScope::default()
            },
            reason: "matter 97".into(),
            by: "ann".into(),
        },
        Event::LegalHoldLifted {
            legal_hold: Uuid::from_u128(7),
            reason: "settled".into(),
            by: String::new(),
        },
        Event::EnforcementEnded { by: "ann".into(), uid: 0, pid: 7, reason: "x".into() },
        Event::Tampered { what: "2 pins were removed".into(), mended: false },
    ];
    all.extend(table().into_iter().map(|(event, _)| event));
    for action in actions() {
        all.push(held_of(action.clone()));
        let HeldAction { digest, process, action, .. } = held(action);
        all.push(Event::Blocked {
            digest,
            process,
            action: action.clone(),
            reason: "not_holdable".into(),
            allowed_from_now: true,
        });
        for tier in [Tier::Kernel, Tier::Agent, Tier::Person] {
            all.push(decided(action.clone(), Allow, tier));
            all.push(decided(action.clone(), Deny, tier));
        }
    }
    for action in ["exec", "open", "connect", "something_newer"] {
        for reason in ["grant", "expired", "not_restartable", "unreadable"] {
            all.push(outcome(false, action, Deny, reason));
        }
    }
    for state in [HoldState::Pending, HoldState::Cancelled, HoldState::Consumed, HoldState::Lapsed]
    {
        all.push(changed(state.name()));
    }
    all
}
