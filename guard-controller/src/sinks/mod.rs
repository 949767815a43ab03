//! Sinks: evidence for a SIEM, at least once, in order, without a gap.
//!
//! A sink is a cursor over the log. The log is its queue: a receiver that is away or slow costs
//! nothing but lag, which `/metrics` and the log page show, and one batch of memory. [`worker`]
//! drives a [`Deliver`]; the cursor moves, durably, only after the receiver has confirmed. What a
//! receiver refuses for good is counted and becomes evidence itself.

mod cursor;
mod file;
mod hec;
mod http;
mod kafka;
mod otlp;
mod render;
mod s3;
mod sigv4;
mod spec;
mod state;
mod syslog;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod webhook;
mod worker;

pub use render::Rendered;
pub use spec::{Format, Sasl, Scheme, SinkSpec, SinksFile, Start, Target, TlsFiles};
pub use state::SinkView;

pub(crate) use cursor::reset;
pub(crate) use http::Client;
pub(crate) use state::SinkState;
pub(crate) use worker::{Worker, prepare};

use futures::future::BoxFuture;
use std::time::Duration;

/// Sinks of one controller: each holds a batch in memory and writes its cursor to the database.
pub const SINKS_MAX: usize = 16;

/// Events in one batch.
pub const BATCH_EVENTS_MAX: usize = 512;

/// Bytes of one batch's events; one larger event is a batch of its own. Splunk's default limit for
/// one request is 1 MB (`max_content_length` was 1 MB before 9.0).
pub const BATCH_BYTES_MAX: usize = 1_000_000;

/// What is wrong with a sink's configuration.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The file is no list of sinks.
    #[error("{path}: not a list of sinks")]
    Syntax {
        /// The file.
        path: String,
        /// Line, column, and what was expected.
        #[source]
        source: serde_json::Error,
    },
    /// A file that it names.
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
    /// A value.
    #[error("sink `{sink}`: {problem}")]
    Value {
        /// Which sink.
        sink: String,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// More than [`SINKS_MAX`].
    #[error("{0} sinks, at most {SINKS_MAX} are served")]
    TooMany(usize),
    /// Two of one name: a name is a cursor.
    #[error("two sinks are called `{0}`")]
    Twice(String),
}

/// Why a batch was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Not now: the receiver is away, slow, full or refuses our credentials. It is tried again for
    /// as long as it takes.
    #[error("{0}")]
    Unavailable(String),
    /// The receiver refuses what is in this batch, and will again.
    #[error("{0}")]
    Rejected(String),
}

/// What a batch may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchBounds {
    /// Events in it.
    pub events: usize,
    /// Bytes of its events; one larger event is a batch of its own.
    pub bytes: usize,
    /// How long its first event may wait for others.
    pub age: Duration,
    /// The receiver keeps a batch under a name of its own: where a batch ends is noted, durably,
    /// before it is delivered, so that a repetition after a crash is the same batch.
    pub named: bool,
}

impl Default for BatchBounds {
    fn default() -> Self {
        let (events, bytes) = (BATCH_EVENTS_MAX, BATCH_BYTES_MAX);
        Self { events, bytes, age: Duration::ZERO, named: false }
    }
}

/// Delivers batches to one receiver.
pub trait Deliver: Send + Sync {
    /// What a batch may be.
    fn bounds(&self) -> BatchBounds {
        BatchBounds::default()
    }

    /// Delivers `batch`; the receiver has confirmed all of it when this returns. The number is of
    /// events that the receiver took and says it has not kept.
    ///
    /// # Errors
    /// [`DeliveryError`]; some of the batch may have been delivered and will be again.
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Rendered],
    ) -> BoxFuture<'a, Result<u64, DeliveryError>>;
}
