//! `guard status`: what guard-agent does on this machine.

use crate::{
    local::{LocalSocket, unexpected},
    output,
};
use anyhow::Result;
use clap::Args;
use guard_agent::socket::protocol::{Reply, Request, Status as AgentStatus};
use guard_model::{Coverage, CoverageState};
use std::{fmt::Write as _, process::ExitCode};

/// Show what guard-agent enforces here: sessions, pending holds, coverage, counters.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  guard status --json | jq .pending_holds")]
pub(crate) struct Status {
    #[command(flatten)]
    local: LocalSocket,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(crate) fn execute(&self) -> Result<ExitCode> {
        let Reply::Status(status) = self.local.ask(&Request::Status {})? else {
            return Err(unexpected());
        };
        if self.json {
            output::json(&status)?;
        } else {
            output::text(&describe(&status))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn describe(status: &AgentStatus) -> String {
    let digest = status.policy_digest.get(..12).unwrap_or(&status.policy_digest);
    let link = match status.link.as_str() {
        "none" => "none: what needs a person is denied at its deadline",
        other => other,
    };
    let links = status.objects.iter().filter(|object| object.kind == "link").count();
    let maps = status.objects.len() - links;
    let rows = [
        ["guard-agent", status.version.as_str()],
        ["host", &status.host.to_string()],
        ["controller", link],
        ["policy", &format!("{} ({digest})", status.policy_files.join(", "))],
        ["in the kernel", &format!("{links} links, {maps} maps (their ids: --json)")],
        ["holds that wait", &status.pending_holds.to_string()],
        ["evidence", if status.spool_full { "CANNOT BE KEPT: disk full" } else { "kept" }],
    ]
    .map(|row| row.map(str::to_owned));
    let mut out = output::columns(&rows);
    let _ = writeln!(out, "\nEnforced:\n{}", coverage(&status.coverage));
    if status.sessions.is_empty() {
        out.push_str("No session runs. Start one with `guard run --as NAME -- CMD…`.\n");
    } else {
        out.push_str("Sessions:\n");
        let row = |session: &guard_model::SessionInfo| {
            let command: Vec<_> = session.command.iter().map(|arg| arg.visible()).collect();
            [
                format!("  {}", session.name),
                session.principal.clone(),
                format!("pid {}", session.root_pid),
                output::ago(session.started_unix_ms),
                command.join(" "),
            ]
        };
        out.push_str(&output::columns(&status.sessions.iter().map(row).collect::<Vec<_>>()));
    }
    let losses: Vec<_> = status
        .counters
        .iter()
        .filter(|(name, count)| **count > 0 && is_loss(name))
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if !losses.is_empty() {
        let _ = writeln!(out, "\nLosses: {}", losses.join(", "));
    }
    out
}

/// Counters that should stay at zero.
fn is_loss(name: &str) -> bool {
    ["lost", "drop", "full", "undecodable"].iter().any(|word| name.contains(word))
}

/// One line per program.
pub(crate) fn coverage(all: &[Coverage]) -> String {
    let row = |one: &Coverage| {
        let state = match one.state {
            CoverageState::Enforced => "enforced",
            CoverageState::Degraded => "degraded",
            CoverageState::Absent => "ABSENT",
        };
        [format!("  {}", one.action), one.hook.clone(), state.to_owned(), one.reason.clone()]
    };
    let table = output::columns(&all.iter().map(row).collect::<Vec<_>>());
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
