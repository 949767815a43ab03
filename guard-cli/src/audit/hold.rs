//! `guard audit hold`: what is not erased until somebody lifts it.

use super::place::{Position, position, when};
use crate::{
    controller::{Reach, visible},
    output,
};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::process::ExitCode;
use uuid::Uuid;

/// Legal holds: evidence that nobody and no rule erases until the hold is lifted.
#[derive(Debug, Subcommand)]
pub(crate) enum Hold {
    Add(Add),
    List(List),
    Remove(Remove),
}

/// Set a legal hold on what matches every filter that is given, logged already or later.
///
/// Setting it is evidence, with the reason and your name. It needs the role `admin`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    sudo guard audit hold add --session 0190a1b2-… --reason 'matter 97'\n  \
    sudo guard audit hold add --class held --from 2026-10-01 --to 2026-11-01 --reason 'audit'\n  \
    sudo guard audit hold add --everything --reason 'matter 98'")]
pub(crate) struct Add {
    #[command(flatten)]
    reach: Reach,
    /// Of this class, such as `held` (`guard audit show` prints an entry's).
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Of this session.
    #[arg(long, value_name = "ID")]
    session: Option<Uuid>,
    /// Of this host.
    #[arg(long, value_name = "ID")]
    host: Option<Uuid>,
    /// Logged then or later: a date, or a time such as 2026-11-23T22:04:53Z.
    #[arg(long, value_name = "TIME", value_parser = unix_ms)]
    from: Option<u64>,
    /// Logged earlier, likewise.
    #[arg(long, value_name = "TIME", value_parser = unix_ms)]
    to: Option<u64>,
    /// Keep all evidence.
    #[arg(long, conflicts_with_all = ["class", "session", "host", "from", "to"])]
    everything: bool,
    /// Why, in words: it becomes evidence.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// List legal holds.
#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    reach: Reach,
    /// Those that were lifted too.
    #[arg(long)]
    all: bool,
}

/// Lift a legal hold: what it kept may be erased again, and is by the next round if it is older than
/// its rule says.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  sudo guard audit hold remove 4b0c… --reason 'matter 97 is settled'"
)]
pub(crate) struct Remove {
    #[command(flatten)]
    reach: Reach,
    /// The hold's id.
    id: Uuid,
    /// Why, in words: it becomes evidence.
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

impl Hold {
    pub(crate) fn execute(&self) -> Result<ExitCode> {
        match self {
            Self::Add(add) => add.execute()?,
            Self::List(list) => list.execute()?,
            Self::Remove(remove) => remove.execute()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Add {
    fn execute(&self) -> Result<()> {
        let mut scope = Map::new();
        let id = |id: Option<Uuid>| id.map(|id| id.to_string());
        for (name, value) in
            [("class", self.class.clone()), ("session", id(self.session)), ("host", id(self.host))]
        {
            scope.extend(value.map(|value| (name.to_owned(), value.into())));
        }
        for (name, value) in [("from_unix_ms", self.from), ("to_unix_ms", self.to)] {
            scope.extend(value.map(|value| (name.to_owned(), value.into())));
        }
        if scope.is_empty() && !self.everything {
            bail!("say what to keep: --class, --session, --host, --from, --to, or --everything");
        }
        let body = json!({ "scope": scope, "reason": needed(&self.reason)? });
        let path = "/api/v1/legal-holds";
        let hold: Value = self.reach.block_on(async |client| client.post(path, &body).await)?;
        if self.reach.json {
            return output::json(&hold);
        }
        let id = visible(hold["id"].as_str().unwrap_or_default());
        output::text(&format!(
            "Legal hold {id}: nothing that matches is erased until it is lifted.\n"
        ))
    }
}

impl List {
    fn execute(&self) -> Result<()> {
        let path = format!("/api/v1/legal-holds?lifted={}", self.all);
        let found: Value = self.reach.block_on(async |client| client.get(&path).await)?;
        if self.reach.json {
            return output::json(&found);
        }
        let holds = found["legal_holds"].as_array().map(Vec::as_slice).unwrap_or_default();
        if holds.is_empty() {
            return output::text("No legal hold is in force.\n");
        }
        let rows: Vec<[String; 4]> = holds.iter().map(row).collect();
        output::text(&output::columns(&rows))
    }
}

fn row(hold: &Value) -> [String; 4] {
    let text = |value: &Value| visible(value.as_str().unwrap_or_default());
    let set = when(hold["set_unix_ms"].as_u64().unwrap_or_default());
    let lifted = hold["lifted_unix_ms"].as_u64().map_or_else(String::new, |unix_ms| {
        let (by, why) = (text(&hold["lifted_by"]), text(&hold["lifted_reason"]));
        format!("; lifted {} by {by}: {why}", when(unix_ms))
    });
    [
        text(&hold["id"]),
        scope(&hold["scope"]),
        format!("set {set} by {}", text(&hold["set_by"])),
        format!("{}{lifted}", text(&hold["reason"])),
    ]
}

fn scope(scope: &Value) -> String {
    let parts =
        scope.as_object().into_iter().flatten().map(|(name, value)| match (name.as_str(), value) {
            ("from_unix_ms", value) => format!("from {}", when(value.as_u64().unwrap_or(0))),
            ("to_unix_ms", value) => format!("to {}", when(value.as_u64().unwrap_or(0))),
            (name, value) => {
                format!("{} {}", visible(name), visible(value.as_str().unwrap_or_default()))
            }
        });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "everything".into() } else { parts.join(", ") }
}

impl Remove {
    fn execute(&self) -> Result<()> {
        let path = format!("/api/v1/legal-holds/{}/lift", self.id);
        let body = json!({ "reason": needed(&self.reason)? });
        self.reach.block_on(async |client| client.tell(&path, &body).await)?;
        if self.reach.json {
            return output::json(&json!({ "lifted": self.id }));
        }
        output::text(&format!("Legal hold {} is lifted.\n", self.id))
    }
}

fn needed(reason: &str) -> Result<&str> {
    match reason.trim() {
        "" => bail!("a legal hold needs a reason: --reason 'why, in words'"),
        reason => Ok(reason),
    }
}

/// Reads a date or a time; log times are no positions here, as a hold keeps what comes too.
fn unix_ms(text: &str) -> Result<u64, String> {
    match position(text) {
        Ok(Position::UnixMs(unix_ms)) => Ok(unix_ms),
        _ => Err("expected a date such as 2026-11-23 (UTC), or a time such as \
                  2026-11-23T22:04:53Z"
            .into()),
    }
}
