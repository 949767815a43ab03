//! The spool: evidence on disk before anything is said upward, without gaps and without doubles.
//!
//! The driver hands events to [`Spool::record`], which never blocks; one thread gives them their
//! sequence, writes and flushes them in groups ([`writer`]); the link reads what is durable
//! ([`read`]) and reports what the controller has made durable in its turn. Acknowledged records
//! stay as long as there is room, for the local export.

pub mod disk;
pub mod frame;
pub mod read;
#[cfg(test)]
mod tests;
mod writer;

use guard_audit::Event;
use guard_model::{BootId, HostId, SessionId};
use serde::Serialize;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};
use tokio::sync::watch;

/// Most events between the driver and the writer. At the ring buffer's burst of 80,000 small
/// records a disk that keeps up never meets it; one that hangs does, and then evidence is lost and
/// counted.
pub const QUEUE_MAX: usize = 100_000;
/// Default limit of the spool on disk, bytes.
pub const LIMIT_DEFAULT: u64 = 256 << 20;

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A system call failed.
    #[error("cannot {verb} {path}")]
    Io {
        /// What was attempted.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Something in the spool that Guard did not put there.
    #[error("{path} is not guard-agent's; move it out of the spool")]
    Foreign {
        /// What.
        path: PathBuf,
    },
    /// Records that the controller has are missing here.
    #[error(
        "{path} ends at record {last}, but the controller has up to {acked}: records were removed; \
         move the folder away to start a new spool, and investigate"
    )]
    Missing {
        /// Which boot's folder.
        path: PathBuf,
        /// Its last record.
        last: u64,
        /// What the controller acknowledged.
        acked: u64,
    },
    /// A record that is damaged in the middle of the spool.
    #[error("{path} is damaged at byte {at}; evidence behind it cannot be sent")]
    Damaged {
        /// Which segment.
        path: PathBuf,
        /// Where.
        at: u64,
    },
}

impl SpoolError {
    pub(crate) fn io(verb: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { verb, path: path.to_owned(), source }
    }
}

/// An event on its way to the spool, already as JSON: most are a tenth of what an [`Event`] takes in
/// memory, and a burst has a hundred thousand.
#[derive(Debug)]
struct Entry {
    boottime_ns: u64,
    unix_ms: u64,
    session: Option<SessionId>,
    /// One JSON object.
    event: Box<[u8]>,
}

/// What a record says before its event.
#[derive(Serialize)]
struct Head {
    host: HostId,
    boot: BootId,
    sequence: u64,
    boottime_ns: u64,
    unix_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionId>,
}

impl Entry {
    fn new(boottime_ns: u64, unix_ms: u64, session: Option<SessionId>, event: &Event) -> Self {
        // Never fails: every map of an event has text as its key. If it did, the writer says so.
        let event = serde_json::to_vec(event).unwrap_or_default().into();
        Self { boottime_ns, unix_ms, session, event }
    }

    /// The JSON of the record that it becomes: what `serde_json` makes of a [`guard_audit::Record`].
    fn to_json(&self, host: HostId, boot: BootId, sequence: u64) -> Vec<u8> {
        let Self { boottime_ns, unix_ms, session, .. } = *self;
        let head = Head { host, boot, sequence, boottime_ns, unix_ms, session };
        let mut json = serde_json::to_vec(&head).unwrap_or_default();
        if let Some((b'{', members)) = self.event.split_first() {
            json.pop();
            json.push(b',');
            json.extend(members);
        }
        json
    }
}

/// What the writer, the driver and the link share.
#[derive(Debug)]
pub(crate) struct Shared {
    disk: Mutex<disk::Disk>,
    full: AtomicBool,
    closing: AtomicBool,
    lost: AtomicU64,
    /// Events that were taken, and of these how many are durable.
    taken: AtomicU64,
    written: AtomicU64,
    /// Bytes on disk, and records that the controller has not acknowledged: as the disk was last, for
    /// who must not wait for its lock.
    bytes: AtomicU64,
    unacknowledged: AtomicU64,
    limit: u64,
}

impl Shared {
    fn disk(&self) -> std::sync::MutexGuard<'_, disk::Disk> {
        // A panic while the lock was held leaves plain data whose worst state is a re-send.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what [`Spool::figures`] says in step with the disk.
    fn note(&self, disk: &disk::Disk) {
        let behind = disk.boots.values().map(|log| log.last.saturating_sub(log.acked)).sum();
        self.unacknowledged.store(behind, Ordering::Relaxed);
        self.bytes.store(disk.bytes, Ordering::Relaxed);
    }
}

/// The open spool.
#[derive(Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    queue: mpsc::SyncSender<Entry>,
    durable: watch::Receiver<u64>,
    writer: JoinHandle<()>,
    root: PathBuf,
}

/// Where and how large.
#[derive(Clone, Debug)]
pub struct SpoolConfig {
    /// Folder.
    pub root: PathBuf,
    /// Most bytes on disk.
    pub limit_bytes: u64,
    /// Whose records.
    pub host: HostId,
    /// Of which boot.
    pub boot: BootId,
}

impl Spool {
    /// Opens or creates the spool and starts its writer. A torn end is cut and becomes evidence.
    ///
    /// # Errors
    /// [`SpoolError`] names the file.
    pub fn open(config: &SpoolConfig) -> Result<Self, SpoolError> {
        let disk = disk::Disk::open(&config.root, config.boot)?;
        let (cut, last) =
            (disk.cut_bytes, disk.boots.last_key_value().map_or(0, |(_, log)| log.last));
        let shared = Arc::new(Shared {
            disk: Mutex::new(disk),
            full: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            written: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            unacknowledged: AtomicU64::new(0),
            limit: config.limit_bytes,
        });
        shared.note(&shared.disk());
        let (queue, entries) = mpsc::sync_channel(QUEUE_MAX);
        let (sender, durable) = watch::channel(last);
        let writer = writer::Writer::new(config, shared.clone(), sender)?;
        let writer = std::thread::Builder::new()
            .name("guard-spool".to_owned())
            .spawn(move || writer.run(&entries))
            .map_err(|source| SpoolError::io("start the writer of", &config.root, source))?;
        let spool = Self { shared, queue, durable, writer, root: config.root.clone() };
        if cut > 0 {
            let counter = "spool_torn_bytes".to_owned();
            spool.record(0, 0, None, Event::Lost { counter, count: cut });
        }
        Ok(spool)
    }

    /// Takes an event. Never blocks: if the queue is full, it is lost, counted, and said once
    /// there is room; [`Spool::is_full`] tells the engine not to let anything wait for a person
    /// meanwhile.
    pub fn record(&self, boottime_ns: u64, unix_ms: u64, session: Option<SessionId>, event: Event) {
        let boottime_ns = if boottime_ns == 0 { crate::clock::boottime_ns() } else { boottime_ns };
        let unix_ms = if unix_ms == 0 { crate::clock::unix_ms() } else { unix_ms };
        let entry = Entry::new(boottime_ns, unix_ms, session, &event);
        if self.queue.try_send(entry).is_ok() {
            self.shared.taken.fetch_add(1, Ordering::Relaxed);
        } else {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            self.shared.full.store(true, Ordering::Relaxed);
        }
    }

    /// Whether evidence cannot be kept now.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Relaxed)
    }

    /// Whether everything that was taken is durable. Said by who records, not from another thread.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.shared.written.load(Ordering::Acquire) >= self.shared.taken.load(Ordering::Relaxed)
    }

    /// How full it is and how far the controller is behind, by name, for heartbeats. Never blocks.
    #[must_use]
    pub fn figures(&self) -> [(String, u64); 4] {
        let of = |name: &str, value: &AtomicU64| (name.to_owned(), value.load(Ordering::Relaxed));
        let (taken, written) = (&self.shared.taken, &self.shared.written);
        let queued = taken.load(Ordering::Relaxed).saturating_sub(written.load(Ordering::Acquire));
        [
            of("spool_bytes", &self.shared.bytes),
            ("spool_limit_bytes".to_owned(), self.shared.limit),
            of("spool_unacknowledged_records", &self.shared.unacknowledged),
            ("spool_queued_records".to_owned(), queued),
        ]
    }

    /// A reader for the link.
    #[must_use]
    pub fn reader(&self) -> read::Reader {
        read::Reader::new(self.shared.clone(), self.durable.clone())
    }

    /// Where it is.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes and flushes what was taken, then stops. Blocks until that is done, or until the disk
    /// has refused it once more.
    pub fn close(self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        drop(self.queue);
        if self.writer.join().is_err() {
            tracing::error!("the spool's writer panicked; its last records may be missing");
        }
    }
}
