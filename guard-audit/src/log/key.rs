//! The log's keys: Ed25519, in the encodings of C2SP signed-note.

use ed25519_dalek::{SigningKey, VerifyingKey};
use rand::rngs::OsRng;
use signed_note::{StandardSigner, StandardVerifier, Verifier as _};

/// Not a key.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {problem}")]
pub struct InvalidKey {
    /// Signing key or verifier key, and which.
    pub what: String,
    /// What is wrong.
    pub problem: String,
}

/// Signs checkpoints. Its name is the log's origin.
#[derive(Clone)]
pub struct LogKey {
    origin: String,
    text: String,
    vkey: VerifierKey,
}

impl std::fmt::Debug for LogKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogKey").field(&self.vkey.as_str()).finish()
    }
}

impl LogKey {
    /// A new key for the log `origin`.
    ///
    /// # Errors
    /// The origin is no key name: empty, or with white space or `+`.
    pub fn generate(origin: &str) -> Result<Self, InvalidKey> {
        if !signed_note::is_key_name_valid(origin) {
            let problem = "no key name: it must not be empty nor have spaces or `+`".into();
            return Err(InvalidKey { what: format!("origin `{origin}`"), problem });
        }
        let (text, _) = signed_note::generate_key(&mut OsRng, origin);
        Self::parse(&text)
    }

    /// Reads `PRIVATE+KEY+…`.
    ///
    /// # Errors
    /// It is not an Ed25519 signer key.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let invalid =
            |problem: String| InvalidKey { what: "the log's signing key".into(), problem };
        let text = text.trim();
        StandardSigner::new(text).map_err(|error| invalid(error.to_string()))?;
        let mut parts = text.splitn(5, '+').skip(2);
        let (origin, key) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
        let seed = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, key)
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes.get(1..)?).ok())
            .ok_or_else(|| invalid("not an Ed25519 seed".into()))?;
        let public = SigningKey::from_bytes(&seed).verifying_key();
        let vkey = VerifierKey::parse(&signed_note::new_ed25519_verifier_key(origin, &public))?;
        Ok(Self { origin: origin.to_owned(), text: text.to_owned(), vkey })
    }

    /// The log that it signs for.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// `PRIVATE+KEY+…`: secret.
    #[must_use]
    pub fn to_secret_text(&self) -> &str {
        &self.text
    }

    /// What verifies it.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.vkey
    }

    pub(super) fn signer(&self) -> Result<StandardSigner, InvalidKey> {
        StandardSigner::new(&self.text).map_err(|error| InvalidKey {
            what: "the log's signing key".into(),
            problem: error.to_string(),
        })
    }
}

/// Verifies checkpoints: `NAME+ID+BASE64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    text: String,
    name: String,
    id: u32,
}

impl VerifierKey {
    /// Reads a verifier key of an Ed25519 signer.
    ///
    /// # Errors
    /// It is not one, or its id is not its own.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let text = text.trim();
        let verifier = StandardVerifier::new(text).map_err(|error| InvalidKey {
            what: format!("verifier key `{text}`"),
            problem: error.to_string(),
        })?;
        // `from_str_radix` takes capitals too: one key has one text.
        if !text.contains(&format!("+{:08x}+", verifier.key_id())) {
            let problem = "its id must be 8 lower-case hexadecimal digits".into();
            return Err(InvalidKey { what: format!("verifier key `{text}`"), problem });
        }
        Ok(Self { text: text.to_owned(), name: verifier.name().to_owned(), id: verifier.key_id() })
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name, which is the origin of a log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its id in signature lines.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    pub(super) fn verifier(&self) -> Option<StandardVerifier> {
        StandardVerifier::new(&self.text).ok()
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> Option<VerifyingKey> {
        let key = self.text.rsplit('+').next()?;
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, key).ok()?;
        VerifyingKey::from_bytes(bytes.get(1..)?.try_into().ok()?).ok()
    }
}
