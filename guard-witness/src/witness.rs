//! What the witness answers (C2SP tlog-witness, `add-checkpoint`), without a network.

use crate::State;
use guard_audit::log::{
    Checkpoint, Cosigner, CosignerKey, Hash, VerifierKey, check_consistency, unbase64,
};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Longest request body, bytes: 63 hashes and a checkpoint with a few hundred signatures.
pub const BODY_BYTES_MAX: usize = 64 << 10;

/// Keys of logs that one witness takes: each log costs one small file.
pub const LOGS_MAX: usize = 10_000;

/// Most lines of a consistency proof (C2SP tlog-witness).
const PROOF_LINES_MAX: usize = 63;

/// What a log is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200: signature lines of the cosignature.
    Cosigned(String),
    /// 400: not a request.
    BadRequest(String),
    /// 403: no known key of this log has signed it.
    NotSigned,
    /// 404: not one of our logs.
    UnknownLog,
    /// 409: this is the size of the last checkpoint that was cosigned.
    Conflict(u64),
    /// 422: it does not continue the last one.
    Inconsistent(String),
    /// 500: the state could not be read or written; nothing was cosigned.
    Failed,
}

/// A witness with its logs.
#[derive(Debug)]
pub struct Witness {
    key: Cosigner,
    logs: HashMap<String, Vec<VerifierKey>>,
    /// Held from the look at the last checkpoint until the next is durable: of two requests side by
    /// side, one sees what the other did.
    state: Mutex<State>,
}

struct Request {
    old: u64,
    proof: Vec<Hash>,
    checkpoint: Checkpoint,
}

impl Witness {
    /// Cosigns for the logs of these keys; several keys of one log are for its rotations.
    #[must_use]
    pub fn new(state: State, key: Cosigner, logs: Vec<VerifierKey>) -> Self {
        let mut by_origin: HashMap<String, Vec<VerifierKey>> = HashMap::new();
        for log in logs {
            by_origin.entry(log.name().to_owned()).or_default().push(log);
        }
        Self { key, logs: by_origin, state: Mutex::new(state) }
    }

    /// What verifies its cosignatures.
    #[must_use]
    pub fn key(&self) -> &CosignerKey {
        self.key.public()
    }

    /// Answers one request. Blocks until a new checkpoint is durable.
    #[must_use]
    pub fn add_checkpoint(&self, body: &[u8], now_unix_s: u64) -> Answer {
        let request = match Request::parse(body) {
            Ok(request) => request,
            Err(problem) => return Answer::BadRequest(problem),
        };
        let checkpoint = &request.checkpoint;
        let Some(keys) = self.logs.get(&checkpoint.origin) else { return Answer::UnknownLog };
        if !keys.iter().any(|key| checkpoint.verify(key).is_ok()) {
            return Answer::NotSigned;
        }
        let size = checkpoint.head.size;
        if request.old > size {
            return Answer::BadRequest(format!("old size {} is over {size}", request.old));
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let last = match state.last(&checkpoint.origin) {
            Ok(last) => last,
            Err(error) => return failed(&error),
        };
        if request.old != last.size || (size == last.size && checkpoint.head.root != last.root) {
            if size == last.size && checkpoint.head.root != last.root {
                // Signed by the log, and not what it has signed before: proof of a fork.
                tracing::error!(checkpoint = checkpoint.text(), "not the tree of that size before");
            }
            return Answer::Conflict(last.size);
        }
        let (old, new) = ((last.size, last.root), (size, checkpoint.head.root));
        if let Err(problem) = check_consistency(&request.proof, old, new) {
            tracing::error!(checkpoint = checkpoint.text(), "{problem}");
            return Answer::Inconsistent(problem);
        }
        let line = match self.key.cosign(checkpoint, now_unix_s) {
            Ok(line) => line,
            Err(error) => return failed(&error),
        };
        if checkpoint.head != last
            && let Err(error) = state.keep(checkpoint)
        {
            return failed(&error);
        }
        // A crash before this line: the log asks again, is told the size, and gets a cosignature.
        Answer::Cosigned(line)
    }
}

fn failed(error: &dyn std::error::Error) -> Answer {
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    tracing::error!("{error}: {cause}");
    Answer::Failed
}

impl Request {
    fn parse(body: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(body).map_err(|_| "not UTF-8")?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or("no empty line")?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).ok_or("no old size")?;
        let size: u64 = old.parse().map_err(|_| "the old size is not a number")?;
        if size.to_string() != old {
            return Err("the old size is not in its one form".into());
        }
        let lines: Vec<_> = lines.collect();
        if lines.len() > PROOF_LINES_MAX {
            return Err(format!("more than {PROOF_LINES_MAX} lines of proof"));
        }
        let proof = lines.into_iter().map(unbase64).collect::<Option<Vec<_>>>();
        let proof = proof.ok_or("a line of the proof is not a hash")?;
        let checkpoint =
            Checkpoint::parse(checkpoint.as_bytes()).map_err(|e| format!("checkpoint: {e}"))?;
        Ok(Self { old: size, proof, checkpoint })
    }
}
