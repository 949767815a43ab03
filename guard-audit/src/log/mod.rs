//! The Merkle log of evidence: what was logged cannot be changed, removed or reordered unseen.
//!
//! Formats are public ones, so that others can verify: C2SP tlog-tiles, tlog-checkpoint,
//! signed-note, tlog-cosignature and tlog-proof over RFC 6962 hashing, by the crates `tlog_tiles`
//! and `signed_note`. Ours is the engine. A leaf is a small [`Envelope`]; the payload stands beside
//! it under a salted hash, so it can be erased without breaking a proof.
//!
//! One commit, with what a crash after each step means:
//! 1. [`Log::stage`] appends entries, payloads and the signed checkpoint to the journal and makes
//!    that durable. *Crash: nothing was acknowledged; the next open does not see it.*
//! 2. The caller swaps the head (compare-and-swap, a database row). This is the commit; a second
//!    writer loses here. *Crash: the next open replays the journal up to the head.*
//! 3. [`Log::publish`] writes payloads, bundles, tiles, and the checkpoint file. *Crash: likewise.*
//! 4. The caller acknowledges.
//!
//! Files of step 3 are made durable in bulk, when a journal is full or the log is opened or closed;
//! until then the journal has what they need. Any failure in 1–3 leaves the log broken: it must be
//! opened again, which decides by the head what counts.

mod bundle;
mod checkpoint;
mod cosign;
mod difference;
mod entry;
mod erasures;
mod files;
mod handover;
mod journal;
mod key;
mod payload;
mod proof;
mod read;
mod recover;
mod report;
mod store;
mod tree;
mod verify;
mod walk;
mod writer;

pub use bundle::{bundle_keys, verify_bundle, write_bundle};
pub use checkpoint::{Checkpoint, Head};
pub use cosign::{Cosigner, CosignerKey};
pub use entry::{Chains, Draft, Envelope, HostTip, InvalidEnvelope, payload_hash};
pub use handover::Trusted;
pub use key::{InvalidKey, LogKey, VerifierKey};
pub use payload::Payload;
pub use proof::{Proof, base64, check_consistency, range_proof, root_of_range, unbase64};
pub use read::{
    DirReader, RawEntry, TileHashes, checkpoint, cosigned, first_since, keep_cosigned, raw_entry,
};
pub use report::{NOT_PROVEN, PROVEN, PROVEN_OF_ONE};
pub use store::{Dir, Storage};
pub use tree::{EMPTY_ROOT, leaf_hash};
pub use verify::{Report, own_keys, verify, verify_proof};
pub use walk::{CLOCK_JUMP_MS, HostReport, LINES_MAX, Lines, SILENCE_MS};
pub use writer::{BATCH_BYTES_MAX, Committed, JOURNAL_BYTES_MAX, Log, Staged};

/// Entries that one commit may have.
pub const BATCH_MAX: usize = 1024;

/// Largest entry, bytes: an entry bundle has 16-bit lengths (C2SP tlog-tiles).
pub const ENTRY_BYTES_MAX: usize = 65_535;

/// Largest payload, bytes: the largest record (a hold request of 256 KiB and what stands around it).
pub const PAYLOAD_BYTES_MAX: usize = 320 << 10;

/// Hashes in a full tile, entries in a full bundle, payloads in a full payload file.
pub const TILE_WIDTH: u64 = 256;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Why the log refuses.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file of the log.
    #[error("{name}: {doing}")]
    File {
        /// Which, below the log's directory.
        name: String,
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// There is a log already where one should be made.
    #[error("there is a log here already; nothing was changed")]
    Exists,
    /// There is no log: none is ever made implicitly.
    #[error("{name} is missing: there is no log here, or it is damaged; nothing was created")]
    Missing {
        /// Which file.
        name: String,
    },
    /// What is stored is not what was committed.
    #[error("{name}: {problem}; run `guard audit verify`, and restore it from a copy")]
    Damaged {
        /// Which file.
        name: String,
        /// What is wrong, and where.
        problem: String,
    },
    /// The head belongs to another time or another writer.
    #[error(
        "the log's files are at {files} entries and the database's head at {head}: another \
         controller writes to this log, or one of the two was restored from a backup; \
         `guard audit reindex` adopts the files after verifying them"
    )]
    HeadDiffers {
        /// Size by the checkpoint file.
        files: u64,
        /// Size by the head.
        head: u64,
    },
    /// Somebody else committed since.
    #[error("another writer has committed to this log; this one stops")]
    OtherWriter,
    /// An earlier failure left the state unknown.
    #[error("an earlier commit failed; open the log again")]
    Broken,
    /// Too large.
    #[error("{what} has {len} bytes, at most {max} are taken")]
    TooLarge {
        /// Entry or payload.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A batch over [`BATCH_MAX`].
    #[error("a batch of {0} entries, at most {BATCH_MAX} are taken at once")]
    BatchTooLong(usize),
    /// There is none at this position.
    #[error("there is no entry {index}: the log has {size}, counted from 0")]
    NoEntry {
        /// Position that was asked for.
        index: u64,
        /// Entries of the log.
        size: u64,
    },
    /// A record about another key where none may be, or none where one must be.
    #[error("a record of a rotated log key is logged by rotating the key, and not otherwise")]
    NotARotation,
    /// A key.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// Signing.
    #[error("the checkpoint cannot be signed: {0}")]
    Sign(String),
}

impl LogError {
    fn damaged(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Damaged { name: name.into(), problem: problem.into() }
    }
}
