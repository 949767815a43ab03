//! `cargo xtask bench`: the figures of docs/performance.md, misses first.

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
    /// What the kernel side costs, in instructions of a VM
    Kernel,
}

/// Measures, prints, writes to `out/`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let mut whole = true;
    if wanted(Part::Kernel) {
        whole &= kernel::run(arguments.kernel, arguments.json)?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
