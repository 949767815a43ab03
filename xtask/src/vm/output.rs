//! The guest's files for `--out`. A session may have written the stream: names and sizes are checked.

use anyhow::{Context as _, Result, bail, ensure};
use guard_vm_wire::FileHeader;
use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
};

/// Longest header line, bytes.
const HEADER_BYTES_MAX: u64 = 4096;
/// Most bytes of one file.
const FILE_BYTES_MAX: u64 = 2 << 30;
/// Most files.
const FILES_MAX: usize = 64;

/// Unpacks the stream at `from` into the directory `to`.
pub(crate) fn unpack(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    let Ok(file) = File::open(from) else { return Ok(()) };
    let mut stream = BufReader::new(file);
    for _ in 0..FILES_MAX {
        let mut line = Vec::new();
        stream.by_ref().take(HEADER_BYTES_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let header: FileHeader =
            serde_json::from_slice(&line).context("the VM's output stream is out of step")?;
        ensure!(header.bytes <= FILE_BYTES_MAX, "{:?} is too large", header.name);
        let path = to.join(plain(&header.name)?);
        let mut file = File::create(&path).with_context(|| path.display().to_string())?;
        let copied = std::io::copy(&mut stream.by_ref().take(header.bytes), &mut file)?;
        ensure!(copied == header.bytes, "{:?} was cut off", header.name);
    }
    bail!("the VM sent more than {FILES_MAX} files")
}

/// A name that stays in its directory.
fn plain(name: &str) -> Result<&str> {
    let allowed = |char: char| char.is_ascii_alphanumeric() || "._-".contains(char);
    ensure!(
        !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed),
        "the VM sent a file with the name {name:?}"
    );
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::{plain, unpack};
    use std::fs;

    #[test]
    fn a_name_that_leaves_the_directory_is_refused() {
        assert!(plain("result.json").is_ok());
        for bad in ["", "..", "../x", "/etc/passwd", "a/b", ".bashrc", "a\u{202e}b"] {
            assert!(plain(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_off_is_an_error() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let stream = directory.path().join("stream");
        fs::write(&stream, "{\"name\":\"a\",\"bytes\":3}\nabc{\"name\":\"b\",\"bytes\":9}\nabc")?;
        let out = directory.path().join("out");
        assert!(unpack(&stream, &out).is_err());
        assert_eq!(fs::read(out.join("a"))?, b"abc");
        Ok(())
    }
}
