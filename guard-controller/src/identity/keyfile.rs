//! Files with secrets: mode 0600, complete or absent, never replaced.

use super::IdentityError;
use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};
use zeroize::Zeroizing;

/// Larger is no key of ours, bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// The text of the file; if there is none, what `create` makes, once that is durable.
pub(crate) fn load_or_create(
    path: &Path,
    create: impl FnOnce() -> Result<Zeroizing<String>, IdentityError>,
) -> Result<Zeroizing<String>, IdentityError> {
    match load(path) {
        Err(IdentityError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let text = create()?;
            store(path, &text)?;
            Ok(text)
        }
        other => other,
    }
}

fn load(path: &Path) -> Result<Zeroizing<String>, IdentityError> {
    let failed = |doing| move |source| IdentityError::File { path: path.into(), doing, source };
    let file = File::open(path).map_err(failed("cannot be opened"))?;
    let mode = file.metadata().map_err(failed("cannot be examined"))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.into(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed("cannot be read"))?;
    Ok(text)
}

fn store(path: &Path, text: &str) -> Result<(), IdentityError> {
    let failed = |doing| move |source| IdentityError::File { path: path.into(), doing, source };
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(failed("an unfinished draft of it cannot be removed")(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .map_err(failed("cannot be created"))?;
    file.write_all(text.as_bytes()).map_err(failed("cannot be written"))?;
    file.sync_all().map_err(failed("cannot be made durable"))?;
    // A crash before this line leaves a draft that the next start removes; after it, the key.
    fs::rename(&draft, path).map_err(failed("cannot be put in place"))?;
    if let Some(dir) = path.parent() {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("cannot be made durable"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.key");
        fs::write(path.with_extension("new"), "unfinished").unwrap();
        let make = |text: &str| load_or_create(&path, || Ok(Zeroizing::new(text.to_owned())));
        assert_eq!(make("one").unwrap().as_str(), "one");
        assert_eq!(make("two").unwrap().as_str(), "one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(make("two"), Err(IdentityError::Exposed { mode: 0o644, .. })));
    }
}
