//! Keys that a verification trusts, as they are given: texts or files.

use anyhow::{Context as _, Result};
use guard_audit::log::{CosignerKey, InvalidKey, LogKey, VerifierKey};
use std::{
    fs::{self, File},
    io::Read as _,
    path::Path,
};

/// Longest file with keys that is read, bytes: thousands of keys.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The log's keys of `given`: each a key (`NAME+ID+KEY`) or a file with one on each line.
pub(super) fn verifiers(given: &[String]) -> Result<Vec<VerifierKey>> {
    all(given, VerifierKey::parse)
}

/// Likewise of witnesses.
pub(super) fn cosigners(given: &[String]) -> Result<Vec<CosignerKey>> {
    all(given, CosignerKey::parse)
}

fn all<T>(given: &[String], parse: impl Fn(&str) -> Result<T, InvalidKey>) -> Result<Vec<T>> {
    let mut keys = Vec::new();
    for one in given {
        // A path may have a `+`; no key is the name of a file that is there.
        if one.contains('+') && !Path::new(one).exists() {
            keys.push(parse(one)?);
            continue;
        }
        let mut text = String::new();
        let file = File::open(one).map(|file| file.take(FILE_BYTES_MAX));
        file.and_then(|mut file| file.read_to_string(&mut text)).with_context(|| {
            format!("`{one}` is neither a key (NAME+ID+KEY) nor a file that can be read")
        })?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let before = keys.len();
        for line in lines {
            keys.push(parse(line).with_context(|| one.clone())?);
        }
        anyhow::ensure!(keys.len() > before, "{one}: there is no key in it");
    }
    Ok(keys)
}

/// The key of the log of this machine's controller, from the secret that it signs with.
pub(super) fn of_this_machine(state: &Path) -> Option<VerifierKey> {
    let secret = fs::read_to_string(state.join("controller/log.key")).ok()?;
    Some(LogKey::parse(&secret).ok()?.verifier().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_given_as_text_or_in_a_file() {
        let key = LogKey::generate("guard/log/test").unwrap();
        let text = key.verifier().as_str().to_owned();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a+b");
        fs::write(&file, format!("{text}\n\n{text}\n")).unwrap();
        let file = file.to_str().unwrap().to_owned();
        assert_eq!(verifiers(&[text.clone(), file.clone()]).unwrap().len(), 3);
        fs::write(&file, "\n").unwrap();
        for (wrong, words) in [
            (file.clone(), "no key in it"),
            ("/nonexistent".into(), "neither a key"),
            (text.replace("guard", "other"), "verifier key"),
        ] {
            let error = format!("{:#}", verifiers(&[wrong]).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
        // A log's key is not a witness's.
        assert!(cosigners(&[text]).is_err());
    }
}
