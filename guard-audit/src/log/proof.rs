//! Proofs that stand alone: of one entry (C2SP tlog-proof), and of a range.

use super::{Checkpoint, Hash, LogError, Storage, TileHashes, leaf_hash, tree::node};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use tlog_tiles::Hash as TlogHash;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// Most hashes of a proof: a tree of 2^63 entries has no more.
const HASHES_MAX: usize = 63;

/// Proves that an entry is in the tree of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Opaque data that comes along; ours have the leaf here. Not authenticated by itself.
    pub extra: Option<Vec<u8>>,
    /// Position of the entry.
    pub index: u64,
    /// The inclusion proof (RFC 6962, 2.1.1).
    pub hashes: Vec<Hash>,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
}

impl Proof {
    /// Proves entry `index` of the log whose checkpoint is `checkpoint`.
    ///
    /// # Errors
    /// There is no such entry, or a tile is missing.
    pub fn make<S: Storage + ?Sized>(
        storage: &S,
        checkpoint: &Checkpoint,
        index: u64,
    ) -> Result<Self, LogError> {
        let size = checkpoint.head.size;
        if index >= size {
            return Err(LogError::NoEntry { index, size });
        }
        let hashes = TileHashes::new(storage, size).inclusion(index)?;
        Ok(Self { extra: None, index, hashes, checkpoint: checkpoint.clone() })
    }

    /// Proves entry `index`, with its leaf as extra data: by the last checkpoint that witnesses have
    /// cosigned, if that has the entry, or else by the newest.
    ///
    /// # Errors
    /// There is no such entry, or a file is missing or damaged.
    pub fn of_entry<S: Storage + ?Sized>(storage: &S, index: u64) -> Result<Self, LogError> {
        let newest = super::checkpoint(storage)?;
        let size = newest.head.size;
        let cosigned = super::read::cosigned(storage)?;
        let cosigned = cosigned.filter(|c| index < c.head.size && c.head.size <= size);
        let leaf = super::raw_entry(storage, index, size)?.leaf;
        let proof = Self::make(storage, &cosigned.unwrap_or(newest), index)?;
        Ok(Self { extra: Some(leaf), ..proof })
    }

    /// Its text (C2SP tlog-proof).
    #[must_use]
    pub fn to_text(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| base64(hash) + "\n").collect();
        let extra = self.extra.as_ref();
        let extra = extra.map(|data| format!("extra {}\n", BASE64_STANDARD.encode(data)));
        let extra = extra.unwrap_or_default();
        let (index, checkpoint) = (self.index, self.checkpoint.text());
        format!("{FIRST_LINE}\n{extra}index {index}\n{hashes}\n{checkpoint}")
    }

    /// Reads it; nothing is verified.
    ///
    /// # Errors
    /// What is not well-formed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or("no checkpoint")?;
        let mut lines = head.lines().peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(format!("does not begin with {FIRST_LINE}"));
        }
        let extra = lines.next_if(|line| line.starts_with("extra "));
        let extra = extra.map(|line| BASE64_STANDARD.decode(&line["extra ".len()..]));
        let extra = extra.transpose().map_err(|_| "its extra data is not base64")?;
        let index = lines.next().and_then(|line| line.strip_prefix("index "));
        let index = index.and_then(number).ok_or("no index")?;
        let hashes = lines.map(unbase64).collect::<Option<Vec<_>>>().ok_or("not a hash")?;
        if hashes.len() > HASHES_MAX {
            return Err("too many hashes".into());
        }
        let checkpoint = Checkpoint::parse(checkpoint.as_bytes())?;
        Ok(Self { extra, index, hashes, checkpoint })
    }

    /// Checks that `leaf` is the entry. Whether the checkpoint is to be believed is another matter.
    ///
    /// # Errors
    /// It is not.
    pub fn verify(&self, leaf: &[u8]) -> Result<(), String> {
        let head = self.checkpoint.head;
        check_inclusion(&self.hashes, head.size, head.root, self.index, leaf_hash(leaf))
    }
}

/// Checks an inclusion proof.
pub(super) fn check_inclusion(
    hashes: &[Hash],
    size: u64,
    root: Hash,
    index: u64,
    leaf: Hash,
) -> Result<(), String> {
    let proof = hashes.iter().copied().map(TlogHash).collect();
    tlog_tiles::check_record(&proof, size, TlogHash(root), index, TlogHash(leaf))
        .map_err(|_| format!("entry {index} is not in the tree of {size} entries"))
}

/// Checks that the tree of `old_size` entries is the beginning of that of `size` (RFC 6962, 2.1.2).
///
/// # Errors
/// It is not.
pub fn check_consistency(
    hashes: &[Hash],
    (old_size, old_root): (u64, Hash),
    (size, root): (u64, Hash),
) -> Result<(), String> {
    let differs = || format!("the tree of {size} entries does not begin with that of {old_size}");
    match old_size {
        0 => hashes.is_empty().then_some(()).ok_or_else(differs),
        same if same == size => {
            (hashes.is_empty() && root == old_root).then_some(()).ok_or_else(differs)
        }
        _ => {
            let proof = hashes.iter().copied().map(TlogHash).collect();
            tlog_tiles::check_tree(&proof, size, TlogHash(root), old_size, TlogHash(old_root))
                .map_err(|_| differs())
        }
    }
}

/// Where a tree of `n` leaves splits (RFC 6962, 2.1): the largest power of two below it.
fn split(n: u64) -> u64 {
    (n - 1).checked_ilog2().map_or(1, |bits| 1 << bits)
}

/// The hashes that complete the leaves of `[from, to)` to the root of the tree of `size`: from left
/// to right, the largest subtrees that have none of them.
///
/// # Errors
/// A tile is missing.
pub fn range_proof<S: Storage + ?Sized>(
    hashes: &TileHashes<'_, S>,
    size: u64,
    (from, to): (u64, u64),
) -> Result<Vec<Hash>, LogError> {
    fn walk<S: Storage + ?Sized>(
        hashes: &TileHashes<'_, S>,
        (low, high): (u64, u64),
        (from, to): (u64, u64),
        out: &mut Vec<Hash>,
    ) -> Result<(), LogError> {
        if high <= from || low >= to {
            out.push(hashes.subtree(low, high)?);
            return Ok(());
        }
        if high - low == 1 || (from <= low && high <= to) {
            return Ok(());
        }
        let middle = low + split(high - low);
        walk(hashes, (low, middle), (from, to), out)?;
        walk(hashes, (middle, high), (from, to), out)
    }
    let mut out = Vec::new();
    if size > 0 {
        walk(hashes, (0, size), (from, to), &mut out)?;
    }
    Ok(out)
}

/// The root of the tree of `size` that has `leaves` from `from` on, by the hashes of [`range_proof`].
///
/// # Errors
/// There are too few or too many hashes.
pub fn root_of_range(
    size: u64,
    from: u64,
    leaves: &[Hash],
    proof: &[Hash],
) -> Result<Hash, String> {
    struct Range<'a> {
        from: u64,
        leaves: &'a [Hash],
        proof: std::slice::Iter<'a, Hash>,
    }
    impl Range<'_> {
        fn root(&mut self, low: u64, high: u64) -> Option<Hash> {
            let to = self.from + self.leaves.len() as u64;
            if high <= self.from || low >= to {
                return self.proof.next().copied();
            }
            if high - low == 1 {
                return self.leaves.get(usize::try_from(low - self.from).ok()?).copied();
            }
            let middle = low + split(high - low);
            Some(node(self.root(low, middle)?, self.root(middle, high)?))
        }
    }
    if size == 0 {
        return Ok(super::EMPTY_ROOT);
    }
    let mut range = Range { from, leaves, proof: proof.iter() };
    let root = range.root(0, size).ok_or("the range's proof has too few hashes")?;
    match range.proof.next() {
        None => Ok(root),
        Some(_) => Err("the range's proof has too many hashes".into()),
    }
}

/// A hash as proofs and checkpoints have it.
#[must_use]
pub fn base64(hash: &Hash) -> String {
    BASE64_STANDARD.encode(hash)
}

/// The hash of such a text.
#[must_use]
pub fn unbase64(text: &str) -> Option<Hash> {
    let hash = BASE64_STANDARD.decode(text).ok()?.try_into().ok()?;
    (base64(&hash) == text).then_some(hash)
}

/// A decimal without leading zeros.
fn number(text: &str) -> Option<u64> {
    let value: u64 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}
