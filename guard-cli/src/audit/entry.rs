//! `guard audit show` and `guard audit prove`: one entry, from the log's files or the controller.

use super::place::{self, when};
use crate::{
    controller::{Reach, visible},
    output,
};
use anyhow::{Result, bail};
use clap::Args;
use guard_audit::log::{Checkpoint, Dir, Proof, RawEntry, leaf_hash, raw_entry};
use serde_json::{Value, json};
use std::{fmt::Write as _, io::Write as _, path::PathBuf, process::ExitCode, sync::Arc};

/// Which entry, and where it is read from.
#[derive(Args, Debug)]
struct Of {
    /// The entry's index in the log.
    #[arg(value_name = "ID")]
    id: u64,
    /// The log's directory. Default: that of this machine, unless --url is given.
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    #[command(flatten)]
    reach: Reach,
}

/// Show one entry: its leaf, and its record unless that was erased.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  sudo guard audit show 412\n  \
    guard audit show 412 --log /backup/log --json | jq .record")]
pub(crate) struct Show {
    #[command(flatten)]
    of: Of,
}

/// Prove that one entry is in the log, as a C2SP tlog-proof that has the leaf with it.
///
/// `guard audit verify` and other people's tools take it. It stands on the last checkpoint that
/// witnesses have cosigned, if that covers the entry, or else on the newest.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  sudo guard audit prove 412 --out entry-412.tlog-proof\n  \
    guard audit verify entry-412.tlog-proof --key 'guard/log/4f…+1234abcd+AQ…'")]
pub(crate) struct Prove {
    #[command(flatten)]
    of: Of,
    /// Write it to this file, which must not be there. Default: to standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Show {
    pub(crate) fn execute(&self) -> Result<ExitCode> {
        let of = &self.of;
        if of.online() {
            let path = format!("/api/v1/evidence/{}", of.id);
            let entry: Value = of.reach.block_on(async |client| client.get(&path).await)?;
            if of.reach.json {
                output::json(&entry)?;
            } else {
                output::text(&pretty(&entry)?)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let (log, head) = of.open()?;
        let entry = raw_entry(&*log, of.id, head.head.size)?;
        let proof = Proof::make(&*log, &head, of.id)?;
        // The signature is `verify`'s matter: here nobody has said whom to trust.
        if let Err(problem) = proof.verify(&entry.leaf) {
            bail!("{problem}: run `guard audit verify`");
        }
        if of.reach.json {
            output::json(&value(&entry))?;
        } else {
            output::text(&text(&entry, head.head.size)?)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Prove {
    pub(crate) fn execute(&self) -> Result<ExitCode> {
        let of = &self.of;
        let text = if of.online() {
            let path = format!("/api/v1/evidence/{}/proof", of.id);
            of.reach.block_on(async |client| client.get_text(&path).await)?
        } else {
            let (log, _) = of.open()?;
            Proof::of_entry(&*log, of.id)?.to_text()
        };
        match &self.out {
            None if of.reach.json => output::json(&json!({ "index": of.id, "proof": text }))?,
            None => output::text(&text)?,
            Some(path) => place::write_new(path, |file| Ok(file.write_all(text.as_bytes())?))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Of {
    /// Whether the controller is asked: an address was given, and no directory.
    fn online(&self) -> bool {
        self.log.is_none() && self.reach.url.is_some()
    }

    fn open(&self) -> Result<(Arc<Dir>, Checkpoint)> {
        place::open(self.log.as_ref().unwrap_or(&self.reach.state))
    }
}

fn value(entry: &RawEntry) -> Value {
    let record = entry.payload.as_ref().and_then(|p| serde_json::from_slice(&p.json).ok());
    json!({
        "index": entry.index,
        "leaf_hash": hex::encode(leaf_hash(&entry.leaf)),
        "leaf": entry.envelope,
        "erased": entry.payload.is_none(),
        "record": record.unwrap_or(Value::Null),
    })
}

fn text(entry: &RawEntry, size: u64) -> Result<String> {
    let leaf = &entry.envelope;
    let mut rows = vec![
        ["entry".to_owned(), format!("{} of {size}", entry.index)],
        ["logged".into(), when(leaf.time)],
        ["host".into(), format!("{}, boot {}, sequence {}", leaf.host, leaf.boot, leaf.seq)],
        ["class".into(), visible(&leaf.class)],
    ];
    for (name, value) in
        [("decision", &leaf.decision), ("action", &leaf.action), ("policy", &leaf.policy)]
    {
        rows.extend(value.as_ref().map(|value| [name.to_owned(), visible(value)]));
    }
    rows.push(["leaf hash".into(), hex::encode(leaf_hash(&entry.leaf))]);
    let mut out = output::columns(&rows);
    let _ = match &entry.payload {
        None => {
            writeln!(out, "\nIts payload was erased; an entry of class payload_erased says why.")
        }
        Some(payload) => {
            let record: Value = serde_json::from_slice(&payload.json)?;
            write!(out, "\n{}", pretty(&record)?)
        }
    };
    let _ = writeln!(out, "\nIt is in the tree. `guard audit verify` says who signed that.");
    Ok(out)
}

/// JSON over several lines; what could deceive on a terminal is escaped.
fn pretty(value: &Value) -> Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    let lines = text.lines().map(|line| escaped(line) + "\n");
    Ok(lines.collect())
}

/// Control, bidi and zero-width characters as JSON escapes: the text stays the same JSON.
fn escaped(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for char in line.chars() {
        if char == '\\' || visible(char.encode_utf8(&mut [0; 4])) == char.to_string() {
            out.push(char);
        } else {
            let units = char.encode_utf16(&mut [0; 2]).to_vec();
            units.iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_on_a_terminal_is_escaped_and_the_json_stays_the_same() {
        let value = json!({ "path": "/tmp/\u{202e}gpj.exe\u{1b}[2J \"\\ ä" });
        let text = pretty(&value).unwrap();
        assert!(!text.contains(['\u{202e}', '\u{1b}']), "{text}");
        assert!(text.contains("\\u202e") && text.contains('ä'), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
