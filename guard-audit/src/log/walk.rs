//! What entries say, one after the other: payloads against leaves, chains of hosts, losses.

use super::{Envelope, Hash, erasures::Erasures, leaf_hash, payload_hash};
use crate::{Event, Record};
use guard_model::{BootId, HostId};
use serde::Serialize;
use std::collections::BTreeMap;

/// Problems and findings that are kept word for word; more are counted only.
pub const LINES_MAX: usize = 100;

/// A host that sends a heartbeat every 10 s and says nothing for this long was silent, ms.
pub const SILENCE_MS: u64 = 60_000;

/// A wall clock that moves this far against the boot clock within a boot was set, ms.
pub const CLOCK_JUMP_MS: i64 = 2_000;

/// Lines of which only the first [`LINES_MAX`] are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lines {
    /// How many there were.
    pub count: u64,
    /// The first of them.
    pub lines: Vec<String>,
}

impl Lines {
    pub(super) fn push(&mut self, line: impl Into<String>) {
        self.count += 1;
        if self.lines.len() < LINES_MAX {
            self.lines.push(line.into());
        }
    }

    pub(super) fn absorb(&mut self, other: Self) {
        let room = LINES_MAX.saturating_sub(self.lines.len());
        self.count += other.count;
        self.lines.extend(other.lines.into_iter().take(room));
    }

    /// Whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What the entries say about one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// Entries.
    pub entries: u64,
    /// Boots (of the controller: runs).
    pub boots: u64,
    /// What was lost before it was logged, as the host's counters say: counter → count.
    pub lost: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Seen {
    report: HostReport,
    leaf: Option<Hash>,
    boots: BTreeMap<BootId, Boot>,
    last_boot: Option<BootId>,
    last_time: u64,
    stopped: bool,
}

impl Seen {
    /// How long it had said nothing at `time`, ms, if that is too long and it had not stopped in order.
    fn silent_at(&self, time: u64) -> Option<u64> {
        let silent = time.saturating_sub(self.last_time);
        (self.last_time > 0 && silent > SILENCE_MS && !self.stopped).then_some(silent)
    }
}

#[derive(Debug)]
struct Boot {
    sequence: u64,
    /// Wall clock less boot clock, ms.
    offset: Option<i64>,
}

/// What can be read of an entry without those before it: most of the work, in any order.
#[derive(Debug)]
pub(super) struct Facts {
    hash: Hash,
    envelope: Result<Envelope, String>,
    payload: Said,
}

/// What stands beside a leaf.
#[derive(Debug)]
enum Said {
    /// Erased.
    Gone,
    /// Not what the leaf has the hash of.
    Otherwise,
    /// What was logged, and nothing that this version reads.
    Unread(String),
    Record(Box<Record>),
}

impl Facts {
    pub(super) fn of(leaf: &[u8], payload: Option<(Hash, &[u8])>) -> Self {
        let envelope = Envelope::parse(leaf).map_err(|error| error.to_string());
        let payload = match (&envelope, payload) {
            (_, None) => Said::Gone,
            (Ok(envelope), Some((salt, json))) if payload_hash(&salt, json) == envelope.payload => {
                match serde_json::from_slice(json) {
                    Ok(record) => Said::Record(Box::new(record)),
                    Err(error) => Said::Unread(error.to_string()),
                }
            }
            _ => Said::Otherwise,
        };
        Self { hash: leaf_hash(leaf), envelope, payload }
    }
}

/// Follows entries in order.
#[derive(Debug)]
pub(super) struct Walk {
    /// Whether these are the log's first entries, so that every chain must begin.
    from_start: bool,
    /// The host that keeps the log. It sends no heartbeats: its silence says nothing.
    keeper: Option<HostId>,
    hosts: BTreeMap<HostId, Seen>,
    pub(super) first_time: Option<u64>,
    pub(super) last_time: u64,
    pub(super) entries: u64,
    pub(super) erased: u64,
    erasures: Erasures,
    pub(super) problems: Lines,
    pub(super) findings: Lines,
}

impl Walk {
    /// Of the log whose name is `origin`, which ends with the host that keeps it.
    pub(super) fn new(from_start: bool, origin: &str) -> Self {
        Self {
            from_start,
            keeper: origin.rsplit('/').next().and_then(|host| host.parse().ok()),
            hosts: BTreeMap::new(),
            first_time: None,
            last_time: 0,
            entries: 0,
            erased: 0,
            erasures: Erasures::default(),
            problems: Lines::default(),
            findings: Lines::default(),
        }
    }

    /// The next entry; returns its leaf hash and its record, if that is there and readable.
    pub(super) fn entry(
        &mut self,
        index: u64,
        leaf: &[u8],
        payload: Option<(Hash, &[u8])>,
    ) -> (Hash, Option<Record>) {
        self.facts(index, Facts::of(leaf, payload))
    }

    /// As [`Walk::entry`], of what was read of it before.
    pub(super) fn facts(&mut self, index: u64, facts: Facts) -> (Hash, Option<Record>) {
        let Facts { hash, envelope, payload } = facts;
        self.entries += 1;
        let envelope = match envelope {
            Ok(envelope) => envelope,
            Err(error) => {
                self.problems.push(format!("entry {index}: {error}"));
                return (hash, None);
            }
        };
        if envelope.time < self.last_time {
            self.problems.push(format!("entry {index}: logged before the entry before it"));
        }
        self.last_time = envelope.time;
        self.first_time.get_or_insert(envelope.time);
        let record = self.payload(index, &envelope, payload);
        self.chain(index, &envelope, hash);
        if let Some(record) = &record {
            self.event(index, record);
        }
        (hash, record)
    }

    /// A leaf alone, without payload or neighbours.
    pub(super) fn leaf(&mut self, index: u64, leaf: &[u8]) {
        self.entries += 1;
        match Envelope::parse(leaf) {
            Ok(envelope) => {
                self.last_time = envelope.time;
                self.first_time.get_or_insert(envelope.time);
                self.hosts.entry(envelope.host).or_default().report.entries += 1;
            }
            Err(error) => self.problems.push(format!("entry {index}: {error}")),
        }
    }

    fn payload(&mut self, index: u64, envelope: &Envelope, said: Said) -> Option<Record> {
        let record = match said {
            Said::Gone => {
                self.erased += 1;
                self.erasures.gone(index, envelope);
                return None;
            }
            Said::Otherwise => {
                self.problems.push(format!("entry {index}: its payload is not what was logged"));
                return None;
            }
            Said::Unread(error) => {
                self.findings.push(format!("entry {index}: not read by this version: {error}"));
                return None;
            }
            Said::Record(record) => *record,
        };
        let says = (record.host, record.boot, record.sequence);
        if says != (envelope.host, envelope.boot, envelope.seq) {
            self.problems.push(format!("entry {index}: leaf and payload disagree"));
        }
        Some(record)
    }

    fn chain(&mut self, index: u64, envelope: &Envelope, hash: Hash) {
        let Envelope { host, boot, seq, prev, time, .. } = *envelope;
        let from_start = self.from_start;
        let beats = self.keeper != Some(host);
        let seen = self.hosts.entry(host).or_default();
        seen.report.entries += 1;
        match seen.leaf {
            Some(leaf) if leaf != prev => self.problems.push(format!(
                "entry {index}: its `prev` is not the entry of host {host} before it"
            )),
            None if from_start && prev != [0; 32] => self
                .problems
                .push(format!("entry {index}: host {host} begins with a `prev` that is not zero")),
            _ => {}
        }
        seen.leaf = Some(hash);
        if let Some(silent) = seen.silent_at(time).filter(|_| beats) {
            let line = format!("host {host}: silent for {} s before entry {index}", silent / 1000);
            self.findings.push(line);
        }
        seen.last_time = time;
        if seen.last_boot.is_some_and(|last| last != boot) && !seen.boots.contains_key(&boot) {
            let how = if seen.stopped { "in order" } else { "without a word" };
            self.findings.push(format!("host {host}: started anew at entry {index}, {how}"));
        }
        seen.stopped = false;
        seen.last_boot = Some(boot);
        let expected = match seen.boots.get(&boot) {
            Some(known) => Some(known.sequence + 1),
            None => from_start.then_some(1),
        };
        if let Some(expected) = expected.filter(|expected| *expected != seq) {
            self.problems.push(format!(
                "entry {index}: host {host}, boot {boot}: sequence {seq} where {expected} is due"
            ));
        }
        let new = Boot { sequence: seq, offset: None };
        let known = seen.boots.entry(boot).or_insert(new);
        known.sequence = seq;
        seen.report.boots = seen.boots.len() as u64;
    }

    fn event(&mut self, index: u64, record: &Record) {
        self.erasures.event(index, &record.event);
        let Some(seen) = self.hosts.get_mut(&record.host) else { return };
        match &record.event {
            Event::Lost { counter, count } => {
                let sum = seen.report.lost.entry(counter.clone()).or_default();
                *sum = sum.saturating_add(*count);
            }
            Event::Stopped { .. } => seen.stopped = true,
            Event::EnforcementEnded { by, reason, .. } => self.findings.push(format!(
                "entry {index}: host {}: enforcement was ended by {}: {}",
                record.host,
                by.escape_debug(),
                reason.escape_debug()
            )),
            Event::Tampered { what, mended } => {
                let then = if *mended { "mended" } else { "not mended" };
                self.findings.push(format!(
                    "entry {index}: host {}: tampered with: {}; {then}",
                    record.host,
                    what.escape_debug()
                ));
            }
            _ => {}
        }
        let wall = i64::try_from(record.unix_ms).unwrap_or(i64::MAX);
        let boot = i64::try_from(record.boottime_ns / 1_000_000).unwrap_or(i64::MAX);
        let offset = wall.saturating_sub(boot);
        let Some(known) = seen.boots.get_mut(&record.boot) else { return };
        let moved = known.offset.map_or(0, |before| offset.saturating_sub(before));
        if moved.saturating_abs() > CLOCK_JUMP_MS {
            self.findings.push(format!(
                "host {}: its wall clock was moved by {moved} ms before entry {index}",
                record.host
            ));
        }
        known.offset = Some(offset);
    }

    /// What is known once all entries have been seen.
    pub(super) fn finish(&mut self) -> BTreeMap<HostId, HostReport> {
        let mut untold = Vec::new();
        self.erasures.finish(&mut self.problems, &mut untold);
        for line in untold {
            // In a part of a log, the entry that says why may come later.
            if self.from_start { &mut self.problems } else { &mut self.findings }.push(line);
        }
        for (host, seen) in &self.hosts {
            let beats = self.keeper != Some(*host);
            if let Some(silent) = seen.silent_at(self.last_time).filter(|_| beats) {
                let line = format!("host {host}: silent for the last {} s", silent / 1000);
                self.findings.push(line);
            }
            for (counter, count) in &seen.report.lost {
                self.findings.push(format!("host {host}: lost {count} × {counter}"));
            }
        }
        std::mem::take(&mut self.hosts).into_iter().map(|(id, seen)| (id, seen.report)).collect()
    }
}
