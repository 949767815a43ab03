//! The spool's writer: sequence, write, flush, publish; in groups.

use super::{
    Entry, Shared, SpoolConfig, SpoolError,
    disk::{SEGMENT_BYTES, Segment, cut, open_segment, segment_path},
    frame,
};
use guard_audit::{Event, log::PAYLOAD_BYTES_MAX};
use guard_model::{BootId, HostId};
use std::{
    fs::File,
    io::Write as _,
    path::PathBuf,
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// A group is flushed after this long …
const GROUP_WAIT: Duration = Duration::from_millis(5);
/// … or at this many records.
const GROUP_MAX: usize = 1024;
/// Wait before a failed write is tried again.
const RETRY_WAIT: Duration = Duration::from_millis(500);

pub(super) struct Writer {
    host: HostId,
    boot: BootId,
    shared: Arc<Shared>,
    durable: watch::Sender<u64>,
    /// This boot's folder.
    folder: PathBuf,
    open: Option<(File, Segment)>,
    last: u64,
}

impl Writer {
    pub(super) fn new(
        config: &SpoolConfig,
        shared: Arc<Shared>,
        durable: watch::Sender<u64>,
    ) -> Result<Self, SpoolError> {
        let (folder, newest, last) = {
            let disk = shared.disk();
            let log = disk.boots.values().find(|log| log.boot == config.boot);
            let log = log.ok_or_else(|| SpoolError::Foreign { path: config.root.clone() })?;
            (log.path.clone(), log.segments.last().cloned(), log.last)
        };
        let open = match newest {
            Some(segment) => Some((open_segment(&folder, &segment)?, segment)),
            None => None,
        };
        Ok(Self { host: config.host, boot: config.boot, shared, durable, folder, open, last })
    }

    /// Runs until every sender is gone and everything is written.
    pub(super) fn run(mut self, entries: &mpsc::Receiver<Entry>) {
        while let Ok(first) = entries.recv() {
            let group = collect(first, entries);
            let taken = group.len() as u64;
            let sequence = self.last + 1;
            let frames = self.frames(sequence, group);
            while let Err(error) = self.write(&frames) {
                if !self.shared.full.swap(true, Ordering::Relaxed) {
                    tracing::error!(
                        error = %anyhow::Error::new(error),
                        "evidence cannot be kept: actions that need a person are denied"
                    );
                }
                if self.shared.closing.load(Ordering::Relaxed) {
                    tracing::error!(records = frames.len(), "stopped with evidence unwritten");
                    return;
                }
                std::thread::sleep(RETRY_WAIT);
            }
            self.publish(frames.len() as u64);
            self.shared.written.fetch_add(taken, Ordering::Release);
        }
    }

    /// The group as records on disk, and what was lost since the last one.
    fn frames(&mut self, mut sequence: u64, group: Vec<Entry>) -> Vec<Vec<u8>> {
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        let loss = (lost > 0).then(|| {
            let event = Event::Lost { counter: "spool_full".to_owned(), count: lost };
            Entry::new(crate::clock::boottime_ns(), crate::clock::unix_ms(), None, &event)
        });
        let mut frames = Vec::with_capacity(group.len());
        for entry in group.into_iter().chain(loss) {
            let mut frame = Vec::new();
            frame::append(&self.json(sequence, &entry), &mut frame);
            frames.push(frame);
            sequence += 1;
        }
        frames
    }

    /// A record that is too large for the log (or cannot be told) is replaced by the word that it is
    /// lost: the sequence has no gap, and the controller refuses nothing that would then wait for ever.
    fn json(&self, sequence: u64, entry: &Entry) -> Vec<u8> {
        let json = entry.to_json(self.host, self.boot, sequence);
        if json.len() <= PAYLOAD_BYTES_MAX && !entry.event.is_empty() {
            return json;
        }
        let event = Event::Lost { counter: "record_too_large".to_owned(), count: 1 };
        let word = Entry::new(entry.boottime_ns, entry.unix_ms, entry.session, &event);
        word.to_json(self.host, self.boot, sequence)
    }

    /// Makes the frames durable, all or none. A crash here leaves a torn end, which the next start
    /// cuts: nobody has been told of these records.
    fn write(&mut self, frames: &[Vec<u8>]) -> Result<(), SpoolError> {
        let bytes: Vec<u8> = frames.concat();
        if !self.shared.disk().make_room(bytes.len() as u64, self.shared.limit)? {
            let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(SpoolError::io("write more to", &self.folder, error));
        }
        self.rotate()?;
        let Some((file, segment)) = &mut self.open else {
            return Err(SpoolError::Foreign { path: self.folder.clone() });
        };
        let written = file.write_all(&bytes).and_then(|()| file.sync_data());
        if let Err(source) = written {
            // What was written of it must not stay before the second try.
            let path = segment_path(&self.folder, segment.first);
            let whole = segment.clone();
            self.open = None;
            cut(&path, whole.bytes)?;
            self.open = Some((open_segment(&self.folder, &whole)?, whole));
            return Err(SpoolError::io("write", &path, source));
        }
        segment.bytes += bytes.len() as u64;
        let mut disk = self.shared.disk();
        disk.bytes += bytes.len() as u64;
        let log = disk.boots.values_mut().find(|log| log.boot == self.boot);
        if let Some(last) = log.and_then(|log| log.segments.last_mut()) {
            last.bytes = segment.bytes;
        }
        Ok(())
    }

    /// Begins a new segment if there is none or the open one is long enough.
    fn rotate(&mut self) -> Result<(), SpoolError> {
        if self.open.as_ref().is_some_and(|(_, segment)| segment.bytes < SEGMENT_BYTES) {
            return Ok(());
        }
        if self.open.is_none() {
            // A failed write lost the open file: go on where the disk knows that it ended.
            let last = self.segment_on_disk();
            if let Some(segment) = last.filter(|segment| segment.bytes < SEGMENT_BYTES) {
                cut(&segment_path(&self.folder, segment.first), segment.bytes)?;
                self.open = Some((open_segment(&self.folder, &segment)?, segment));
                return Ok(());
            }
        }
        let segment = Segment { first: self.last + 1, bytes: 0 };
        self.open = Some((open_segment(&self.folder, &segment)?, segment.clone()));
        let mut disk = self.shared.disk();
        let log = disk.boots.values_mut().find(|log| log.boot == self.boot);
        if let Some(log) = log.filter(|log| log.segments.last() != Some(&segment)) {
            log.segments.push(segment);
        }
        Ok(())
    }

    fn segment_on_disk(&self) -> Option<Segment> {
        let disk = self.shared.disk();
        disk.boots.values().find(|log| log.boot == self.boot)?.segments.last().cloned()
    }

    fn publish(&mut self, count: u64) {
        self.last += count;
        let mut disk = self.shared.disk();
        if let Some(log) = disk.boots.values_mut().find(|log| log.boot == self.boot) {
            log.last = self.last;
        }
        self.shared.note(&disk);
        drop(disk);
        self.shared.full.store(false, Ordering::Relaxed);
        self.durable.send_replace(self.last);
    }
}

/// What comes until the group is full or its time is over. It sleeps rather than wait for the next event:
/// whoever records one would have to wake this thread, and a session's action would wait for that.
fn collect(first: Entry, entries: &mpsc::Receiver<Entry>) -> Vec<Entry> {
    let end = Instant::now() + GROUP_WAIT;
    let mut group = vec![first];
    loop {
        group.extend(entries.try_iter().take(GROUP_MAX - group.len()));
        let left = end.saturating_duration_since(Instant::now());
        if group.len() == GROUP_MAX || left.is_zero() {
            return group;
        }
        std::thread::sleep(left);
    }
}
