//! `guard doctor`: can this machine enforce, and if not, what to do.

pub(crate) mod bpf;
pub(crate) mod checks;
mod facts;
mod kconfig;

use crate::{exit::CANNOT_ENFORCE, local::LocalSocket, output, status::coverage};
use anyhow::Result;
use checks::{Check, Verdict};
use clap::Args;
use facts::Facts;
use guard_agent::{
    service::OBJECT_DEFAULT,
    socket::protocol::{Reply, Request},
};
use serde_json::json;
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Say whether this machine can enforce: each line ok, problem and what to do.
///
/// Changes nothing and loads no LSM program. Exit code 0 only if enforcement is possible, 3
/// otherwise.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  sudo guard doctor\n  sudo guard doctor --json | jq .problems")]
pub(crate) struct Doctor {
    /// Compiled eBPF programs.
    #[arg(long, env = "GUARD_EBPF_OBJECT", value_name = "FILE", default_value = OBJECT_DEFAULT)]
    ebpf_object: PathBuf,
    #[command(flatten)]
    local: LocalSocket,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) fn execute(&self) -> Result<ExitCode> {
        let found = checks::all(&Facts::of_this_machine(&self.ebpf_object));
        let problems = count(&found, Verdict::Problem);
        // Not running is no problem: doctor comes first.
        let running = match self.local.ask(&Request::Status {}) {
            Ok(Reply::Status(status)) => Some(status.coverage),
            _ => None,
        };
        if self.json {
            output::json(&json!({
                "enforcement_possible": problems == 0,
                "problems": problems,
                "checks": found,
                "coverage": running,
            }))?;
        } else {
            let mut text = describe(&found);
            if let Some(running) = running {
                let _ = write!(text, "\nguard-agent runs and enforces:\n{}", coverage(&running));
            }
            output::text(&text)?;
        }
        Ok(ExitCode::from(if problems == 0 { 0 } else { CANNOT_ENFORCE }))
    }
}

/// Why this machine cannot enforce, in words; `None` if nothing is known to be in the way.
pub(crate) fn refusal(ebpf_object: &Path) -> Option<String> {
    let found = checks::all(&Facts::of_this_machine(ebpf_object));
    let problems: Vec<Check> =
        found.into_iter().filter(|check| check.verdict == Verdict::Problem).collect();
    if problems.is_empty() {
        return None;
    }
    let lines: String = problems.iter().map(line).collect();
    Some(format!(
        "enforcement is not possible on this machine, so Guard does not start:\n{lines}\
         `guard doctor` shows everything"
    ))
}

fn count(checks: &[Check], verdict: Verdict) -> usize {
    checks.iter().filter(|check| check.verdict == verdict).count()
}

fn describe(checks: &[Check]) -> String {
    let mut out: String = checks.iter().map(line).collect();
    let sentence = match count(checks, Verdict::Problem) {
        0 => {
            "Enforcement is possible on this machine, as far as can be told without loading an LSM \
              program."
                .to_owned()
        }
        1 => {
            "Enforcement is NOT possible on this machine, because of the problem above.".to_owned()
        }
        many => {
            format!(
                "Enforcement is NOT possible on this machine, because of the {many} problems above."
            )
        }
    };
    let _ = writeln!(out, "\n{sentence}");
    out
}

fn line(check: &Check) -> String {
    let word = match check.verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Problem => "PROBLEM",
    };
    let mut out = format!("{word:<8} {:<14} {}\n", check.name, check.found);
    if let Some(advice) = &check.advice {
        let _ = writeln!(out, "{:23} → {advice}", "");
    }
    out
}
