//! Signed checkpoints (C2SP tlog-checkpoint in a signed-note): read, made, verified.

use super::{Hash, LogError, LogKey, VerifierKey};
use signed_note::{Note, Verifier, VerifierList};
use tlog_tiles::Hash as TlogHash;

/// The tree that a log stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Entries.
    pub size: u64,
    /// Root hash (RFC 6962).
    pub root: Hash,
}

/// A checkpoint with its signatures, as it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Which tree.
    pub head: Head,
    text: String,
}

impl Checkpoint {
    /// Signs `head` with every one of `keys`.
    ///
    /// # Errors
    /// A key cannot sign.
    pub fn sign(keys: &[&LogKey], head: Head) -> Result<Self, LogError> {
        let failed = |error: &dyn std::fmt::Display| LogError::Sign(error.to_string());
        let origin = keys.first().map(|key| key.origin()).unwrap_or_default().to_owned();
        let body = tlog_tiles::Checkpoint::new(&origin, head.size, TlogHash(head.root), "")
            .map_err(|error| failed(&error))?;
        let mut note = Note::new(&body.to_bytes(), &[]).map_err(|error| failed(&error))?;
        for key in keys {
            note.add_sigs(&[&key.signer()?]).map_err(|error| failed(&error))?;
        }
        let text = String::from_utf8(note.to_bytes()).map_err(|error| failed(&error))?;
        Ok(Self { origin, head, text })
    }

    /// Reads a checkpoint; signatures are not looked at.
    ///
    /// # Errors
    /// What is not well-formed.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let note = Note::from_bytes(text).map_err(|error| error.to_string())?;
        // Base64 has several texts for one value; a checkpoint must be the one that is written.
        if note.to_bytes() != text {
            return Err("not in canonical form".into());
        }
        let body = tlog_tiles::Checkpoint::from_bytes(note.text()).map_err(|e| e.to_string())?;
        if body.to_bytes() != note.text() {
            return Err("not in canonical form".into());
        }
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?.to_owned();
        let head = Head { size: body.size(), root: body.hash().0 };
        Ok(Self { origin: body.origin().to_owned(), head, text })
    }

    /// Checks that `key` has signed it for its own origin.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn verify(&self, key: &VerifierKey) -> Result<(), String> {
        if key.name() != self.origin {
            return Err(format!("it is of log `{}`, not of `{}`", self.origin, key.name()));
        }
        let note = Note::from_bytes(self.text.as_bytes()).map_err(|error| error.to_string())?;
        let verifier = key.verifier().ok_or("not a key")?;
        let known = VerifierList::new(vec![Box::new(verifier) as Box<dyn Verifier>]);
        note.verify(&known).map(drop).map_err(|error| error.to_string())
    }

    /// The note's text: what a cosignature is about.
    #[must_use]
    pub fn body(&self) -> &str {
        self.text.split_once("\n\n").map_or("", |(body, _)| &self.text[..=body.len()])
    }

    /// Signature lines, each with its newline.
    #[must_use]
    pub fn signatures(&self) -> &str {
        self.text.split_once("\n\n").map_or("", |(_, signatures)| signatures)
    }

    /// The same checkpoint with further signature lines.
    ///
    /// # Errors
    /// The lines are not signature lines.
    pub fn with_signatures(&self, lines: &str) -> Result<Self, String> {
        Self::parse(format!("{}{lines}", self.text).as_bytes())
    }

    /// The whole note.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}
