//! `guard audit bundle`: a range of the log with all that an auditor needs, as one file.

use super::place::{self, Position, position, when};
use crate::{controller::visible, exit::FAILED, output};
use anyhow::{Result, bail};
use clap::Args;
use guard_audit::log::{Checkpoint, Dir, first_since, own_keys, verify_bundle, write_bundle};
use serde_json::json;
use std::{
    fmt::Write as _,
    fs::File,
    io::{BufReader, BufWriter, Seek as _, Write as _},
    path::PathBuf,
    process::ExitCode,
};

/// Write a range of the log, with its proofs, checkpoints and keys and a page for people, to one
/// archive that anybody can verify offline.
///
/// It has the payloads: whoever gets the file can read what was done on your hosts.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    sudo guard audit bundle --from 2026-10-01 --to 2026-11-01 --out october.tar\n  \
    sudo guard audit bundle --from 412 --to 413 --out one.tar\n  \
    guard audit verify october.tar --key 'guard/log/4f…+1234abcd+AQ…'")]
pub(crate) struct Bundle {
    /// The first entry: its index, or the log time from which on.
    #[arg(long, value_name = "INDEX|TIME", value_parser = position, default_value = "0")]
    from: Position,
    /// The first entry that is not in it, likewise. Default: the end of the log.
    #[arg(long, value_name = "INDEX|TIME", value_parser = position)]
    to: Option<Position>,
    /// The file to write, which must not be there.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The log's directory. Default: that of this machine.
    #[arg(long, value_name = "DIR")]
    log: Option<PathBuf>,
    /// State directory of `guard up`, for the default.
    #[arg(long, env = "GUARD_STATE", value_name = "DIR", default_value = "/var/lib/guard")]
    state: PathBuf,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

impl Bundle {
    pub(crate) fn execute(&self) -> Result<ExitCode> {
        let (log, head) = place::open(self.log.as_ref().unwrap_or(&self.state))?;
        let size = head.head.size;
        let from = index(&log, &head, self.from)?;
        let to = self.to.map_or(Ok(size), |to| index(&log, &head, to))?;
        if from >= to {
            bail!("there is no entry from {from} on and before {to}: the log has {size}");
        }
        let mut report = None;
        place::write_new(&self.out, |file| {
            write_bundle(&log, (from, to), BufWriter::new(&mut *file))?;
            // What leaves this machine was read back and verified; by whose key is for whoever
            // gets it to say.
            file.flush()?;
            file.rewind()?;
            let keys = own_keys(&*log)?;
            report = Some(verify_bundle(BufReader::new(&mut *file), &keys, &[]));
            Ok(())
        })?;
        let report = report.unwrap_or_default();
        let bytes = File::open(&self.out)?.metadata()?.len();
        if self.json {
            output::json(&json!({
                "from": from,
                "to": to,
                "bytes": bytes,
                "sound": report.is_sound(),
                "report": report,
            }))?;
        } else {
            let mut text = format!(
                "{}: entries {from} to {} of {}, {bytes} bytes, {} with an erased payload\n",
                self.out.display(),
                to - 1,
                visible(&report.origin),
                report.erased,
            );
            if let (Some(first), Some(last)) = (report.first_unix_ms, report.last_unix_ms) {
                let _ = writeln!(text, "logged from {} to {}", when(first), when(last));
            }
            for problem in &report.problems.lines {
                let _ = writeln!(text, "PROBLEM: {}", visible(problem));
            }
            output::text(&text)?;
        }
        Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
    }
}

fn index(log: &Dir, head: &Checkpoint, position: Position) -> Result<u64> {
    Ok(match position {
        Position::Index(index) => index,
        Position::UnixMs(unix_ms) => first_since(log, head.head.size, unix_ms)?,
    })
}
