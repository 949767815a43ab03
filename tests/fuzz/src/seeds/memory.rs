//! A log's files in memory.

use guard_audit::log::Storage;
use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

type Files = BTreeMap<String, Vec<u8>>;

/// Files by name; every write works.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Files>);

impl Memory {
    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same files, apart.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Mutex::new(self.files().clone()))
    }

    /// Their names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.files().keys().cloned().collect()
    }

    /// What is in one; nothing if there is none.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.files().get(name).cloned().unwrap_or_default()
    }

    /// Replaces one.
    pub fn put_bytes(&self, name: &str, bytes: Vec<u8>) {
        self.files().insert(name.to_owned(), bytes);
    }
}

impl Storage for Memory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files().get(name).cloned())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{dir}/");
        let files = self.files();
        let below = files.keys().filter_map(|name| name.strip_prefix(&prefix));
        Ok(below.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.put_bytes(name, bytes.to_vec());
        Ok(())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.put(name, bytes)
    }

    fn write_tail(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mut files = self.files();
        let file = files.entry(name.to_owned()).or_default();
        file.truncate(offset);
        file.extend(bytes);
        Ok(())
    }

    fn append(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.files().entry(name.to_owned()).or_default().extend(bytes);
        Ok(())
    }

    fn sync(&self, _: &[String]) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let prefix = format!("{name}/");
        self.files().retain(|file, _| file != name && !file.starts_with(&prefix));
        Ok(())
    }
}
