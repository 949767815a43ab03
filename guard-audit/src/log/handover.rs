//! From one key to the next: a checkpoint that both have signed, whose last entry names the new.

use super::{
    Checkpoint, LogError, Storage, TileHashes, VerifierKey,
    files::{list, require},
    leaf_hash, payload_hash,
    read::raw_entry,
};
use crate::{Event, Record};

/// Directory of the checkpoints with which one key handed over to the next, by their size.
pub(super) const DIR: &str = "handover";

/// Name of the file of the handover at `size`.
pub(super) fn file_name(size: u64) -> String {
    format!("{DIR}/{size:020}")
}

/// The old and the new key, if this is the record with which one is replaced.
pub(super) fn keys(record: &[u8]) -> Option<(String, String)> {
    match serde_json::from_slice::<Record>(record).ok()?.event {
        Event::LogKeyRotated { old, new, .. } => Some((old, new)),
        _ => None,
    }
}

/// Keys that count, each up to the size at which it handed over.
#[derive(Clone, Debug)]
pub struct Trusted(Vec<(VerifierKey, u64)>);

impl Trusted {
    /// These, for any size.
    #[must_use]
    pub fn new(keys: &[VerifierKey]) -> Self {
        Self(keys.iter().map(|key| (key.clone(), u64::MAX)).collect())
    }

    /// Checks that one that counts at its size has signed the checkpoint.
    ///
    /// # Errors
    /// Why none has.
    pub fn verify(&self, checkpoint: &Checkpoint) -> Result<&VerifierKey, String> {
        let mut why = "no key was given".to_owned();
        for (key, until) in &self.0 {
            if checkpoint.head.size > *until {
                why = format!("key `{}` had handed over at {until} entries", key.as_str());
                continue;
            }
            match checkpoint.verify(key) {
                Ok(()) => return Ok(key),
                Err(problem) => why = problem,
            }
        }
        Err(format!("no given key has signed it: {why}"))
    }

    /// Takes a handover into account: `record`, the payload of the last entry of `checkpoint`,
    /// names the old and the new key, and both must have signed. One between keys that do not count
    /// is passed over.
    ///
    /// # Errors
    /// Why it is none.
    pub fn hand_over(&mut self, checkpoint: &Checkpoint, record: &[u8]) -> Result<(), String> {
        let record: Record = serde_json::from_slice(record).map_err(|error| error.to_string())?;
        let Event::LogKeyRotated { old, new, .. } = record.event else {
            return Err("its last entry names no new key".into());
        };
        let size = checkpoint.head.size;
        let counts = |key: &&(VerifierKey, u64)| key.0.as_str() == old && size <= key.1;
        let Some((from, _)) = self.0.iter().find(counts).cloned() else { return Ok(()) };
        checkpoint.verify(&from).map_err(|error| format!("the old key has not signed: {error}"))?;
        let new = VerifierKey::parse(&new).map_err(|error| error.to_string())?;
        checkpoint.verify(&new).map_err(|error| format!("the new key has not signed: {error}"))?;
        for (key, until) in &mut self.0 {
            if *key == from {
                *until = size;
            }
        }
        self.0.retain(|(key, _)| *key != new);
        self.0.push((new, u64::MAX));
        Ok(())
    }
}

/// The handovers of a log with `size` entries that a trusted key began.
pub(super) fn follow<S: Storage + ?Sized>(
    storage: &S,
    size: u64,
    keys: &[VerifierKey],
) -> Result<Trusted, LogError> {
    let mut trusted = Trusted::new(keys);
    let listed = list(storage, DIR)?;
    for name in listed.iter().filter(|name| name.parse::<u64>().is_ok_and(|at| at <= size)) {
        let path = format!("{DIR}/{name}");
        let damaged = |problem: String| LogError::damaged(path.as_str(), problem);
        let bytes = require(storage, &path)?;
        let checkpoint = Checkpoint::parse(&bytes).map_err(damaged)?;
        if trusted.verify(&checkpoint).is_err() {
            // Between keys that nobody here trusts yet, or before the first that is.
            continue;
        }
        let hashes = TileHashes::new(storage, size);
        if hashes.head(checkpoint.head.size)? != checkpoint.head {
            return Err(damaged("it is of another tree".into()));
        }
        let last = checkpoint.head.size.saturating_sub(1);
        let entry = raw_entry(storage, last, size)?;
        let proof = hashes.inclusion(last)?;
        let root = hashes.head(size)?.root;
        super::proof::check_inclusion(&proof, size, root, last, leaf_hash(&entry.leaf))
            .map_err(damaged)?;
        let payload = entry.payload.ok_or_else(|| damaged("its entry is erased".into()))?;
        if payload_hash(&payload.salt, &payload.json) != entry.envelope.payload {
            return Err(damaged("its entry's payload is not what was logged".into()));
        }
        trusted.hand_over(&checkpoint, &payload.json).map_err(damaged)?;
    }
    Ok(trusted)
}
