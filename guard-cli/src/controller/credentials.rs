//! The credentials that `guard up` leaves for root on the same machine.

use anyhow::{Context as _, Result};
use guard_controller::Controller;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

const FILE: &str = "cli.json";
/// Tokens of earlier starts are known, and revoked, by the start of their name.
const TOKEN_NAME: &str = "guard up";
/// Longer than a machine runs between starts of Guard is not needed; a restart makes a new one.
const TOKEN_TTL_MS: u64 = 30 * 24 * 3600 * 1000;

/// Where the controller is, and a token for it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) url: String,
    pub(crate) token: String,
}

impl Credentials {
    /// Makes a token with the rights of `user`, ends those of earlier starts, and writes it for
    /// root only.
    pub(crate) async fn create(
        state: &Path,
        url: &str,
        controller: &Controller,
        user: &str,
    ) -> Result<PathBuf> {
        for old in controller.api_tokens(Some(user)).await? {
            if !old.revoked && old.name.starts_with(TOKEN_NAME) {
                controller.revoke_api_token(&old.id, TOKEN_NAME).await?;
            }
        }
        let name = format!("{TOKEN_NAME} {}", crate::output::now_unix_ms());
        let (token, _) = controller.new_api_token(user, &name, TOKEN_TTL_MS, TOKEN_NAME).await?;
        let path = state.join(FILE);
        Self { url: url.to_owned(), token }
            .write(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn write(&self, path: &Path) -> Result<()> {
        // A new file each time: the mode of one that is there already would stay as it is.
        let fresh = path.with_extension("new");
        let _ = fs::remove_file(&fresh);
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(serde_json::to_string(self)?.as_bytes())?;
        file.sync_all()?;
        Ok(fs::rename(&fresh, path)?)
    }

    /// What `guard up` left in `state`.
    pub(crate) fn read(state: &Path) -> Result<Self> {
        let path = state.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read {}: run this as root beside `guard up`, or give --url and --token \
                 (a token is made on the page, under Account)",
                path.display()
            )
        })?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is not what `guard up` writes", path.display()))
    }

    /// Guard stops: the token would answer to nobody.
    pub(crate) fn remove(state: &Path) {
        let _ = fs::remove_file(state.join(FILE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_file_is_for_its_owner_only_even_if_one_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let written = Credentials { url: "http://127.0.0.1:1".into(), token: "t".into() };
        written.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Credentials::read(dir.path()).unwrap().token, "t");
        Credentials::remove(dir.path());
        let error = format!("{:#}", Credentials::read(dir.path()).err().unwrap());
        assert!(error.contains("--token"), "{error}");
    }
}
