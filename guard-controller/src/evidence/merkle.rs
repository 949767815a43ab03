//! [`EvidenceStore`] in the Merkle log, with an index in the database.

use super::{
    Appended, Entry, EvidenceStore, copies,
    keys::LogKeys,
    rows,
    writer::{Append, Command, Writer, blocking, chain_of, is_rotation},
};
use crate::{
    EvidenceFilter, LegalHold, StoreError, StoredRecord, clock,
    db::{Db, Doing as _, holds, int, parse},
};
use futures::future::BoxFuture;
use guard_audit::{
    Event, LogEntry, LogReader, Record,
    log::{
        BATCH_BYTES_MAX, BATCH_MAX, Dir, DirReader, Log, LogError, Proof, RawEntry, Storage as _,
        TILE_WIDTH, VerifierKey, first_since, own_keys,
    },
    retention::is_needed,
};
use guard_model::{BootId, HostId, SessionId};
use sqlx::Row as _;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};
use tokio::sync::{Mutex, mpsc, oneshot};

/// Requests that wait for the writer; further ones wait for room, which holds their links back.
const QUEUE: usize = 256;

/// Payloads that one entry may say are erased: bounds the size of that entry, and how long the log
/// takes nothing else.
pub(crate) const ERASED_AT_ONCE_MAX: usize = 2048;

/// Records of an earlier version that are moved into the log at once.
const IMPORT_PAGE: i64 = 512;

/// Evidence in the log below a state directory.
pub struct MerkleEvidence {
    db: Db,
    dir: PathBuf,
    keys: LogKeys,
    commands: mpsc::Sender<Command>,
    reader: DirReader<Dir>,
    /// One rotation at a time.
    rotating: Mutex<()>,
}

/// The directory of the log in a state directory.
#[must_use]
pub fn log_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("log")
}

/// The log's name for outsiders.
fn origin(own_id: HostId) -> String {
    format!("guard/log/{own_id}")
}

/// The controller of a log of that name.
pub(super) fn own_id(origin: &str) -> Option<HostId> {
    origin.strip_prefix("guard/log/")?.parse().ok()
}

impl MerkleEvidence {
    /// Opens the log of a controller, makes it if this is the first start, finishes what a crash
    /// has interrupted, and starts its writer.
    ///
    /// # Errors
    /// What does not fit; nothing is repaired that was not committed.
    pub async fn open(db: Db, state_dir: &Path, own_id: HostId) -> Result<Self, StoreError> {
        let dir = log_dir(state_dir);
        let keys = LogKeys::new(state_dir, origin(own_id));
        create_if_new(&db, &dir, &keys).await?;
        let size = Arc::new(AtomicU64::new(0));
        let reader = DirReader::new(Arc::new(Dir::new(&dir)), Arc::clone(&size));
        let mut writer = Writer {
            db: db.clone(),
            dir: dir.clone(),
            keys: keys.clone(),
            log: None,
            size,
            reader: reader.clone(),
            lasts: HashMap::new(),
        };
        writer.prepare().await?;
        let (commands, receiver) = mpsc::channel(QUEUE);
        let store = Self { db, dir, keys, commands, reader, rotating: Mutex::new(()) };
        tokio::spawn(writer.run(receiver));
        store.redo_erasures().await?;
        store.import().await?;
        Ok(store)
    }

    /// Follows the log: sinks, exports, searches.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(self.reader.clone())
    }

    /// Where its files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The key that verifies what is signed from now on.
    ///
    /// # Errors
    /// The key file cannot be read.
    pub fn verifier(&self) -> Result<VerifierKey, StoreError> {
        Ok(self.keys.current()?.verifier().clone())
    }

    /// Draws a new key, durably, and gives the event that hands over to it. The caller logs it.
    ///
    /// # Errors
    /// A key file cannot be read or written.
    pub(crate) fn rotation(&self, by: &str) -> Result<Event, StoreError> {
        let (old, new) = (self.keys.current()?, self.keys.next()?);
        let text = |key: &VerifierKey| key.as_str().to_owned();
        Ok(Event::LogKeyRotated {
            old: text(old.verifier()),
            new: text(new.verifier()),
            by: by.into(),
        })
    }

    pub(crate) fn rotating(&self) -> &Mutex<()> {
        &self.rotating
    }

    /// Whether the payload of an entry may go, with `legal_holds` in force: its leaf hash and its
    /// record, if so.
    pub(crate) async fn erasable(
        &self,
        at: u64,
        legal_holds: &[LegalHold],
    ) -> Result<Result<([u8; 32], Record), String>, StoreError> {
        let Some(entry) = self.raw(vec![at]).await?.into_iter().next() else {
            return Ok(Err(format!("there is no entry {at}")));
        };
        let envelope = entry.envelope.clone();
        let entry = entry.into_entry().map_err(|e| StoreError::Log { problem: chain_of(&e) })?;
        let Some(record) = entry.record else {
            return Ok(Err(format!("the payload of entry {at} is erased already")));
        };
        if is_needed(&envelope.class) {
            let kind = &envelope.class;
            return Ok(Err(format!("entry {at} is `{kind}`: verification needs it")));
        }
        let keeping = legal_holds
            .iter()
            .find(|hold| hold.scope.keeps(&envelope, Some(&record)) != Some(false));
        if let Some(hold) = keeping {
            return Ok(Err(format!("legal hold {} keeps entry {at}: lift it first", hold.id)));
        }
        if let Some(id) = copies::hold_of(&record)
            && holds::is_under_way(self.db.read(), id, clock::unix_ms()).await?
        {
            let why = "is under way: decide it, and let the host finish it, before it is erased";
            return Ok(Err(format!("hold {id} {why}")));
        }
        Ok(Ok((entry.leaf_hash, record)))
    }

    /// A proof of an entry, as text.
    pub(crate) async fn prove(&self, at: u64) -> Result<String, StoreError> {
        let dir = Dir::new(&self.dir);
        blocking(move || Ok(Proof::of_entry(&dir, at)?.to_text())).await
    }

    /// The keys that ever signed, one a line: for information.
    pub(crate) async fn keys(&self) -> Result<String, StoreError> {
        let dir = Dir::new(&self.dir);
        let keys = blocking(move || own_keys(&dir)).await?;
        Ok(keys.iter().map(|key| format!("{}\n", key.as_str())).collect())
    }

    /// Erases payloads, at ascending positions. The entry that tells of it is in the log already.
    pub(crate) async fn erase(&self, positions: Vec<u64>) -> Result<(), StoreError> {
        let (answer, heard) = oneshot::channel();
        self.ask(Command::Erase(positions, answer)).await?;
        heard.await.map_err(|_| stopped())?
    }

    /// Makes everything durable and stops the writer.
    pub async fn close(&self) {
        let (answer, heard) = oneshot::channel();
        if self.ask(Command::Close(answer)).await.is_ok() {
            // An error means that the writer is gone: nothing is open.
            let _ = heard.await;
        }
    }

    async fn ask(&self, command: Command) -> Result<(), StoreError> {
        self.commands.send(command).await.map_err(|_| stopped())
    }

    async fn append_now(
        &self,
        host: HostId,
        boot: BootId,
        entries: Vec<Entry>,
    ) -> Result<Appended, StoreError> {
        let mut all: Option<Appended> = None;
        for entries in commits(entries) {
            let (answer, heard) = oneshot::channel();
            self.ask(Command::Append(Append { host, boot, entries, answer })).await?;
            let done = heard.await.map_err(|_| stopped())??;
            let new = all.map_or(0, |before| before.new) + done.new;
            let refused = done.refused.is_some();
            all = Some(Appended { new, ..done });
            if refused {
                break;
            }
        }
        match all {
            Some(done) => Ok(done),
            None => Ok(Appended { last: self.last_now(host, boot).await?, new: 0, refused: None }),
        }
    }

    async fn last_now(&self, host: HostId, boot: BootId) -> Result<u64, StoreError> {
        let mut connection = self.db.read().acquire().await.doing("read evidence")?;
        rows::last(&mut connection, host, boot).await
    }

    /// Entries at ascending positions.
    async fn entries(&self, positions: Vec<u64>) -> Result<Vec<LogEntry>, StoreError> {
        let reader = self.reader.clone();
        blocking(move || read_all(&reader, &positions)).await
    }

    /// Entries at ascending positions, with their leaves.
    pub(crate) async fn raw(&self, positions: Vec<u64>) -> Result<Vec<RawEntry>, StoreError> {
        let reader = self.reader.clone();
        blocking(move || read_raw(&reader, &positions)).await
    }

    /// The first entry that was logged at `unix_ms` or later; the log's size if there is none.
    pub(crate) async fn first_since(&self, unix_ms: u64) -> Result<u64, StoreError> {
        let (dir, size) = (Dir::new(&self.dir), self.reader.size());
        blocking(move || first_since(&dir, size, unix_ms)).await
    }

    /// When the last entry was logged, ms since 1970; none if there is no entry.
    pub(crate) async fn last_time(&self) -> Result<Option<u64>, StoreError> {
        let Some(last) = self.reader.size().checked_sub(1) else { return Ok(None) };
        Ok(self.raw(vec![last]).await?.first().map(|entry| entry.envelope.time))
    }

    async fn stored(&self, positions: Vec<u64>) -> Result<Vec<StoredRecord>, StoreError> {
        let entries = self.entries(positions).await?;
        // What was erased since the index was asked is left out.
        let stored = entries.into_iter().filter_map(|entry| {
            Some(StoredRecord { position: entry.index + 1, record: entry.record? })
        });
        Ok(stored.collect())
    }

    /// Finishes erasures that the log tells of and a crash has interrupted: those since the last
    /// start that finished all of them.
    pub(crate) async fn redo_erasures(&self) -> Result<(), StoreError> {
        let size = self.reader.size();
        for at in rows::erasures(self.db.read()).await? {
            let told = self.entries(vec![at]).await?.into_iter().next();
            let positions: Vec<u64> = match told.and_then(|entry| entry.record).map(|r| r.event) {
                Some(Event::PayloadErased { index, .. }) => vec![index],
                Some(Event::PayloadsExpired { entries, .. }) => {
                    // What a host could have written is not believed to be small.
                    let all = entries
                        .iter()
                        .flat_map(|(first, count)| *first..first.saturating_add(*count).min(size));
                    all.take(ERASED_AT_ONCE_MAX).collect()
                }
                _ => continue,
            };
            let left = self.raw(positions).await?.into_iter().filter(|e| e.payload.is_some());
            let left: Vec<u64> = left.map(|entry| entry.index).collect();
            if !left.is_empty() {
                self.erase(left).await?;
            }
        }
        let mut tx = self.db.write().await?;
        rows::set_erasures_done(&mut tx, size).await?;
        tx.commit().await.doing("note that erasures are finished")
    }

    /// Moves what an earlier version stored into the log.
    async fn import(&self) -> Result<(), StoreError> {
        loop {
            let rows = sqlx::query(
                "SELECT position, record_json FROM evidence_before_log ORDER BY position LIMIT ?",
            )
            .bind(IMPORT_PAGE)
            .fetch_all(self.db.read())
            .await
            .doing("read earlier evidence")?;
            let Some(last) = rows.last() else { return Ok(()) };
            let last: u64 = last.try_get(0).doing("read earlier evidence")?;
            let mut runs: Vec<(HostId, BootId, Vec<Entry>)> = Vec::new();
            for row in &rows {
                let json: String = row.try_get(1).doing("read earlier evidence")?;
                let key = ("evidence_before_log", "record_json", "");
                let record: Record = parse(key, serde_json::from_str(&json))?;
                let (host, boot) = (record.host, record.boot);
                match runs.last_mut() {
                    Some((h, b, run)) if (*h, *b) == (host, boot) => {
                        run.push(Entry { record, json });
                    }
                    _ => runs.push((host, boot, vec![Entry { record, json }])),
                }
            }
            for (host, boot, entries) in runs {
                let done = self.append_now(host, boot, entries).await?;
                if let Some(refused) = done.refused {
                    let problem = format!("evidence of host {host} before the log: {refused}");
                    return Err(StoreError::Log { problem });
                }
            }
            let mut tx = self.db.write().await?;
            sqlx::query("DELETE FROM evidence_before_log WHERE position <= ?")
                .bind(int(last))
                .execute(&mut *tx)
                .await
                .doing("drop earlier evidence")?;
            // A crash before this line moves them again; the log skips what it has.
            tx.commit().await.doing("drop earlier evidence")?;
        }
    }
}

fn stopped() -> StoreError {
    StoreError::Log { problem: "its writer has stopped".into() }
}

/// Cuts a batch so that each part fits one commit, and a new key stands alone.
fn commits(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut parts: Vec<Vec<Entry>> = Vec::new();
    let (mut bytes, mut alone) = (0, false);
    for entry in entries {
        let rotation = is_rotation(&entry.record);
        bytes += entry.json.len();
        let fits = |part: &Vec<Entry>| part.len() < BATCH_MAX && bytes <= BATCH_BYTES_MAX;
        match parts.last_mut() {
            Some(part) if !rotation && !alone && fits(part) => part.push(entry),
            _ => {
                bytes = entry.json.len();
                parts.push(vec![entry]);
            }
        }
        alone = rotation;
    }
    parts
}

fn read_all(reader: &DirReader<Dir>, positions: &[u64]) -> Result<Vec<LogEntry>, LogError> {
    read_raw(reader, positions)?.into_iter().map(RawEntry::into_entry).collect()
}

/// Entries at ascending positions; those that the log does not have are left out.
pub(super) fn read_raw(
    reader: &DirReader<Dir>,
    positions: &[u64],
) -> Result<Vec<RawEntry>, LogError> {
    let mut entries = Vec::with_capacity(positions.len());
    for group in positions.chunk_by(|a, b| a / TILE_WIDTH == b / TILE_WIDTH) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let count = usize::try_from(last - first + 1).unwrap_or(256);
        let page = reader.read_raw(*first, count)?;
        let mut wanted = group.iter().peekable();
        for raw in page {
            if wanted.next_if(|at| **at == raw.index).is_some() {
                entries.push(raw);
            }
        }
    }
    Ok(entries)
}

/// Makes the log at the first start. A crash in the middle leaves files that never had an entry and
/// that no head names: they are made again.
async fn create_if_new(db: &Db, dir: &Path, keys: &LogKeys) -> Result<(), StoreError> {
    let mut tx = db.write().await?;
    if rows::head(&mut tx).await?.is_some() {
        return Ok(());
    }
    let (dir, key) = (dir.to_owned(), keys.current()?);
    let head = blocking(move || {
        let files = Dir::new(&dir);
        let stale =
            |source| LogError::File { name: "tile".into(), doing: "cannot be examined", source };
        // An entry leaves a bundle: such a log is not ours to remove.
        let begun = !files.list("tile/entries").map_err(stale)?.is_empty()
            || dir.join("tile").try_exists().map_err(stale)?;
        if begun {
            return Err(LogError::HeadDiffers { files: log_size(&files), head: 0 });
        }
        if dir.try_exists().map_err(stale)? {
            std::fs::remove_dir_all(&dir).map_err(stale)?;
        }
        Ok(Log::create(files, &key)?.head().text().to_owned())
    })
    .await?;
    rows::set_head(&mut tx, &head).await?;
    tx.commit().await.doing("set the log's head")
}

fn log_size(files: &Dir) -> u64 {
    let text = files.read("checkpoint").ok().flatten().unwrap_or_default();
    guard_audit::log::Checkpoint::parse(&text).map_or(0, |checkpoint| checkpoint.head.size)
}

impl EvidenceStore for MerkleEvidence {
    fn append(
        &self,
        host: HostId,
        boot: BootId,
        entries: Vec<Entry>,
    ) -> BoxFuture<'_, Result<Appended, StoreError>> {
        Box::pin(self.append_now(host, boot, entries))
    }

    fn last(&self, host: HostId, boot: BootId) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.last_now(host, boot))
    }

    fn read(&self, filter: EvidenceFilter) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        Box::pin(async move {
            let positions = rows::select(self.db.read(), &filter).await?;
            self.stored(positions).await
        })
    }

    fn newest_of_session(
        &self,
        session: SessionId,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredRecord>, StoreError>> {
        Box::pin(async move {
            let positions = rows::newest(self.db.read(), session, limit).await?;
            self.stored(positions).await
        })
    }
}
