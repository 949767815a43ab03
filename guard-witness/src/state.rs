//! What the witness must not forget: its key and, of each log, the last checkpoint that it cosigned.
//!
//! Both are in one directory on purpose. A witness that kept its key and forgot its checkpoints
//! would cosign a fork; one that lost the directory can cosign nothing.

use guard_audit::log::{Checkpoint, Cosigner, Dir, EMPTY_ROOT, Head, InvalidKey, Storage as _};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

const KEY: &str = "key";

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file of it.
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
    /// There is a witness there already.
    #[error("{0}: there is a witness here already; its key is not replaced")]
    Exists(PathBuf),
    /// There is none: none is ever made implicitly.
    #[error(
        "{0}: there is no witness here. `guard-witness init` makes a new one; one whose state was \
         lost must not go on under its old name"
    )]
    Missing(PathBuf),
    /// Another process has it.
    #[error("{0}: another guard-witness uses this state")]
    Locked(PathBuf),
    /// Something in it is not what was written.
    #[error("{path}: {problem}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The name or the key.
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

/// The opened directory; this process alone has it.
#[derive(Debug)]
pub struct State {
    dir: Dir,
    _lock: File,
}

impl State {
    /// Makes a new witness `name` in a directory that has none.
    ///
    /// # Errors
    /// There is one, or it cannot be written.
    pub fn create(path: &Path, name: &str) -> Result<Cosigner, StateError> {
        let key = Cosigner::generate(name)?;
        let file = |doing| move |source| StateError::File { path: path.into(), doing, source };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path).map_err(file("cannot be created"))?;
        let _lock = lock(path)?;
        let dir = Dir::new(path);
        if dir.read(KEY).map_err(file("its key cannot be read"))?.is_some() {
            return Err(StateError::Exists(path.into()));
        }
        dir.replace(KEY, format!("{}\n", key.to_secret_text()).as_bytes())
            .map_err(file("its key cannot be written"))?;
        Ok(key)
    }

    /// Opens it.
    ///
    /// # Errors
    /// There is none, another process has it, or it is damaged.
    pub fn open(path: &Path) -> Result<(Self, Cosigner), StateError> {
        let file = |source| {
            let doing = "its key cannot be read";
            StateError::File { path: path.into(), doing, source }
        };
        let dir = Dir::new(path);
        let text = dir.read(KEY).map_err(file)?;
        let text = text.ok_or_else(|| StateError::Missing(path.into()))?;
        let key = Cosigner::parse(&String::from_utf8_lossy(&text))?;
        Ok((Self { _lock: lock(path)?, dir }, key))
    }

    /// The tree of the last checkpoint of `origin` that was cosigned; the empty one if none was.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub fn last(&self, origin: &str) -> Result<Head, StateError> {
        let name = file_name(origin);
        let path = self.dir.root().join(&name);
        let doing = "cannot be read";
        let text = self.dir.read(&name).map_err(|source| StateError::File {
            path: path.clone(),
            doing,
            source,
        })?;
        let Some(text) = text else { return Ok(Head { size: 0, root: EMPTY_ROOT }) };
        let damaged = |problem| StateError::Damaged { path: path.clone(), problem };
        let checkpoint = Checkpoint::parse(&text).map_err(damaged)?;
        if checkpoint.origin != origin {
            return Err(damaged(format!("it is of log `{}`", checkpoint.origin)));
        }
        Ok(checkpoint.head)
    }

    /// Keeps a checkpoint as the last of its log, durably.
    ///
    /// # Errors
    /// It may or may not be kept.
    pub fn keep(&self, checkpoint: &Checkpoint) -> Result<(), StateError> {
        let name = file_name(&checkpoint.origin);
        let kept = self.dir.replace(&name, checkpoint.text().as_bytes());
        kept.map_err(|source| {
            let (path, doing) = (self.dir.root().join(&name), "cannot be written");
            StateError::File { path, doing, source }
        })
    }
}

/// A log's name may have any characters; a file's may not.
fn file_name(origin: &str) -> String {
    let hash: [u8; 32] = Sha256::digest(origin).into();
    hash.iter().fold("logs/".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

fn lock(dir: &Path) -> Result<File, StateError> {
    let path = dir.join("lock");
    let file = |source| StateError::File { path: path.clone(), doing: "cannot be locked", source };
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let lock = options.open(&path).map_err(file)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StateError::Locked(dir.into())),
        Err(TryLockError::Error(source)) => Err(file(source)),
    }
}
