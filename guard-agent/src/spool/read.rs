//! Reading the spool: in batches for the link, whole for the export.

use super::{
    Shared, SpoolError,
    disk::{BootLog, Segment, segment_path},
    frame::{self, Frame, HEADER, RECORD_MAX},
};
use guard_model::BootId;
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    path::Path,
    sync::Arc,
};
use tokio::sync::watch;

/// Records in order, of one boot.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// Which boot.
    pub boot: BootId,
    /// Sequence and JSON.
    pub records: Vec<(u64, Vec<u8>)>,
}

/// Where the reader is.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    boot: BootId,
    /// Sequence of the next record.
    next: u64,
    /// First sequence of its segment.
    segment: u64,
    /// Its place in there, bytes.
    offset: u64,
}

/// Reads what is durable and not yet acknowledged.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    durable: watch::Receiver<u64>,
    cursor: Option<Cursor>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, durable: watch::Receiver<u64>) -> Self {
        Self { shared, durable, cursor: None }
    }

    /// Starts again behind the last acknowledged record: after a reconnect.
    pub fn rewind(&mut self) {
        self.cursor = None;
    }

    /// Where acknowledgements go while this reader is busy.
    #[must_use]
    pub fn acknowledger(&self) -> Acknowledger {
        Acknowledger(self.shared.clone())
    }

    /// Whether the controller has everything.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        self.shared.disk().boots.values().all(|log| log.acked >= log.last)
    }

    /// Waits until more is durable. False: the writer has stopped.
    pub async fn wait(&mut self) -> bool {
        self.durable.changed().await.is_ok()
    }

    /// The next records, at least one and at most `max_bytes` of JSON, or none yet.
    ///
    /// # Errors
    /// A segment cannot be read, or is damaged.
    pub fn next(&mut self, max_bytes: usize) -> Result<Option<Batch>, SpoolError> {
        // Seen before the disk is looked at: what becomes durable later wakes `wait`.
        self.durable.borrow_and_update();
        loop {
            let Some(start) = self.locate() else { return Ok(None) };
            let (log, segment, cursor) = start;
            let path = segment_path(&log.path, segment.first);
            let mut file = SegmentReader::open(&path, cursor.offset, segment.bytes)?;
            let mut cursor = if cursor.next > segment.first && cursor.offset == 0 {
                skip(&mut file, cursor)?
            } else {
                cursor
            };
            let (mut records, mut bytes) = (Vec::new(), 0);
            while cursor.next <= log.last {
                let Some(json) = file.peek()? else { break };
                if !records.is_empty() && bytes + json.len() > max_bytes {
                    break;
                }
                bytes += json.len();
                cursor.offset += (HEADER + json.len()) as u64;
                records.push((cursor.next, json));
                file.advance();
                cursor.next += 1;
            }
            self.cursor = Some(cursor);
            if !records.is_empty() {
                return Ok(Some(Batch { boot: log.boot, records }));
            }
        }
    }

    /// The boot and segment that the next record is in; none if everything durable was read.
    fn locate(&self) -> Option<(BootLog, Segment, Cursor)> {
        let disk = self.shared.disk();
        let mut logs = disk.boots.values().peekable();
        if let Some(cursor) = self.cursor {
            while logs.next_if(|log| log.boot != cursor.boot).is_some() {}
        }
        let (log, next) = logs.find_map(|log| {
            let next = match self.cursor {
                Some(cursor) if cursor.boot == log.boot => cursor.next,
                _ => log.acked + 1,
            };
            (next <= log.last).then_some((log, next))
        })?;
        let segment = log.segments.iter().rev().find(|segment| segment.first <= next)?.clone();
        let cursor = match self.cursor {
            Some(cursor) if cursor.boot == log.boot && cursor.segment == segment.first => cursor,
            _ => Cursor { boot: log.boot, next, segment: segment.first, offset: 0 },
        };
        Some((log.clone(), segment, cursor))
    }
}

/// Remembers what the controller has made durable.
#[derive(Clone, Debug)]
pub struct Acknowledger(Arc<Shared>);

impl Acknowledger {
    /// All records of `boot` up to `sequence` are durable at the controller.
    ///
    /// # Errors
    /// The position cannot be written.
    pub fn ack(&self, boot: BootId, sequence: u64) -> Result<(), SpoolError> {
        let mut disk = self.0.disk();
        let done = disk.ack(boot, sequence);
        self.0.note(&disk);
        done
    }
}

/// Moves from the start of a segment to the record that the cursor names.
fn skip(file: &mut SegmentReader, mut cursor: Cursor) -> Result<Cursor, SpoolError> {
    for _ in cursor.segment..cursor.next {
        let Some(json) = file.peek()? else { break };
        cursor.offset += (HEADER + json.len()) as u64;
        file.advance();
    }
    Ok(cursor)
}

/// Reads frames from a segment, a window at a time.
struct SegmentReader {
    path: std::path::PathBuf,
    file: File,
    window: Vec<u8>,
    /// Bytes of the window that are used up.
    used: usize,
    /// Length of the frame that was peeked at.
    peeked: usize,
    /// Bytes of the segment that are behind the window.
    left: u64,
    at: u64,
}

/// Bytes that are read at once.
const WINDOW: usize = 256 << 10;

impl SegmentReader {
    fn open(path: &Path, offset: u64, end: u64) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::io("read", path, source);
        let mut file = File::open(path).map_err(failed)?;
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let left = end.saturating_sub(offset);
        let path = path.to_owned();
        Ok(Self { path, file, window: Vec::new(), used: 0, peeked: 0, left, at: offset })
    }

    /// The next record, or none at the end.
    fn peek(&mut self) -> Result<Option<Vec<u8>>, SpoolError> {
        loop {
            match frame::first(self.window.get(self.used..).unwrap_or_default()) {
                Frame::Whole(json, len) => {
                    self.peeked = len;
                    return Ok(Some(json.to_vec()));
                }
                Frame::End if self.left == 0 => return Ok(None),
                Frame::Torn if self.left == 0 || self.unread() > HEADER + RECORD_MAX => {
                    return Err(SpoolError::Damaged { path: self.path.clone(), at: self.at });
                }
                Frame::End | Frame::Torn => self.fill()?,
            }
        }
    }

    fn advance(&mut self) {
        self.used += self.peeked;
        self.at += self.peeked as u64;
        self.peeked = 0;
    }

    fn unread(&self) -> usize {
        self.window.len() - self.used
    }

    fn fill(&mut self) -> Result<(), SpoolError> {
        self.window.drain(..self.used);
        self.used = 0;
        let want = self.left.min(WINDOW as u64);
        let read = (&self.file).take(want).read_to_end(&mut self.window);
        let got = read.map_err(|source| SpoolError::io("read", &self.path, source))?;
        // A file that is shorter than it was is damaged, not endless.
        self.left = if got == 0 { 0 } else { self.left - got as u64 };
        Ok(())
    }
}

/// Writes the records that the spool in `root` has as NDJSON, oldest first, and says how many. `after`: of the last boot only,
/// and only what follows the record of this sequence. Works beside a running guard-agent; its half-written last record is
/// left out.
///
/// # Errors
/// The spool cannot be read, or `out` not written.
pub fn export(root: &Path, after: Option<u64>, out: &mut dyn Write) -> Result<u64, SpoolError> {
    let mut logs = super::disk::list(root)?;
    if after.is_some() {
        logs.drain(..logs.len().saturating_sub(1));
    }
    let (after, mut count) = (after.unwrap_or(0), 0);
    for log in logs {
        for (at, segment) in log.segments.iter().enumerate() {
            let next = log.segments.get(at + 1);
            if next.is_some_and(|next| next.first <= after.saturating_add(1)) {
                continue;
            }
            let path = segment_path(&log.path, segment.first);
            let mut file = SegmentReader::open(&path, 0, segment.bytes)?;
            let mut sequence = segment.first;
            loop {
                let json = match file.peek() {
                    Ok(Some(json)) => json,
                    Ok(None) => break,
                    // The record that is being written now.
                    Err(SpoolError::Damaged { .. }) if next.is_none() => break,
                    Err(error) => return Err(error),
                };
                file.advance();
                if sequence > after {
                    write_line(out, &json)
                        .map_err(|source| SpoolError::io("export", &path, source))?;
                    count += 1;
                }
                sequence += 1;
            }
        }
    }
    out.flush().map_err(|source| SpoolError::io("export", root, source))?;
    Ok(count)
}

fn write_line(out: &mut dyn Write, json: &[u8]) -> io::Result<()> {
    out.write_all(json)?;
    out.write_all(b"\n")
}
