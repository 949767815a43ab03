//! The read face of the evidence log: what sinks, exports and verifiers follow it with.

use crate::Record;

/// One entry of the log, with its payload if that has not been erased.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// Position in the log, from 0.
    pub index: u64,
    /// RFC 6962 leaf hash: its name for outsiders.
    pub leaf_hash: [u8; 32],
    /// The record; `None` if its payload was erased (its leaf, and so every proof, stays).
    pub record: Option<Record>,
}

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogReadError {
    /// A file of the log.
    #[error("{path}: {doing}")]
    File {
        /// Which.
        path: String,
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// What is stored is not what was logged.
    #[error("entry {index}: {problem}; run `guard audit verify` on the log")]
    Damaged {
        /// Position of the entry.
        index: u64,
        /// What is wrong.
        problem: String,
    },
}

/// A log that can be followed: a cursor is an index, and resuming is reading from it.
pub trait LogReader: Send + Sync {
    /// Entries that are committed; the next one gets this index. It never shrinks.
    fn size(&self) -> u64;

    /// Up to `limit` committed entries from `from_index` on, in order and without gaps; empty at
    /// the end. May be shorter than `limit` before the end.
    ///
    /// # Errors
    /// The log cannot be read, or is not what was written.
    fn read(&self, from_index: u64, limit: usize) -> Result<Vec<LogEntry>, LogReadError>;
}
