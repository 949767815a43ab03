//! The engine: one writer, which stages, publishes and, after any trouble, is opened again.

use super::{
    BATCH_MAX, Chains, Checkpoint, Draft, ENTRY_BYTES_MAX, Envelope, Hash, Head, LogError, LogKey,
    PAYLOAD_BYTES_MAX, Payload, Storage, TILE_WIDTH, VerifierKey,
    files::{CHECKPOINT, KEYS, append, file, list, put, read, remove, replace, require, sync},
    handover,
    journal::{self, Commit},
    payload,
    recover::{load_bundle, load_edge, load_payload_len, recover},
    tree::{Edge, NewTile, bundle_name, leaf_hash, tile_name},
};
use crate::Event;
use rand::RngCore as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

/// A journal that is longer is retired, bytes: bounds what an open has to replay (below a second)
/// and what stands on the disk twice.
pub const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// Payload bytes that one commit may have: bounds memory; every record fits many times.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Staged,
    Broken,
}

/// The log, opened for writing.
pub struct Log<S> {
    storage: Arc<S>,
    key: LogKey,
    head: Checkpoint,
    edge: Edge,
    chains: Chains,
    /// Log time of the last entry, ms since 1970.
    time: u64,
    /// The incomplete bundle.
    bundle: Vec<u8>,
    /// Bytes of the last payload file that count.
    payload_len: u64,
    state: State,
    journal: String,
    journal_len: u64,
    /// The tree that is durable without any journal.
    base: Head,
    /// Complete files that only the journal makes durable.
    unsynced: BTreeSet<String>,
    /// Directories of partial tiles that can go once `base` has moved.
    outgrown: Vec<String>,
    retiring: Option<JoinHandle<io::Result<()>>>,
    committed: Arc<AtomicU64>,
}

/// A commit that is durable in the journal and not yet counts.
#[derive(Debug)]
pub struct Staged {
    /// The checkpoint that the head must still be at.
    pub before: Checkpoint,
    /// The checkpoint that the head becomes.
    pub after: Checkpoint,
    /// What the entries become, in order.
    pub entries: Vec<Committed>,
    commit: Commit,
    tiles: Vec<NewTile>,
    /// The key that signs from now on.
    next: Option<LogKey>,
}

/// One entry of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Position in the log, from 0.
    pub index: u64,
    /// Its leaf hash.
    pub leaf_hash: Hash,
    /// Its leaf.
    pub envelope: Envelope,
}

impl<S: Storage + 'static> Log<S> {
    /// Makes a new, empty log. The head that the caller must keep is [`Log::head`].
    ///
    /// # Errors
    /// There is one already, or it cannot be written.
    pub fn create(storage: S, key: &LogKey) -> Result<Self, LogError> {
        let names = list(&storage, journal::DIR)?;
        if !names.is_empty() || read(&storage, CHECKPOINT)?.is_some() {
            return Err(LogError::Exists);
        }
        let head = Head { size: 0, root: super::EMPTY_ROOT };
        let checkpoint = Checkpoint::sign(&[key], head)?;
        put(&storage, KEYS, format!("{}\n", key.verifier().as_str()).as_bytes())?;
        put(&storage, CHECKPOINT, checkpoint.text().as_bytes())?;
        sync(&storage, &[KEYS.into(), CHECKPOINT.into()])?;
        // A crash before this line leaves a log without a journal, which open refuses: it never
        // had an entry and can be removed.
        let name = journal::file_name(0, rand::thread_rng().next_u64());
        append(&storage, &name, &journal::header(head))?;
        let text = checkpoint.text().to_owned();
        Self::open(storage, key, text.as_bytes())
    }

    /// Opens the log whose head is `head`: replays what the files lack, and verifies that they
    /// lead to that head. The chains of hosts are the caller's to restore.
    ///
    /// # Errors
    /// [`LogError`] says what does not fit; nothing is repaired that was not committed.
    pub fn open(storage: S, key: &LogKey, head: &[u8]) -> Result<Self, LogError> {
        let head = Checkpoint::parse(head).map_err(|e| LogError::damaged("the head", e))?;
        head.verify(key.verifier()).map_err(|e| LogError::damaged("the head", e))?;
        let published = require(&storage, CHECKPOINT)?;
        // Its name is durable before its content is: after a power loss it may be empty.
        if !published.is_empty() {
            let published =
                Checkpoint::parse(&published).map_err(|e| LogError::damaged(CHECKPOINT, e))?;
            let (files, head) = (published.head.size, head.head.size);
            if files > head {
                return Err(LogError::HeadDiffers { files, head });
            }
        }
        let (base, commits, journals) = recover(&storage, head.head)?;
        let mut log = Self {
            edge: load_edge(&storage, base)?,
            bundle: load_bundle(&storage, base.size)?,
            payload_len: load_payload_len(&storage, base.size)?,
            storage: Arc::new(storage),
            key: key.clone(),
            head,
            chains: Chains::default(),
            time: 0,
            state: State::Broken,
            journal: String::new(),
            journal_len: 0,
            base,
            unsynced: BTreeSet::new(),
            outgrown: Vec::new(),
            retiring: None,
            committed: Arc::new(AtomicU64::new(0)),
        };
        for commit in &commits {
            log.replay(commit)?;
        }
        if log.edge.root() != log.head.head.root {
            return Err(LogError::damaged("the journal", "it does not lead to the head"));
        }
        log.time = log.last_time()?;
        if published != log.head.text().as_bytes() {
            put(&*log.storage, CHECKPOINT, log.head.text().as_bytes())?;
        }
        log.start_journal()?;
        log.sync_all()?;
        for name in journals {
            remove(&*log.storage, &format!("{}/{name}", journal::DIR))?;
        }
        log.base = log.head.head;
        log.committed.store(log.head.head.size, Ordering::Release);
        log.state = State::Ready;
        Ok(log)
    }

    /// The last committed checkpoint.
    #[must_use]
    pub fn head(&self) -> &Checkpoint {
        &self.head
    }

    /// The chains of hosts, which the caller restores after opening.
    pub fn chains(&mut self) -> &mut Chains {
        &mut self.chains
    }

    /// How many entries are committed; shared with readers.
    #[must_use]
    pub fn committed(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.committed)
    }

    /// Where its files are.
    #[must_use]
    pub fn storage(&self) -> Arc<S> {
        Arc::clone(&self.storage)
    }

    /// Whether it must be opened again.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Writes a commit into the journal, durably. It does not count before the caller has swapped
    /// the head from `before` to `after`; then comes [`Log::publish`].
    ///
    /// # Errors
    /// Too large, which changes nothing; else the log is broken.
    pub fn stage(&mut self, drafts: &[Draft], now_unix_ms: u64) -> Result<Staged, LogError> {
        if drafts.iter().any(|draft| matches!(draft.record.event, Event::LogKeyRotated { .. })) {
            return Err(LogError::NotARotation);
        }
        self.stage_signed(drafts, now_unix_ms, None)
    }

    /// As [`Log::stage`], for the one record that says that `new` signs from now on: the checkpoint
    /// is signed by both keys. The new key must be durable before.
    ///
    /// # Errors
    /// As [`Log::stage`]; the record says something else, or the key is of another log.
    pub fn stage_rotation(
        &mut self,
        draft: &Draft,
        new: &LogKey,
        now_unix_ms: u64,
    ) -> Result<Staged, LogError> {
        let (old_text, new_text) = (self.key.verifier().as_str(), new.verifier().as_str());
        match &draft.record.event {
            Event::LogKeyRotated { old, new: named, .. }
                if old == old_text && named == new_text && new.origin() == self.key.origin() => {}
            _ => return Err(LogError::NotARotation),
        }
        self.stage_signed(std::slice::from_ref(draft), now_unix_ms, Some(new))
    }

    fn stage_signed(
        &mut self,
        drafts: &[Draft],
        now_unix_ms: u64,
        next: Option<&LogKey>,
    ) -> Result<Staged, LogError> {
        if self.state != State::Ready {
            return Err(LogError::Broken);
        }
        check_sizes(drafts)?;
        self.state = State::Broken;
        let time = self.time.max(now_unix_ms);
        let (mut entries, mut committed) = (Vec::new(), Vec::new());
        let mut tiles = Vec::new();
        let before = self.head.clone();
        for draft in drafts {
            let mut salt = [0; 32];
            rand::thread_rng().fill_bytes(&mut salt);
            let envelope = self.chains.seal(draft, time, &salt)?;
            let bytes = envelope.to_bytes();
            if bytes.len() > ENTRY_BYTES_MAX {
                let (len, max) = (bytes.len(), ENTRY_BYTES_MAX);
                return Err(LogError::TooLarge { what: "an entry", len, max });
            }
            let leaf = leaf_hash(&bytes);
            self.chains.follow(&envelope, leaf);
            committed.push(Committed { index: self.edge.size(), leaf_hash: leaf, envelope });
            self.edge.push(leaf, &mut tiles);
            let payload = Payload { salt, json: draft.json.clone().into_bytes() };
            entries.push((bytes, Some(payload)));
        }
        tiles.extend(self.edge.partial(before.head.size));
        let head = Head { size: self.edge.size(), root: self.edge.root() };
        let keys: Vec<_> = std::iter::once(&self.key).chain(next).collect();
        let after = Checkpoint::sign(&keys, head)?;
        let checkpoint = after.text().as_bytes().to_vec();
        let commit = Commit { before: before.head, after: head, checkpoint, entries };
        let frame = commit.encode();
        append(&*self.storage, &self.journal, &frame)?;
        // A crash here: durable, but no head names it; the next open leaves it out.
        self.journal_len += frame.len() as u64;
        self.time = time;
        self.state = State::Staged;
        Ok(Staged { before, after, entries: committed, commit, tiles, next: next.cloned() })
    }

    /// Writes the files of a commit whose head the caller has swapped. Then it can be acknowledged.
    ///
    /// # Errors
    /// The entries are committed all the same; the log is broken, and opening it writes the files.
    pub fn publish(&mut self, staged: Staged) -> Result<Vec<Committed>, LogError> {
        if self.state != State::Staged {
            return Err(LogError::Broken);
        }
        self.state = State::Broken;
        let published = require(&*self.storage, CHECKPOINT)?;
        if published != staged.before.text().as_bytes() {
            return Err(LogError::OtherWriter);
        }
        self.write_entries(&staged.commit)?;
        self.write_tiles(&staged.tiles)?;
        self.put_checkpoint(&staged.after)?;
        self.head = staged.after;
        if let Some(next) = staged.next {
            self.key = next;
        }
        self.committed.store(self.head.head.size, Ordering::Release);
        self.state = State::Ready;
        if self.journal_len > JOURNAL_BYTES_MAX {
            self.state = State::Broken;
            self.retire_journal()?;
            self.state = State::Ready;
        }
        Ok(staged.entries)
    }

    /// Makes everything durable and leaves an empty journal.
    ///
    /// # Errors
    /// A file could not be made durable; the log is broken, nothing is lost.
    pub fn settle(&mut self) -> Result<(), LogError> {
        if self.state != State::Ready {
            return Err(LogError::Broken);
        }
        self.state = State::Broken;
        self.retire_journal()?;
        self.join_retiring()?;
        self.state = State::Ready;
        Ok(())
    }

    /// Erases the payload and the salt of an entry. Its leaf and all proofs stay. Whoever calls
    /// this logs a [`crate::Event::PayloadErased`] first.
    ///
    /// # Errors
    /// There is no such entry, or the file cannot be written; it is either old or new.
    pub fn erase(&mut self, index: u64) -> Result<(), LogError> {
        // The journal has payloads too.
        self.settle()?;
        let size = self.head.head.size;
        let name = payload::file_name(index / TILE_WIDTH);
        if index >= size {
            return Err(LogError::NoEntry { index, size });
        }
        let bytes = require(&*self.storage, &name)?;
        let count = TILE_WIDTH.min(size - index / TILE_WIDTH * TILE_WIDTH);
        let (mut rest, mut out) = (&bytes[..], Vec::with_capacity(bytes.len()));
        for at in 0..count {
            let before = rest;
            payload::decode(&mut rest).map_err(|problem| {
                LogError::damaged(&name, format!("payload {at} of this file: {problem}"))
            })?;
            if at == index % TILE_WIDTH {
                payload::encode(None, &mut out);
            } else {
                out.extend(&before[..before.len() - rest.len()]);
            }
        }
        self.state = State::Broken;
        replace(&*self.storage, &name, &out)?;
        if index / TILE_WIDTH == size / TILE_WIDTH {
            self.payload_len = out.len() as u64;
        }
        self.state = State::Ready;
        Ok(())
    }

    fn put_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), LogError> {
        put(&*self.storage, CHECKPOINT, checkpoint.text().as_bytes())
    }

    fn write_entries(&mut self, commit: &Commit) -> Result<(), LogError> {
        let mut payloads: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut index = commit.before.size;
        let mut offset = self.payload_len;
        for (entry, payload) in &commit.entries {
            let number = index / TILE_WIDTH;
            payload::encode(payload.as_ref(), payloads.entry(number).or_default());
            self.bundle.extend(u16::try_from(entry.len()).unwrap_or(u16::MAX).to_be_bytes());
            self.bundle.extend(entry);
            index += 1;
            if index.is_multiple_of(TILE_WIDTH) {
                let name = bundle_name(number, TILE_WIDTH);
                put(&*self.storage, &name, &self.bundle)?;
                self.bundle.clear();
                self.unsynced.insert(name);
            }
        }
        let (number, width) = (index / TILE_WIDTH, index % TILE_WIDTH);
        if width > 0 {
            put(&*self.storage, &bundle_name(number, width), &self.bundle)?;
        }
        let first = commit.before.size / TILE_WIDTH;
        for (number, bytes) in payloads {
            let name = payload::file_name(number);
            let at = if number == first { offset } else { 0 };
            self.storage.write_tail(&name, at, &bytes).map_err(file(&name, "cannot be written"))?;
            offset = at + bytes.len() as u64;
            self.unsynced.insert(name);
        }
        self.payload_len = if width > 0 { offset } else { 0 };
        self.write_handover(commit)
    }

    /// A commit that two keys have signed stays where verifiers find it.
    fn write_handover(&mut self, commit: &Commit) -> Result<(), LogError> {
        let checkpoint = Checkpoint::parse(&commit.checkpoint)
            .map_err(|problem| LogError::damaged("the journal", problem))?;
        if checkpoint.signatures().lines().count() < 2 {
            return Ok(());
        }
        let Some((_, Some(payload))) = commit.entries.last() else { return Ok(()) };
        let Some((old, new)) = handover::keys(&payload.json) else { return Ok(()) };
        let name = handover::file_name(commit.after.size);
        replace(&*self.storage, &name, &commit.checkpoint)?;
        // For information only: a list that a crash has damaged begins anew.
        let mut keys = super::own_keys(&*self.storage).unwrap_or_default();
        for text in [old, new] {
            if !keys.iter().any(|key| key.as_str() == text) {
                keys.push(VerifierKey::parse(&text)?);
            }
        }
        let text: String = keys.iter().map(|key| format!("{}\n", key.as_str())).collect();
        replace(&*self.storage, KEYS, text.as_bytes())
    }

    fn write_tiles(&mut self, tiles: &[NewTile]) -> Result<(), LogError> {
        for tile in tiles {
            put(&*self.storage, &tile.name(), tile.hashes.as_flattened())?;
        }
        let base = Edge::shape(self.base.size);
        for tile in tiles.iter().filter(|tile| tile.hashes.len() as u64 == TILE_WIDTH) {
            self.unsynced.insert(tile.name());
            let mut outgrown = vec![format!("{}.p", tile.name())];
            if tile.level == 0 {
                outgrown.push(format!("{}.p", bundle_name(tile.number, TILE_WIDTH)));
            }
            // The full tile is not durable yet; until it is, recovery stands on the partial one.
            let needed = base.get(usize::from(tile.level)).is_some_and(|(n, _)| *n == tile.number);
            if needed {
                self.outgrown.extend(outgrown);
            } else {
                outgrown.iter().try_for_each(|name| remove(&*self.storage, name))?;
            }
        }
        Ok(())
    }

    fn replay(&mut self, commit: &Commit) -> Result<(), LogError> {
        let mut tiles = Vec::new();
        for (entry, _) in &commit.entries {
            self.edge.push(leaf_hash(entry), &mut tiles);
        }
        tiles.extend(self.edge.partial(commit.before.size));
        self.write_entries(commit)?;
        self.write_tiles(&tiles)
    }

    fn start_journal(&mut self) -> Result<(), LogError> {
        let head = self.head.head;
        self.journal = journal::file_name(head.size, rand::thread_rng().next_u64());
        let header = journal::header(head);
        append(&*self.storage, &self.journal, &header)?;
        self.journal_len = header.len() as u64;
        Ok(())
    }

    /// Everything that is not durable by itself.
    fn take_unsynced(&mut self) -> Vec<String> {
        let mut names: Vec<_> = std::mem::take(&mut self.unsynced).into_iter().collect();
        let size = self.head.head.size;
        for (level, (number, width)) in (0_u8..).zip(Edge::shape(size)) {
            if width > 0 {
                names.push(tile_name(level, number, width));
            }
        }
        if !size.is_multiple_of(TILE_WIDTH) {
            names.push(bundle_name(size / TILE_WIDTH, size % TILE_WIDTH));
        }
        names.push(CHECKPOINT.into());
        names
    }

    fn sync_all(&mut self) -> Result<(), LogError> {
        let names = self.take_unsynced();
        sync(&*self.storage, &names)?;
        std::mem::take(&mut self.outgrown).iter().try_for_each(|name| remove(&*self.storage, name))
    }

    /// Starts a new journal; the former one goes when all its files are durable.
    fn retire_journal(&mut self) -> Result<(), LogError> {
        self.join_retiring()?;
        let old = self.journal.clone();
        self.start_journal()?;
        let names = self.take_unsynced();
        let outgrown = std::mem::take(&mut self.outgrown);
        let storage = Arc::clone(&self.storage);
        self.base = self.head.head;
        self.retiring = Some(std::thread::spawn(move || {
            storage.sync(&names)?;
            // A crash before this line replays the old journal and the new one after it.
            storage.remove(&old)?;
            outgrown.iter().try_for_each(|name| storage.remove(name))
        }));
        Ok(())
    }

    fn join_retiring(&mut self) -> Result<(), LogError> {
        let Some(thread) = self.retiring.take() else { return Ok(()) };
        let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("panicked")));
        ended.map_err(file(journal::DIR, "a journal's files cannot be made durable"))
    }

    fn last_time(&self) -> Result<u64, LogError> {
        let size = self.head.head.size;
        let Some(last) = size.checked_sub(1) else { return Ok(0) };
        let number = last / TILE_WIDTH;
        let name = bundle_name(number, TILE_WIDTH);
        let bytes = match size.is_multiple_of(TILE_WIDTH) {
            true => require(&*self.storage, &name)?,
            false => self.bundle.clone(),
        };
        let entries = super::read::split_bundle(&name, number, &bytes)?;
        let last = entries.last().copied().unwrap_or_default();
        let envelope = Envelope::parse(last).map_err(|e| LogError::damaged(name, e.to_string()))?;
        Ok(envelope.time)
    }
}

impl<S> Drop for Log<S> {
    fn drop(&mut self) {
        // What it removes must not be removed under the next one that opens.
        if let Some(thread) = self.retiring.take() {
            let _ = thread.join();
        }
    }
}

fn check_sizes(drafts: &[Draft]) -> Result<(), LogError> {
    if drafts.is_empty() || drafts.len() > BATCH_MAX {
        return Err(LogError::BatchTooLong(drafts.len()));
    }
    if let Some(long) = drafts.iter().find(|draft| draft.json.len() > PAYLOAD_BYTES_MAX) {
        let (len, max) = (long.json.len(), PAYLOAD_BYTES_MAX);
        return Err(LogError::TooLarge { what: "a record", len, max });
    }
    let len = drafts.iter().map(|draft| draft.json.len()).sum();
    if len > BATCH_BYTES_MAX {
        return Err(LogError::TooLarge { what: "a batch", len, max: BATCH_BYTES_MAX });
    }
    Ok(())
}
