//! The named virtio-serial ports to xtask.

use crate::Trouble;
use guard_vm_wire::{FileHeader, Port, Report};
use serde::Serialize;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write as _},
    path::Path,
};

/// All four ports.
pub(crate) struct Ports {
    stdout: File,
    stderr: File,
    control: File,
    output: File,
}

impl Ports {
    pub(crate) fn open() -> Result<Self, Trouble> {
        Ok(Self {
            stdout: open(Port::Stdout)?,
            stderr: open(Port::Stderr)?,
            control: open(Port::Control)?,
            output: open(Port::Output)?,
        })
    }

    /// One line on the control port. A report that cannot be written has nobody to hear it.
    pub(crate) fn report(&mut self, report: &Report) {
        if let Ok(mut line) = serde_json::to_vec(report) {
            line.push(b'\n');
            let _ = self.control.write_all(&line);
        }
    }

    /// A note for the user.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.report(&Report::Note { text: text.into() });
    }

    /// Another writer to the command's standard output.
    pub(crate) fn stdout(&self) -> io::Result<File> {
        self.stdout.try_clone()
    }

    /// Another writer to the command's standard error.
    pub(crate) fn stderr(&self) -> io::Result<File> {
        self.stderr.try_clone()
    }

    /// A file for `--out`. What grows while it is sent is cut at the announced size; what shrinks is
    /// filled with spaces, so that the stream stays in step.
    pub(crate) fn send_file(&mut self, name: &str, path: &Path) {
        let Ok(file) = File::open(path) else { return };
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        if self.announce(name, bytes).is_err() {
            return;
        }
        // Plain reads and writes: `io::copy` would splice, which the ports do not take.
        let mut source = file.chain(io::repeat(b' ')).take(bytes);
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = source.read(&mut buffer) {
            if self.output.write_all(buffer.get(..n).unwrap_or_default()).is_err() {
                return;
            }
        }
    }

    /// A JSON file for `--out`.
    pub(crate) fn send_json(&mut self, name: &str, value: &impl Serialize) {
        let Ok(mut text) = serde_json::to_vec_pretty(value) else { return };
        text.push(b'\n');
        self.send_bytes(name, &text);
    }

    /// Bytes as a file for `--out`.
    pub(crate) fn send_bytes(&mut self, name: &str, bytes: &[u8]) {
        if self.announce(name, bytes.len() as u64).is_ok() {
            let _ = self.output.write_all(bytes);
        }
    }

    fn announce(&mut self, name: &str, bytes: u64) -> io::Result<()> {
        let mut line = serde_json::to_vec(&FileHeader { name: name.to_owned(), bytes })?;
        line.push(b'\n');
        self.output.write_all(&line)
    }

    /// Waits until the host has everything.
    pub(crate) fn finish(&mut self) {
        for port in [&self.stdout, &self.stderr, &self.output, &self.control] {
            // The ports are character devices: a write returns when the host has the bytes.
            let _ = port.sync_all();
        }
    }
}

/// There is no udev to make `/dev/virtio-ports`: the name stands in sysfs.
fn open(port: Port) -> Result<File, Trouble> {
    let class = "/sys/class/virtio-ports";
    let entries = fs::read_dir(class).map_err(|error| format!("{class}: {error}"))?;
    for entry in entries.flatten() {
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim() == port.name() {
            let path = Path::new("/dev").join(entry.file_name());
            return OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .map_err(|error| format!("{}: {error}", path.display()));
        }
    }
    Err(format!("no virtio port is called {}", port.name()))
}
