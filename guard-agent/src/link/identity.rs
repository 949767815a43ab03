//! This host's identity: its id, key, certificate, and the controller's keys, in one file of mode
//! 0600.

use guard_model::HostId;
use guard_proto::{InvalidField, v1};
use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Largest identity file that is read, bytes.
const FILE_MAX: u64 = 256 << 10;

/// Who this host is to its controller.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// Given by the controller.
    pub host: HostId,
    /// Of this host, PEM.
    pub certificate_pem: String,
    /// Of this host, PEM; leaves the host never.
    #[serde(with = "secret")]
    pub key_pem: Zeroizing<String>,
    /// Of the controller, PEM.
    pub ca_pem: String,
    /// Ed25519 public key that decisions are signed with.
    #[serde(with = "key_hex")]
    pub decision_key: [u8; 32],
    /// When the certificate was received, wall clock, ms since 1970.
    pub received_unix_ms: u64,
    /// When it ends, wall clock, ms since 1970.
    pub expires_unix_ms: u64,
}

/// A secret string, wiped when it is dropped.
mod secret {
    use super::Zeroizing;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        text: &Zeroizing<String>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(from).map(Zeroizing::new)
    }
}

/// 32 bytes as hexadecimal.
mod key_hex {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(key: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(key))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let mut key = [0; 32];
        hex::decode_to_slice(String::deserialize(from)?, &mut key).map_err(D::Error::custom)?;
        Ok(key)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Why there is no usable identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("identity file {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others can read the key.
    #[error(
        "identity file {path} has mode {mode:o}: others can read the key; enrol this host again"
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A key or a request could not be made.
    #[error("cannot make a key and a certificate request")]
    Key(#[from] rcgen::Error),
    /// The controller's answer does not say what it must.
    #[error(transparent)]
    Answer(#[from] InvalidField),
}

impl Identity {
    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read or understood, or others can read it.
    pub fn load(path: &Path) -> Result<Option<Self>, IdentityError> {
        let failed = |source| IdentityError::File { path: path.to_owned(), source };
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(failed)?,
        };
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Exposed { path: path.to_owned(), mode });
        }
        if metadata.len() > FILE_MAX {
            return Err(failed(io::Error::other(format!("more than {FILE_MAX} bytes"))));
        }
        let text = Zeroizing::new(fs::read(path).map_err(failed)?);
        let identity = serde_json::from_slice(&text);
        identity.map(Some).map_err(|error| failed(io::Error::from(error)))
    }

    /// Replaces the file. A crash leaves the old identity or the new one, both good.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), IdentityError> {
        let save = || {
            let text = Zeroizing::new(serde_json::to_vec(self)?);
            let new = path.with_extension("new");
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, path)
        };
        save().map_err(|source| IdentityError::File { path: path.to_owned(), source })
    }

    /// When to renew, wall clock, ms since 1970: after two thirds of the certificate's life, which
    /// leaves a third for a controller that is away.
    #[must_use]
    pub fn renew_at_unix_ms(&self) -> u64 {
        let life = self.expires_unix_ms.saturating_sub(self.received_unix_ms);
        self.received_unix_ms.saturating_add(life / 3 * 2)
    }

    /// What the controller answered to a request with `key`.
    ///
    /// # Errors
    /// A field does not say what it must.
    pub fn from_answer(
        answer: v1::EnrolResponse,
        key: &KeyPair,
        now_unix_ms: u64,
    ) -> Result<Self, IdentityError> {
        let invalid = |field, problem: &dyn ToString| {
            InvalidField::new("EnrolResponse", field, problem.to_string())
        };
        for (field, pem) in
            [("certificate_pem", &answer.certificate_pem), ("ca_pem", &answer.ca_pem)]
        {
            if !pem.starts_with("-----BEGIN CERTIFICATE-----") {
                return Err(invalid(field, &"must be a PEM certificate").into());
            }
        }
        if answer.expires_unix_ms <= now_unix_ms {
            return Err(invalid("expires_unix_ms", &"is past: compare both clocks").into());
        }
        Ok(Self {
            host: answer.host_id.parse().map_err(|e: uuid::Error| invalid("host_id", &e))?,
            certificate_pem: answer.certificate_pem,
            key_pem: Zeroizing::new(key.serialize_pem()),
            ca_pem: answer.ca_pem,
            decision_key: answer
                .decision_key
                .as_slice()
                .try_into()
                .map_err(|_| invalid("decision_key", &"must be 32 bytes"))?,
            received_unix_ms: now_unix_ms,
            expires_unix_ms: answer.expires_unix_ms,
        })
    }
}

/// A new key and the request for its certificate. The controller takes nothing but the key from it.
///
/// # Errors
/// No randomness.
pub fn new_request() -> Result<(KeyPair, String), IdentityError> {
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    Ok((key, request.pem()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use uuid::Uuid;

    fn identity() -> Identity {
        Identity {
            host: HostId(Uuid::from_u128(1)),
            certificate_pem: "c".into(),
            key_pem: Zeroizing::new("k".into()),
            ca_pem: "a".into(),
            decision_key: [7; 32],
            received_unix_ms: 1000,
            expires_unix_ms: 4000,
        }
    }

    #[test]
    fn an_identity_is_kept_for_its_owner_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.json");
        assert!(Identity::load(&path).unwrap().is_none());
        identity().save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Identity::load(&path).unwrap().unwrap().decision_key, [7; 32]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::load(&path).unwrap_err();
        assert!(matches!(error, IdentityError::Exposed { mode: 0o640, .. }));
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
        assert_eq!(identity().renew_at_unix_ms(), 3000);
    }

    #[test]
    fn an_answer_with_a_bad_field_is_refused_by_its_name() {
        let (key, _) = new_request().unwrap();
        let answer = v1::EnrolResponse {
            host_id: Uuid::from_u128(1).to_string(),
            certificate_pem: "-----BEGIN CERTIFICATE-----".into(),
            ca_pem: "-----BEGIN CERTIFICATE-----".into(),
            decision_key: vec![1; 32],
            expires_unix_ms: 100,
        };
        assert!(Identity::from_answer(answer.clone(), &key, 99).is_ok());
        let bad = [
            ("host_id", v1::EnrolResponse { host_id: "x".into(), ..answer.clone() }),
            ("ca_pem", v1::EnrolResponse { ca_pem: String::new(), ..answer.clone() }),
            ("decision_key", v1::EnrolResponse { decision_key: vec![1; 31], ..answer.clone() }),
            ("expires_unix_ms", v1::EnrolResponse { expires_unix_ms: 98, ..answer }),
        ];
        for (field, answer) in bad {
            let error = Identity::from_answer(answer, &key, 99).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn the_key_is_not_printed() {
        assert!(!format!("{:?}", identity()).contains("key_pem"));
    }
}
