//! The search index over the log, and what else is found by it.
//!
//! It follows the log through [`LogReader`] and is derived: [`Index::rebuild`] makes it anew. Sinks
//! read behind it ([`Index::read`]), since an event may need the action of an earlier hold.

mod query;
mod row;
mod store;

pub use query::{FOUND_MAX, Found, SearchFilter};
pub use row::TEXT_BYTES_MAX;

use crate::{StoreError, clock, db::Db};
use guard_audit::{
    LogEntry, LogReadError, LogReader, Record,
    ocsf::{self, HeldAction, OcsfEvent},
};
use guard_model::{HoldId, HostId};
use row::SearchRow;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Entries that are indexed in one transaction: a few hundred kilobytes of rows.
pub const INDEX_BATCH: usize = 512;

/// Actions of holds that are remembered, so that the outcome soon after needs no look-up.
const HELD_MAX: usize = 4096;

/// Why the log or its index could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogReadError),
    /// The index.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log is shorter than what was indexed: it is another one, or an older copy.
    #[error(
        "the log has {size} entries and its index {indexed}: the log is another one or an older \
         copy; restore it, or make the index anew with `guard audit reindex`"
    )]
    Shorter {
        /// Of the log.
        size: u64,
        /// In the index.
        indexed: u64,
    },
    /// A read was stopped in the middle; only at the end of the process.
    #[error("the read was stopped")]
    Stopped,
}

/// An entry with its OCSF event.
#[derive(Clone, Debug)]
pub struct ReadEntry {
    /// The entry.
    pub entry: LogEntry,
    /// How its host is called, if that is known.
    pub hostname: Option<String>,
    /// Its event.
    pub event: OcsfEvent,
}

/// The log with its search index.
pub struct Index {
    db: Db,
    log: Arc<dyn LogReader>,
    /// The first entry that is not indexed.
    next: AtomicU64,
    /// One step or rebuild at a time: both move `next`.
    moving: tokio::sync::Mutex<()>,
    held: Mutex<Held>,
    hostnames: Mutex<HashMap<HostId, String>>,
}

#[derive(Default)]
struct Held {
    actions: HashMap<HoldId, HeldAction>,
    order: VecDeque<HoldId>,
}

impl Index {
    /// Over `log`, in `db`.
    ///
    /// # Errors
    /// The database refused.
    pub async fn open(db: Db, log: Arc<dyn LogReader>) -> Result<Self, StoreError> {
        let next = AtomicU64::new(store::next(&db).await?);
        Ok(Self {
            db,
            log,
            next,
            moving: tokio::sync::Mutex::default(),
            held: Mutex::default(),
            hostnames: Mutex::default(),
        })
    }

    /// Entries of the log.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.log.size()
    }

    /// Entries of them that are indexed.
    #[must_use]
    pub fn indexed(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// Indexes the next entries; how many.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was indexed.
    pub async fn step(&self) -> Result<usize, ReadError> {
        let _only = self.moving.lock().await;
        let (next, size) = (self.indexed(), self.size());
        if next > size {
            return Err(ReadError::Shorter { size, indexed: next });
        }
        let entries = self.entries(next, INDEX_BATCH).await?;
        if entries.is_empty() {
            return Ok(0);
        }
        let read = self.with_events(entries).await?;
        let rows: Vec<SearchRow> = read.iter().map(SearchRow::of).collect();
        let after = next + rows.len() as u64;
        store::append(&self.db, &rows, next, after).await?;
        self.next.store(after, Ordering::Release);
        Ok(rows.len())
    }

    /// Forgets everything, to be indexed anew by [`Index::step`].
    ///
    /// # Errors
    /// The database refused.
    pub async fn rebuild(&self) -> Result<(), StoreError> {
        let _only = self.moving.lock().await;
        store::clear(&self.db).await?;
        self.next.store(0, Ordering::Release);
        Ok(())
    }

    /// Forgets the action of a hold whose payload was erased.
    pub(crate) async fn forget(&self, id: HoldId) {
        // A step may have read it before it was erased.
        let _only = self.moving.lock().await;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.actions.remove(&id);
        held.order.retain(|known| *known != id);
    }

    /// Up to `limit` indexed entries from `from` on, with their events.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read(&self, from: u64, limit: usize) -> Result<Vec<ReadEntry>, ReadError> {
        let left = self.indexed().saturating_sub(from);
        let limit = limit.min(usize::try_from(left).unwrap_or(usize::MAX));
        if limit == 0 {
            return Ok(Vec::new());
        }
        let entries = self.entries(from, limit).await?;
        self.with_events(entries).await
    }

    /// Entries of the log, on a thread where reads may block.
    async fn entries(&self, from: u64, limit: usize) -> Result<Vec<LogEntry>, ReadError> {
        let log = Arc::clone(&self.log);
        match tokio::task::spawn_blocking(move || log.read(from, limit)).await {
            Ok(read) => Ok(read?),
            Err(_) => Err(ReadError::Stopped),
        }
    }

    async fn with_events(&self, entries: Vec<LogEntry>) -> Result<Vec<ReadEntry>, ReadError> {
        let mut read = Vec::with_capacity(entries.len());
        for entry in entries {
            let (mut hostname, mut held) = (None, None);
            if let Some(record) = &entry.record {
                hostname = self.hostname(record.host).await?;
                held = self.held_of(record).await?;
            }
            let event = ocsf::entry(&entry, hostname.as_deref(), held.as_ref());
            read.push(ReadEntry { entry, hostname, event });
        }
        Ok(read)
    }

    /// The action of the hold that the record names; remembers those that it describes.
    async fn held_of(&self, record: &Record) -> Result<Option<HeldAction>, ReadError> {
        if let Some(action) = HeldAction::of(record) {
            self.remember(action);
            return Ok(None);
        }
        let Some(id) = ocsf::needs(record) else { return Ok(None) };
        let known = |held: &Held| held.actions.get(&id).cloned();
        if let Some(action) = known(&self.held.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(Some(action));
        }
        let Some(index) = store::of_hold(&self.db, id).await? else { return Ok(None) };
        let found = self.entries(index, 1).await?;
        let action = found.first().and_then(|entry| HeldAction::of(entry.record.as_ref()?));
        // A host can only describe its own holds.
        let of_host = found.first().and_then(|entry| entry.record.as_ref()).map(|r| r.host);
        Ok(action.filter(|_| of_host == Some(record.host)).inspect(|a| self.remember(a.clone())))
    }

    fn remember(&self, action: HeldAction) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let id = action.hold_id;
        if held.actions.insert(id, action).is_none() {
            held.order.push_back(id);
        }
        if held.order.len() > HELD_MAX
            && let Some(oldest) = held.order.pop_front()
        {
            held.actions.remove(&oldest);
        }
    }

    async fn hostname(&self, host: HostId) -> Result<Option<String>, StoreError> {
        let known = |names: &HashMap<HostId, String>| names.get(&host).cloned();
        if let Some(name) = known(&self.hostnames.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(Some(name).filter(|name| !name.is_empty()));
        }
        // The controller's own id is no host: it stays without a name.
        let names = crate::db::hosts::list(self.db.read(), Some(host)).await?;
        let name = names.into_iter().next().map(|view| view.hostname).unwrap_or_default();
        let mut hostnames = self.hostnames.lock().unwrap_or_else(PoisonError::into_inner);
        hostnames.insert(host, name.clone());
        Ok(Some(name).filter(|name| !name.is_empty()))
    }

    /// Milliseconds since the oldest entry that `next` has not passed was made; 0 if there is none.
    ///
    /// # Errors
    /// The database refused.
    pub async fn age_ms(&self, next: u64) -> Result<u64, StoreError> {
        let made = store::unix_ms_of(&self.db, next).await?;
        Ok(made.map_or(0, |made| clock::unix_ms().saturating_sub(made)))
    }
}
