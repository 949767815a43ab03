//! Decoding of ring buffer records: bytes in, typed views out, nothing trusted.
//!
//! The bytes come from our own programs, but a decoder that believes lengths is how a corrupt pin or a
//! version mix-up becomes a memory error. Every length is checked against the record; every failure
//! names the field.

use crate::{
    event::{
        ARG_BYTES, ARGV_BYTES, COMM_BYTES, CONTENT_BYTES, CONTENT_SHA256, CONTENT_UNKNOWN,
        EVENT_BLOCKED, EVENT_CONSUMED, EVENT_EXECUTED, EVENT_EXIT, EVENT_EXPIRED, EVENT_FORK,
        EVENT_HELD, EVENT_REFUSED, EVENT_SELECTED, EVENT_TAMPER, ExecBody, FileBody, ForkBody,
        Header, NAME_BYTES, OutcomeBody, PATH_BYTES, PairBody, PlainBody, SelectedBody,
    },
    guardian::{TAMPER_NAME_BYTES, TamperBody},
    hold::{
        ActionKey, FILE_OBJECT_BYTES, FileObject, KIND_BIND, KIND_CONNECT, KIND_EXEC, KIND_LINK,
        KIND_LISTEN, KIND_MAP, KIND_METADATA, KIND_OPEN, KIND_PTRACE, KIND_RECEIVE, KIND_RENAME,
        KIND_SEND, KIND_SIGNAL, KIND_SOCKET, KIND_SYMLINK, KIND_SYSTEM_LAST, KIND_UNLINK,
        KIND_USER_NAMESPACE, KIND_XATTR, OBJECT_BYTES, OBJECT_WORDS, TASK_OBJECT_BYTES, TaskObject,
    },
};

/// Why a record is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than the named part needs.
    Short {
        /// The part.
        part: &'static str,
        /// Bytes that it needs.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// A length or tag that no program of this ABI writes.
    Invalid {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Short { part, need, have } => {
                write!(f, "ring buffer record: {part} needs {need} bytes, {have} are there")
            }
            Self::Invalid { field, value } => {
                write!(f, "ring buffer record: {field} has the impossible value {value}")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// A decoded record; variable parts borrow from the ring buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Common part.
    pub header: Header,
    /// What happened.
    pub body: Body<'a>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A hold was placed.
    Held(Held<'a>),
    /// An action that cannot be held was denied at once; the header says why.
    Blocked(Held<'a>),
    /// A grant was consumed, a hold expired, or an action was refused without one.
    Outcome(Outcome),
    /// A labelled task made a child.
    Fork(ForkBody),
    /// A labelled task is exiting.
    Exit,
    /// A labelled task runs a new image.
    Executed,
    /// An exec selector started a session.
    Selected(SelectedBody),
    /// Somebody reached for what Guard is made of, and was refused.
    Tamper {
        /// `TAMPER_*`.
        what: u32,
        /// Of what; of a long name the beginning.
        name: Option<&'a [u8]>,
    },
}

/// An action that was held or blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<'a> {
    /// The action.
    pub key: ActionKey,
    /// `CLOCK_BOOTTIME` deadline, ns; 0 if it is not held.
    pub deadline_ns: u64,
    /// The object in words that people read.
    pub object: HeldObject<'a>,
}

/// The object of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldObject<'a> {
    /// A program.
    Exec {
        /// Path, or the errno of `bpf_d_path`.
        path: Result<&'a [u8], i32>,
        /// NUL-terminated arguments.
        argv: &'a [u8],
        /// Arguments in `argv`.
        argc: u32,
        /// `ARGV_*`.
        argv_flags: u32,
        /// Bits of `ENVIRONMENT_NAMES`.
        environment: u32,
        /// SHA-256 of the content, if it was hashed.
        content: Option<&'a [u8; CONTENT_BYTES]>,
        /// Owner of the file.
        owner_uid: u32,
        /// `i_mode`.
        mode: u32,
    },
    /// A file, or something of the kernel that may have one.
    File(HeldFile<'a>),
    /// Two names.
    Pair {
        /// The file.
        file: HeldFile<'a>,
        /// Components of the new name's directory, or a symbolic link's target.
        other: Option<&'a [u8]>,
        /// The new name.
        other_name: Option<&'a [u8]>,
    },
    /// It is in the key.
    Plain {
        /// `sock.sk_family`, or 0.
        family: u32,
    },
}

/// A file of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldFile<'a> {
    /// Path, or the errno of `bpf_d_path`; of the directory for what is made.
    pub path: Result<&'a [u8], i32>,
    /// The last component, or a text that the kind explains.
    pub name: Option<&'a [u8]>,
    /// Components from the innermost directory outwards, where no `bpf_d_path` was possible.
    pub components: Option<&'a [u8]>,
    /// Owner of the file (of the directory for what is made).
    pub owner_uid: u32,
    /// `i_mode` of the same.
    pub mode: u32,
}

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `EVENT_CONSUMED`, `EVENT_EXPIRED` or `EVENT_REFUSED`.
    pub event: u32,
    /// The action.
    pub key: ActionKey,
    /// `VERDICT_*`.
    pub verdict: u32,
    /// `REASON_*`.
    pub reason: u32,
}

/// A bounds-checked reader of native-endian integers.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    part: &'static str,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let end = self.at.saturating_add(len);
        let slice = self.bytes.get(self.at..end).ok_or(DecodeError::Short {
            part: self.part,
            need: end,
            have: self.bytes.len(),
        })?;
        self.at = end;
        Ok(slice)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_ne_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_ne_bytes(self.array()?))
    }
}

/// Decodes one record.
///
/// # Errors
/// [`DecodeError`] names the part or field; the record must then be counted as lost, never guessed at.
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, DecodeError> {
    let mut reader = Reader { bytes, at: 0, part: "header" };
    let header = header(&mut reader)?;
    let len = header.len as usize;
    if len < size_of::<Header>() || len > bytes.len() {
        return Err(DecodeError::Invalid { field: "len", value: header.len.into() });
    }
    let body = match header.event {
        EVENT_HELD => Body::Held(held(&mut reader)?),
        EVENT_BLOCKED => Body::Blocked(held(&mut reader)?),
        EVENT_CONSUMED | EVENT_EXPIRED | EVENT_REFUSED => {
            reader.part = "outcome";
            let key = key(&mut reader)?;
            let (verdict, reason) = (reader.u32()?, reader.u32()?);
            Body::Outcome(Outcome { event: header.event, key, verdict, reason })
        }
        EVENT_FORK => {
            reader.part = "fork";
            Body::Fork(ForkBody {
                child_start_boottime_ns: reader.u64()?,
                child_tgid: reader.u32()?,
                child_tid: reader.u32()?,
            })
        }
        EVENT_EXIT => Body::Exit,
        EVENT_EXECUTED => Body::Executed,
        EVENT_SELECTED => {
            reader.part = "selected";
            Body::Selected(SelectedBody { selector: reader.u64()? })
        }
        EVENT_TAMPER => {
            reader.part = "tampering";
            let (what, len) = (reader.u32()?, reader.u32()?);
            let name = optional(reader.take(TAMPER_NAME_BYTES)?, len, "tamper_name_len")?;
            Body::Tamper { what, name }
        }
        other => return Err(DecodeError::Invalid { field: "event", value: other.into() }),
    };
    Ok(Record { header, body })
}

fn header(reader: &mut Reader<'_>) -> Result<Header, DecodeError> {
    Ok(Header {
        event: reader.u32()?,
        len: reader.u32()?,
        sequence: reader.u64()?,
        time_ns: reader.u64()?,
        session: reader.u64()?,
        hold_id: reader.u64()?,
        start_boottime_ns: reader.u64()?,
        cgroup_id: reader.u64()?,
        tgid: reader.u32()?,
        tid: reader.u32()?,
        ppid: reader.u32()?,
        uid: reader.u32()?,
        gid: reader.u32()?,
        syscall: reader.u32()?,
        reason: reader.u32()?,
        _pad: reader.u32()?,
        comm: reader.array::<COMM_BYTES>()?,
    })
}

fn key(reader: &mut Reader<'_>) -> Result<ActionKey, DecodeError> {
    let mut key = ActionKey {
        start_boottime_ns: reader.u64()?,
        tgid: reader.u32()?,
        tid: reader.u32()?,
        kind: reader.u32()?,
        access: reader.u32()?,
        flags: reader.u32()?,
        object_len: reader.u32()?,
        object: [0; OBJECT_WORDS],
    };
    for word in &mut key.object {
        *word = reader.u64()?;
    }
    if key.object_len as usize > OBJECT_BYTES {
        return Err(DecodeError::Invalid { field: "object_len", value: key.object_len.into() });
    }
    Ok(key)
}

/// A string whose length includes its NUL, as `bpf_d_path` and `bpf_probe_read_*_str` return it.
fn string<'a>(bytes: &'a [u8], len: u64, field: &'static str) -> Result<&'a [u8], DecodeError> {
    let invalid = DecodeError::Invalid { field, value: len };
    let len = usize::try_from(len).map_err(|_| invalid)?;
    match bytes.get(..len) {
        Some([text @ .., 0]) => Ok(text),
        _ => Err(invalid),
    }
}

fn path(bytes: &[u8], len: u64) -> Result<Result<&[u8], i32>, DecodeError> {
    let signed = len.cast_signed();
    if signed <= 0 {
        // An empty result is as useless as an error: neither names an object.
        return Ok(Err(i32::try_from(signed).unwrap_or(i32::MIN)));
    }
    string(bytes, len, "path_len").map(Ok)
}

fn held<'a>(reader: &mut Reader<'a>) -> Result<Held<'a>, DecodeError> {
    reader.part = "held action";
    let key = key(reader)?;
    let (deadline_ns, object) = match key.kind {
        KIND_EXEC => exec(reader)?,
        KIND_LINK | KIND_RENAME | KIND_SYMLINK => {
            let (deadline_ns, file) = file(reader)?;
            reader.part = "second name";
            let (other_len, name_len) = (reader.u32()?, reader.u32()?);
            let (bytes, names) = (reader.take(PATH_BYTES)?, reader.take(NAME_BYTES)?);
            let other = optional(bytes, other_len, "other_len")?;
            let other_name = optional(names, name_len, "other_name_len")?;
            (deadline_ns, HeldObject::Pair { file, other, other_name })
        }
        KIND_OPEN
        | KIND_MAP
        | KIND_RECEIVE
        | KIND_UNLINK..=KIND_XATTR
        | KIND_USER_NAMESPACE..=KIND_SYSTEM_LAST => {
            let (deadline_ns, file) = file(reader)?;
            (deadline_ns, HeldObject::File(file))
        }
        KIND_CONNECT | KIND_SOCKET | KIND_BIND | KIND_LISTEN | KIND_SEND | KIND_PTRACE
        | KIND_SIGNAL => {
            reader.part = "socket or task";
            let (deadline_ns, family) = (reader.u64()?, reader.u32()?);
            (deadline_ns, HeldObject::Plain { family })
        }
        other => return Err(DecodeError::Invalid { field: "kind", value: other.into() }),
    };
    Ok(Held { key, deadline_ns, object })
}

fn exec<'a>(reader: &mut Reader<'a>) -> Result<(u64, HeldObject<'a>), DecodeError> {
    reader.part = "exec";
    let (owner_uid, mode) = (reader.u32()?, reader.u32()?);
    let (deadline_ns, path_len) = (reader.u64()?, reader.u64()?);
    let (argc, argv_len, argv_flags, environment) =
        (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
    let (content_kind, _pad) = (reader.u32()?, reader.u32()?);
    let content = reader.take(CONTENT_BYTES)?.first_chunk();
    let content = match content_kind {
        CONTENT_UNKNOWN => None,
        CONTENT_SHA256 => content,
        other => {
            return Err(DecodeError::Invalid { field: "content_kind", value: other.into() });
        }
    };
    let path = path(reader.take(PATH_BYTES)?, path_len)?;
    let argv = reader
        .take(ARGV_BYTES + ARG_BYTES)?
        .get(..argv_len as usize)
        .ok_or(DecodeError::Invalid { field: "argv_len", value: argv_len.into() })?;
    let object =
        HeldObject::Exec { path, argv, argc, argv_flags, environment, content, owner_uid, mode };
    Ok((deadline_ns, object))
}

fn file<'a>(reader: &mut Reader<'a>) -> Result<(u64, HeldFile<'a>), DecodeError> {
    reader.part = "file";
    let (owner_uid, mode) = (reader.u32()?, reader.u32()?);
    let (deadline_ns, path_len) = (reader.u64()?, reader.u64()?);
    let (name_len, components_len) = (reader.u32()?, reader.u32()?);
    let bytes = reader.take(PATH_BYTES)?;
    let name = optional(reader.take(NAME_BYTES)?, name_len, "name_len")?;
    let (path, components) = match components_len {
        0 => (path(bytes, path_len)?, None),
        len => (Err(0), Some(string(bytes, len.into(), "components_len")?)),
    };
    Ok((deadline_ns, HeldFile { path, name, components, owner_uid, mode }))
}

fn optional<'a>(
    bytes: &'a [u8],
    len: u32,
    field: &'static str,
) -> Result<Option<&'a [u8]>, DecodeError> {
    if len == 0 { Ok(None) } else { string(bytes, len.into(), field).map(Some) }
}

impl ActionKey {
    /// The object's bytes as the kernel holds them, `object_len` of them.
    #[must_use]
    pub fn object_bytes(&self) -> ([u8; OBJECT_BYTES], usize) {
        let mut bytes = [0; OBJECT_BYTES];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.object) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        (bytes, (self.object_len as usize).min(OBJECT_BYTES))
    }

    /// The file that the object is, if it is one.
    #[must_use]
    pub fn file(&self) -> Option<FileObject> {
        let [dev, ino, generation, low, high, ..] = self.object;
        let is_file = matches!(self.kind, KIND_EXEC | KIND_OPEN | KIND_MAP | KIND_RECEIVE)
            || (KIND_UNLINK..=KIND_XATTR).contains(&self.kind)
            || (KIND_USER_NAMESPACE..=KIND_SYSTEM_LAST).contains(&self.kind)
                && self.kind != KIND_METADATA;
        (is_file && self.object_len as usize >= FILE_OBJECT_BYTES).then_some(FileObject {
            dev,
            ino,
            generation,
            hash: [low, high],
        })
    }

    /// The task that the object is, if it is one.
    #[must_use]
    pub fn task(&self) -> Option<TaskObject> {
        let [start_boottime_ns, tgid, uid, session, low, high, ..] = self.object;
        (matches!(self.kind, KIND_PTRACE | KIND_SIGNAL)
            && self.object_len as usize == TASK_OBJECT_BYTES)
            .then_some(TaskObject { start_boottime_ns, tgid, uid, session, comm: [low, high] })
    }
}

const _: () = {
    // `decode` reads field by field: these sizes are what it walks.
    assert!(size_of::<PlainBody>() >= size_of::<ActionKey>() + 12);
    assert!(
        size_of::<ExecBody>() == size_of::<ActionKey>() + 80 + PATH_BYTES + ARGV_BYTES + ARG_BYTES
    );
    assert!(size_of::<FileBody>() == size_of::<ActionKey>() + 32 + PATH_BYTES + NAME_BYTES);
    assert!(size_of::<PairBody>() == size_of::<FileBody>() + 8 + PATH_BYTES + NAME_BYTES);
    assert!(size_of::<OutcomeBody>() == size_of::<ActionKey>() + 8);
    assert!(size_of::<TamperBody>() == 8 + TAMPER_NAME_BYTES);
};

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    const HEADER: usize = size_of::<Header>();

    fn header_bytes(event: u32, len: u32) -> Vec<u8> {
        let mut bytes = vec![0; size_of::<Header>()];
        bytes[..4].copy_from_slice(&event.to_ne_bytes());
        bytes[4..8].copy_from_slice(&len.to_ne_bytes());
        bytes
    }

    /// A held exec of which everything else is zero.
    fn held_exec() -> Vec<u8> {
        let mut bytes = header_bytes(EVENT_HELD, HEADER as u32);
        bytes.resize(HEADER + size_of::<ExecBody>(), 0);
        let len = u32::try_from(bytes.len()).unwrap();
        bytes[4..8].copy_from_slice(&len.to_ne_bytes());
        bytes[HEADER + 16..HEADER + 20].copy_from_slice(&KIND_EXEC.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_record_shorter_than_its_header_is_refused() {
        for len in 0..size_of::<Header>() {
            assert!(matches!(decode(&vec![0; len]), Err(DecodeError::Short { .. })));
        }
    }

    #[test]
    fn a_length_beyond_the_record_is_refused() {
        let bytes = header_bytes(EVENT_EXIT, HEADER as u32 + 1);
        assert_eq!(
            decode(&bytes),
            Err(DecodeError::Invalid { field: "len", value: HEADER as u64 + 1 })
        );
        assert!(decode(&header_bytes(EVENT_EXIT, HEADER as u32)).is_ok());
    }

    #[test]
    fn an_unknown_event_is_refused() {
        let bytes = header_bytes(77, HEADER as u32);
        assert_eq!(decode(&bytes), Err(DecodeError::Invalid { field: "event", value: 77 }));
    }

    #[test]
    fn an_argv_length_beyond_its_buffer_is_refused() {
        let mut bytes = held_exec();
        assert!(decode(&bytes).is_ok());
        let bad = u32::try_from(ARGV_BYTES + ARG_BYTES + 1).unwrap();
        bytes[HEADER + 188..HEADER + 192].copy_from_slice(&bad.to_ne_bytes());
        let expected = DecodeError::Invalid { field: "argv_len", value: bad.into() };
        assert_eq!(decode(&bytes), Err(expected));
    }

    #[test]
    fn content_of_a_kind_that_is_none_is_refused_and_unknown_content_is_never_zeros() {
        let mut bytes = held_exec();
        bytes[HEADER + 208..HEADER + 240].fill(7);
        for (kind, expected) in [(CONTENT_UNKNOWN, None), (CONTENT_SHA256, Some(&[7; 32]))] {
            bytes[HEADER + 200..HEADER + 204].copy_from_slice(&kind.to_ne_bytes());
            let Ok(Record { body: Body::Held(held), .. }) = decode(&bytes) else {
                panic!("{kind}")
            };
            let HeldObject::Exec { content, .. } = held.object else { panic!("{kind}") };
            assert_eq!(content, expected);
        }
        bytes[HEADER + 200..HEADER + 204].copy_from_slice(&2u32.to_ne_bytes());
        let expected = DecodeError::Invalid { field: "content_kind", value: 2 };
        assert_eq!(decode(&bytes), Err(expected));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..12_000)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn no_body_makes_the_decoder_panic(
            event in 0u32..11,
            kind in prop_oneof![0u32..7, 0x100u32..0x10c, 0x200u32..0x205, 0x300u32..0x303, 0x400u32..0x40e],
            body in proptest::collection::vec(any::<u8>(), 400..600),
        ) {
            let mut bytes = header_bytes(event, HEADER as u32);
            bytes.extend_from_slice(&body);
            bytes.resize(HEADER + size_of::<ExecBody>().max(size_of::<PairBody>()), 0);
            bytes[HEADER + 16..HEADER + 20].copy_from_slice(&kind.to_ne_bytes());
            let len = u32::try_from(bytes.len()).unwrap();
            bytes[4..8].copy_from_slice(&len.to_ne_bytes());
            let _ = decode(&bytes);
        }
    }
}
