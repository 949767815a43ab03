//! Asking one witness (C2SP tlog-witness, `add-checkpoint`).

use super::{WitnessError, WitnessSpec, blocking};
use crate::sinks::{Client, DeliveryError};
use guard_audit::log::{Checkpoint, CosignerKey, Dir, TileHashes, base64};
use hyper::StatusCode;
use std::{fmt::Write as _, sync::Arc};

/// How often a witness is asked in one round: it may say twice where it stands (another of our
/// requests was under way), and then it answers.
const TRIES: usize = 3;

/// Longest answer that is shown, bytes.
const SHOWN_BYTES_MAX: usize = 200;

/// A witness with its connection.
pub(super) struct Witness {
    key: CosignerKey,
    client: Client,
    /// Entries that it has cosigned, as far as we know.
    size: u64,
    /// The last checkpoint that it has cosigned for us.
    last: Option<Checkpoint>,
}

/// The signature line of its cosignature.
#[derive(Debug)]
pub(super) struct Asked(pub(super) String);

impl Witness {
    pub(super) fn new(
        spec: &WitnessSpec,
        key: CosignerKey,
        size: u64,
    ) -> Result<Self, WitnessError> {
        let name = format!("witness {}", key.name());
        let client = Client::new(&name, &spec.url, &spec.tls(), true)
            .map_err(|error| WitnessError::Url(Box::new(error)))?;
        Ok(Self { key, client, size, last: None })
    }

    /// Whether it has cosigned this in answer to us.
    pub(super) fn has(&self, checkpoint: &Checkpoint) -> bool {
        self.last.as_ref() == Some(checkpoint)
    }

    /// Asks for a cosignature of `now`, which the log in `files` has; the error says why there is
    /// none.
    pub(super) async fn ask(
        &mut self,
        files: &Arc<Dir>,
        now: &Checkpoint,
    ) -> Result<Asked, String> {
        let size = now.head.size;
        for _ in 0..TRIES {
            if self.size > size {
                // It never forgets: it may be that our files are an old copy.
                return Err(format!(
                    "it has cosigned {} entries of this log, which has {size}: was the log \
                     restored from a backup, or is there another one of its name?",
                    self.size
                ));
            }
            let body = request(files, self.size, now).await?;
            let answer = self.client.post("/add-checkpoint", &[], body).await;
            let answer = answer.map_err(|error| match error {
                DeliveryError::Unavailable(why) | DeliveryError::Rejected(why) => why,
            })?;
            match answer.status {
                StatusCode::OK => {
                    let line = self.cosignature(now, &answer.body)?;
                    self.size = size;
                    self.last = Some(now.clone());
                    return Ok(Asked(line));
                }
                StatusCode::CONFLICT => {
                    let text = std::str::from_utf8(&answer.body).ok();
                    let known = text.and_then(|text| text.trim_end_matches('\n').parse().ok());
                    let known = known.ok_or("it answered a conflict without a size")?;
                    if known == self.size && known == size {
                        return Err(format!("it has cosigned ANOTHER TREE of {size} entries"));
                    }
                    self.size = known;
                }
                status => return Err(refusal(status, &answer.body)),
            }
        }
        Err("it did not say the same twice about where it stands".into())
    }

    /// The line of the answer that is its cosignature of `now`.
    fn cosignature(&self, now: &Checkpoint, body: &[u8]) -> Result<String, String> {
        let text = std::str::from_utf8(body).map_err(|_| "its answer is not UTF-8")?;
        for line in text.split_inclusive('\n') {
            let Ok(with) = now.with_signatures(line) else { continue };
            if self.key.verify(&with).is_ok() {
                return Ok(line.to_owned());
            }
        }
        Err("its answer has no cosignature of its key".into())
    }
}

async fn request(files: &Arc<Dir>, old: u64, now: &Checkpoint) -> Result<String, String> {
    let (files, size) = (Arc::clone(files), now.head.size);
    let proof = blocking(move || TileHashes::new(&*files, size).consistency(old)).await;
    let proof = proof.map_err(|error| format!("no proof can be made: {error}"))?;
    let mut body = format!("old {old}\n");
    for hash in &proof {
        let _ = writeln!(body, "{}", base64(hash));
    }
    let _ = write!(body, "\n{}", now.text());
    Ok(body)
}

fn refusal(status: StatusCode, body: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES_MAX)]);
    let why = match status {
        StatusCode::FORBIDDEN => "it does not know the log's key (was it rotated?)",
        StatusCode::NOT_FOUND => "it does not know this log",
        StatusCode::UNPROCESSABLE_ENTITY => "this log does NOT CONTINUE what it has cosigned",
        _ => return format!("it answered {status}: {}", shown.trim()),
    };
    format!("{why}: {}", shown.trim())
}
