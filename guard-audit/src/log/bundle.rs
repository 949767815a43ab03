//! A bundle: a range of the log with all that is needed to verify it offline, as one tar archive.
//!
//! Members come in the order of docs/evidence.md, so that both sides stream.

use super::{
    Checkpoint, CosignerKey, DirReader, Hash, LogError, Proof, Report, Storage, TILE_WIDTH,
    TileHashes, Trusted, VerifierKey, base64, check_consistency,
    files::{CHECKPOINT, COSIGNED, KEYS, list, require},
    handover, payload, range_proof,
    read::{checkpoint as published, cosigned, raw_entry, split_bundle},
    report, root_of_range, unbase64,
    walk::Walk,
};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    sync::{Arc, atomic::AtomicU64},
};

/// First line of the first member.
const FORMAT: &str = "guard-bundle@v1";
/// Name of the first member.
const FIRST: &str = "guard-bundle";
const RANGE_PROOF: &str = "range-proof";
const REPORT: &str = "report.html";

/// Largest member that is read, bytes: 256 payloads of the largest size.
const MEMBER_BYTES_MAX: u64 = 256 * (super::PAYLOAD_BYTES_MAX as u64 + 36);

/// Longest list of keys that is looked at for information, bytes: thousands of keys.
const KEYS_BYTES_MAX: u64 = 1 << 20;

/// Handovers that a bundle may have: one a day for five years.
const HANDOVERS_MAX: usize = 2000;

/// Writes entries `[from, to)` of the log with everything that proves them.
///
/// # Errors
/// The range is not in the log, a file of it is missing or damaged, or `out` refuses.
pub fn write_bundle<S: Storage + 'static, W: Write>(
    storage: &Arc<S>,
    (from, to): (u64, u64),
    out: W,
) -> Result<Report, LogError> {
    let checkpoint = published(&**storage)?;
    let size = checkpoint.head.size;
    if from >= to || to > size {
        return Err(LogError::NoEntry { index: to.max(from), size });
    }
    let mut archive = Archive(tar::Builder::new(out));
    archive.member(FIRST, first_text(from, to).as_bytes())?;
    archive.member(CHECKPOINT, checkpoint.text().as_bytes())?;
    archive.member(KEYS, &require(&**storage, KEYS)?)?;
    let hashes = TileHashes::new(&**storage, size);
    for name in list(&**storage, handover::DIR)? {
        archive.handover(&**storage, &hashes, size, &name)?;
    }
    // The log may have grown since the checkpoint was read.
    if let Some(seen) = cosigned(&**storage)?.filter(|seen| seen.head.size <= size) {
        let proof = lines(&hashes.consistency(seen.head.size)?);
        archive.member(&format!("{COSIGNED}.consistency"), proof.as_bytes())?;
        archive.member(COSIGNED, seen.text().as_bytes())?;
    }
    let proof = lines(&range_proof(&hashes, size, (from, to))?);
    archive.member(RANGE_PROOF, proof.as_bytes())?;
    let reader = DirReader::new(Arc::clone(storage), Arc::new(AtomicU64::new(size)));
    let mut walk = Walk::new(from == 0, &checkpoint.origin);
    let mut page = report::Page::default();
    let mut at = from;
    while at < to {
        let room = usize::try_from((to - at).min(TILE_WIDTH)).unwrap_or(256);
        let entries = reader.read_raw(at, room)?;
        let (mut leaves, mut payloads) = (Vec::new(), Vec::new());
        for raw in &entries {
            leaves.extend(u16::try_from(raw.leaf.len()).unwrap_or(u16::MAX).to_be_bytes());
            leaves.extend(&raw.leaf);
            payload::encode(raw.payload.as_ref(), &mut payloads);
            let payload = raw.payload.as_ref().map(|p| (p.salt, &p.json[..]));
            let (_, record) = walk.entry(raw.index, &raw.leaf, payload);
            page.entry(raw.index, raw.envelope.time, record.as_ref());
        }
        archive.member(&format!("entries/{at:020}"), &leaves)?;
        archive.member(&format!("payloads/{at:020}"), &payloads)?;
        at += entries.len() as u64;
    }
    let mut report = Report { from, ..Report::of(&checkpoint) };
    report.take(walk);
    archive.member(REPORT, page.html(&report, (from, to)).as_bytes())?;
    archive.0.into_inner().and_then(|mut out| out.flush()).map_err(failed)?;
    Ok(report)
}

fn first_text(from: u64, to: u64) -> String {
    format!("{FORMAT}\nfrom {from}\nto {to}\n")
}

fn failed(source: io::Error) -> LogError {
    LogError::File { name: "the bundle".into(), doing: "cannot be written", source }
}

fn lines(hashes: &[Hash]) -> String {
    hashes.iter().map(|hash| base64(hash) + "\n").collect()
}

fn hashes_of(bytes: &[u8]) -> Result<Vec<Hash>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("its last line has no end".into());
    }
    text.lines().map(|line| unbase64(line).ok_or_else(|| "not a hash".to_owned())).collect()
}

struct Archive<W: Write>(tar::Builder<W>);

impl<W: Write> Archive<W> {
    fn member(&mut self, name: &str, bytes: &[u8]) -> Result<(), LogError> {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        self.0.append_data(&mut header, name, bytes).map_err(failed)
    }

    /// What proves that one key handed over to the next.
    fn handover<S: Storage + ?Sized>(
        &mut self,
        storage: &S,
        hashes: &TileHashes<'_, S>,
        size: u64,
        name: &str,
    ) -> Result<(), LogError> {
        let path = format!("{}/{name}", handover::DIR);
        let Ok(at) = name.parse::<u64>() else { return Ok(()) };
        if at > size || at == 0 {
            return Ok(());
        }
        let text = require(storage, &path)?;
        let checkpoint = Checkpoint::parse(&text).map_err(|e| LogError::damaged(&*path, e))?;
        let proof = Proof::make(storage, &checkpoint, at - 1)?;
        let entry = raw_entry(storage, at - 1, size)?;
        let mut payload = Vec::new();
        payload::encode(entry.payload.as_ref(), &mut payload);
        self.member(&format!("{path}.leaf"), &entry.leaf)?;
        self.member(&format!("{path}.payload"), &payload)?;
        let consistency = lines(&hashes.consistency(at)?);
        self.member(&format!("{path}.consistency"), consistency.as_bytes())?;
        self.member(&format!("{path}.tlog-proof"), proof.to_text().as_bytes())
    }
}

/// The verifier keys that a bundle names itself, oldest first: for information. None if it is no
/// bundle.
#[must_use]
pub fn bundle_keys<R: Read>(bundle: R) -> Vec<VerifierKey> {
    let mut archive = tar::Archive::new(bundle);
    let Ok(members) = archive.entries() else { return Vec::new() };
    // It is the third.
    for mut member in members.take(3).flatten() {
        let mut text = String::new();
        if member.path().is_ok_and(|path| path.as_os_str() == KEYS)
            && (&mut member).take(KEYS_BYTES_MAX).read_to_string(&mut text).is_ok()
        {
            return text.lines().flat_map(VerifierKey::parse).collect();
        }
    }
    Vec::new()
}

/// Verifies a bundle, offline: its checkpoint by one of `keys` or a later key that one of them
/// handed over to, and that its entries are exactly those of its range in that checkpoint's tree.
#[must_use]
pub fn verify_bundle<R: Read>(
    bundle: R,
    keys: &[VerifierKey],
    witnesses: &[CosignerKey],
) -> Report {
    let mut check = Check {
        trusted: Trusted::new(keys),
        witnesses,
        parts: BTreeMap::new(),
        checkpoint: None,
        range: None,
        proof: None,
        leaves: Vec::new(),
        walk: None,
        page: report::Page::default(),
        shown: None,
        report: Report::default(),
    };
    if let Err(problem) = check.members(bundle) {
        check.report.problems.push(problem);
    }
    check.finish()
}

struct Check<'a> {
    trusted: Trusted,
    witnesses: &'a [CosignerKey],
    /// Members that belong to a later one.
    parts: BTreeMap<String, Vec<u8>>,
    checkpoint: Option<Checkpoint>,
    range: Option<(u64, u64)>,
    proof: Option<Vec<Hash>>,
    leaves: Vec<Hash>,
    walk: Option<Walk>,
    /// What the page for people has to be, and what it is.
    page: report::Page,
    shown: Option<Vec<u8>>,
    report: Report,
}

impl Check<'_> {
    fn members<R: Read>(&mut self, bundle: R) -> Result<(), String> {
        let mut archive = tar::Archive::new(bundle);
        let not_tar = |error: io::Error| format!("not a whole tar archive: {error}");
        for member in archive.entries().map_err(not_tar)? {
            let mut member = member.map_err(not_tar)?;
            let name = member.path().map_err(not_tar)?.display().to_string();
            if member.size() > MEMBER_BYTES_MAX || !member.header().entry_type().is_file() {
                return Err(format!("{name}: not a file of a bundle"));
            }
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).map_err(not_tar)?;
            self.member(&name, bytes).map_err(|problem| format!("{name}: {problem}"))?;
        }
        Ok(())
    }

    fn member(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), String> {
        match name {
            FIRST => self.first(&bytes),
            CHECKPOINT => {
                let checkpoint = Checkpoint::parse(&bytes)?;
                let range = self.range.ok_or("it comes before the range")?;
                self.report = Report { from: range.0, ..Report::of(&checkpoint) };
                self.walk = Some(Walk::new(range.0 == 0, &checkpoint.origin));
                self.checkpoint = Some(checkpoint);
                Ok(())
            }
            KEYS => {
                let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
                let mut keys = text.lines().map(VerifierKey::parse);
                keys.try_for_each(|key| key.map(drop).map_err(|error| error.to_string()))
            }
            COSIGNED => self.cosigned(&bytes),
            RANGE_PROOF => {
                self.proof = Some(hashes_of(&bytes)?);
                Ok(())
            }
            REPORT => {
                self.shown = Some(bytes);
                Ok(())
            }
            _ if name.starts_with("handover/") && name.ends_with(".tlog-proof") => {
                self.handover(name.trim_end_matches(".tlog-proof"), &bytes)
            }
            _ if name.starts_with("payloads/") => self.page(name, &bytes),
            _ => {
                let known = ["handover/", "entries/", "checkpoint.cosigned."];
                if !known.iter().any(|prefix| name.starts_with(prefix)) {
                    return Err("a bundle has no such file".into());
                }
                if self.parts.len() > 3 * HANDOVERS_MAX {
                    return Err("too many files".into());
                }
                self.parts.insert(name.to_owned(), bytes);
                Ok(())
            }
        }
    }

    fn first(&mut self, bytes: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let mut lines = text.lines().skip(1);
        let mut number = |name| lines.next()?.strip_prefix(name)?.parse::<u64>().ok();
        let range = number("from ").zip(number("to ")).filter(|(from, to)| from < to);
        let (from, to) = range.ok_or("no range")?;
        if text != first_text(from, to) {
            return Err(format!("not {FORMAT}"));
        }
        self.range = Some((from, to));
        Ok(())
    }

    fn part(&mut self, name: String) -> Result<Vec<u8>, String> {
        self.parts.remove(&name).ok_or_else(|| format!("{name} is missing"))
    }

    fn same_log(&self, older: &Checkpoint, proof: &[u8]) -> Result<(), String> {
        let head = self.checkpoint.as_ref().ok_or("it comes before the checkpoint")?.head;
        let hashes = hashes_of(proof)?;
        let (old, new) = (older.head, head);
        check_consistency(&hashes, (old.size, old.root), (new.size, new.root))
    }

    fn handover(&mut self, name: &str, bytes: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let proof = Proof::parse(text)?;
        let consistency = self.part(format!("{name}.consistency"))?;
        let leaf = self.part(format!("{name}.leaf"))?;
        let frame = self.part(format!("{name}.payload"))?;
        self.same_log(&proof.checkpoint, &consistency)?;
        proof.verify(&leaf)?;
        if proof.index + 1 != proof.checkpoint.head.size {
            return Err("not about the last entry of its tree".into());
        }
        let envelope = super::Envelope::parse(&leaf).map_err(|error| error.to_string())?;
        let payload = payload::decode(&mut &frame[..])?.ok_or("its payload is erased")?;
        if super::payload_hash(&payload.0, payload.1) != envelope.payload {
            return Err("its payload is not what was logged".into());
        }
        self.trusted.hand_over(&proof.checkpoint, payload.1)
    }

    fn cosigned(&mut self, bytes: &[u8]) -> Result<(), String> {
        let seen = Checkpoint::parse(bytes)?;
        let proof = self.part(format!("{COSIGNED}.consistency"))?;
        self.same_log(&seen, &proof)?;
        self.trusted.verify(&seen)?;
        for key in self.witnesses {
            match key.verify(&seen) {
                Ok(time) => {
                    let seen = (seen.head.size, time);
                    self.report.witnesses.insert(key.name().to_owned(), seen);
                }
                Err(problem) => self.report.findings.push(problem),
            }
        }
        Ok(())
    }

    /// A page of payloads, and the page of entries before it.
    fn page(&mut self, name: &str, payloads: &[u8]) -> Result<(), String> {
        let from = self.range.map_or(0, |(from, _)| from) + self.leaves.len() as u64;
        let number = format!("{from:020}");
        if name != format!("payloads/{number}") {
            return Err(format!("expected the entries from {from} on"));
        }
        let entries = format!("entries/{number}");
        let leaves = self.part(entries.clone())?;
        let walk = self.walk.as_mut().ok_or("it comes before the checkpoint")?;
        let mut rest = payloads;
        // The pages of a bundle need not begin where those of the log do.
        for leaf in split_bundle(&entries, 0, &leaves).map_err(|error| error.to_string())? {
            let index = self.range.map_or(0, |(from, _)| from) + self.leaves.len() as u64;
            let payload = payload::decode(&mut rest)
                .map_err(|problem| format!("payload of entry {index}: {problem}"))?;
            let (hash, record) = walk.entry(index, leaf, payload);
            self.page.entry(index, walk.last_time, record.as_ref());
            self.leaves.push(hash);
        }
        if rest.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", rest.len())) }
    }

    fn finish(mut self) -> Report {
        if let Some(walk) = self.walk.take() {
            // The page has what the entries say, not what witnesses do.
            let others = std::mem::take(&mut self.report.findings);
            self.report.take(walk);
            let html = self.range.map(|range| self.page.html(&self.report, range));
            if self.shown.is_some_and(|shown| html.is_none_or(|html| html.as_bytes() != shown)) {
                self.report.findings.push(format!(
                    "{REPORT}: not the page that this version makes of these entries: believe \
                     nothing of it that the entries do not say"
                ));
            }
            self.report.findings.absorb(others);
        }
        let problems = &mut self.report.problems;
        if let Some(name) = self.parts.keys().next() {
            problems.push(format!("{name}: belongs to nothing"));
        }
        let (Some(checkpoint), Some((from, to)), Some(proof)) =
            (self.checkpoint, self.range, self.proof)
        else {
            problems.push(format!("{FIRST}, {CHECKPOINT} or {RANGE_PROOF} is missing"));
            return self.report;
        };
        if let Err(problem) = self.trusted.verify(&checkpoint) {
            problems.push(format!("{CHECKPOINT}: {problem}"));
        }
        let head = checkpoint.head;
        if self.leaves.len() as u64 != to - from || to > head.size {
            problems.push(format!("{} entries instead of {}", self.leaves.len(), to - from));
            return self.report;
        }
        match root_of_range(head.size, from, &self.leaves, &proof) {
            Ok(root) if root == head.root => {}
            Ok(_) => problems.push(format!(
                "the entries are not {from} to {} of the log that {CHECKPOINT} is of",
                to - 1
            )),
            Err(problem) => problems.push(problem),
        }
        self.report
    }
}
