//! Where the log's files are: a small trait, so that tests can make every write fail, and a
//! directory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
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

    /// Appends to a file that this storage has begun, durable when it returns. A file that is new is
    /// durable with its name. After what was appended, [`Storage::read`] may give any number of zeros.
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
    appending: Mutex<Option<Appending>>,
}

/// A file that is appended to.
#[derive(Debug)]
struct Appending {
    name: String,
    file: File,
    /// Where the next append goes.
    end: u64,
    /// Bytes that the file has on the disk, zeros behind `end`.
    room: u64,
}

/// Zeros that are written ahead of small appends, bytes. An append that only overwrites makes its own
/// bytes durable; one that makes the file longer makes the file system commit its journal, with all
/// files that were written meanwhile. Written rather than allocated: ext4 commits as well when an
/// allocated block is written for the first time. Enough for some hundred single records.
const AHEAD: usize = 1 << 20;

/// An append that is longer writes nothing ahead, bytes: it has many records to pay for its commit.
const AHEAD_FOR: usize = 64 << 10;

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

    /// Opens a file that is made if need be, with the directories above it.
    fn open(&self, options: &OpenOptions, path: &Path) -> io::Result<File> {
        match options.open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(path.parent().unwrap_or(&self.root))?;
                options.open(path)
            }
            other => other,
        }
    }

    /// The content under another name, and where it belongs.
    fn draft(&self, name: &str, bytes: &[u8]) -> io::Result<(File, PathBuf, PathBuf)> {
        let path = self.path(name);
        let draft = path.with_file_name(match path.file_name().and_then(|name| name.to_str()) {
            Some(name) => format!("{name}.new"),
            None => return Err(ErrorKind::InvalidInput.into()),
        });
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(MODE);
        let mut file = self.open(&options, &draft)?;
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
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(MODE);
        let mut file = self.open(&options, &path)?;
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
        let (mut at, new) = match appending.take() {
            Some(open) if open.name == name => (open, false),
            _ => {
                let mut options = OpenOptions::new();
                options.write(true).create_new(true).mode(MODE);
                let file = self.open(&options, &self.path(name))?;
                (Appending { name: name.to_owned(), file, end: 0, room: 0 }, true)
            }
        };
        // On an error the file is not kept open: what is in it must be looked at again.
        let end = at.end + bytes.len() as u64;
        if end <= at.room || bytes.len() > AHEAD_FOR {
            at.file.write_all_at(bytes, at.end)?;
        } else {
            let mut ahead = bytes.to_vec();
            ahead.resize(bytes.len() + AHEAD, 0);
            at.file.write_all_at(&ahead, at.end)?;
            at.room = at.end + ahead.len() as u64;
        }
        at.file.sync_data()?;
        if new {
            self.sync_names(&self.path(name))?;
        }
        (at.end, at.room) = (end, at.room.max(end));
        *appending = Some(at);
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
