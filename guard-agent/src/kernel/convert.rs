//! From the kernel's records to the domain's words.

use super::{KernelBody, KernelEvent};
use guard_common::{
    decode::{Body, DecodeError, Held, HeldObject, Record, decode},
    event::{ARGV_CUT, ARGV_UNREADABLE, Header},
    hold::{
        ACCESS_APPEND, ACCESS_CREATE, ACCESS_INTERPRETER, ACCESS_READ, ACCESS_TMPFILE,
        ACCESS_TRUNCATE, ACCESS_UNNAMED, ACCESS_WRITE, ActionKey,
    },
};
use guard_model::{Action, Endpoint, FileAccess, FileRef, ProgramRef, RawText};
use std::net::{Ipv4Addr, Ipv6Addr};

/// What `bpf_d_path` writes before the path of a file outside the task's root.
const UNREACHABLE: &[u8] = b"(unreachable)";

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
        Body::Selected(selected) => KernelBody::Selected { selector: selected.selector },
    };
    Ok(KernelEvent { header, body })
}

/// An event that says that records were lost.
#[must_use]
pub(super) fn lost(counter: &'static str, count: u64) -> KernelEvent {
    KernelEvent { header: Header::default(), body: KernelBody::Lost { counter, count } }
}

fn action(held: &Held<'_>) -> Action {
    let key = &held.key;
    match &held.object {
        HeldObject::Exec { path, argv, argc, argv_flags, owner_uid, mode } => {
            let file = file(key, path_or_error(*path), *owner_uid, *mode);
            let argv = split_argv(argv);
            let complete =
                argv_flags & (ARGV_CUT | ARGV_UNREADABLE) == 0 && argv.len() == *argc as usize;
            Action::Exec {
                program: ProgramRef { file, sha256: None },
                argv,
                argv_complete: complete,
                interpreter: key.access & ACCESS_INTERPRETER != 0,
                unnamed: key.access & ACCESS_UNNAMED != 0,
            }
        }
        HeldObject::Open { path, name, components, owner_uid, mode } => {
            let directory = match components {
                Some(components) => Ok(join_components(components)),
                None => path_or_error(*path),
            };
            let path = match (name, key.access & ACCESS_CREATE != 0) {
                (Some(name), true) => directory.map(|directory| child(&directory, name)),
                (None, true) => Err("the new name could not be read".to_owned()),
                (_, false) => directory,
            };
            Action::Open { file: file(key, path, *owner_uid, *mode), access: access(key) }
        }
        HeldObject::Connect { socket_family: _ } => Action::Connect {
            endpoint: endpoint(key),
            socket_type: key.access,
            protocol: key.flags,
        },
    }
}

fn access(key: &ActionKey) -> FileAccess {
    let has = |bit| key.access & bit != 0;
    FileAccess {
        read: has(ACCESS_READ),
        write: has(ACCESS_WRITE),
        append: has(ACCESS_APPEND),
        truncate: has(ACCESS_TRUNCATE),
        create: has(ACCESS_CREATE),
        tmpfile: has(ACCESS_TMPFILE),
    }
}

/// K3: a path that the kernel could not give, or that is not one in the task's view, is no path.
fn path_or_error(path: Result<&[u8], i32>) -> Result<Vec<u8>, String> {
    match path {
        Ok(path) if path.starts_with(UNREACHABLE) => {
            Err("not reachable from the task's root".to_owned())
        }
        Ok([]) => Err("empty".to_owned()),
        Ok(path) => Ok(path.to_vec()),
        Err(0) => Err("the directory could not be walked".to_owned()),
        Err(errno) if errno == -libc::ENAMETOOLONG => Err("longer than 4,095 bytes".to_owned()),
        Err(errno) => Err(std::io::Error::from_raw_os_error(errno.saturating_neg()).to_string()),
    }
}

fn file(key: &ActionKey, path: Result<Vec<u8>, String>, owner_uid: u32, mode: u32) -> FileRef {
    let object = key.file().unwrap_or_default();
    let (path, path_error) = match path {
        Ok(path) => (RawText::new(path), None),
        Err(why) => (RawText::default(), Some(why)),
    };
    FileRef {
        path,
        path_error,
        dev: object.dev,
        ino: object.ino,
        generation: object.generation,
        owner_uid,
        mode,
    }
}

fn child(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// `c\0b\0a\0` (innermost first; the root is one empty component) → `/a/b/c`.
fn join_components(components: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(components.len() + 1);
    for component in components.split(|byte| *byte == 0).rev().filter(|part| !part.is_empty()) {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

fn split_argv(argv: &[u8]) -> Vec<RawText> {
    let mut args: Vec<_> = argv.split(|byte| *byte == 0).map(RawText::new).collect();
    // Every argument ends with its NUL, so the last piece is what follows the last NUL: nothing.
    if args.last().is_some_and(RawText::is_empty) {
        args.pop();
    }
    args
}

fn endpoint(key: &ActionKey) -> Endpoint {
    let (bytes, len) = key.object_bytes();
    let address = bytes.get(..len).unwrap_or_default();
    let other = |family: u16| Endpoint::Other { number: family, address_hex: hex::encode(address) };
    let &[low, high, ref rest @ ..] = address else { return other(0) };
    let family = u16::from_ne_bytes([low, high]);
    match i32::from(family) {
        libc::AF_UNSPEC => Endpoint::Unspec,
        libc::AF_INET => match *rest {
            [p0, p1, a, b, c, d, ..] => Endpoint::Inet {
                ip: Ipv4Addr::new(a, b, c, d).into(),
                port: u16::from_be_bytes([p0, p1]),
                mapped: false,
            },
            _ => other(family),
        },
        libc::AF_INET6 => inet6(rest).unwrap_or_else(|| other(family)),
        libc::AF_UNIX => unix(rest),
        _ => other(family),
    }
}

/// `struct sockaddr_in6` after its family: port, flow information, address, scope.
fn inet6(rest: &[u8]) -> Option<Endpoint> {
    let port = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
    let octets: [u8; 16] = rest.get(6..22)?.try_into().ok()?;
    let ip = Ipv6Addr::from(octets);
    Some(match ip.to_ipv4_mapped() {
        Some(v4) => Endpoint::Inet { ip: v4.into(), port, mapped: true },
        None => Endpoint::Inet6 { ip: ip.into(), port },
    })
}

/// `struct sockaddr_un` after its family: a NUL first means the abstract namespace.
fn unix(rest: &[u8]) -> Endpoint {
    match rest {
        [0, name @ ..] => Endpoint::Abstract { name: RawText::new(name) },
        path => {
            let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
            Endpoint::Unix { path: RawText::new(path.get(..end).unwrap_or_default()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_common::hold::{KIND_CONNECT, KIND_OPEN, OBJECT_WORDS};

    fn key(kind: u32, object: &[u8]) -> ActionKey {
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

    fn connect(object: &[u8]) -> Endpoint {
        endpoint(&key(KIND_CONNECT, object))
    }

    #[test]
    fn every_family_has_an_endpoint() {
        assert_eq!(connect(&[2, 0, 1, 187, 192, 0, 2, 1, 0, 0, 0, 0]).to_string(), "192.0.2.1:443");
        let mut v6 = vec![10, 0, 0, 80, 0, 0, 0, 0];
        v6.extend_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        v6.extend_from_slice(&[0; 4]);
        assert_eq!(connect(&v6).to_string(), "[2001:db8::7]:80");
        assert_eq!(connect(b"\x01\0/run/x\0junk").to_string(), "unix:/run/x");
        assert_eq!(connect(b"\x01\0\0abstract").to_string(), "unix:@abstract");
        assert_eq!(connect(b"\x01\0").to_string(), "unix: (unnamed)");
        assert_eq!(connect(&[0, 0]), Endpoint::Unspec);
        assert!(matches!(connect(&[40, 0, 1, 2]), Endpoint::Other { number: 40, .. }));
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mut v6 = vec![10, 0, 0, 80, 0, 0, 0, 0];
        v6.extend_from_slice(&"::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap().octets());
        let Endpoint::Inet { ip, port, mapped } = connect(&v6) else { panic!("not IPv4") };
        assert_eq!((ip.to_string().as_str(), port, mapped), ("192.0.2.1", 80, true));
    }

    #[test]
    fn a_short_address_is_of_an_unknown_family_never_of_a_guessed_one() {
        assert!(matches!(connect(&[2, 0, 1]), Endpoint::Other { number: 2, .. }));
        assert!(matches!(connect(&[10, 0, 0, 80, 0]), Endpoint::Other { number: 10, .. }));
        assert!(matches!(connect(&[2]), Endpoint::Other { number: 0, .. }));
    }

    #[test]
    fn components_become_a_path_from_the_root() {
        assert_eq!(join_components(b"c\0b\0a\0\0"), b"/a/b/c");
        assert_eq!(join_components(b"\0"), b"/");
        assert_eq!(child(b"/", b"x"), b"/x");
        assert_eq!(child(b"/a", b"x"), b"/a/x");
    }

    #[test]
    fn a_path_that_is_none_is_an_error_never_empty_text() {
        let open = |path| {
            let object =
                HeldObject::Open { path, name: None, components: None, owner_uid: 0, mode: 0 };
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
    fn argv_keeps_empty_arguments() {
        let args = split_argv(b"x\0\0y\0");
        assert_eq!(args, [RawText::from("x"), RawText::from(""), RawText::from("y")]);
        assert!(split_argv(b"").is_empty());
    }
}
