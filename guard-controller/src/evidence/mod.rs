//! Evidence at the controller: append-only, in order, without gaps, durable before it is
//! acknowledged.
//!
//! [`EvidenceStore`] is what hosts' records and the controller's own go into. [`MerkleEvidence`]
//! keeps them in the Merkle log of guard-audit, its head and an index in the database. [`outbox`]
//! holds the controller's own records from the transaction of what they tell of until the log has
//! them.

mod adopt;
pub(crate) mod copies;
pub mod index;
mod keys;
mod merkle;
pub mod outbox;
mod rows;
mod writer;

pub use adopt::{AdoptError, adopt};
pub(crate) use merkle::ERASED_AT_ONCE_MAX;
pub(crate) use rows::unerased;
pub(crate) use writer::chain_of;

pub use merkle::{MerkleEvidence, log_dir};

use crate::{EvidenceFilter, StoreError, StoredRecord};
use futures::future::BoxFuture;
use guard_audit::{Event, Record};
use guard_model::{BootId, HostId};

/// Largest record, bytes of JSON: a hold request (256 KiB) and what stands around it.
pub const RECORD_BYTES_MAX: usize = guard_audit::log::PAYLOAD_BYTES_MAX;

/// A record with the very bytes that its host sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What it says.
    pub record: Record,
    /// Its JSON, as sent: what is stored.
    pub json: String,
}

/// Why a record from a host is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEntry {
    /// Longer than [`RECORD_BYTES_MAX`].
    #[error("a record of {0} bytes, at most {RECORD_BYTES_MAX} are taken")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("a record is not UTF-8")]
    Encoding(#[from] std::str::Utf8Error),
    /// Not a record.
    #[error("not a record that this version knows")]
    Json(#[from] serde_json::Error),
    /// It is about another host.
    #[error("it is about host {0}")]
    OtherHost(HostId),
    /// Envelope and record disagree.
    #[error("the record's {0} differs from the envelope's")]
    Envelope(&'static str),
    /// Only the controller can know this.
    #[error("`{0}` is the controller's to say")]
    NotAHosts(&'static str),
}

impl Entry {
    /// Reads what `host` sent as record `sequence` of `boot`.
    ///
    /// # Errors
    /// [`InvalidEntry`] says what is wrong.
    pub fn from_wire(
        host: HostId,
        boot: BootId,
        sequence: u64,
        json: &[u8],
    ) -> Result<Self, InvalidEntry> {
        if json.len() > RECORD_BYTES_MAX {
            return Err(InvalidEntry::TooLong(json.len()));
        }
        let json = std::str::from_utf8(json)?;
        let record: Record = serde_json::from_str(json)?;
        if record.host != host {
            return Err(InvalidEntry::OtherHost(record.host));
        }
        if record.boot != boot {
            return Err(InvalidEntry::Envelope("boot"));
        }
        if record.sequence != sequence {
            return Err(InvalidEntry::Envelope("sequence"));
        }
        if is_the_controllers(&record.event) {
            return Err(InvalidEntry::NotAHosts(record.event.class()));
        }
        Ok(Self { record, json: json.to_owned() })
    }
}

/// Whether an event is about the log or the controller itself: no host can know it, and verifiers
/// build on what it says.
fn is_the_controllers(event: &Event) -> bool {
    matches!(
        event,
        Event::PayloadErased { .. }
            | Event::PayloadsExpired { .. }
            | Event::LegalHoldSet { .. }
            | Event::LegalHoldLifted { .. }
            | Event::LogKeyRotated { .. }
            | Event::ApprovalChanged { .. }
            | Event::Enrolled { .. }
            | Event::HostLink { .. }
            | Event::HostRefused { .. }
            | Event::Authentication { .. }
            | Event::UserChanged { .. }
    )
}

/// Why the rest of a batch was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Records are missing before this one.
    #[error("sequence {got} follows {last}: send from {}", .last + 1)]
    Gap {
        /// Last that is stored.
        last: u64,
        /// What came.
        got: u64,
    },
    /// Another record stands there already.
    #[error("sequence {sequence} is stored with other content")]
    Differs {
        /// Which.
        sequence: u64,
    },
}

/// What an append did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Everything up to here is durable; 0 if nothing is.
    pub last: u64,
    /// Records that were new.
    pub new: usize,
    /// Why it stopped before the end of the batch.
    pub refused: Option<Refused>,
}

/// Where evidence is kept.
pub trait EvidenceStore: Send + Sync + 'static {
    /// Appends records of one boot of one host, in order. Those that are stored already are
    /// compared and skipped. Stops at the first that leaves a gap or differs. Durable when it
    /// returns.
    ///
    /// # Errors
    /// Storage failed; what is stored of the batch all the same is skipped when it is sent again.
    fn append(
        &self,
        host: HostId,
        boot: BootId,
        entries: Vec<Entry>,
    ) -> BoxFuture<'_, Result<Appended, StoreError>>;

    /// The last sequence of a boot without a gap before it; 0 if there is none.
    ///
    /// # Errors
    /// Storage failed.
    fn last(&self, host: HostId, boot: BootId) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Records in stored order.
    ///
    /// # Errors
    /// Storage failed, or a record cannot be read back.
    fn read(&self, filter: EvidenceFilter) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>>;

    /// The newest `limit` records of a session, oldest first.
    ///
    /// # Errors
    /// Storage failed, or a record cannot be read back.
    fn newest_of_session(
        &self,
        session: guard_model::SessionId,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>>;
}
