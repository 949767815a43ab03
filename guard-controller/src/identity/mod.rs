//! Who is who: the CA, hosts' certificates, the decision key, bearer secrets.
//!
//! Everything secret lives in the state directory with mode 0600. The CA signs for hosts and for
//! this controller's own gRPC server; the decision key signs decisions only.

mod authority;
pub(crate) mod keyfile;
mod peer;
mod token;

pub use authority::{Authority, HOST_CERTIFICATE_TTL_MS, IssuedCertificate, ServerIdentity};
pub use peer::{InvalidPeer, host_of_certificate};
pub use token::{TOKEN_BYTES_MAX, new_token, token_hash};

use ed25519_dalek::SigningKey;
use rand::rngs::OsRng;
use std::{io, path::Path, path::PathBuf};
use zeroize::Zeroizing;

/// Keys and certificates of the controller.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A key file.
    #[error("{path}: {doing}")]
    File {
        /// Which.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A key file is readable by others.
    #[error("{path}: mode {mode:o} lets others read a private key; expected 600")]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key file's content.
    #[error("{path}: {problem}; restore it from a backup (removing it makes a new identity)")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Signing a certificate.
    #[error("certificate for {subject} cannot be made")]
    Certificate {
        /// For whom.
        subject: String,
        /// Why it failed.
        #[source]
        source: rcgen::Error,
    },
    /// A host's request for a certificate.
    #[error("certificate request is not valid PKCS#10 with a good signature")]
    Request(#[source] rcgen::Error),
    /// The operating system has no randomness.
    #[error("no random key could be drawn")]
    Random(#[source] rcgen::Error),
}

/// Loads or makes the Ed25519 key that signs decisions.
///
/// # Errors
/// The file cannot be read or written, or is not a key.
pub fn decision_key(dir: &Path) -> Result<SigningKey, IdentityError> {
    let path = dir.join("decision.key");
    let text = keyfile::load_or_create(&path, || {
        let seed = Zeroizing::new(SigningKey::generate(&mut OsRng).to_bytes());
        Ok(Zeroizing::new(hex::encode(*seed)))
    })?;
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim(), &mut *seed).map_err(|error| IdentityError::Content {
        path,
        problem: format!("expected 64 hexadecimal digits: {error}"),
    })?;
    Ok(SigningKey::from_bytes(&seed))
}
