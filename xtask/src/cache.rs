//! The cache outside the checkout: made once, never half.

use crate::run::say;
use anyhow::{Context as _, Result};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// The checkout.
pub(crate) fn repository() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// cargo's output directory.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// `$GUARD_CACHE`, or `~/.cache/guard`.
pub(crate) fn directory() -> Result<PathBuf> {
    let path = match (std::env::var_os("GUARD_CACHE"), std::env::var_os("HOME")) {
        (Some(path), _) => PathBuf::from(path),
        (None, Some(home)) => PathBuf::from(home).join(".cache/guard"),
        (None, None) => anyhow::bail!("neither GUARD_CACHE nor HOME is set: set GUARD_CACHE"),
    };
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    // Absolute, because tools are run elsewhere.
    path.canonicalize().with_context(|| path.display().to_string())
}

/// Held while the cache is changed, so that two xtasks do not build the same thing.
pub(crate) struct Lock {
    _file: File,
}

/// Waits for the lock.
pub(crate) fn lock() -> Result<Lock> {
    let path = directory()?.join("lock");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    if file.try_lock().is_err() {
        say(format!("waiting for another xtask ({} is locked)", path.display()));
        file.lock().with_context(|| path.display().to_string())?;
    }
    Ok(Lock { _file: file })
}

/// Makes `path` with `make` unless it is there. `make` works on a neighbour that is renamed at the end,
/// so that whatever stops it half-way leaves nothing that looks whole.
pub(crate) fn once(path: &Path, what: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    say(what);
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    let part = path.with_file_name(name);
    remove(&part)?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    make(&part).with_context(|| what.to_owned())?;
    fs::rename(&part, path).with_context(|| format!("{} to {}", part.display(), path.display()))
}

/// A short name for what something is made from and how, so that a change makes a new one (FNV-1a).
pub(crate) fn recipe(parts: &[&str]) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.join("\0").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}

fn remove(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    result.with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::{once, recipe};
    use std::fs;

    #[test]
    fn what_fails_half_way_leaves_nothing_that_looks_whole() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("thing");
        let failed = once(&path, "making a thing", |part| {
            fs::create_dir(part)?;
            fs::write(part.join("half"), "")?;
            anyhow::bail!("the network is gone")
        });
        assert!(failed.is_err() && !path.exists());
        once(&path, "making a thing", |part| {
            assert!(!part.exists(), "the former half is gone");
            Ok(fs::create_dir(part)?)
        })?;
        assert!(path.is_dir());
        once(&path, "making a thing", |_| panic!("made twice"))
    }

    #[test]
    fn a_changed_recipe_has_another_name() {
        assert_ne!(recipe(&["a", "b"]), recipe(&["ab"]));
        assert_eq!(recipe(&["a", "b"]), recipe(&["a", "b"]));
    }
}
