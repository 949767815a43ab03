//! Bearer secrets: 256 random bits, of which only a SHA-256 is ever stored.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{RngCore as _, rngs::OsRng};
use sha2::{Digest as _, Sha256};

/// A longer secret than this is not even hashed, bytes.
pub const TOKEN_BYTES_MAX: usize = 256;

/// A new secret: `prefix` tells people what it is for.
#[must_use]
pub fn new_token(prefix: &str) -> String {
    let mut bytes = [0; 32];
    OsRng.fill_bytes(&mut bytes);
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// What is stored of it. A fast hash is enough: there are 256 bits to guess.
#[must_use]
pub fn token_hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_their_hash_does_not_contain_them() {
        let (one, two) = (new_token("guard-join-"), new_token("guard-join-"));
        assert_ne!(one, two);
        assert!(one.len() > 40 && one.len() < TOKEN_BYTES_MAX);
        assert_eq!(token_hash(&one), token_hash(&one));
        assert!(!token_hash(&one).contains(&one));
    }
}
