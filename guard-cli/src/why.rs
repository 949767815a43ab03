//! `guard why`: inside a session, why something was held or denied.

use crate::{
    local::{LocalSocket, unexpected},
    output,
};
use anyhow::Result;
use clap::Args;
use guard_agent::{
    session::why::WhyEntry,
    socket::protocol::{Reply, Request},
};
use std::{fmt::Write as _, process::ExitCode};

/// In a session: the latest holds and denials of it, under which rule, and what to do.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  guard why\n  guard why --json | jq -r '.entries[-1].advice'")]
pub(crate) struct Why {
    #[command(flatten)]
    local: LocalSocket,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

impl Why {
    pub(crate) fn execute(&self) -> Result<ExitCode> {
        let reply = self.local.ask(&Request::Why {})?;
        let Reply::Why { session, entries } = &reply else { return Err(unexpected()) };
        if self.json {
            output::json(&reply)?;
        } else if entries.is_empty() {
            let name = &session.name;
            output::text(&format!("Nothing of session {name} was held or denied lately.\n"))?;
        } else {
            output::text(&entries.iter().map(describe).collect::<String>())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn describe(entry: &WhyEntry) -> String {
    let state = serde_json::to_value(entry.state).ok();
    let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or("unknown");
    let mut out = format!("{}: {}\n", state, entry.action);
    for (name, value) in [
        ("rule", format!("{} ({})", entry.rule, entry.place)),
        ("reason", entry.reason.clone()),
        ("since", output::ago(entry.since_unix_ms)),
        ("what to do", entry.advice.clone()),
    ] {
        if !value.is_empty() {
            let _ = writeln!(out, "  {name:<11}{value}");
        }
    }
    out
}
