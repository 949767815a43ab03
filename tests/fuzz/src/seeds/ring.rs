//! Ring buffer records as guard-ebpf writes them: the structures' own layout, little by little.

use guard_common::{
    event::{
        ARG_BYTES, ARGV_BYTES, CONTENT_BYTES, CONTENT_SHA256, CONTENT_UNKNOWN, EVENT_BLOCKED,
        EVENT_CONSUMED, EVENT_EXECUTED, EVENT_EXIT, EVENT_FORK, EVENT_HELD, EVENT_SELECTED,
        EVENT_TAMPER, Header, NAME_BYTES, PATH_BYTES,
    },
    guardian::{TAMPER_NAME_BYTES, TAMPER_UNLINK},
    hold::{
        ACCESS_CREATE, ACCESS_READ, FILE_OBJECT_BYTES, KIND_BIND, KIND_CAPABILITY, KIND_CONNECT,
        KIND_EXEC, KIND_MAP, KIND_MOUNT, KIND_OPEN, KIND_PTRACE, KIND_RECEIVE, KIND_RENAME,
        KIND_SETID, KIND_SIGNAL, KIND_SYMLINK, KIND_UNLINK, KIND_XATTR, OBJECT_WORDS,
        TASK_OBJECT_BYTES,
    },
};

const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_UNIX: u64 = 1;

/// A record of every form of body, and of the kinds that read it in their own way.
pub(super) fn all() -> Vec<(String, Vec<u8>)> {
    let file = |name: &str, kind, access, body: Vec<u8>| {
        let key = key(kind, access, FILE_OBJECT_BYTES, [1, 2, 3, 4, 5]);
        (name.to_owned(), record(EVENT_HELD, &[key, body].concat()))
    };
    let plain = |name: &str, event, kind, len, object| {
        let body = [&key(kind, 1, len, object)[..], &[9; 8], &[2, 0, 0, 0, 0, 0, 0, 0]].concat();
        (name.to_owned(), record(event, &body))
    };
    vec![
        file("open", KIND_OPEN, ACCESS_READ, path(b"/etc/passwd\0", b"", b"")),
        file("open-error", KIND_OPEN, ACCESS_READ, path_error(-36)),
        file("create", KIND_OPEN, ACCESS_CREATE, path(b"", b"new\0", b"b\0a\0\0")),
        file("exec", KIND_EXEC, 0, exec(CONTENT_UNKNOWN)),
        file("exec-hashed", KIND_EXEC, 0, exec(CONTENT_SHA256)),
        file("map", KIND_MAP, 0, path(b"/lib/x.so\0", b"", b"")),
        file("receive", KIND_RECEIVE, ACCESS_READ, path(b"/a\0", b"", b"")),
        file("unlink", KIND_UNLINK, 0, path(b"/a\0", b"name\0", b"")),
        file("xattr", KIND_XATTR, 0, path(b"", b"security.capability\0", b"")),
        file("rename", KIND_RENAME, 0, pair()),
        file("symlink", KIND_SYMLINK, 0, pair()),
        file("mount", KIND_MOUNT, 0, path(b"/mnt\0", b"tmpfs\0", b"")),
        file("setid", KIND_SETID, 0, path(b"", b"", b"")),
        file("capability", KIND_CAPABILITY, 21, path(b"", b"", b"")),
        plain(
            "connect-inet",
            EVENT_HELD,
            KIND_CONNECT,
            16,
            [AF_INET | 0x5000 << 16 | 7 << 32, 0, 0, 0, 0],
        ),
        plain("connect-inet6", EVENT_HELD, KIND_CONNECT, 28, [AF_INET6 | 0x5000 << 16, 1, 2, 3, 4]),
        plain("bind-unix", EVENT_HELD, KIND_BIND, 12, [AF_UNIX | 0x612f_612f << 16, 0x62, 0, 0, 0]),
        plain("ptrace", EVENT_BLOCKED, KIND_PTRACE, TASK_OBJECT_BYTES, [1, 2, 3, 4, 0x6162_6364]),
        plain("signal", EVENT_BLOCKED, KIND_SIGNAL, TASK_OBJECT_BYTES, [1, 2, 3, 4, 0x6162_6364]),
        ("consumed".to_owned(), {
            let key = key(KIND_OPEN, ACCESS_READ, FILE_OBJECT_BYTES, [1, 2, 3, 4, 5]);
            record(EVENT_CONSUMED, &[&key[..], &[1, 0, 0, 0], &[0; 4]].concat())
        }),
        ("fork".to_owned(), record(EVENT_FORK, &[5; 16])),
        ("exit".to_owned(), record(EVENT_EXIT, &[])),
        ("executed".to_owned(), record(EVENT_EXECUTED, &[])),
        ("selected".to_owned(), record(EVENT_SELECTED, &[6; 8])),
        ("tamper".to_owned(), {
            let head = [TAMPER_UNLINK.to_ne_bytes(), 10_u32.to_ne_bytes()].concat();
            record(EVENT_TAMPER, &[head, padded(b"file_open\0", TAMPER_NAME_BYTES)].concat())
        }),
    ]
}

fn record(event: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(size_of::<Header>() + body.len()).unwrap();
    let mut bytes = vec![0; size_of::<Header>()];
    bytes[..4].copy_from_slice(&event.to_ne_bytes());
    bytes[4..8].copy_from_slice(&len.to_ne_bytes());
    bytes[88..92].copy_from_slice(b"comm");
    [&bytes, body].concat()
}

fn key(kind: u32, access: u32, object_len: usize, object: [u64; 5]) -> Vec<u8> {
    let mut bytes = 7_u64.to_ne_bytes().to_vec();
    let object_len = u32::try_from(object_len).unwrap();
    for number in [100, 101, kind, access, 0, object_len] {
        bytes.extend(number.to_ne_bytes());
    }
    let mut words = [0; OBJECT_WORDS];
    words[..5].copy_from_slice(&object);
    bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    bytes
}

/// Owner, mode, deadline.
fn head() -> Vec<u8> {
    [&1000_u32.to_ne_bytes()[..], &0o100_644_u32.to_ne_bytes(), &9_u64.to_ne_bytes()].concat()
}

fn padded(bytes: &[u8], to: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(to, 0);
    bytes
}

fn path(path: &[u8], name: &[u8], components: &[u8]) -> Vec<u8> {
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_ne_bytes();
    let text = if components.is_empty() { path } else { components };
    let path_len = (path.len() as i64).to_ne_bytes();
    let lengths = [&path_len[..], &len(name), &len(components)].concat();
    [head(), lengths, padded(text, PATH_BYTES), padded(name, NAME_BYTES)].concat()
}

fn path_error(errno: i64) -> Vec<u8> {
    let mut body = path(b"", b"", b"");
    body[16..24].copy_from_slice(&errno.to_ne_bytes());
    body
}

fn exec(content_kind: u32) -> Vec<u8> {
    let (path, argv) = (&b"/usr/bin/env\0"[..], &b"env\0\0X=1\0"[..]);
    let mut body = head();
    body.extend((path.len() as i64).to_ne_bytes());
    for number in [3, u32::try_from(argv.len()).unwrap(), 0, 1, content_kind, 0] {
        body.extend(number.to_ne_bytes());
    }
    let content = padded(&[0xab; CONTENT_BYTES], CONTENT_BYTES);
    [body, content, padded(path, PATH_BYTES), padded(argv, ARGV_BYTES + ARG_BYTES)].concat()
}

fn pair() -> Vec<u8> {
    let (other, name) = (&b"c\0\0"[..], &b"new\0"[..]);
    let mut body = path(b"", b"old\0", b"b\0a\0\0");
    for bytes in [other, name] {
        body.extend(u32::try_from(bytes.len()).unwrap().to_ne_bytes());
    }
    [body, padded(other, PATH_BYTES), padded(name, NAME_BYTES)].concat()
}
