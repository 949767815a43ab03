//! Reading the log's files, checked: entries with payloads, tiles, proofs.

use super::{
    Checkpoint, Envelope, Hash, Head, LogError, Storage, TILE_WIDTH,
    files::{CHECKPOINT, COSIGNED, read, replace, require},
    payload::{self, Payload},
    payload_hash,
    tree::{bundle_name, leaf_hash, tile_name},
};
use crate::{LogEntry, LogReadError, LogReader, Record};
use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tlog_tiles::{Error as TlogError, Hash as TlogHash, HashReader, Tile};

/// A tile's first `width` hashes, from the partial file of that width or the full one.
pub(super) fn tile<S: Storage + ?Sized>(
    storage: &S,
    level: u8,
    number: u64,
    width: u64,
) -> Result<Vec<Hash>, LogError> {
    if width == 0 {
        return Ok(Vec::new());
    }
    let mut name = tile_name(level, number, width);
    let mut bytes = read(storage, &name)?;
    if bytes.is_none() && width < TILE_WIDTH {
        let full = tile_name(level, number, TILE_WIDTH);
        if let Some(found) = read(storage, &full)? {
            (name, bytes) = (full, Some(found));
        }
    }
    let bytes = bytes.ok_or_else(|| LogError::Missing { name: name.clone() })?;
    let expected = if name.contains(".p/") { width } else { TILE_WIDTH };
    if bytes.len() as u64 != expected * 32 {
        let problem = format!("{} bytes instead of {}", bytes.len(), expected * 32);
        return Err(LogError::damaged(name, problem));
    }
    let (hashes, _) = bytes.as_chunks::<32>();
    Ok(hashes[..usize::try_from(width).unwrap_or(256)].to_vec())
}

/// A bundle with at least `width` entries, with its file's name.
pub(super) fn bundle<S: Storage + ?Sized>(
    storage: &S,
    number: u64,
    width: u64,
) -> Result<(String, Vec<u8>), LogError> {
    let name = bundle_name(number, width);
    if let Some(bytes) = read(storage, &name)? {
        return Ok((name, bytes));
    }
    let full = bundle_name(number, TILE_WIDTH);
    match read(storage, &full)? {
        Some(bytes) => Ok((full, bytes)),
        None => Err(LogError::Missing { name }),
    }
}

/// The entries of a bundle.
pub(super) fn split_bundle<'a>(
    name: &str,
    number: u64,
    bytes: &'a [u8],
) -> Result<Vec<&'a [u8]>, LogError> {
    let mut rest = bytes;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let index = number * TILE_WIDTH + entries.len() as u64;
        let cut = || LogError::damaged(name, format!("it ends inside entry {index}"));
        let (len, after) = rest.split_first_chunk().ok_or_else(cut)?;
        let len = usize::from(u16::from_be_bytes(*len));
        let (entry, after) = after.split_at_checked(len).ok_or_else(cut)?;
        entries.push(entry);
        rest = after;
    }
    Ok(entries)
}

/// A leaf with its bytes and, unless it is erased, its payload; checked against the payload's hash.
#[derive(Clone, Debug, PartialEq)]
pub struct RawEntry {
    /// Position.
    pub index: u64,
    /// The leaf's bytes.
    pub leaf: Vec<u8>,
    /// What they say.
    pub envelope: Envelope,
    /// Salt and JSON.
    pub payload: Option<Payload>,
}

impl RawEntry {
    /// The entry with its record.
    ///
    /// # Errors
    /// Its payload is not a record that this version knows.
    pub fn into_entry(self) -> Result<LogEntry, LogError> {
        let Self { index, leaf, payload, .. } = self;
        let parse = |payload: Payload| {
            serde_json::from_slice::<Record>(&payload.json).map_err(|error| {
                let problem = format!("payload of entry {index}: {error}");
                LogError::damaged(payload::file_name(index / TILE_WIDTH), problem)
            })
        };
        let record = payload.map(parse).transpose()?;
        Ok(LogEntry { index, leaf_hash: leaf_hash(&leaf), record })
    }
}

/// Reads a log's directory: what is committed, while it is written to or not.
pub struct DirReader<S> {
    storage: Arc<S>,
    size: Arc<AtomicU64>,
}

impl<S> Clone for DirReader<S> {
    fn clone(&self) -> Self {
        Self { storage: Arc::clone(&self.storage), size: Arc::clone(&self.size) }
    }
}

impl<S: Storage> DirReader<S> {
    /// Follows the writer that counts `size`.
    #[must_use]
    pub fn new(storage: Arc<S>, size: Arc<AtomicU64>) -> Self {
        Self { storage, size }
    }

    /// Up to `limit` entries of one bundle from `from` on, with their bytes.
    ///
    /// # Errors
    /// A file cannot be read, or is not what was written.
    pub fn read_raw(&self, from: u64, limit: usize) -> Result<Vec<RawEntry>, LogError> {
        read_page(&*self.storage, self.size.load(Ordering::Acquire), from, limit)
    }
}

fn read_page<S: Storage + ?Sized>(
    storage: &S,
    size: u64,
    from: u64,
    limit: usize,
) -> Result<Vec<RawEntry>, LogError> {
    if from >= size || limit == 0 {
        return Ok(Vec::new());
    }
    let number = from / TILE_WIDTH;
    let width = TILE_WIDTH.min(size - number * TILE_WIDTH);
    let (name, bytes) = bundle(storage, number, width)?;
    let leaves = split_bundle(&name, number, &bytes)?;
    let payload_name = payload::file_name(number);
    let payloads = require(storage, &payload_name)?;
    let mut rest = &payloads[..];
    let mut entries = Vec::new();
    for (at, leaf) in (0_u64..width).zip(leaves) {
        let index = number * TILE_WIDTH + at;
        let damaged = |name: &str, problem: String| LogError::damaged(name, problem);
        let payload = payload::decode(&mut rest)
            .map_err(|p| damaged(&payload_name, format!("payload of entry {index}: {p}")))?;
        if index < from {
            continue;
        }
        let envelope = Envelope::parse(leaf)
            .map_err(|error| damaged(&name, format!("entry {index}: {error}")))?;
        if payload.is_some_and(|(salt, json)| payload_hash(&salt, json) != envelope.payload) {
            let problem = format!("payload of entry {index}: it is not what was logged");
            return Err(damaged(&payload_name, problem));
        }
        let payload = payload.map(|(salt, json)| Payload { salt, json: json.to_vec() });
        entries.push(RawEntry { index, leaf: leaf.to_vec(), envelope, payload });
        if entries.len() == limit {
            break;
        }
    }
    Ok(entries)
}

/// The published checkpoint; its signatures are not looked at.
///
/// # Errors
/// There is none, or it is none.
pub fn checkpoint<S: Storage + ?Sized>(storage: &S) -> Result<Checkpoint, LogError> {
    let text = require(storage, CHECKPOINT)?;
    Checkpoint::parse(&text).map_err(|problem| LogError::damaged(CHECKPOINT, problem))
}

/// The last checkpoint that witnesses have cosigned, if there is one.
///
/// # Errors
/// It cannot be read.
pub fn cosigned<S: Storage + ?Sized>(storage: &S) -> Result<Option<Checkpoint>, LogError> {
    let text = read(storage, COSIGNED)?;
    let parse =
        |text: Vec<u8>| Checkpoint::parse(&text).map_err(|e| LogError::damaged(COSIGNED, e));
    text.map(parse).transpose()
}

/// Keeps a checkpoint that witnesses have cosigned, durably. It is a file of its own: the writer of
/// the log has no part in it.
///
/// # Errors
/// It cannot be written; the one before stays.
pub fn keep_cosigned<S: Storage + ?Sized>(
    storage: &S,
    checkpoint: &Checkpoint,
) -> Result<(), LogError> {
    replace(storage, COSIGNED, checkpoint.text().as_bytes())
}

/// Position of the first entry that was logged at `unix_ms` or later; the log's size if none was.
///
/// # Errors
/// An entry cannot be read.
pub fn first_since<S: Storage + ?Sized>(
    storage: &S,
    size: u64,
    unix_ms: u64,
) -> Result<u64, LogError> {
    // Log time never goes back.
    let (mut low, mut high) = (0, size);
    while low < high {
        let middle = low + (high - low) / 2;
        if raw_entry(storage, middle, size)?.envelope.time < unix_ms {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Entry `index` of a log of `size` entries.
///
/// # Errors
/// There is no such entry, or a file of it is missing or damaged.
pub fn raw_entry<S: Storage + ?Sized>(
    storage: &S,
    index: u64,
    size: u64,
) -> Result<RawEntry, LogError> {
    let page = read_page(storage, size, index, 1)?;
    page.into_iter().next().ok_or(LogError::NoEntry { index, size })
}

impl<S: Storage> LogReader for DirReader<S> {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn read(&self, from_index: u64, limit: usize) -> Result<Vec<LogEntry>, LogReadError> {
        let page = self.read_raw(from_index, limit);
        let entries = page.and_then(|raw| raw.into_iter().map(RawEntry::into_entry).collect());
        entries.map_err(|error| match error {
            LogError::File { name, doing, source } => {
                LogReadError::File { path: name, doing, source }
            }
            other => LogReadError::Damaged { index: from_index, problem: other.to_string() },
        })
    }
}

/// Hashes of the tree of one size, from its tiles: for proofs.
pub struct TileHashes<'a, S: ?Sized> {
    storage: &'a S,
    size: u64,
    cache: RefCell<HashMap<(u8, u64), Vec<Hash>>>,
    problem: RefCell<Option<LogError>>,
}

impl<'a, S: Storage + ?Sized> TileHashes<'a, S> {
    /// Of the tree of `size` entries.
    pub fn new(storage: &'a S, size: u64) -> Self {
        Self { storage, size, cache: RefCell::default(), problem: RefCell::default() }
    }

    /// The inclusion proof of an entry (RFC 6962, 2.1.1).
    ///
    /// # Errors
    /// There is no such entry, or a tile is missing.
    pub fn inclusion(&self, index: u64) -> Result<Vec<Hash>, LogError> {
        self.answer(tlog_tiles::prove_record(self.size, index, self))
    }

    /// The consistency proof from a smaller tree (RFC 6962, 2.1.2).
    ///
    /// # Errors
    /// It is not smaller, or a tile is missing.
    pub fn consistency(&self, from: u64) -> Result<Vec<Hash>, LogError> {
        if from == 0 || from == self.size {
            return Ok(Vec::new());
        }
        self.answer(tlog_tiles::prove_tree(self.size, from, self))
    }

    /// The tree that the tiles give for their first `size` entries.
    ///
    /// # Errors
    /// A tile is missing.
    pub fn head(&self, size: u64) -> Result<Head, LogError> {
        let root = tlog_tiles::tree_hash(size, self).map_err(|error| self.explain(&error))?;
        Ok(Head { size, root: root.0 })
    }

    /// The hash of the subtree of entries `[low, high)`, which must be one of RFC 6962's.
    ///
    /// # Errors
    /// A tile is missing.
    pub fn subtree(&self, low: u64, high: u64) -> Result<Hash, LogError> {
        if (high - low).is_power_of_two() {
            let level = u8::try_from((high - low).ilog2()).unwrap_or(u8::MAX);
            let at = tlog_tiles::stored_hash_index(level, low >> level);
            let found = self.read_hashes(&[at]).map_err(|error| self.explain(&error))?;
            return Ok(found.first().map(|hash| hash.0).unwrap_or_default());
        }
        let middle = low + (1 << (high - low).ilog2());
        Ok(super::tree::node(self.subtree(low, middle)?, self.subtree(middle, high)?))
    }

    fn answer(&self, proof: Result<Vec<TlogHash>, TlogError>) -> Result<Vec<Hash>, LogError> {
        let proof = proof.map_err(|error| self.explain(&error))?;
        Ok(proof.into_iter().map(|hash| hash.0).collect())
    }

    fn explain(&self, error: &TlogError) -> LogError {
        let problem = self.problem.borrow_mut().take();
        problem.unwrap_or_else(|| LogError::damaged("the tree", error.to_string()))
    }

    fn tile(&self, level: u8, number: u64) -> Result<Vec<Hash>, LogError> {
        if let Some(hashes) = self.cache.borrow().get(&(level, number)) {
            return Ok(hashes.clone());
        }
        let count = self.size >> (8 * u32::from(level));
        let width = TILE_WIDTH.min(count - number * TILE_WIDTH);
        let hashes = tile(self.storage, level, number, width)?;
        self.cache.borrow_mut().insert((level, number), hashes.clone());
        Ok(hashes)
    }
}

impl<S: Storage + ?Sized> HashReader for TileHashes<'_, S> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<TlogHash>, TlogError> {
        let mut hashes = Vec::with_capacity(indexes.len());
        for &index in indexes {
            let at = Tile::from_index(8, index);
            let found = self.tile(at.level(), at.level_index()).map_err(|error| {
                *self.problem.borrow_mut() = Some(error);
                TlogError::InconsistentTile
            })?;
            let width = u32::try_from(found.len()).unwrap_or(256);
            let whole = Tile::new(8, at.level(), at.level_index(), width, false);
            hashes.push(whole.hash_at_index(found.as_flattened(), index)?);
        }
        Ok(hashes)
    }
}
