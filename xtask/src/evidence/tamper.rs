//! One bit flipped in each kind of file of a log and of a bundle, and what two verifiers say of it.

use super::built;
use crate::{cache::repository, cache::target, run::say};
use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What is changed, and how it is found: the first file below the log's directory whose name begins so.
const FILES: [(&str, &str); 7] = [
    ("checkpoint", "checkpoint"),
    ("a complete tile", "tile/0/000"),
    ("the tile at the right edge", "tile/0/NNN.p"),
    ("a tile of the upper level", "tile/1/000.p"),
    ("a bundle of entries", "tile/entries/001"),
    ("the bundle at the right edge", "tile/entries/NNN.p"),
    ("a payload", "payload/002"),
];

/// Members of a bundle that prove something.
const MEMBERS: [&str; 4] = ["checkpoint", "range-proof", "entries/", "payloads/"];

/// Verifies with both.
struct Verifiers {
    guard: PathBuf,
    key: String,
}

/// What a verifier says.
struct Said {
    accepts: bool,
    /// The line that says where.
    line: String,
}

/// Whether both verifiers accept what is good and refuse everything that was changed.
pub(super) fn run(entries: u64) -> Result<bool> {
    let bin = built(false, &["--bin", "guard", "--example", "figures"])?;
    let dir = tempfile::tempdir_in(target()).context("a directory for the log")?;
    let state = dir.path().join("state");
    let mut write = Command::new(bin.join("examples/figures"));
    ok(write.args(["write", "state"]).arg(entries.to_string()).current_dir(dir.path()))?;
    let log = state.join("log");
    let key = fs::read_to_string(log.join("keys")).context("the log's keys")?.trim().to_owned();
    let verifiers = Verifiers { guard: bin.join("guard"), key };
    let bundle = dir.path().join("bundle.tar");
    let mut make = Command::new(&verifiers.guard);
    ok(make
        .args(["audit", "bundle", "--from", "300", "--to"])
        .arg((entries - 1).to_string())
        .arg("--out")
        .arg(&bundle)
        .arg("--state")
        .arg(&state))?;

    println!("{:<30} {:<9} {:<9} where", "", "guard", "foreign");
    let mut good = true;
    let mut row = |what: &str, path: &Path, key: &str, expected: bool| -> Result<()> {
        let ours = verifiers.ours(path, key)?;
        let theirs = verifiers.theirs(path, key)?;
        let fine = ours.accepts == expected && theirs.accepts == expected;
        good &= fine;
        let word = |said: &Said| if said.accepts { "accepts" } else { "refuses" };
        let wrong = if fine { "" } else { "WRONG " };
        println!("{what:<30} {:<9} {:<9} {wrong}{}", word(&ours), word(&theirs), ours.line);
        if !theirs.accepts {
            println!("{:<50} {}", "", theirs.line);
        }
        Ok(())
    };
    row("the log", &log, &verifiers.key, true)?;
    row("a bundle of it", &bundle, &verifiers.key, true)?;
    for (what, name) in FILES {
        let path = found(&log, name)?;
        let shown = path.strip_prefix(&log)?.display().to_string();
        let flip = Flip::of(&path, None)?;
        println!("-- byte {} of {shown}", flip.at);
        row(what, &log, &verifiers.key, false)?;
        flip.back()?;
    }
    for member in MEMBERS {
        let (at, length) = member_of(&fs::read(&bundle)?, member)?;
        let flip = Flip::of(&bundle, Some(at + length / 2))?;
        row(&format!("{member} in the bundle"), &bundle, &verifiers.key, false)?;
        flip.back()?;
    }
    let middle = verifiers.key.len() - 20;
    let mut other = verifiers.key.clone().into_bytes();
    other[middle] = if other[middle] == b'A' { b'B' } else { b'A' };
    let other = String::from_utf8(other)?;
    row("the key that the auditor has", &log, &other, false)?;
    row("the same, of the bundle", &bundle, &other, false)?;
    row("the log again, every bit back", &log, &verifiers.key, true)?;
    row("the bundle again", &bundle, &verifiers.key, true)?;
    say(if good { "both verifiers were right every time" } else { "a verifier was WRONG" });
    Ok(good)
}

fn ok(command: &mut Command) -> Result<()> {
    crate::run::quietly(command).map(drop)
}

impl Verifiers {
    fn ours(&self, path: &Path, key: &str) -> Result<Said> {
        let mut command = Command::new(&self.guard);
        let done = command.args(["audit", "verify"]).arg(path).args(["--key", key]).output();
        let done = done.context("cannot run guard audit verify")?;
        let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        let first = text.lines().next().unwrap_or_default().to_owned();
        let problem = text.lines().skip_while(|line| *line != "Problems:").nth(1);
        let line = problem.map_or(first, |line| line.trim().trim_start_matches("- ").to_owned());
        Ok(Said { accepts: done.status.success(), line })
    }

    fn theirs(&self, path: &Path, key: &str) -> Result<Said> {
        let script = repository().join("guard-audit/tests/foreign/verify.py");
        let done = Command::new("python3").arg(script).arg(path).arg(key).output();
        let done = done.context("cannot run python3")?;
        let text = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        let line = text.lines().last().unwrap_or_default();
        let line = line.replace(&format!("{}/", path.display()), "");
        Ok(Said { accepts: done.status.success(), line })
    }
}

/// A file with one bit changed.
struct Flip {
    path: PathBuf,
    before: Vec<u8>,
    at: usize,
}

impl Flip {
    fn of(path: &Path, at: Option<usize>) -> Result<Self> {
        let before = fs::read(path).with_context(|| path.display().to_string())?;
        let at = at.unwrap_or(before.len() / 2);
        let mut bytes = before.clone();
        let byte = bytes.get_mut(at).with_context(|| format!("{}: it is short", path.display()))?;
        *byte ^= 1;
        fs::write(path, bytes)?;
        Ok(Self { path: path.into(), before, at })
    }

    fn back(self) -> Result<()> {
        Ok(fs::write(self.path, self.before)?)
    }
}

/// The file whose name is this one, with any digits for `N`; of a directory its last file.
fn found(log: &Path, name: &str) -> Result<PathBuf> {
    let path = log.join(name);
    let (parent, wanted) = (path.parent().unwrap_or(log), path.file_name().unwrap_or_default());
    let wanted = wanted.to_string_lossy().into_owned();
    let mut names: Vec<_> = fs::read_dir(parent)
        .with_context(|| parent.display().to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let same = |(a, b): (char, char)| a == b || a == 'N' && b.is_ascii_digit();
            name.len() == wanted.len() && wanted.chars().zip(name.chars()).all(same)
        })
        .collect();
    names.sort();
    let Some(path) = names.pop() else { bail!("the log has no {name}") };
    if !path.is_dir() {
        return Ok(path);
    }
    let inner = fs::read_dir(&path)?.filter_map(|entry| Some(entry.ok()?.path())).max();
    inner.with_context(|| format!("{} is empty", path.display()))
}

/// Where the first member begins whose name begins so, and how long it is (ustar).
fn member_of(tar: &[u8], name: &str) -> Result<(usize, usize)> {
    const BLOCK: usize = 512;
    let mut at = 0;
    while let Some(header) = tar.get(at..at + BLOCK) {
        let text = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&header[range]).trim_matches(['\0', ' ']).to_owned()
        };
        let (found, size) = (text(0..100), text(124..136));
        if found.is_empty() {
            break;
        }
        let size = usize::from_str_radix(&size, 8).context("a member's size")?;
        if found.starts_with(name) {
            return Ok((at + BLOCK, size));
        }
        at += BLOCK + size.next_multiple_of(BLOCK);
    }
    bail!("the bundle has no {name}")
}
