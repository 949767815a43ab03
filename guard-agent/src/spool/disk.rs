//! The spool's files: one folder a boot, in it segments and the acknowledged position.
//!
//! ```text
//! spool/00000001-<boot id>/00000000000000000001.seg   records from sequence 1
//!                          00000000000000004711.seg   records from sequence 4711
//!                          acked                      decimal: durable at the controller
//! ```
//! Folders are numbered, so that earlier boots are sent first. A crash can only tear the end of
//! the newest segment; [`Disk::open`] cuts it and says how much.

use super::{
    SpoolError,
    frame::{self, Frame},
};
use guard_model::BootId;
use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// A segment is closed at this size: the unit in which room is made, 1/64 of the default limit.
pub const SEGMENT_BYTES: u64 = 4 << 20;

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sequence of its first record.
    pub first: u64,
    /// Whole records in it, bytes.
    pub bytes: u64,
}

/// One boot's records.
#[derive(Clone, Debug)]
pub struct BootLog {
    /// Which boot.
    pub boot: BootId,
    /// Its folder.
    pub path: PathBuf,
    /// By first sequence; the last one is being written.
    pub segments: Vec<Segment>,
    /// Sequence of the last record, or 0.
    pub last: u64,
    /// Durable at the controller.
    pub acked: u64,
}

/// All boots' records.
#[derive(Debug)]
pub struct Disk {
    /// By folder number; the last one is this boot's.
    pub boots: BTreeMap<u32, BootLog>,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Bytes that a crash had left half-written at the end of a segment, and that were cut.
    pub cut_bytes: u64,
}

impl Disk {
    /// Opens or creates the spool, with a folder for `boot`.
    ///
    /// # Errors
    /// A folder or file cannot be read, written or understood; it is named.
    pub fn open(root: &Path, boot: BootId) -> Result<Self, SpoolError> {
        let create = || fs::DirBuilder::new().recursive(true).mode(0o700).create(root);
        create().map_err(|source| SpoolError::io("create", root, source))?;
        let mut disk = Self { boots: BTreeMap::new(), bytes: 0, cut_bytes: 0 };
        for (number, found, path) in boot_folders(root)? {
            let log = disk.open_boot(found, path)?;
            disk.boots.insert(number, log);
        }
        if !disk.boots.values().any(|log| log.boot == boot) {
            let number = disk.boots.last_key_value().map_or(1, |(last, _)| last + 1);
            let path = root.join(format!("{number:08}-{boot}"));
            let create = fs::DirBuilder::new().mode(0o700).create(&path);
            create.map_err(|source| SpoolError::io("create", &path, source))?;
            sync_dir(root)?;
            let log = BootLog { boot, path, segments: Vec::new(), last: 0, acked: 0 };
            disk.boots.insert(number, log);
        }
        Ok(disk)
    }

    fn open_boot(&mut self, boot: BootId, path: PathBuf) -> Result<BootLog, SpoolError> {
        let mut segments = segments(&path)?;
        let acked = read_acked(&path)?;
        let mut log = BootLog { boot, path, segments: Vec::new(), last: acked, acked };
        // Only the newest can be torn; one that is torn to nothing leaves the one before as newest,
        // and that one was complete when the next was begun.
        if let Some(newest) = segments.last_mut() {
            let file = segment_path(&log.path, newest.first);
            let (whole, count) = scan(&file)?;
            if whole < newest.bytes {
                self.cut_bytes += newest.bytes - whole;
                cut(&file, whole)?;
            }
            newest.bytes = whole;
            log.last = newest.first + count - 1;
        }
        // Less than what was acknowledged cannot be: an acknowledged record was durable first.
        if log.last < log.acked {
            return Err(SpoolError::Missing { path: log.path, last: log.last, acked });
        }
        self.bytes += segments.iter().map(|segment| segment.bytes).sum::<u64>();
        log.segments = segments;
        Ok(log)
    }

    /// Deletes the oldest segments that are acknowledged until `bytes` fit below `limit`. False:
    /// there is no room, and nothing more may be deleted.
    ///
    /// # Errors
    /// A segment cannot be deleted.
    pub fn make_room(&mut self, bytes: u64, limit: u64) -> Result<bool, SpoolError> {
        while self.bytes + bytes > limit {
            let Some((number, segment)) = self.oldest_acked() else { return Ok(false) };
            let Some(log) = self.boots.get_mut(&number) else { return Ok(false) };
            let path = segment_path(&log.path, segment.first);
            fs::remove_file(&path).map_err(|source| SpoolError::io("delete", &path, source))?;
            log.segments.remove(0);
            self.bytes -= segment.bytes;
            // An earlier boot that is empty now has nothing left to say.
            if log.segments.is_empty()
                && self.boots.last_key_value().map(|(n, _)| *n) != Some(number)
            {
                let path = self.boots.remove(&number).map(|log| log.path).unwrap_or_default();
                fs::remove_dir_all(&path)
                    .map_err(|source| SpoolError::io("delete", &path, source))?;
            }
        }
        Ok(true)
    }

    /// The oldest segment, if it is closed and acknowledged.
    fn oldest_acked(&self) -> Option<(u32, Segment)> {
        let newest_boot = *self.boots.last_key_value()?.0;
        let (number, log) = self.boots.iter().find(|(_, log)| !log.segments.is_empty())?;
        let last = match log.segments.get(1) {
            Some(next) => next.first - 1,
            None if *number != newest_boot => log.last,
            None => return None,
        };
        (last <= log.acked).then(|| (*number, log.segments[0].clone()))
    }

    /// Remembers what is durable at the controller. Not flushed: an older position only re-sends.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn ack(&mut self, boot: BootId, sequence: u64) -> Result<(), SpoolError> {
        let Some(log) = self.boots.values_mut().find(|log| log.boot == boot) else { return Ok(()) };
        if sequence <= log.acked || sequence > log.last {
            return Ok(());
        }
        log.acked = sequence;
        let (path, new) = (log.path.join("acked"), log.path.join("acked.new"));
        fs::write(&new, sequence.to_string())
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|source| SpoolError::io("write", &path, source))
    }
}

/// The logs as they are, nothing cut and nothing created: for readers beside the writer.
///
/// # Errors
/// A folder cannot be read or understood.
pub(super) fn list(root: &Path) -> Result<Vec<BootLog>, SpoolError> {
    let logs = boot_folders(root)?.into_iter().map(|(_, boot, path)| {
        let segments = segments(&path)?;
        Ok(BootLog { boot, path, segments, last: 0, acked: 0 })
    });
    logs.collect()
}

fn boot_folders(root: &Path) -> Result<Vec<(u32, BootId, PathBuf)>, SpoolError> {
    let failed = |source| SpoolError::io("list", root, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let parsed = name
            .split_once('-')
            .and_then(|(number, boot)| Some((number.parse().ok()?, boot.parse().ok()?)));
        let Some((number, boot)) = parsed else { return Err(SpoolError::Foreign { path }) };
        found.push((number, boot, path));
    }
    found.sort();
    Ok(found)
}

fn segments(folder: &Path) -> Result<Vec<Segment>, SpoolError> {
    let failed = |source| SpoolError::io("list", folder, source);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let first = name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse().ok());
        if let Some(first) = first {
            found.push(Segment { first, bytes: entry.metadata().map_err(failed)?.len() });
        }
    }
    found.sort_by_key(|segment| segment.first);
    Ok(found)
}

/// Bytes and number of the whole records at the start of a segment.
fn scan(path: &Path) -> Result<(u64, u64), SpoolError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|source| SpoolError::io("read", path, source))?;
    let (mut at, mut count) = (0, 0);
    while let Frame::Whole(_, len) = frame::first(bytes.get(at..).unwrap_or_default()) {
        at += len;
        count += 1;
    }
    Ok((at as u64, count))
}

/// Cuts a segment down to its whole records.
pub(super) fn cut(path: &Path, bytes: u64) -> Result<(), SpoolError> {
    let cut = || {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(bytes)?;
        file.sync_all()
    };
    cut().map_err(|source| SpoolError::io("cut", path, source))
}

fn read_acked(folder: &Path) -> Result<u64, SpoolError> {
    let path = folder.join("acked");
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| SpoolError::Foreign { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(SpoolError::io("read", &path, source)),
    }
}

/// Path of a segment.
pub(super) fn segment_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.seg"))
}

/// Opens a segment for appending at `bytes`; creates it if it is new.
pub(super) fn open_segment(folder: &Path, segment: &Segment) -> Result<File, SpoolError> {
    let path = segment_path(folder, segment.first);
    let open = || {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        file.seek(SeekFrom::Start(segment.bytes))?;
        file.flush()?;
        Ok(file)
    };
    let file = open().map_err(|source| SpoolError::io("open", &path, source))?;
    if segment.bytes == 0 {
        sync_dir(folder)?;
    }
    Ok(file)
}

fn sync_dir(path: &Path) -> Result<(), SpoolError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| SpoolError::io("flush", path, source))
}
