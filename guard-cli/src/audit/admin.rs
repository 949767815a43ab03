//! What changes the log or what is derived from it: only through its one writer, the controller.

use super::{place, verify::describe};
use crate::{
    controller::{Reach, visible},
    output,
};
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use guard_controller::evidence::{AdoptError, adopt};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{path::Path, process::ExitCode};

/// Make the search index anew from the log.
///
/// Without --offline the running controller does it, and answers searches meanwhile with what it
/// has indexed so far. With --offline, and the controller stopped, the database's whole view of the
/// log is made anew after the log was verified: for a database that was lost or restored from a
/// backup.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  sudo guard audit reindex\n  \
    sudo guard audit reindex --offline --state /var/lib/guard\n\n\
    What no log has (accounts, tokens, enrolled hosts, cursors of sinks) is gone with a lost \
    database: hosts enrol again.")]
pub(crate) struct Reindex {
    #[command(flatten)]
    reach: Reach,
    /// Without a controller, which must not run.
    #[arg(long)]
    offline: bool,
}

/// Erase what one entry says, for good. Its leaf and every proof stay.
///
/// The entry that says so, with the reason and your name, is written first. Copies in the search
/// index, the table of holds and the table of sessions go too; what a sink has sent on does not.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  \
    sudo guard audit erase 412 --reason 'a password on a command line, ticket 97'")]
pub(crate) struct Erase {
    #[command(flatten)]
    reach: Reach,
    /// The entry's index in the log.
    id: u64,
    /// Why, in words: it becomes evidence.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// The keys that sign the log.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    Rotate(Rotate),
}

/// Replace the key that signs the log; the checkpoint that tells of it is signed by both.
///
/// Who knows the old key believes the new one, in a log or a bundle that has the handover. Give the
/// new one to your witnesses: they refuse checkpoints that are signed by it alone until then.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo guard audit keys rotate")]
pub(crate) struct Rotate {
    #[command(flatten)]
    reach: Reach,
}

#[derive(Deserialize, Serialize)]
struct Reindexing {
    entries: u64,
}

#[derive(Deserialize, Serialize)]
struct NewKey {
    old: String,
    new: String,
}

impl Reindex {
    pub(crate) fn execute(&self) -> Result<ExitCode> {
        if self.offline {
            return self.adopt();
        }
        let path = "/api/v1/log/reindex";
        let done: Reindexing =
            self.reach.block_on(async |client| client.post(path, &json!({})).await)?;
        if self.reach.json {
            output::json(&done)?;
        } else {
            let line =
                format!("{} entries are indexed again; see `Log` on the page\n", done.entries);
            output::text(&line)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn adopt(&self) -> Result<ExitCode> {
        let log = place::locate(&self.reach.state)?;
        let Some(state) = log.parent().map(Path::to_owned) else {
            bail!("{}: a log that is not in a state directory", log.display());
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = match runtime.block_on(adopt(&state)) {
            Ok(report) => report,
            Err(AdoptError::Damaged(report)) => {
                output::text(&describe(&report))?;
                bail!("the log is damaged; nothing was changed: restore it from a copy");
            }
            Err(error) => return Err(error).context("nothing was changed"),
        };
        if self.reach.json {
            output::json(&json!({ "entries": report.entries, "erased": report.erased }))?;
        } else {
            let name = visible(&report.origin);
            let line = format!("{} entries of {name}: verified and indexed\n", report.entries);
            output::text(&line)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Erase {
    pub(crate) fn execute(&self) -> Result<ExitCode> {
        if self.reason.trim().is_empty() {
            bail!("an erasure needs a reason: --reason 'why, in words'");
        }
        let path = format!("/api/v1/evidence/{}/erase", self.id);
        let body = json!({ "reason": self.reason.trim() });
        self.reach.block_on(async |client| client.tell(&path, &body).await)?;
        if self.reach.json {
            output::json(&json!({ "erased": self.id }))?;
        } else {
            output::text(&format!(
                "The payload of entry {} is erased; its proof stays.\n",
                self.id
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Keys {
    pub(crate) fn execute(&self) -> Result<ExitCode> {
        let Self::Rotate(Rotate { reach }) = self;
        let path = "/api/v1/log/rotate-key";
        let keys: NewKey = reach.block_on(async |client| client.post(path, &json!({})).await)?;
        if reach.json {
            output::json(&keys)?;
        } else {
            let (old, new) = (visible(&keys.old), visible(&keys.new));
            output::text(&format!(
                "The log's key was  {old}\nand is from now on {new}\n\
                 Give the new one to auditors and witnesses over another channel.\n"
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
