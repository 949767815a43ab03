//! Where the log's files are: a small trait, so that tests can make every write fail, and a
//! directory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

/// Files by name (`a/b/c`) below one directory.
pub trait Storage: Send + Sync {
    /// The content; `None` if there is no such file.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Names of the files directly in `dir`, sorted; none if there is no such directory.
    ///
    /// # Errors
    /// It cannot be listed.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Puts a file in place, whole or not at all; durable only after [`Storage::sync`].
    ///
    /// # Errors
    /// It cannot be written.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Replaces a file: at every moment the old or the new is there, durable when it returns.
    ///
    /// # Errors
    /// It cannot be written; it is the old or the new.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Writes at `offset` and ends the file there; durable only after [`Storage::sync`].
    ///
    /// # Errors
    /// It cannot be written; the file may have anything from `offset` on.
    fn write_tail(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Appends, durable when it returns. A file that is new is durable with its name.
    ///
    /// # Errors
    /// It cannot be written; the file may have anything after its former end.
    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Makes files and their names durable.
    ///
    /// # Errors
    /// They may not be durable.
    fn sync(&self, names: &[String]) -> io::Result<()>;

    /// Removes a file or a directory with all that is in it; fine if there is none.
    ///
    /// # Errors
    /// It is still there.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A directory.
#[derive(Debug)]
pub struct Dir {
    root: PathBuf,
    /// The file that was appended to last, kept open.
    appending: Mutex<Option<(String, File)>>,
}

impl Dir {
    /// The directory `root`, which is made with the first file.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), appending: Mutex::new(None) }
    }

    /// Which.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn parent(&self, path: &Path) -> io::Result<PathBuf> {
        let parent = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent)?;
        Ok(parent.to_owned())
    }

    /// The content under another name, and where it belongs.
    fn draft(&self, name: &str, bytes: &[u8]) -> io::Result<(File, PathBuf, PathBuf)> {
        let path = self.path(name);
        self.parent(&path)?;
        let draft = path.with_file_name(match path.file_name().and_then(|name| name.to_str()) {
            Some(name) => format!("{name}.new"),
            None => return Err(ErrorKind::InvalidInput.into()),
        });
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(MODE).open(&draft)?;
        file.write_all(bytes)?;
        Ok((file, draft, path))
    }

    /// A new name is durable when every directory up to the root is.
    fn sync_names(&self, path: &Path) -> io::Result<()> {
        let mut at = path.parent();
        while let Some(dir) = at {
            File::open(dir)?.sync_all()?;
            if dir == self.root {
                break;
            }
            at = dir.parent();
        }
        Ok(())
    }
}

/// Evidence is for its owner: what others may read is exported.
const MODE: u32 = 0o600;

impl Storage for Dir {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match File::open(self.path(name)) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)?;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path(dir)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.extend(entry.file_name().into_string());
            }
        }
        names.sort();
        Ok(names)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (_, draft, path) = self.draft(name, bytes)?;
        fs::rename(draft, path)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (file, draft, path) = self.draft(name, bytes)?;
        file.sync_all()?;
        fs::rename(draft, &path)?;
        self.sync_names(&path)
    }

    fn write_tail(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name);
        self.parent(&path)?;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(false).mode(MODE).open(&path)?;
        let len = file.metadata()?.len();
        if len < offset {
            let problem = format!("it has {len} bytes, {offset} were written before");
            return Err(io::Error::new(ErrorKind::UnexpectedEof, problem));
        }
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)?;
        if len > offset + bytes.len() as u64 {
            file.set_len(offset + bytes.len() as u64)?;
        }
        Ok(())
    }

    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut appending =
            self.appending.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (mut file, new) = match appending.take() {
            Some((open, file)) if open == name => (file, false),
            _ => {
                let path = self.path(name);
                self.parent(&path)?;
                let new = !path.exists();
                let mut options = OpenOptions::new();
                (options.append(true).create(true).mode(MODE).open(path)?, new)
            }
        };
        // On an error the file is not kept open: what is in it must be looked at again.
        file.write_all(bytes)?;
        file.sync_data()?;
        if new {
            self.sync_names(&self.path(name))?;
        }
        *appending = Some((name.to_owned(), file));
        Ok(())
    }

    fn sync(&self, names: &[String]) -> io::Result<()> {
        let mut parents = std::collections::BTreeSet::new();
        for name in names {
            let path = self.path(name);
            match File::open(&path) {
                Ok(file) => file.sync_all()?,
                // A partial tile that a full one has replaced.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            let mut at = path.parent();
            while let Some(dir) = at {
                if !parents.insert(dir.to_owned()) || dir == self.root {
                    break;
                }
                at = dir.parent();
            }
        }
        parents.iter().try_for_each(|dir| File::open(dir)?.sync_all())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        let removed = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
