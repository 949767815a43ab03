//! The log's signing key, and the one that takes over.

use crate::{
    StoreError,
    identity::{IdentityError, keyfile},
};
use guard_audit::log::{Checkpoint, LogKey};
use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Files with the log's keys, in the state directory.
#[derive(Clone, Debug)]
pub(super) struct LogKeys {
    dir: PathBuf,
    origin: String,
}

/// The file with the key that signs.
pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("log.key")
}

impl LogKeys {
    /// The keys of the log `origin`; the first is made if there is none.
    pub(super) fn new(dir: &Path, origin: String) -> Self {
        Self { dir: dir.into(), origin }
    }

    fn path(&self) -> PathBuf {
        path(&self.dir)
    }

    fn next_path(&self) -> PathBuf {
        self.dir.join("log-next.key")
    }

    /// The key that signs.
    pub(super) fn current(&self) -> Result<LogKey, StoreError> {
        self.load(&self.path())
    }

    /// The key that takes over, durable before any record names it.
    pub(super) fn next(&self) -> Result<LogKey, StoreError> {
        self.load(&self.next_path())
    }

    /// The key that signs after `head`: a crash may have come between the handover and
    /// [`LogKeys::promote`].
    pub(super) fn for_head(&self, head: Option<&Checkpoint>) -> Result<LogKey, StoreError> {
        if self.next_path().exists() {
            let next = self.next()?;
            if head.is_some_and(|head| head.verify(next.verifier()).is_ok()) {
                self.promote()?;
            }
        }
        // A new key could only sign what nobody believes.
        if let Some(head) = head.filter(|_| !self.path().exists()) {
            let (path, size) = (self.path(), head.head.size);
            return Err(StoreError::Log {
                problem: format!(
                    "{} is missing, the key of this log of {size} entries: restore it from a backup",
                    path.display()
                ),
            });
        }
        self.current()
    }

    /// The next key becomes the key.
    pub(super) fn promote(&self) -> Result<(), StoreError> {
        let renamed = fs::rename(self.next_path(), self.path())
            .and_then(|()| File::open(&self.dir)?.sync_all());
        match renamed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map_err(|error| StoreError::Log {
                problem: format!("{}: cannot be put in place: {error}", self.path().display()),
            }),
        }
    }

    fn load(&self, path: &Path) -> Result<LogKey, StoreError> {
        let failed = |problem: String| StoreError::Log { problem };
        let text = keyfile::load_or_create(path, || {
            let key = LogKey::generate(&self.origin).map_err(|error| IdentityError::Content {
                path: path.into(),
                problem: error.to_string(),
            })?;
            Ok(Zeroizing::new(key.to_secret_text().to_owned()))
        })
        .map_err(|error| failed(super::writer::chain_of(&error)))?;
        let key =
            LogKey::parse(&text).map_err(|error| failed(format!("{}: {error}", path.display())))?;
        if key.origin() != self.origin {
            let (path, is, expected) = (path.display(), key.origin(), &self.origin);
            return Err(failed(format!("{path}: the key of log `{is}`, not of `{expected}`")));
        }
        Ok(key)
    }
}
