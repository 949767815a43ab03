//! Verifying a log's directory, whole: every byte that the checkpoint vouches for.

use super::{
    Checkpoint, CosignerKey, Hash, HostReport, LogError, Proof, Storage, TILE_WIDTH, Trusted,
    VerifierKey,
    files::{CHECKPOINT, COSIGNED, KEYS, list, read, require},
    handover, journal, payload,
    read::{bundle, split_bundle},
    tree::{Edge, NewTile, bundle_name, tile_name},
    walk::{Facts, Lines, Walk},
};
use guard_model::HostId;
use serde::Serialize;
use std::{collections::BTreeMap, sync::mpsc};

/// What a verification found. Only if `problems` is empty is anything proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Which log, as its checkpoint says.
    pub origin: String,
    /// Entries of the log, as its checkpoint says.
    pub size: u64,
    /// Root hash of its tree, hexadecimal.
    pub root: String,
    /// Position of the first entry that was looked at.
    pub from: u64,
    /// Entries that were looked at.
    pub entries: u64,
    /// Of these, with an erased payload.
    pub erased: u64,
    /// Log time of the first, ms since 1970.
    pub first_unix_ms: Option<u64>,
    /// Log time of the last, ms since 1970.
    pub last_unix_ms: Option<u64>,
    /// Witnesses that cosigned: name → (entries that they saw, s since 1970).
    pub witnesses: BTreeMap<String, (u64, u64)>,
    /// Who observed what.
    pub hosts: BTreeMap<HostId, HostReport>,
    /// What is not as it must be: nothing is proven.
    pub problems: Lines,
    /// What somebody should look at: losses, silences, restarts, clocks.
    pub findings: Lines,
}

impl Report {
    /// Whether everything holds.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Adds a problem that somebody else has found.
    pub fn refute(&mut self, problem: String) {
        self.problems.push(problem);
    }

    pub(super) fn of(checkpoint: &Checkpoint) -> Self {
        Self {
            origin: checkpoint.origin.clone(),
            size: checkpoint.head.size,
            root: hex::encode(checkpoint.head.root),
            ..Self::default()
        }
    }

    pub(super) fn take(&mut self, mut walk: Walk) {
        self.hosts = walk.finish();
        self.entries = walk.entries;
        self.erased = walk.erased;
        self.first_unix_ms = walk.first_time;
        self.last_unix_ms = walk.first_time.map(|_| walk.last_time);
        self.problems.absorb(walk.problems);
        self.findings.absorb(walk.findings);
    }

    fn note(&mut self, error: &LogError) {
        let mut text = match error {
            // Not with the advice to do what is being done.
            LogError::Damaged { name, problem } => {
                format!("{name}: {problem}; restore it from a copy")
            }
            _ => error.to_string(),
        };
        let mut cause = std::error::Error::source(error);
        while let Some(deeper) = cause {
            text = format!("{text}: {deeper}");
            cause = deeper.source();
        }
        self.problems.push(text);
    }
}

/// Verifies a log: its checkpoint by one of `keys` (or a later key that one of them handed over
/// to), every leaf, tile and payload, and what the entries say of completeness. Reads only; a log
/// that is written to meanwhile is verified as of its checkpoint.
#[must_use]
pub fn verify<S: Storage + ?Sized>(
    storage: &S,
    keys: &[VerifierKey],
    witnesses: &[CosignerKey],
) -> Report {
    let mut report = Report::default();
    if let Err(error) = verify_into(storage, keys, witnesses, &mut report) {
        report.note(&error);
    }
    report
}

/// Verifies a proof of one entry (C2SP tlog-proof) that has the entry's leaf as extra data, offline.
/// One of `keys` itself must have signed its checkpoint: a proof has no handovers.
#[must_use]
pub fn verify_proof(text: &str, keys: &[VerifierKey], witnesses: &[CosignerKey]) -> Report {
    let mut report = Report::default();
    match Proof::parse(text) {
        Ok(proof) => proof_into(&proof, keys, witnesses, &mut report),
        Err(problem) => report.problems.push(format!("the proof: {problem}")),
    }
    report
}

fn proof_into(proof: &Proof, keys: &[VerifierKey], witnesses: &[CosignerKey], report: &mut Report) {
    *report = Report { from: proof.index, ..Report::of(&proof.checkpoint) };
    if let Err(problem) = Trusted::new(keys).verify(&proof.checkpoint) {
        report.problems.push(format!("its checkpoint: {problem}"));
    }
    match &proof.extra {
        None => report.problems.push("it has no leaf as extra data: what does it prove?"),
        Some(leaf) => {
            let mut walk = Walk::new(false, &proof.checkpoint.origin);
            if let Err(problem) = proof.verify(leaf) {
                report.problems.push(problem);
            }
            walk.leaf(proof.index, leaf);
            report.take(walk);
        }
    }
    for key in witnesses {
        match key.verify(&proof.checkpoint) {
            Ok(time) => {
                report.witnesses.insert(key.name().to_owned(), (proof.checkpoint.head.size, time));
            }
            Err(problem) => report.findings.push(problem),
        }
    }
}

/// The keys that ever signed the log in `storage`, as it says itself, oldest first.
///
/// # Errors
/// There is no list, or it has something else.
pub fn own_keys<S: Storage + ?Sized>(storage: &S) -> Result<Vec<VerifierKey>, LogError> {
    let bytes = require(storage, KEYS)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| LogError::damaged(KEYS, e.to_string()))?;
    let key = |line| VerifierKey::parse(line).map_err(|e| LogError::damaged(KEYS, e.to_string()));
    text.lines().map(key).collect()
}

fn verify_into<S: Storage + ?Sized>(
    storage: &S,
    keys: &[VerifierKey],
    witnesses: &[CosignerKey],
    report: &mut Report,
) -> Result<(), LogError> {
    let checkpoint = super::checkpoint(storage)?;
    *report = Report::of(&checkpoint);
    let trusted = handover::follow(storage, checkpoint.head.size, keys)?;
    if let Err(problem) = trusted.verify(&checkpoint) {
        report.problems.push(format!("{CHECKPOINT}: {problem}"));
    }
    if let Err(error) = own_keys(storage) {
        report.note(&error);
    }
    let mut walk = Walk::new(true, &checkpoint.origin);
    let tree = entries(storage, checkpoint.head.size, &mut walk, report);
    report.take(walk);
    let edge = tree?;
    if edge.root() != checkpoint.head.root {
        let problem = "its root hash is not that of the entries";
        report.problems.push(format!("{CHECKPOINT}: {problem}"));
    }
    right_edge(storage, &edge, report)?;
    cosigned(storage, &edge, &trusted, witnesses, report)?;
    journals(storage, report)
}

/// Tiles that a reader is ahead of the walk, at most: some megabytes each.
const AHEAD: usize = 4;

/// Every bundle with its tile and payloads; the tree that they make. Reading, hashing and parsing
/// takes every processor; what needs the order is done here.
fn entries<S: Storage + ?Sized>(
    storage: &S,
    size: u64,
    walk: &mut Walk,
    report: &mut Report,
) -> Result<Edge, LogError> {
    let tiles = size.div_ceil(TILE_WIDTH);
    let readers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let readers = readers.min(usize::try_from(tiles).unwrap_or(usize::MAX)).max(1);
    std::thread::scope(|scope| {
        let read = |reader: usize| {
            let (send, receive) = mpsc::sync_channel(AHEAD);
            scope.spawn(move || {
                for number in (reader as u64..tiles).step_by(readers) {
                    // Nobody listens once a tile could not be read.
                    if send.send(read_tile(storage, number, size)).is_err() {
                        return;
                    }
                }
            });
            receive
        };
        let read: Vec<_> = (0..readers).map(read).collect();
        let mut edge = Edge::default();
        let mut full = Vec::new();
        // In turn, as they were dealt out.
        for (number, read) in (0..tiles).zip(read.iter().cycle()) {
            // A reader that panicked makes this scope panic.
            let tile = read.recv().map_err(|_| LogError::Broken)??;
            for ((facts, known), index) in tile.entries.into_iter().zip(number * TILE_WIDTH..) {
                let (hash, _) = walk.facts(index, facts);
                if hash != known {
                    let name = &tile.name;
                    let problem = format!("{name}: entry {index} is not what its tile has");
                    report.problems.push(problem);
                }
                edge.push(hash, &mut full);
            }
            if let Some(error) = tile.error {
                return Err(error);
            }
            for tile in full.drain(..) {
                same(storage, &tile, report)?;
            }
            report.problems.absorb(tile.problems);
        }
        Ok(edge)
    })
}

/// A bundle, its tile and its payloads.
struct ReadTile {
    name: String,
    /// With what the tile has of each.
    entries: Vec<(Facts, Hash)>,
    problems: Lines,
    /// Why there are no more entries.
    error: Option<LogError>,
}

fn read_tile<S: Storage + ?Sized>(
    storage: &S,
    number: u64,
    size: u64,
) -> Result<ReadTile, LogError> {
    let width = TILE_WIDTH.min(size - number * TILE_WIDTH);
    let (name, bytes) = bundle(storage, number, width)?;
    let leaves = split_bundle(&name, number, &bytes)?;
    let payload_name = payload::file_name(number);
    let payloads = require(storage, &payload_name)?;
    let mut rest = &payloads[..];
    if (leaves.len() as u64) < width {
        let problem = format!("{} entries instead of {width}", leaves.len());
        return Err(LogError::damaged(name, problem));
    }
    let known = super::read::tile(storage, 0, number, width)?;
    let mut tile = ReadTile { name, entries: Vec::new(), problems: Lines::default(), error: None };
    for ((at, leaf), known) in (0..width).zip(leaves).zip(known) {
        match payload::decode(&mut rest) {
            Ok(payload) => tile.entries.push((Facts::of(leaf, payload), known)),
            Err(problem) => {
                let index = number * TILE_WIDTH + at;
                let problem = format!("payload of entry {index}: {problem}");
                tile.error = Some(LogError::damaged(&payload_name, problem));
                return Ok(tile);
            }
        }
    }
    if width == TILE_WIDTH && !rest.is_empty() {
        tile.problems.push(format!("{payload_name}: {} bytes too many", rest.len()));
    }
    Ok(tile)
}

fn same<S: Storage + ?Sized>(
    storage: &S,
    tile: &NewTile,
    report: &mut Report,
) -> Result<(), LogError> {
    let width = tile.hashes.len() as u64;
    let stored = super::read::tile(storage, tile.level, tile.number, width)?;
    if let Some(at) = stored.iter().zip(&tile.hashes).position(|(a, b)| a != b) {
        let name = tile.name();
        report.problems.push(format!("{name}: hash {at} is not that of the entries below it"));
    }
    Ok(())
}

/// The incomplete tiles, and what is left of narrower ones.
fn right_edge<S: Storage + ?Sized>(
    storage: &S,
    edge: &Edge,
    report: &mut Report,
) -> Result<(), LogError> {
    for tile in edge.partial(0) {
        same(storage, &tile, report)?;
        let dir = format!("{}.p", tile_name(tile.level, tile.number, TILE_WIDTH));
        for (name, bytes) in narrower(storage, &dir, tile.hashes.len())? {
            if !tile.hashes.as_flattened().starts_with(&bytes) {
                report.problems.push(format!("{name}: not the beginning of its tile"));
            }
        }
        if tile.level == 0 {
            let (_, whole) = bundle(storage, tile.number, tile.hashes.len() as u64)?;
            let dir = format!("{}.p", bundle_name(tile.number, TILE_WIDTH));
            for (name, bytes) in narrower(storage, &dir, tile.hashes.len())? {
                if !whole.starts_with(&bytes) {
                    report.problems.push(format!("{name}: not the beginning of its bundle"));
                }
            }
        }
    }
    Ok(())
}

fn narrower<S: Storage + ?Sized>(
    storage: &S,
    dir: &str,
    width: usize,
) -> Result<Vec<(String, Vec<u8>)>, LogError> {
    let listed = list(storage, dir)?;
    let mut files = Vec::new();
    for name in listed {
        if name.parse::<usize>().is_ok_and(|w| w < width) {
            let path = format!("{dir}/{name}");
            // It may have gone meanwhile.
            if let Some(bytes) = read(storage, &path)? {
                files.push((path, bytes));
            }
        }
    }
    Ok(files)
}

/// The checkpoint that witnesses have signed, if there is one.
fn cosigned<S: Storage + ?Sized>(
    storage: &S,
    edge: &Edge,
    keys: &Trusted,
    witnesses: &[CosignerKey],
    report: &mut Report,
) -> Result<(), LogError> {
    let Some(seen) = super::cosigned(storage)? else { return Ok(()) };
    if let Err(problem) = keys.verify(&seen) {
        report.problems.push(format!("{COSIGNED}: {problem}"));
    }
    if seen.head.size > edge.size() {
        let (seen, size) = (seen.head.size, edge.size());
        report.problems.push(format!("{COSIGNED}: witnesses saw {seen} entries, {size} are left"));
        return Ok(());
    }
    let at_size = super::TileHashes::new(storage, edge.size()).head(seen.head.size)?;
    if at_size.root != seen.head.root {
        report.problems.push(format!("{COSIGNED}: witnesses saw another log"));
    }
    for key in witnesses {
        match key.verify(&seen) {
            Ok(time) => {
                report.witnesses.insert(key.name().to_owned(), (seen.head.size, time));
            }
            Err(problem) => report.findings.push(format!("{COSIGNED}: {problem}")),
        }
    }
    Ok(())
}

/// What is not yet durable elsewhere: a torn end is fine, but worth a word.
fn journals<S: Storage + ?Sized>(storage: &S, report: &mut Report) -> Result<(), LogError> {
    let dir = journal::DIR;
    let names = list(storage, dir)?;
    for name in names {
        let path = format!("{dir}/{name}");
        let Some(bytes) = read(storage, &path)? else { continue };
        match journal::scan(&bytes) {
            None => report.findings.push(format!("{path}: its header is not readable")),
            Some(scanned) => {
                if let Some((offset, problem)) = scanned.torn {
                    report.findings.push(format!("{path}, byte {offset}: {problem}"));
                }
            }
        }
    }
    Ok(())
}
