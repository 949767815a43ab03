//! From the kernel's records to the domain's words.

mod endpoint;
mod file;
mod system;

pub use system::action_of_kind;

use super::{KernelBody, KernelEvent};
pub(super) use endpoint::endpoint;
use file::{access, file, is_made, named, second, split_argv};
use guard_common::{
    decode::{Body, DecodeError, Held, HeldFile, HeldObject, Record, decode},
    event::{ARGV_CUT, ARGV_UNREADABLE, ENVIRONMENT_NAMES, ENVIRONMENT_UNKNOWN, Header},
    hold::{
        ACCESS_GAINS, ACCESS_INTERPRETER, ACCESS_LOADER, ACCESS_SHARED_WRITE, ACCESS_UNNAMED,
        ActionKey, KIND_BIND, KIND_CONNECT, KIND_EXEC, KIND_LISTEN, KIND_MAP, KIND_OPEN,
        KIND_PTRACE, KIND_RECEIVE, KIND_SEND, KIND_SIGNAL, KIND_SOCKET, KIND_SYSTEM_LAST,
        KIND_UNLINK, KIND_USER_NAMESPACE, KIND_XATTR,
    },
};
use guard_model::{
    Action, ChangeOperation, Endpoint, ProgramRef, RawText, SocketOperation, TaskOperation, TaskRef,
};

/// Decodes one record into an owned event.
///
/// # Errors
/// The record is not one of ours; the caller counts it as lost.
pub(super) fn event(bytes: &[u8]) -> Result<KernelEvent, DecodeError> {
    let Record { header, body } = decode(bytes)?;
    let body = match body {
        Body::Held(held) => {
            let action = Box::new(action(&held));
            KernelBody::Held { key: Box::new(held.key), action, deadline_ns: held.deadline_ns }
        }
        Body::Blocked(blocked) => {
            let action = Box::new(action(&blocked));
            KernelBody::Blocked { key: Box::new(blocked.key), action, reason: header.reason }
        }
        Body::Outcome(outcome) => KernelBody::Outcome {
            event: outcome.event,
            key: Box::new(outcome.key),
            verdict: outcome.verdict,
            reason: outcome.reason,
        },
        Body::Fork(fork) => {
            KernelBody::Fork { child_tgid: fork.child_tgid, child_tid: fork.child_tid }
        }
        Body::Exit => KernelBody::Exit,
        Body::Executed => KernelBody::Executed,
        Body::Tamper { what, name } => {
            let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
            KernelBody::Tamper { what, name }
        }
        Body::Selected(selected) => KernelBody::Selected { selector: selected.selector },
    };
    Ok(KernelEvent { header, body })
}

/// The name of a kind of action, as it stands in Cedar and in evidence.
#[must_use]
pub fn action_name(kind: u32) -> &'static str {
    match kind {
        KIND_EXEC => "exec",
        KIND_OPEN => "open",
        KIND_CONNECT => "connect",
        KIND_MAP => "map",
        KIND_RECEIVE => "receive",
        KIND_SOCKET => SocketOperation::Create.name(),
        KIND_BIND => SocketOperation::Bind.name(),
        KIND_LISTEN => SocketOperation::Listen.name(),
        KIND_SEND => SocketOperation::Send.name(),
        KIND_PTRACE => TaskOperation::Ptrace.name(),
        KIND_SIGNAL => TaskOperation::Signal.name(),
        KIND_UNLINK..=KIND_XATTR => {
            file::change_operation(kind).map_or("unknown", ChangeOperation::name)
        }
        KIND_USER_NAMESPACE..=KIND_SYSTEM_LAST => system::operation(kind).name(),
        _ => "unknown",
    }
}

/// An event that says that records were lost.
#[must_use]
pub(super) fn lost(counter: &'static str, count: u64) -> KernelEvent {
    KernelEvent { header: Header::default(), body: KernelBody::Lost { counter, count } }
}

fn action(held: &Held<'_>) -> Action {
    let key = &held.key;
    match &held.object {
        HeldObject::Exec {
            path,
            argv,
            argc,
            argv_flags,
            environment,
            content,
            owner_uid,
            mode,
        } => {
            let path = file::path_or_error(*path);
            let argv = split_argv(argv);
            let complete =
                argv_flags & (ARGV_CUT | ARGV_UNREADABLE) == 0 && argv.len() == *argc as usize;
            Action::Exec {
                program: ProgramRef {
                    sha256: content.map(hex::encode),
                    ..program(key, path, *owner_uid, *mode)
                },
                argv,
                argv_complete: complete,
                interpreter: key.access & ACCESS_INTERPRETER != 0,
                unnamed: key.access & ACCESS_UNNAMED != 0,
                loader: key.access & ACCESS_LOADER != 0,
                gains: key.access & ACCESS_GAINS != 0,
                environment: environment_names(*environment),
            }
        }
        HeldObject::File(held) => on_file(key, held),
        HeldObject::Pair { file: held, other, other_name } => {
            let (to, detail) = second(key, *other, *other_name);
            changed(key, held, to, detail)
        }
        HeldObject::Plain { family: _ } => plain(key),
    }
}

fn on_file(key: &ActionKey, held: &HeldFile<'_>) -> Action {
    match key.kind {
        KIND_OPEN => {
            let path = file::path(held, is_made(key));
            Action::Open { file: file(key, path, held.owner_uid, held.mode), access: access(key) }
        }
        KIND_RECEIVE => {
            let path = file::path(held, false);
            Action::Receive {
                file: file(key, path, held.owner_uid, held.mode),
                access: access(key),
            }
        }
        KIND_MAP => Action::Map {
            program: program(key, file::path(held, false), held.owner_uid, held.mode),
            unnamed: key.access & ACCESS_UNNAMED != 0,
            writable: key.access & ACCESS_SHARED_WRITE != 0,
        },
        KIND_UNLINK..=KIND_XATTR => changed(key, held, None, file::change_detail(key, held.name)),
        _ => system::action(key, held),
    }
}

fn changed(
    key: &ActionKey,
    held: &HeldFile<'_>,
    to: Option<guard_model::FileRef>,
    detail: RawText,
) -> Action {
    match file::change_operation(key.kind) {
        Some(operation) => {
            let path = file::path(held, named(key));
            let file = file(key, path, held.owner_uid, held.mode);
            Action::Change { operation, file, to, detail }
        }
        // `decode` lets no other kind through; as a system action no policy permits it by path.
        None => system::action(key, held),
    }
}

fn program(
    key: &ActionKey,
    path: Result<Vec<u8>, String>,
    owner_uid: u32,
    mode: u32,
) -> ProgramRef {
    ProgramRef { file: file(key, path, owner_uid, mode), sha256: None }
}

fn plain(key: &ActionKey) -> Action {
    let socket = |operation| Action::Socket {
        operation,
        endpoint: endpoint(key),
        socket_type: key.access,
        protocol: key.flags,
    };
    match key.kind {
        KIND_CONNECT => Action::Connect {
            endpoint: endpoint(key),
            socket_type: key.access,
            protocol: key.flags,
        },
        KIND_SOCKET => socket(SocketOperation::Create),
        KIND_BIND => socket(SocketOperation::Bind),
        KIND_LISTEN => socket(SocketOperation::Listen),
        KIND_SEND => socket(SocketOperation::Send),
        KIND_PTRACE => task(TaskOperation::Ptrace, key, "mode"),
        KIND_SIGNAL => task(TaskOperation::Signal, key, "signal"),
        // `decode` lets no other kind through; an unknown family is held by every policy.
        _ => Action::Connect {
            endpoint: Endpoint::Other { number: u16::MAX, address_hex: String::new() },
            socket_type: key.access,
            protocol: key.flags,
        },
    }
}

fn task(operation: TaskOperation, key: &ActionKey, what: &str) -> Action {
    let object = key.task().unwrap_or_default();
    let comm: Vec<u8> = object.comm.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
    let narrow = |wide: u64| u32::try_from(wide).unwrap_or(u32::MAX);
    Action::Task {
        operation,
        target: TaskRef {
            pid: narrow(object.tgid),
            start_boottime_ns: object.start_boottime_ns,
            uid: narrow(object.uid),
            comm: RawText::new(comm.get(..end).unwrap_or_default()),
            own_session: key.access != 0,
        },
        detail: RawText::from(format!("{what} {}", key.flags).as_str()),
    }
}

fn environment_names(bits: u32) -> Vec<String> {
    let set = ENVIRONMENT_NAMES.iter().enumerate().filter(|(index, _)| bits >> index & 1 == 1);
    let mut names: Vec<String> =
        set.map(|(_, name)| name.trim_end_matches('=').to_owned()).collect();
    if bits & ENVIRONMENT_UNKNOWN != 0 {
        names.push("*".to_owned());
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_common::hold::{KIND_RENAME, OBJECT_WORDS};

    pub(super) fn key(kind: u32, object: &[u8]) -> ActionKey {
        let mut bytes = [0; OBJECT_WORDS * 8];
        bytes[..object.len()].copy_from_slice(object);
        let mut words = [0; OBJECT_WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(chunk.try_into().unwrap());
        }
        ActionKey {
            start_boottime_ns: 1,
            tgid: 2,
            tid: 2,
            kind,
            access: 1,
            flags: 0,
            object_len: u32::try_from(object.len()).unwrap(),
            object: words,
        }
    }

    fn held_file<'a>(path: Result<&'a [u8], i32>, name: Option<&'a [u8]>) -> HeldFile<'a> {
        HeldFile { path, name, components: None, owner_uid: 0, mode: 0 }
    }

    #[test]
    fn a_path_that_is_none_is_an_error_never_empty_text() {
        let open = |path| {
            let object = HeldObject::File(held_file(path, None));
            let held = Held { key: key(KIND_OPEN, &[0; 40]), deadline_ns: 1, object };
            let Action::Open { file, .. } = action(&held) else { panic!("not an open") };
            file
        };
        assert_eq!(open(Ok(b"/a")).path_error, None);
        for path in [Ok(&b""[..]), Ok(b"(unreachable)/a"), Err(-36), Err(-14), Err(i32::MIN)] {
            let file = open(path);
            assert!(file.path_error.is_some() && file.path.is_empty(), "{path:?}");
        }
    }

    #[test]
    fn a_rename_has_both_names() {
        let first = HeldFile {
            path: Err(0),
            name: Some(b"old"),
            components: Some(b"b\0a\0\0"),
            owner_uid: 0,
            mode: 0,
        };
        let other = Some(&b"c\0\0"[..]);
        let object = HeldObject::Pair { file: first, other, other_name: Some(b"new") };
        let held = Held { key: key(KIND_RENAME, &[0; 40]), deadline_ns: 1, object };
        let action = action(&held);
        assert_eq!(action.name(), "rename");
        assert_eq!(action.object_line(), "/a/b/old → /c/new");
    }

    #[test]
    fn every_kind_becomes_the_action_that_it_is_named_after() {
        let kinds = (KIND_UNLINK..=KIND_XATTR).chain(KIND_USER_NAMESPACE..=KIND_SYSTEM_LAST);
        let mut names = std::collections::BTreeSet::new();
        for kind in kinds {
            let object = HeldObject::File(held_file(Ok(b"/a"), Some(b"x")));
            let held = Held { key: key(kind, &[0; 40]), deadline_ns: 1, object };
            assert!(names.insert(action(&held).name()), "{kind:#x}: {:?}", action(&held));
            assert_eq!(action(&held).name(), action_name(kind));
        }
        for kind in (KIND_SOCKET..=KIND_SEND).chain([KIND_PTRACE, KIND_SIGNAL, KIND_CONNECT]) {
            let object = HeldObject::Plain { family: 2 };
            let held = Held { key: key(kind, &[2, 0]), deadline_ns: 1, object };
            assert!(names.insert(action(&held).name()), "{kind:#x}");
            assert_eq!(action(&held).name(), action_name(kind));
        }
    }

    #[test]
    fn an_environment_that_could_not_be_read_has_every_name() {
        assert_eq!(environment_names(1 | 1 << 3), ["LD_PRELOAD", "BASH_ENV"]);
        assert_eq!(environment_names(ENVIRONMENT_UNKNOWN), ["*"]);
    }

    #[test]
    fn argv_keeps_empty_arguments() {
        let args = split_argv(b"x\0\0y\0");
        assert_eq!(args, [RawText::from("x"), RawText::from(""), RawText::from("y")]);
        assert!(split_argv(b"").is_empty());
        let object = HeldObject::Exec {
            path: Ok(b"/x"),
            argv: b"x\0",
            argc: 2,
            argv_flags: 0,
            environment: 0,
            content: Some(&[0xab; 32]),
            owner_uid: 0,
            mode: 0,
        };
        let held = Held { key: key(KIND_EXEC, &[0; 40]), deadline_ns: 1, object };
        let Action::Exec { argv_complete, program, .. } = action(&held) else {
            panic!("not an exec")
        };
        assert!(!argv_complete);
        assert_eq!(program.sha256, Some("ab".repeat(32)));
    }
}
