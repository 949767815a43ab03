//! Where a log is, and what times and files of it look like on a command line.

use anyhow::{Context as _, Result, bail};
use guard_audit::log::{Checkpoint, Dir, checkpoint};
use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use time::{
    Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description,
};

/// Directories below the one that is named in which a log may be: the log itself, the controller's
/// state directory, that of `guard up`.
const BELOW: [&str; 3] = ["", "log", "controller/log"];

/// What makes a directory a log, also if something of it is gone.
const OF_A_LOG: [&str; 3] = ["checkpoint", "keys", "tile"];

/// The directory of the log in `dir`, or in the state directory `dir`.
pub(super) fn locate(dir: &Path) -> Result<PathBuf> {
    for below in BELOW {
        let found: PathBuf = dir.join(below).components().collect();
        for name in OF_A_LOG {
            let there = found.join(name).try_exists();
            if there.with_context(|| format!("cannot read {}", found.display()))? {
                return Ok(found);
            }
        }
    }
    bail!(
        "there is no log in {}: expected a directory with the file `checkpoint`, such as \
         /var/lib/guard/controller/log",
        dir.display()
    )
}

/// The log in `dir`, or in the state directory `dir`, for reading only.
pub(super) fn open(dir: &Path) -> Result<(Arc<Dir>, Checkpoint)> {
    let found = locate(dir)?;
    let log = Arc::new(Dir::new(&found));
    let head = checkpoint(&*log).with_context(|| found.display().to_string())?;
    Ok((log, head))
}

/// Writes a file that was not there, whole or not at all.
pub(super) fn write_new(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let shown = path.display();
    if path.exists() {
        bail!("{shown} exists: remove it, or choose another name");
    }
    let draft = path.with_file_name(match path.file_name() {
        Some(name) => format!("{}.new", name.to_string_lossy()),
        None => bail!("{shown}: not the name of a file"),
    });
    // Evidence is for its owner: nobody else reads it while it is written.
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
    let mut file =
        options.open(&draft).with_context(|| format!("cannot write {}", draft.display()))?;
    let written = write(&mut file)
        .and_then(|()| Ok(file.flush().and_then(|()| file.sync_all())?))
        .and_then(|()| Ok(fs::rename(&draft, path)?));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written.with_context(|| format!("cannot write {shown}"))
}

/// A time as people and scripts read it, UTC.
pub(super) fn when(unix_ms: u64) -> String {
    let nanos = i128::from(unix_ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix_ms.to_string())
}

/// A place in the log, as somebody writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// An entry.
    Index(u64),
    /// Log time, ms since 1970.
    UnixMs(u64),
}

/// Reads an index, a date or a time.
pub(super) fn position(text: &str) -> Result<Position, String> {
    if let Ok(index) = text.parse() {
        return Ok(Position::Index(index));
    }
    let day = format_description!("[year]-[month]-[day]");
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    let time = time.or_else(|| Some(Date::parse(text, &day).ok()?.midnight().assume_utc()));
    let time = time.and_then(|time| u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok());
    time.map(Position::UnixMs).ok_or_else(|| {
        "expected an entry's index, a date such as 2026-11-23 (UTC), or a time such as \
         2026-11-23T22:04:53Z"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_an_index_a_date_or_a_time() {
        assert_eq!(position("17"), Ok(Position::Index(17)));
        assert_eq!(position("1970-01-02"), Ok(Position::UnixMs(86_400_000)));
        assert_eq!(position("1970-01-01T01:00:00+01:00"), Ok(Position::UnixMs(0)));
        for wrong in ["", "-1", "yesterday", "2026-13-01", "1969-12-31"] {
            assert!(position(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_that_is_there_is_not_replaced_and_a_failed_one_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let failed = write_new(&path, |_| bail!("no"));
        assert!(format!("{:#}", failed.unwrap_err()).ends_with(": no"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        write_new(&path, |file| Ok(file.write_all(b"1")?)).unwrap();
        let again = write_new(&path, |file| Ok(file.write_all(b"2")?));
        assert!(again.unwrap_err().to_string().contains("exists"));
        assert_eq!(fs::read(&path).unwrap(), b"1");
    }
}
