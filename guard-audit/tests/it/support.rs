//! A storage that fails on demand, and records to log.

use guard_audit::{
    Event, LogReader as _, Record,
    log::{BATCH_MAX, Committed, DirReader, Draft, Log, LogError, LogKey, Storage},
};
use guard_model::{BootId, HostId};
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, atomic::AtomicU64},
};
use uuid::Uuid;

/// What a write does at the moment of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An error, and nothing happened.
    Fails,
    /// An error, and it happened.
    FailsButPersists,
    /// An error, and half of it happened.
    Torn,
    /// An error, and the second half of it happened: sectors reach a disk in any order.
    Scattered,
}

pub(crate) const FAULTS: [Fault; 4] =
    [Fault::Fails, Fault::FailsButPersists, Fault::Torn, Fault::Scattered];

/// Zeros behind what was appended, as a directory writes them ahead.
const AHEAD: usize = 100;

/// What is left of the files.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Crash {
    /// kill -9: all that was written.
    Kill,
    /// Power loss: what was made durable; the rest is gone or old.
    Power,
    /// Power loss: what was not durable is there, by name, and empty from where it was written.
    PowerEmpty,
}

pub(crate) const CRASHES: [Crash; 3] = [Crash::Kill, Crash::Power, Crash::PowerEmpty];

type Files = BTreeMap<String, Vec<u8>>;

#[derive(Debug, Default)]
struct Disk {
    /// What a reader sees.
    seen: Files,
    /// What survives a power loss.
    durable: Files,
    /// Names that differ, and how much of what was durable is surely left.
    dirty: BTreeMap<String, usize>,
    /// Where the next append to a file goes.
    ends: BTreeMap<String, usize>,
    writes: u64,
    fault: Option<(u64, Fault)>,
    tripped: bool,
}

/// Files in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Arc<Mutex<Disk>>);

impl Memory {
    pub(crate) fn fail_at(&self, write: u64, fault: Fault) {
        let mut disk = self.0.lock().unwrap();
        let at = disk.writes + write;
        disk.fault = Some((at, fault));
    }

    pub(crate) fn writes(&self) -> u64 {
        self.0.lock().unwrap().writes
    }

    /// Whether the fault has happened.
    pub(crate) fn tripped(&self) -> bool {
        self.0.lock().unwrap().tripped
    }

    pub(crate) fn after(&self, crash: Crash) -> Self {
        let disk = self.0.lock().unwrap();
        let files = match crash {
            Crash::Kill => disk.seen.clone(),
            Crash::Power => disk.durable.clone(),
            Crash::PowerEmpty => {
                let mut files = disk.durable.clone();
                for (name, left) in &disk.dirty {
                    if disk.seen.contains_key(name) {
                        files.entry(name.clone()).or_default().truncate(*left);
                    }
                }
                files
            }
        };
        Self(Arc::new(Mutex::new(Disk { durable: files.clone(), seen: files, ..Disk::default() })))
    }

    pub(crate) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.0.lock().unwrap();
        change(disk.seen.get_mut(name).unwrap());
        let bytes = disk.seen[name].clone();
        disk.durable.insert(name.into(), bytes);
    }

    /// The same files, apart.
    pub(crate) fn copy(&self) -> Self {
        self.after(Crash::Kill)
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        self.0.lock().unwrap().seen[name].clone()
    }

    pub(crate) fn len(&self, name: &str) -> usize {
        self.bytes(name).len()
    }

    pub(crate) fn forget(&self, name: &str) {
        self.0.lock().unwrap().seen.remove(name).unwrap();
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().seen.keys().cloned().collect()
    }

    fn write(&self, work: impl Fn(&mut Disk, Option<Fault>)) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.writes += 1;
        match disk.fault {
            Some((at, fault)) if at == disk.writes => {
                disk.tripped = true;
                match fault {
                    Fault::Fails => {}
                    Fault::FailsButPersists => work(&mut disk, None),
                    Fault::Torn | Fault::Scattered => work(&mut disk, Some(fault)),
                }
                Err(io::Error::other("injected"))
            }
            _ => {
                work(&mut disk, None);
                Ok(())
            }
        }
    }
}

/// What is left of a write.
fn left(bytes: &[u8], torn: Option<Fault>) -> Vec<u8> {
    let half = bytes.len() / 2;
    match torn {
        None => bytes.to_vec(),
        Some(Fault::Scattered) => [&vec![0; half][..], &bytes[half..]].concat(),
        Some(_) => bytes[..half].to_vec(),
    }
}

impl Storage for Memory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().seen.get(name).cloned())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{dir}/");
        let disk = self.0.lock().unwrap();
        let below = disk.seen.keys().filter_map(|name| name.strip_prefix(&prefix));
        Ok(below.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write(|disk, torn| {
            // Put in place whole or not at all: torn, only the draft is.
            let name = if torn.is_some() { format!("{name}.new") } else { name.to_owned() };
            disk.seen.insert(name.clone(), left(bytes, torn));
            disk.dirty.insert(name, 0);
        })
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write(|disk, torn| {
            if torn.is_some() {
                return;
            }
            disk.seen.insert(name.into(), bytes.to_vec());
            disk.durable.insert(name.into(), bytes.to_vec());
            disk.dirty.remove(name);
        })
    }

    fn write_tail(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(|disk, torn| {
            let file = disk.seen.entry(name.into()).or_default();
            let offset = usize::try_from(offset).unwrap();
            assert!(file.len() >= offset, "{name}: {} < {offset}", file.len());
            file.truncate(offset);
            file.extend(left(bytes, torn));
            let left = disk.dirty.entry(name.into()).or_insert(offset);
            *left = offset.min(*left);
        })
    }

    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write(|disk, torn| {
            let end = disk.ends.get(name).copied().unwrap_or_default();
            for files in [&mut disk.seen, &mut disk.durable] {
                let file = files.entry(name.into()).or_default();
                file.truncate(end);
                file.extend(left(bytes, torn));
                file.extend([0; AHEAD]);
            }
            disk.ends.insert(name.into(), end + bytes.len());
        })
    }

    fn sync(&self, names: &[String]) -> io::Result<()> {
        self.write(|disk, torn| {
            let names = match torn {
                None => names,
                Some(Fault::Scattered) => &names[names.len() / 2..],
                Some(_) => &names[..names.len() / 2],
            };
            for name in names {
                if let Some(bytes) = disk.seen.get(name) {
                    disk.durable.insert(name.clone(), bytes.clone());
                }
                disk.dirty.remove(name);
            }
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.write(|disk, torn| {
            if torn.is_some() {
                return;
            }
            let prefix = format!("{name}/");
            for files in [&mut disk.seen, &mut disk.durable] {
                files.retain(|file, _| file != name && !file.starts_with(&prefix));
            }
        })
    }
}

pub(crate) fn host(n: u8) -> HostId {
    HostId(Uuid::from_bytes([n; 16]))
}

pub(crate) fn boot(n: u8) -> BootId {
    BootId(Uuid::from_bytes([n; 16]))
}

pub(crate) fn record(of: u8, sequence: u64) -> Record {
    Record {
        host: host(of),
        boot: boot(of),
        sequence,
        boottime_ns: sequence,
        unix_ms: 1_700_000_000_000 + sequence,
        session: None,
        event: Event::Lost { counter: "x".repeat(usize::from(of)), count: sequence },
    }
}

pub(crate) fn drafts(from: u64, count: u64) -> Vec<Draft> {
    (from..from + count).map(|n| Draft::new(record(1, n + 1)).unwrap()).collect()
}

pub(crate) fn key() -> LogKey {
    LogKey::generate("log.test/guard").unwrap()
}

/// One commit, the head being a variable.
pub(crate) fn commit<S: Storage + 'static>(
    log: &mut Log<S>,
    head: &mut String,
    drafts: &[Draft],
) -> Result<Vec<Committed>, LogError> {
    let staged = log.stage(drafts, 1_700_000_000_000)?;
    assert_eq!(staged.before.text(), head);
    *head = staged.after.text().to_owned();
    log.publish(staged)
}

/// A log with `count` entries, settled.
pub(crate) fn filled<S: Storage + 'static>(
    storage: S,
    key: &LogKey,
    count: u64,
) -> (Log<S>, String) {
    let mut log = Log::create(storage, key).unwrap();
    let mut head = log.head().text().to_owned();
    let mut at = 0;
    while at < count {
        let n = (count - at).min(BATCH_MAX as u64);
        commit(&mut log, &mut head, &drafts(at, n)).unwrap();
        at += n;
    }
    log.settle().unwrap();
    (log, head)
}

/// Every record in the log.
pub(crate) fn all<S: Storage>(storage: Arc<S>, size: u64) -> Vec<Record> {
    let reader = DirReader::new(storage, Arc::new(AtomicU64::new(size)));
    let mut records = Vec::new();
    loop {
        let page = reader.read(records.len() as u64, 1000).unwrap();
        if page.is_empty() {
            return records;
        }
        for entry in page {
            assert_eq!(entry.index, records.len() as u64);
            records.push(entry.record.unwrap());
        }
    }
}
