//! Reading a file that QEMU is still writing.

use anyhow::{Context as _, Result};
use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    path::PathBuf,
};

/// Most that one look takes, bytes: a session that writes without end must not fill our memory.
const CHUNK: u64 = 4 << 20;

/// Where the reading stands.
pub(crate) struct Tail {
    path: PathBuf,
    file: Option<File>,
}

impl Tail {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, file: None }
    }

    /// What has come since the last look.
    pub(crate) fn read(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if self.file.is_none() {
            match File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(bytes),
                Err(error) => return Err(error).context(self.path.display().to_string()),
            }
        }
        if let Some(file) = &mut self.file {
            file.take(CHUNK)
                .read_to_end(&mut bytes)
                .with_context(|| self.path.display().to_string())?;
        }
        Ok(bytes)
    }
}
