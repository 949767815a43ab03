//! What persons do to the log: erase a payload, replace the key.

use super::Controller;
use crate::{ProvenEntry, StoreError, evidence::copies};
use guard_audit::{Event, log::VerifierKey};
use std::path::Path;

/// Why a payload was not erased.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// It may not be, or is not there; nothing has changed.
    #[error("{0}")]
    Refused(String),
    /// Storage. The next start erases it if the log tells of it already.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether words are there, and no book.
pub(super) fn check_reason(reason: &str) -> Result<(), String> {
    match reason.trim().is_empty() || reason.len() > super::REASON_BYTES_MAX {
        true => Err(format!("expected a reason of 1 to {} bytes", super::REASON_BYTES_MAX)),
        false => Ok(()),
    }
}

impl Controller {
    /// Where the log's files are.
    #[must_use]
    pub fn log_dir(&self) -> &Path {
        self.inner.evidence.dir()
    }

    /// The key that verifies the log's next checkpoint.
    ///
    /// # Errors
    /// The key file cannot be read.
    pub fn log_key(&self) -> Result<VerifierKey, StoreError> {
        self.inner.evidence.verifier()
    }

    /// Erases the payload of entry `index` of the log. The leaf and all proofs stay; that it was
    /// erased, why and by whom is evidence before it happens.
    ///
    /// # Errors
    /// [`EraseError`].
    pub async fn erase_evidence(
        &self,
        index: u64,
        reason: &str,
        by: &str,
    ) -> Result<(), EraseError> {
        check_reason(reason).map_err(EraseError::Refused)?;
        // No hold is set and nothing else is erased between the look at holds and the erasure.
        let _only = self.inner.erasing.lock().await;
        self.finish_erasures().await?;
        self.flush_evidence().await?;
        let legal_holds = self.legal_holds(true).await?;
        let erasable = self.inner.evidence.erasable(index, &legal_holds).await?;
        let (leaf, record) = erasable.map_err(EraseError::Refused)?;
        let leaf_hash = hex::encode(leaf);
        let event = Event::PayloadErased { index, leaf_hash, reason: reason.into(), by: by.into() };
        self.inner.retention.begins();
        self.audit(event).await?;
        self.flush_evidence().await?;
        // A crash before this line: the next start erases it.
        self.inner.evidence.erase(vec![index]).await?;
        self.inner.retention.ended();
        if let Some(hold) = copies::hold_of(&record) {
            self.inner.index.forget(hold).await;
        }
        Ok(())
    }

    /// A proof that an entry is in the log (C2SP tlog-proof, with the leaf as extra data).
    ///
    /// # Errors
    /// There is no such entry, or a file of the log cannot be read.
    pub async fn prove(&self, index: u64) -> Result<String, StoreError> {
        self.inner.evidence.prove(index).await
    }

    /// What a page verifies of entry `index` by itself.
    ///
    /// # Errors
    /// There is no such entry, or a file of the log cannot be read.
    pub async fn proven_entry(&self, index: u64) -> Result<ProvenEntry, StoreError> {
        let evidence = &self.inner.evidence;
        let payload = evidence.raw(vec![index]).await?.into_iter().next().and_then(|e| e.payload);
        Ok(ProvenEntry {
            proof: evidence.prove(index).await?,
            keys: evidence.keys().await?,
            payload: payload
                .and_then(|p| Some((hex::encode(p.salt), String::from_utf8(p.json).ok()?))),
        })
    }

    /// Draws a new key for the log: the old and the new one. The checkpoint that tells of it is
    /// signed by both.
    ///
    /// # Errors
    /// Storage failed; the old key signs on until the record is logged.
    pub async fn rotate_log_key(&self, by: &str) -> Result<(VerifierKey, VerifierKey), StoreError> {
        let _only = self.inner.evidence.rotating().lock().await;
        self.flush_evidence().await?;
        let old = self.log_key()?;
        self.audit(self.inner.evidence.rotation(by)?).await?;
        self.flush_evidence().await?;
        Ok((old, self.log_key()?))
    }
}
