//! `guard policy`: check policy files, print the shipped pack.

use crate::{exit, output};
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use guard_policy::{MAX_SOURCE_BYTES, Policy, PolicySource};
use serde_json::json;
use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Check policies, and print the shipped one.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    Check(Check),
    Default(PrintDefault),
}

/// Check that files form a policy that Guard takes: syntax, schema, annotations.
///
/// Prints every problem as FILE:LINE:COLUMN with what was expected. Exit code 0 or 1.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  guard policy check base.cedar team.cedar")]
pub(crate) struct Check {
    /// Files that together form one policy.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Print the shipped policy, to start your own from.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  guard policy default > my.cedar")]
pub(crate) struct PrintDefault {}

impl PolicyCommand {
    pub(crate) fn execute(&self) -> Result<ExitCode> {
        match self {
            Self::Check(check) => check.execute(),
            Self::Default(_) => {
                output::text(&Policy::default_source().text)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl Check {
    fn execute(&self) -> Result<ExitCode> {
        match Policy::load(&sources(&self.files)?) {
            Ok(policy) => {
                let (digest, count) = (policy.digest(), policy.statements().len());
                if self.json {
                    let files = policy.files();
                    let report = json!({ "ok": true, "files": files, "statements": count,
                                         "digest": digest, "problems": [] });
                    output::json(&report)?;
                } else {
                    let files = policy.files().join(", ");
                    output::text(&format!("{files}: good, {count} statements, {digest}\n"))?;
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => {
                if self.json {
                    output::json(&json!({ "ok": false, "problems": error.problems() }))?;
                } else {
                    output::text(&error.to_string())?;
                }
                Ok(ExitCode::from(exit::FAILED))
            }
        }
    }
}

/// The policy that these files form; the shipped one if there are none.
pub(crate) fn load(files: &[PathBuf]) -> Result<Policy> {
    if files.is_empty() {
        return Ok(Policy::default_policy());
    }
    Ok(Policy::load(&sources(files)?)?)
}

fn sources(files: &[PathBuf]) -> Result<Vec<PolicySource>> {
    files
        .iter()
        .map(|path| {
            let text = read(path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok(PolicySource { file: path.display().to_string(), text })
        })
        .collect()
}

/// At most one byte more than a policy may have: that is refused with the right words later.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_SOURCE_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}
