//! The journal: each commit whole, in one append, before anything else of it is written.
//!
//! A file is a sequence of frames `b"GJ01" | u32 BE length | u32 BE CRC-32 | body`. The first is
//! the header: size and root of the tree whose files are durable without this journal. Each other
//! frame is one commit. A journal has one writer for its whole life; a torn end is a commit that
//! was never acknowledged. After the last frame there may be zeros, written ahead.

use super::{
    ENTRY_BYTES_MAX, Head, PAYLOAD_BYTES_MAX,
    payload::{self, Payload},
};

/// Directory of the journals.
pub(super) const DIR: &str = "journal";

const MAGIC: &[u8; 4] = b"GJ01";
const FRAME_HEAD: usize = 12;

/// One commit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Commit {
    /// The tree before.
    pub(super) before: Head,
    /// The tree after.
    pub(super) after: Head,
    /// The signed checkpoint of the tree after.
    pub(super) checkpoint: Vec<u8>,
    /// Entries with their payloads; `None` once erased.
    pub(super) entries: Vec<(Vec<u8>, Option<Payload>)>,
}

/// What a journal has.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) base: Head,
    pub(super) commits: Vec<Commit>,
    /// Offset of the first byte that is no whole frame, and why; `None` at a clean end.
    pub(super) torn: Option<(usize, &'static str)>,
}

/// A name for a new journal; names sort by `size`. `writer` keeps two writers apart.
pub(super) fn file_name(size: u64, writer: u64) -> String {
    format!("{DIR}/{size:020}-{writer:016x}")
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_HEAD + body.len());
    out.extend(MAGIC);
    out.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(crc32fast::hash(body).to_be_bytes());
    out.extend(body);
    out
}

fn put_head(out: &mut Vec<u8>, head: Head) {
    out.extend(head.size.to_be_bytes());
    out.extend(head.root);
}

/// The first frame.
pub(super) fn header(base: Head) -> Vec<u8> {
    let mut body = Vec::new();
    put_head(&mut body, base);
    frame(&body)
}

impl Commit {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_head(&mut body, self.before);
        put_head(&mut body, self.after);
        body.extend(u32::try_from(self.checkpoint.len()).unwrap_or(u32::MAX).to_be_bytes());
        body.extend(&self.checkpoint);
        for (entry, payload) in &self.entries {
            body.extend(u16::try_from(entry.len()).unwrap_or(u16::MAX).to_be_bytes());
            body.extend(entry);
            payload::encode(payload.as_ref(), &mut body);
        }
        frame(&body)
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn head(&mut self) -> Option<Head> {
        Some(Head { size: u64::from_be_bytes(self.array()?), root: self.array::<32>()? })
    }
}

fn commit(body: &[u8]) -> Option<Commit> {
    let mut cursor = Cursor(body);
    let (before, after) = (cursor.head()?, cursor.head()?);
    let len = u32::from_be_bytes(cursor.array()?);
    let checkpoint = cursor.bytes(usize::try_from(len).ok()?)?.to_vec();
    let mut entries = Vec::new();
    while !cursor.0.is_empty() {
        let len = usize::from(u16::from_be_bytes(cursor.array()?));
        let entry = cursor.bytes(len)?.to_vec();
        let payload = payload::decode(&mut cursor.0).ok()?;
        entries.push((entry, payload.map(|(salt, json)| Payload { salt, json: json.to_vec() })));
    }
    (after.size.checked_sub(before.size)? == entries.len() as u64).then_some(Commit {
        before,
        after,
        checkpoint,
        entries,
    })
}

/// Reads a journal up to its end or the first thing that is no whole frame; `None` if even the
/// header is not.
pub(super) fn scan(bytes: &[u8]) -> Option<Scanned> {
    let mut offset = 0;
    let mut base = None;
    let mut commits = Vec::new();
    let torn = loop {
        let rest = &bytes[offset..];
        if rest.is_empty() {
            break None;
        }
        let body = match body(rest) {
            Ok(body) => body,
            // Zeros that were written ahead are no commit.
            Err(_) if rest.iter().all(|byte| *byte == 0) => break None,
            Err(problem) => break Some((offset, problem)),
        };
        if base.is_none() {
            let mut cursor = Cursor(body);
            base = Some(cursor.head().filter(|_| cursor.0.is_empty())?);
        } else if let Some(commit) = commit(body) {
            commits.push(commit);
        } else {
            break Some((offset, "the commit is malformed"));
        }
        offset += FRAME_HEAD + body.len();
    };
    Some(Scanned { base: base?, commits, torn })
}

fn body(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let mut cursor = Cursor(bytes);
    if cursor.array().ok_or("it ends inside a frame's head")? != *MAGIC {
        return Err("no frame begins here");
    }
    let len = u32::from_be_bytes(cursor.array().ok_or("it ends inside a frame's head")?);
    let crc = u32::from_be_bytes(cursor.array().ok_or("it ends inside a frame's head")?);
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > super::BATCH_MAX * (PAYLOAD_BYTES_MAX + ENTRY_BYTES_MAX) {
        return Err("the frame's length is out of range");
    }
    let body = cursor.bytes(len).ok_or("it ends inside a frame")?;
    if crc32fast::hash(body) != crc {
        return Err("the checksum of a frame differs");
    }
    Ok(body)
}
