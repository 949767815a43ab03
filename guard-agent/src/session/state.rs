//! The file that tells a restarted guard-agent the names of the sessions that are still running.
//!
//! Sessions end with the boot, so the file need not survive a crash of the machine: it is replaced
//! by rename, and not flushed. The labels themselves are in the kernel; a lost file costs names,
//! never enforcement.

use super::Sessions;
use guard_model::{BootId, SessionInfo};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Largest file that is read: a bound, far above `SESSIONS_MAX` ordinary sessions.
const FILE_MAX: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Saved {
    boot: BootId,
    sessions: Vec<SavedSession>,
}

#[derive(Serialize, Deserialize)]
struct SavedSession {
    handle: u64,
    info: SessionInfo,
}

/// Why the file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("session state {path}: {source}")]
pub struct StateError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Writes the names of all running sessions.
///
/// # Errors
/// [`StateError`]: the file cannot be written.
pub fn save(path: &Path, boot: BootId, sessions: &Sessions) -> Result<(), StateError> {
    let running = sessions.running();
    let sessions =
        running.map(|(handle, info)| SavedSession { handle, info: info.clone() }).collect();
    let write = || {
        let text = serde_json::to_vec(&Saved { boot, sessions })?;
        let new = path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        io::Write::write_all(&mut options.open(&new)?, &text)?;
        fs::rename(&new, path)
    };
    write().map_err(|source| StateError { path: path.to_owned(), source })
}

/// Restores what was saved in this boot; another boot's sessions are gone.
///
/// # Errors
/// [`StateError`]: the file is there and cannot be read.
pub fn load(path: &Path, boot: BootId, sessions: &mut Sessions) -> Result<(), StateError> {
    let failed = |source| StateError { path: path.to_owned(), source };
    let text = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if metadata.len() > FILE_MAX => {
            let error = format!("{} bytes, at most {FILE_MAX} are read", metadata.len());
            return Err(failed(io::Error::other(error)));
        }
        Ok(_) => fs::read(path).map_err(failed)?,
    };
    let saved: Saved =
        serde_json::from_slice(&text).map_err(|error| failed(io::Error::from(error)))?;
    if saved.boot == boot {
        for SavedSession { handle, info } in saved.sessions {
            sessions.restore(handle, info);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::*, *};
    use uuid::Uuid;

    #[test]
    fn a_restarted_guard_agent_knows_its_sessions_and_another_boot_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sessions.json");
        let (boot, other) = (BootId(Uuid::from_u128(2)), BootId(Uuid::from_u128(3)));
        let mut before = sessions();
        before.start(new(5)).unwrap();
        save(&path, boot, &before).unwrap();
        let mut after = sessions();
        load(&path, other, &mut after).unwrap();
        assert!(after.is_empty());
        load(&path, boot, &mut after).unwrap();
        assert_eq!(after.view(5).unwrap().info, before.view(5).unwrap().info);
    }

    #[test]
    fn no_file_is_no_session_and_a_broken_one_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sessions.json");
        let boot = BootId(Uuid::from_u128(2));
        load(&path, boot, &mut sessions()).unwrap();
        fs::write(&path, "{").unwrap();
        let error = load(&path, boot, &mut sessions()).unwrap_err();
        assert!(error.to_string().contains("sessions.json"), "{error}");
    }
}
