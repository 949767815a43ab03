//! A file and standard output: one event a line.

use super::{Deliver, DeliveryError, Rendered};
use futures::future::BoxFuture;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// How far back the end of the last whole line is looked for: more than any event.
const LINE_BYTES_MAX: u64 = 4 << 20;

/// Appends to a file; what it has confirmed is on the disk.
pub(super) struct FileSink {
    path: PathBuf,
    open: Option<File>,
}

impl FileSink {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: None }
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let mut file = match self.open.take() {
            Some(file) if is_at(&file, &self.path) => file,
            _ => open(&self.path)?,
        };
        let before = file.metadata()?.len();
        if let Err(error) = file.write_all(text).and_then(|()| file.sync_data()) {
            // A disk that is full may have taken a part: it is written again as a whole.
            let _ = file.set_len(before);
            return Err(error);
        }
        self.open = Some(file);
        Ok(())
    }
}

/// Whether the file is still the one at `path`: logrotate may have renamed it.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// Opens for appending, and cuts a line that a crash left unfinished.
fn open(path: &Path) -> io::Result<File> {
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
    let len = file.metadata()?.len();
    let from = len.saturating_sub(LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    Read::by_ref(&mut file).take(LINE_BYTES_MAX).read_to_end(&mut end)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1);
    if from == 0 || whole > 0 {
        file.set_len(from + whole)?;
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        // So that the name survives a power loss too.
        File::open(folder)?.sync_all()?;
    }
    Ok(file)
}

impl Deliver for FileSink {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Rendered],
    ) -> BoxFuture<'a, Result<u64, DeliveryError>> {
        Box::pin(async move {
            let text = lines(batch);
            let path = self.path.clone();
            let mut own = Self { path: path.clone(), open: self.open.take() };
            // Writing and syncing blocks.
            let written = tokio::task::spawn_blocking(move || {
                let result = own.append(&text);
                (own, result)
            });
            let failed = |why: &dyn std::error::Error| {
                DeliveryError::Unavailable(format!("{}: {why}", path.display()))
            };
            let (own, result) = written.await.map_err(|error| failed(&error))?;
            self.open = own.open;
            result.map(|()| 0).map_err(|error| failed(&error))
        })
    }
}

/// Writes to standard output: confirmed is what the reader's pipe has taken.
#[derive(Default)]
pub(super) struct StdoutSink {}

impl Deliver for StdoutSink {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Rendered],
    ) -> BoxFuture<'a, Result<u64, DeliveryError>> {
        Box::pin(async move {
            let text = lines(batch);
            let written = tokio::task::spawn_blocking(move || {
                let mut out = io::stdout().lock();
                out.write_all(&text).and_then(|()| out.flush())
            });
            let failed = |why: &dyn std::error::Error| {
                DeliveryError::Unavailable(format!("standard output: {why}"))
            };
            written.await.map_err(|e| failed(&e))?.map(|()| 0).map_err(|e| failed(&e))
        })
    }
}

fn lines(batch: &[Rendered]) -> Vec<u8> {
    let mut text = Vec::new();
    for event in batch {
        text.extend_from_slice(event.body.as_bytes());
        text.push(b'\n');
    }
    text
}
