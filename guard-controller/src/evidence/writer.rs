//! The one writer of the log: group commit, with the head and the index in one transaction.
//!
//! What has queued up while a commit was under way forms the next one, so nobody waits for a timer.
//! After any failure the log is opened anew, by the head that the database has.

use super::{Appended, Entry, Refused, copies, keys::LogKeys, merkle, rows};
use crate::{
    StoreError, clock,
    db::{Db, Doing as _},
};
use guard_audit::{
    Event, Record,
    log::{
        BATCH_BYTES_MAX, BATCH_MAX, Checkpoint, Dir, DirReader, Draft, Log, LogError, Staged,
        TILE_WIDTH,
    },
};
use guard_model::{BootId, HostId};
use sqlx::{Sqlite, SqliteConnection, Transaction};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked for.
pub(super) enum Command {
    /// Records of one boot of one host; at most one commit's worth.
    Append(Append),
    /// The payloads of these entries go, ascending.
    Erase(Vec<u64>, Answer<()>),
    /// Everything durable, nothing open.
    Close(oneshot::Sender<()>),
}

pub(super) struct Append {
    pub(super) host: HostId,
    pub(super) boot: BootId,
    pub(super) entries: Vec<Entry>,
    pub(super) answer: Answer<Appended>,
}

impl Append {
    fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.json.len()).sum()
    }

    fn rotates(&self) -> bool {
        self.entries.iter().any(|entry| is_rotation(&entry.record))
    }
}

/// Whether a record replaces the log's key: it is committed alone.
pub(super) fn is_rotation(record: &Record) -> bool {
    matches!(record.event, Event::LogKeyRotated { .. })
}

pub(super) struct Writer {
    pub(super) db: Db,
    pub(super) dir: PathBuf,
    pub(super) keys: LogKeys,
    pub(super) log: Option<Log<Dir>>,
    /// Committed and published entries: what readers see.
    pub(super) size: Arc<AtomicU64>,
    pub(super) reader: DirReader<Dir>,
    /// The last sequence of each boot that was appended to since the log was opened.
    pub(super) lasts: HashMap<(HostId, BootId), u64>,
}

/// Boots whose last sequence is kept in memory: beyond that, it is looked up again.
const LASTS_MAX: usize = 10_000;

/// What one commit will have.
#[derive(Default)]
struct Plan {
    drafts: Vec<Draft>,
    lasts: HashMap<(HostId, BootId), u64>,
    /// Where a record of this plan stands in `drafts`.
    planned: HashMap<(HostId, BootId, u64), usize>,
}

impl Writer {
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut next = None;
        loop {
            let command = match next.take() {
                Some(command) => command,
                None => match commands.recv().await {
                    Some(command) => command,
                    None => return,
                },
            };
            match command {
                Command::Append(first) => {
                    let mut batch = vec![first];
                    next = gather(&mut batch, &mut commands);
                    self.append(batch).await;
                }
                Command::Erase(positions, answer) => {
                    // Nobody listens: the request was given up; it is done all the same.
                    let _ = answer.send(self.erase(positions).await);
                }
                Command::Close(answer) => {
                    if let Some(mut log) = self.log.take() {
                        let settled = spawn_blocking(move || log.settle()).await;
                        if !matches!(settled, Ok(Ok(()))) {
                            tracing::warn!("the log was not settled; the next start replays it");
                        }
                    }
                    let _ = answer.send(());
                    return;
                }
            }
        }
    }

    async fn append(&mut self, batch: Vec<Append>) {
        let (mut answers, mut parts) = (Vec::new(), Vec::new());
        for Append { host, boot, entries, answer } in batch {
            answers.push(answer);
            parts.push((host, boot, entries));
        }
        match self.commit(parts).await {
            Ok(done) => {
                for (answer, done) in answers.into_iter().zip(done) {
                    let _ = answer.send(Ok(done));
                }
            }
            Err(error) => {
                self.lasts.clear();
                // Dropping it may wait for a thread.
                if let Some(log) = self.log.take() {
                    let _ = spawn_blocking(move || drop(log)).await;
                }
                let problem = chain_of(&error);
                tracing::error!(problem, "evidence was not logged");
                for answer in answers {
                    let _ = answer.send(Err(StoreError::Log { problem: problem.clone() }));
                }
            }
        }
    }

    async fn commit(
        &mut self,
        parts: Vec<(HostId, BootId, Vec<Entry>)>,
    ) -> Result<Vec<Appended>, StoreError> {
        let mut tx = self.db.write().await?;
        let mut plan = Plan::default();
        let mut done = Vec::new();
        for (host, boot, entries) in parts {
            done.push(self.plan(&mut tx, &mut plan, host, boot, entries).await?);
        }
        if plan.drafts.is_empty() {
            return Ok(done);
        }
        let log = self.open(&mut tx).await?;
        let rotation = match &plan.drafts[..] {
            [only] if is_rotation(&only.record) => Some(self.keys.next()?),
            _ => None,
        };
        let (log, staged, drafts) = stage(log, plan.drafts, rotation.clone()).await?;
        let of_commit = staged.entries.iter().zip(&drafts).map(|(entry, draft)| rows::Row {
            at: entry.index,
            leaf: entry.leaf_hash,
            envelope: &entry.envelope,
            record: Some(&draft.record),
        });
        let heads = Some((&staged.before, &staged.after));
        rows::insert_all(&mut tx, heads, &of_commit.collect::<Vec<_>>()).await?;
        // A crash before this line: nothing of the batch counts, and nothing was acknowledged.
        tx.commit().await.doing("commit evidence")?;
        // A crash from here on: the next open publishes what the journal has.
        let log = publish(log, staged).await?;
        if rotation.is_some() {
            self.keys.promote()?;
        }
        self.size.store(log.head().head.size, Ordering::Release);
        self.log = Some(log);
        if self.lasts.len() > LASTS_MAX {
            self.lasts.clear();
        }
        self.lasts.extend(plan.lasts);
        Ok(done)
    }

    /// Sorts out what is new of one request.
    async fn plan(
        &self,
        tx: &mut Transaction<'static, Sqlite>,
        plan: &mut Plan,
        host: HostId,
        boot: BootId,
        entries: Vec<Entry>,
    ) -> Result<Appended, StoreError> {
        let known = plan.lasts.get(&(host, boot)).or_else(|| self.lasts.get(&(host, boot)));
        let last = match known {
            Some(last) => *last,
            None => rows::last(tx, host, boot).await?,
        };
        let mut done = Appended { last, new: 0, refused: None };
        for entry in entries {
            let sequence = entry.record.sequence;
            if sequence <= done.last {
                let same = match plan.planned.get(&(host, boot, sequence)) {
                    Some(at) => plan.drafts[*at].json == entry.json,
                    None => self.is_logged(tx, (host, boot, sequence), &entry.json).await?,
                };
                if same {
                    continue;
                }
                done.refused = Some(Refused::Differs { sequence });
                break;
            }
            if sequence != done.last + 1 {
                done.refused = Some(Refused::Gap { last: done.last, got: sequence });
                break;
            }
            plan.planned.insert((host, boot, sequence), plan.drafts.len());
            plan.drafts.push(Draft { record: entry.record, json: entry.json });
            done.last = sequence;
            done.new += 1;
        }
        plan.lasts.insert((host, boot), done.last);
        Ok(done)
    }

    /// Whether the log has this very record there, or had it before it was erased.
    async fn is_logged(
        &self,
        tx: &mut SqliteConnection,
        key: (HostId, BootId, u64),
        json: &str,
    ) -> Result<bool, StoreError> {
        let Some(at) = rows::find(tx, key).await? else { return Ok(false) };
        let reader = self.reader.clone();
        let found = blocking(move || reader.read_raw(at, 1)).await?;
        let Some(entry) = found.into_iter().next() else { return Ok(false) };
        Ok(entry.payload.is_none_or(|payload| payload.json == json.as_bytes()))
    }

    /// The log, opened if need be.
    async fn open(
        &mut self,
        tx: &mut Transaction<'static, Sqlite>,
    ) -> Result<Log<Dir>, StoreError> {
        if let Some(log) = self.log.take() {
            return Ok(log);
        }
        let head = rows::head(tx).await?.unwrap_or_default();
        let parsed = Checkpoint::parse(head.as_bytes()).ok();
        let key = self.keys.for_head(parsed.as_ref())?;
        let dir = Dir::new(&self.dir);
        let mut log = blocking(move || Log::open(dir, &key, head.as_bytes())).await?;
        *log.chains() = rows::chains(tx).await?;
        self.size.store(log.head().head.size, Ordering::Release);
        Ok(log)
    }

    /// Opens the log now, so that a start fails if it cannot be.
    pub(super) async fn prepare(&mut self) -> Result<(), StoreError> {
        let mut tx = self.db.write().await?;
        self.log = Some(self.open(&mut tx).await?);
        Ok(())
    }

    /// Copies first: once the payload is gone, nobody knows what was derived from it.
    async fn erase(&mut self, positions: Vec<u64>) -> Result<(), StoreError> {
        let mut tx = self.db.write().await?;
        // File by file: payloads of many entries at once could fill the memory.
        for group in positions.chunk_by(|a, b| a / TILE_WIDTH == b / TILE_WIDTH) {
            let (reader, wanted) = (self.reader.clone(), group.to_vec());
            let found = blocking(move || merkle::read_raw(&reader, &wanted)).await?;
            for entry in found {
                rows::set_erased(&mut tx, entry.index).await?;
                let record = entry.payload.and_then(|p| serde_json::from_slice(&p.json).ok());
                if let Some(record) = &record {
                    copies::forget(&mut tx, entry.index, record).await?;
                }
            }
        }
        let mut log = self.open(&mut tx).await?;
        tx.commit().await.doing("drop the copies of erased entries")?;
        // A crash before this line: the next start finds the payloads, and the entry that tells that
        // they should be gone.
        let log = blocking(move || log.erase_all(&positions).map(|()| log)).await?;
        self.log = Some(log);
        self.db.scrub().await
    }
}

/// Takes what waits, up to one commit's worth; what does not fit is returned.
fn gather(batch: &mut Vec<Append>, commands: &mut mpsc::Receiver<Command>) -> Option<Command> {
    let mut count: usize = batch.iter().map(|append| append.entries.len()).sum();
    let mut bytes: usize = batch.iter().map(Append::bytes).sum();
    if batch.iter().any(Append::rotates) {
        return None;
    }
    loop {
        match commands.try_recv() {
            Ok(Command::Append(append)) => {
                count += append.entries.len();
                bytes += append.bytes();
                if count > BATCH_MAX || bytes > BATCH_BYTES_MAX || append.rotates() {
                    return Some(Command::Append(append));
                }
                batch.push(append);
            }
            Ok(other) => return Some(other),
            Err(_) => return None,
        }
    }
}

async fn stage(
    mut log: Log<Dir>,
    drafts: Vec<Draft>,
    rotation: Option<guard_audit::log::LogKey>,
) -> Result<(Log<Dir>, Staged, Vec<Draft>), StoreError> {
    blocking(move || {
        let now = clock::unix_ms();
        let staged = match (&rotation, drafts.first()) {
            (Some(new), Some(draft)) => log.stage_rotation(draft, new, now)?,
            _ => log.stage(&drafts, now)?,
        };
        Ok((log, staged, drafts))
    })
    .await
}

async fn publish(mut log: Log<Dir>, staged: Staged) -> Result<Log<Dir>, StoreError> {
    blocking(move || log.publish(staged).map(|_| log)).await
}

/// File work of the log, off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, StoreError> {
    match spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(StoreError::Log { problem: chain_of(&error) }),
        Err(_) => Err(StoreError::Log { problem: "it panicked".into() }),
    }
}

/// An error with its causes.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        text = format!("{text}: {deeper}");
        cause = deeper.source();
    }
    text
}
