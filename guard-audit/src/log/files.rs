//! The log's files: names that stand alone, and storage whose errors name the file.

use super::{LogError, Storage};
use std::io;

/// Name of the published checkpoint (C2SP tlog-tiles).
pub(super) const CHECKPOINT: &str = "checkpoint";

/// Name of the last checkpoint that witnesses have cosigned.
pub(super) const COSIGNED: &str = "checkpoint.cosigned";

/// Verifier keys that ever signed, one a line, oldest first.
pub(super) const KEYS: &str = "keys";

/// Names a file and what was attempted.
pub(super) fn file(name: &str, doing: &'static str) -> impl FnOnce(io::Error) -> LogError {
    let name = name.to_owned();
    move |source| LogError::File { name, doing, source }
}

pub(super) fn read<S: Storage + ?Sized>(s: &S, name: &str) -> Result<Option<Vec<u8>>, LogError> {
    s.read(name).map_err(file(name, "cannot be read"))
}

pub(super) fn require<S: Storage + ?Sized>(storage: &S, name: &str) -> Result<Vec<u8>, LogError> {
    read(storage, name)?.ok_or_else(|| LogError::Missing { name: name.into() })
}

pub(super) fn list<S: Storage + ?Sized>(s: &S, dir: &str) -> Result<Vec<String>, LogError> {
    s.list(dir).map_err(file(dir, "cannot be listed"))
}

pub(super) fn put<S: Storage + ?Sized>(
    storage: &S,
    name: &str,
    bytes: &[u8],
) -> Result<(), LogError> {
    storage.put(name, bytes).map_err(file(name, "cannot be written"))
}

pub(super) fn replace<S: Storage + ?Sized>(
    storage: &S,
    name: &str,
    bytes: &[u8],
) -> Result<(), LogError> {
    storage.replace(name, bytes).map_err(file(name, "cannot be replaced"))
}

pub(super) fn append<S: Storage + ?Sized>(
    storage: &S,
    name: &str,
    bytes: &[u8],
) -> Result<(), LogError> {
    storage.append(name, bytes).map_err(file(name, "cannot be appended to"))
}

pub(super) fn sync<S: Storage + ?Sized>(storage: &S, names: &[String]) -> Result<(), LogError> {
    storage.sync(names).map_err(file("the log's files", "cannot be made durable"))
}

pub(super) fn remove<S: Storage + ?Sized>(storage: &S, name: &str) -> Result<(), LogError> {
    storage.remove(name).map_err(file(name, "cannot be removed"))
}
