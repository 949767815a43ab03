//! Passwords: Argon2id, a bounded number at a time, and the same time for users who do not exist.

use super::{
    limits::{HASHES_MAX, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN},
    problem::Problem,
};
use argon2::{
    Argon2,
    password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString},
};
use axum::http::StatusCode;
use rand::rngs::OsRng;
use std::sync::{Arc, LazyLock};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// A hash of nothing anybody knows: verified against where there is no user or no password, so that
/// the time of an answer does not tell which names exist.
static NOBODY: LazyLock<Option<String>> = LazyLock::new(|| {
    let salt = SaltString::generate(&mut OsRng);
    let secret = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(secret.as_str().as_bytes(), &salt);
    hash.ok().map(|hash| hash.to_string())
});

/// Computes and checks hashes.
#[derive(Clone)]
pub(crate) struct Passwords {
    slots: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(HASHES_MAX)) }
    }
}

impl Passwords {
    /// Whether `password` is the one of `phc`; false, after the same work, if there is none.
    pub(crate) async fn verify(&self, password: Zeroizing<String>, phc: Option<String>) -> bool {
        if password.len() > PASSWORD_BYTES_MAX {
            return false;
        }
        let known = phc.is_some();
        self.run(move || {
            let Some(phc) = phc.or_else(|| NOBODY.clone()) else { return false };
            let Ok(hash) = PasswordHash::new(&phc) else { return false };
            Argon2::default().verify_password(password.as_bytes(), &hash).is_ok() && known
        })
        .await
        .unwrap_or(false)
    }

    /// The Argon2id hash of a new password, as a PHC string.
    pub(crate) async fn hash(&self, password: Zeroizing<String>) -> Result<String, Problem> {
        let hash = self.run(move || {
            let salt = SaltString::generate(&mut OsRng);
            let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
            hash.map(|hash| hash.to_string()).ok()
        });
        hash.await.flatten().ok_or_else(|| {
            let detail = "The password could not be hashed; try again.";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
        })
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let _slot = self.slots.acquire().await.ok()?;
        tokio::task::spawn_blocking(work).await.ok()
    }
}

/// Refuses what is too short, too long or the user's own name.
pub(crate) fn check(user: &str, password: &str) -> Result<(), Problem> {
    let refuse = |detail: String| {
        Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "weak-password", detail))
    };
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return refuse(format!("A password needs at least {PASSWORD_CHARS_MIN} characters."));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return refuse(format!("A password has at most {PASSWORD_BYTES_MAX} bytes."));
    }
    let (lower, mut chars) = (password.to_lowercase(), password.chars());
    let first = chars.next();
    if lower.contains(&user.to_lowercase()) || chars.all(|char| Some(char) == first) {
        return refuse(
            "A password must not contain your name or be one character repeated.".into(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.into())
    }

    #[tokio::test]
    async fn a_password_is_stored_as_argon2id_and_only_it_verifies() {
        let passwords = Passwords::default();
        let phc = passwords.hash(secret("correct horse battery")).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(passwords.verify(secret("correct horse battery"), Some(phc.clone())).await);
        assert!(!passwords.verify(secret("correct horse batterz"), Some(phc.clone())).await);
        assert!(!passwords.verify(secret(&"x".repeat(PASSWORD_BYTES_MAX + 1)), Some(phc)).await);
        assert!(!passwords.verify(secret("anything"), None).await);
    }

    #[test]
    fn a_password_that_is_short_long_or_the_name_is_refused() {
        assert!(check("ann", "eleven chars").is_ok());
        assert!(check("ann", "elevenchars").is_err());
        assert!(check("ann", &"ab".repeat(PASSWORD_BYTES_MAX)).is_err());
        assert!(check("ann", "my name is Ann, hello").is_err());
        assert!(check("bob", "aaaaaaaaaaaaaaaa").is_err());
    }
}
