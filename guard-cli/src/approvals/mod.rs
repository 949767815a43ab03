//! `guard approvals`: list, show, approve, deny, watch; over REST, as a person with a token.

mod requests;
mod show;
mod sse;
#[cfg(test)]
mod tests;
mod watch;

use crate::{
    controller::{Client, Reach},
    output,
};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use guard_controller::HoldView;
use guard_model::{HoldId, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::process::ExitCode;

/// Fewest characters of an id that may stand for it.
const PREFIX_MIN: usize = 4;

/// See and decide what waits for a person.
#[derive(Debug, Subcommand)]
pub(crate) enum Approvals {
    List(List),
    Show(Show),
    Approve(Decide),
    Deny(Decide),
    Watch(Watch),
}

/// List what waits, newest last.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo guard approvals list\n  sudo guard approvals list --only closed"
)]
pub(crate) struct List {
    #[command(flatten)]
    reach: Reach,
    /// `open`, `closed`, or states, comma-separated.
    #[arg(long, default_value = "open", value_name = "STATE")]
    only: String,
}

/// Show one request in full.
#[derive(Args, Debug)]
pub(crate) struct Show {
    #[command(flatten)]
    reach: Reach,
    /// Its id, or the first characters of it.
    id: String,
}

/// Decide one request. The reason becomes evidence.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  sudo guard approvals approve 3f2a --reason 'release key, ticket 412'"
)]
pub(crate) struct Decide {
    #[command(flatten)]
    reach: Reach,
    /// Its id, or the first characters of it.
    id: String,
    /// Why, in words.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Follow requests as they arrive and are decided, until interrupted.
#[derive(Args, Debug)]
pub(crate) struct Watch {
    #[command(flatten)]
    reach: Reach,
}

/// A hold as the API gives it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct HoldItem {
    #[serde(flatten)]
    hold: HoldView,
    /// Action and object in one line, escaped.
    line: String,
    may_decide: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    why_not: Option<String>,
}

/// A page of holds.
#[derive(Debug, Deserialize)]
struct HoldPage {
    holds: Vec<HoldItem>,
    total: u64,
}

impl Approvals {
    pub(crate) fn execute(self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self {
                Self::List(list) => list.execute().await,
                Self::Show(show) => show.execute().await,
                Self::Approve(decide) => decide.execute(Verdict::Allow).await,
                Self::Deny(decide) => decide.execute(Verdict::Deny).await,
                Self::Watch(watch) => {
                    watch::follow(&Client::new(&watch.reach)?, watch.reach.json).await
                }
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    async fn execute(&self) -> Result<()> {
        let client = Client::new(&self.reach)?;
        let page = client.holds(&self.only).await?;
        if self.reach.json {
            return output::json(&json!({ "holds": page.holds, "total": page.total }));
        }
        let shown = page.holds.len() as u64;
        let rows: Vec<_> = page.holds.iter().rev().map(show::row).collect();
        let mut text = output::columns(&rows);
        match page.total {
            0 => text.push_str("Nothing waits.\n"),
            total if total > shown => {
                text.push_str(&format!("The newest {shown} of {total}.\n"));
            }
            _ => {}
        }
        output::text(&text)
    }
}

impl Show {
    async fn execute(&self) -> Result<()> {
        let client = Client::new(&self.reach)?;
        let item = client.hold(find(&client, &self.id).await?).await?;
        if self.reach.json { output::json(&item) } else { output::text(&show::in_full(&item)) }
    }
}

impl Decide {
    async fn execute(&self, verdict: Verdict) -> Result<()> {
        if self.reason.trim().is_empty() {
            bail!("a decision needs a reason: --reason 'why, in words'");
        }
        let client = Client::new(&self.reach)?;
        let id = find(&client, &self.id).await?;
        let item = client.decide(id, verdict, self.reason.trim()).await?;
        if self.reach.json {
            return output::json(&item);
        }
        let word = match verdict {
            Verdict::Allow => "Approved",
            Verdict::Deny => "Denied",
        };
        output::text(&format!("{word}: {}\n", item.line))
    }
}

/// The hold of an id or of the beginning of one, among those that wait.
async fn find(client: &Client, text: &str) -> Result<HoldId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if text.len() < PREFIX_MIN || !hex {
        bail!("`{text}` is no id: expected one, or its first {PREFIX_MIN} characters or more");
    }
    let page = client.holds("open").await?;
    let ids = page.holds.iter().map(|item| item.hold.request.hold_id);
    unique(ids, text).map_err(anyhow::Error::msg)
}

/// The only id that begins with `text`, in any case.
fn unique(ids: impl Iterator<Item = HoldId>, text: &str) -> Result<HoldId, String> {
    let start = text.to_ascii_lowercase();
    let mut found = ids.filter(|id| id.to_string().starts_with(&start));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => Err(format!("several ids begin with `{text}`: give more of it")),
        (None, _) => Err(format!("nothing that waits has an id that begins with `{text}`")),
    }
}
