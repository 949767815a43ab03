//! `cargo xtask bench`: the figures of docs/performance.md, misses first.

mod evidence;
mod kernel;
mod row;

use crate::setup::Kernel;
use anyhow::Result;
use clap::ValueEnum;
use std::process::ExitCode;

/// `cargo xtask bench`.
#[derive(clap::Args)]
#[command(
    after_help = "A bench is not a test: it fails on what could not be measured, never on a figure, and it shows
what is missed before what is met. docs/performance.md says what is measured and how to read it."
)]
pub(crate) struct Arguments {
    /// Only this part (repeatable)
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Entries of the log that the part `evidence` verifies and bundles
    #[arg(long, value_name = "N", default_value_t = evidence::ENTRIES,
        value_parser = clap::value_parser!(u64).range(1000..=100_000_000))]
    entries: u64,
    /// Kernel of the part `kernel`
    #[arg(long, value_name = "V", default_value = "7.3")]
    kernel: Kernel,
    /// Print what is written to out/ instead of tables
    #[arg(long)]
    json: bool,
}

/// A part of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The spool and the evidence log, beside plain files and SQLite on the same disk
    Evidence,
    /// What the kernel side costs, in instructions of a VM
    Kernel,
}

/// Measures, prints, writes to `out/`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let mut whole = true;
    if wanted(Part::Evidence) {
        whole &= evidence::run(arguments.entries, arguments.json)?;
    }
    if wanted(Part::Kernel) {
        whole &= kernel::run(arguments.kernel, arguments.json)?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
