//! Cosignatures of witnesses (C2SP tlog-cosignature, Ed25519): made and verified.

use super::{Checkpoint, InvalidKey, LogError};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use rand::{RngCore as _, rngs::OsRng};
use signed_note::Signature;

/// The algorithm byte of Ed25519 cosignatures in keys.
const ALGORITHM: u8 = 4;

/// A witness's public key: `NAME+ID+BASE64`, algorithm 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosignerKey {
    text: String,
    name: String,
    id: u32,
    public: VerifyingKey,
}

fn invalid(what: &str, problem: &str) -> InvalidKey {
    InvalidKey { what: what.to_owned(), problem: problem.to_owned() }
}

fn key_id(name: &str, public: &[u8; 32]) -> u32 {
    let mut bytes = vec![ALGORITHM];
    bytes.extend(public);
    signed_note::key_id(name, &bytes)
}

impl CosignerKey {
    /// Reads it.
    ///
    /// # Errors
    /// It is not the key of an Ed25519 cosigner, or its id is not its own.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let text = text.trim();
        let what = format!("witness key `{text}`");
        let mut parts = text.splitn(3, '+');
        let (name, id, key) = (parts.next(), parts.next(), parts.next());
        let (Some(name), Some(id), Some(key)) = (name, id, key) else {
            return Err(invalid(&what, "expected NAME+ID+KEY"));
        };
        if !signed_note::is_key_name_valid(name) {
            return Err(invalid(&what, "its name is empty or has spaces"));
        }
        let bytes = BASE64_STANDARD.decode(key).unwrap_or_default();
        let Some((&ALGORITHM, public)) = bytes.split_first() else {
            return Err(invalid(&what, "not an Ed25519 cosigner's (algorithm 4)"));
        };
        let public: [u8; 32] =
            public.try_into().map_err(|_| invalid(&what, "its length is not that of Ed25519"))?;
        let known = key_id(name, &public);
        if id != format!("{known:08x}") {
            return Err(invalid(&what, &format!("its id is not its own: {known:08x} is")));
        }
        let public =
            VerifyingKey::from_bytes(&public).map_err(|_| invalid(&what, "not a point"))?;
        Ok(Self { text: text.to_owned(), name: name.to_owned(), id: known, public })
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When this witness cosigned the checkpoint, s since 1970.
    ///
    /// # Errors
    /// Why its cosignature does not count.
    pub fn verify(&self, checkpoint: &Checkpoint) -> Result<u64, String> {
        for line in checkpoint.signatures().lines() {
            let Ok(signature) = Signature::from_bytes(line.as_bytes()) else { continue };
            if signature.name() != self.name || signature.id() != self.id {
                continue;
            }
            let Some((time, bytes)) = signature.signature().split_first_chunk() else {
                return Err(format!("the cosignature of `{}` is cut", self.name));
            };
            let time = u64::from_be_bytes(*time);
            let good = ed25519_dalek::Signature::from_slice(bytes).is_ok_and(|signature| {
                let message = message(checkpoint, time);
                self.public.verify_strict(message.as_bytes(), &signature).is_ok()
            });
            let problem = || format!("the cosignature of `{}` is not of this tree", self.name);
            return good.then_some(time).ok_or_else(problem);
        }
        Err(format!("witness `{}` has not cosigned it", self.name))
    }
}

fn message(checkpoint: &Checkpoint, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{}", checkpoint.body())
}

/// A witness's secret key: `PRIVATE+KEY+NAME+ID+BASE64`, algorithm 4.
#[derive(Clone)]
pub struct Cosigner {
    text: String,
    secret: SigningKey,
    public: CosignerKey,
}

impl std::fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cosigner").field(&self.public.as_str()).finish()
    }
}

impl Cosigner {
    /// A new key for the witness `name`.
    ///
    /// # Errors
    /// The name is empty, or has white space or `+`.
    pub fn generate(name: &str) -> Result<Self, InvalidKey> {
        let mut seed = [0; 32];
        OsRng.fill_bytes(&mut seed);
        Self::new(name, &seed)
    }

    fn new(name: &str, seed: &[u8; 32]) -> Result<Self, InvalidKey> {
        let secret = SigningKey::from_bytes(seed);
        let public = secret.verifying_key().to_bytes();
        let id = key_id(name, &public);
        let with = |bytes: &[u8; 32]| {
            let mut key = vec![ALGORITHM];
            key.extend(bytes);
            format!("{name}+{id:08x}+{}", BASE64_STANDARD.encode(key))
        };
        let public = CosignerKey::parse(&with(&public))?;
        Ok(Self { text: format!("PRIVATE+KEY+{}", with(seed)), secret, public })
    }

    /// Reads `PRIVATE+KEY+…`.
    ///
    /// # Errors
    /// It is not an Ed25519 cosigner's key.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let what = "the witness's secret key";
        let rest = text.trim().strip_prefix("PRIVATE+KEY+");
        let mut parts = rest.unwrap_or_default().splitn(3, '+');
        let (name, id, key) = (parts.next(), parts.next(), parts.next());
        let bytes = BASE64_STANDARD.decode(key.unwrap_or_default()).unwrap_or_default();
        let seed = bytes.split_first().filter(|(algorithm, _)| **algorithm == ALGORITHM);
        let seed = seed.and_then(|(_, seed)| <&[u8; 32]>::try_from(seed).ok());
        let (Some(name), Some(seed)) = (name, seed) else {
            return Err(invalid(what, "expected PRIVATE+KEY+NAME+ID+KEY with algorithm 4"));
        };
        let key = Self::new(name, seed)?;
        if id != Some(format!("{:08x}", key.public.id).as_str()) {
            return Err(invalid(what, "its id is not its own"));
        }
        Ok(key)
    }

    /// `PRIVATE+KEY+…`: secret.
    #[must_use]
    pub fn to_secret_text(&self) -> &str {
        &self.text
    }

    /// What verifies it.
    #[must_use]
    pub fn public(&self) -> &CosignerKey {
        &self.public
    }

    /// A signature line, with its newline, for a checkpoint that was verified at `unix_s`.
    ///
    /// # Errors
    /// Never, for a key that was read or made here.
    pub fn cosign(&self, checkpoint: &Checkpoint, unix_s: u64) -> Result<String, LogError> {
        let signature = self.secret.sign(message(checkpoint, unix_s).as_bytes());
        let mut bytes = unix_s.to_be_bytes().to_vec();
        bytes.extend(signature.to_bytes());
        let signature = Signature::new(self.public.name.clone(), self.public.id, bytes)
            .map_err(|error| LogError::Sign(error.to_string()))?;
        let line = String::from_utf8(signature.to_bytes())
            .map_err(|error| LogError::Sign(error.to_string()))?;
        Ok(format!("{}\n", line.trim_end_matches('\n')))
    }
}
