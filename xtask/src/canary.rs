//! `cargo xtask canary`: forbidden actions a thousand times a second in a VM while guard-agent is killed
//! with SIGKILL and upgraded. None may pass.

use crate::{
    build,
    cache::repository,
    run::say,
    setup::{self, Kernel},
    vm,
};
use anyhow::Result;
use guard_vm_wire::{CANARY_FILE, CanaryFigures, Job, Task};
use std::process::ExitCode;

/// Longest time for all of it, seconds: a restart takes some seconds under emulation.
const TIMEOUT_S: u64 = 7200;

/// `cargo xtask canary`.
#[derive(clap::Args)]
#[command(
    after_help = "Ends with 1 if any forbidden action had an effect, or guard-agent did not start."
)]
pub(crate) struct Arguments {
    /// Kernel
    #[arg(long, value_name = "V", default_value = "7.3")]
    kernel: Kernel,
    /// How often guard-agent is killed and started again
    #[arg(long, value_name = "N", default_value_t = 100)]
    kills: u32,
    /// How often another version of it takes its place: another object, another ABI, and back
    #[arg(long, value_name = "N", default_value_t = 20)]
    upgrades: u32,
}

/// Runs it, prints the summary, writes `out/canary-KERNEL.json`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { kernel, kills, upgrades } = arguments;
    let built = build::everything(setup::for_build()?)?;
    let out = repository().join("out");
    let request = vm::Request::new(Job::new(Task::Canary { kills, upgrades }, TIMEOUT_S));
    let folder = out.join(format!("canary-{kernel}"));
    let figures: CanaryFigures = vm::measure(kernel, &built, &request, &folder, CANARY_FILE)?;
    let path = out.join(format!("canary-{kernel}.json"));
    vm::write_json(&path, &figures)?;
    print!("{}", summary(&figures));
    say(format!("written to {}", path.display()));
    let whole = figures.kills == kills && figures.upgrades == upgrades && figures.attempts > 0;
    let good = figures.misses.is_empty() && figures.passes == 0 && whole;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What went wrong first.
fn summary(figures: &CanaryFigures) -> String {
    let CanaryFigures { kernel, misses, kills, upgrades, attempts, passes, summary, took_ms } =
        figures;
    let mut out = String::new();
    for miss in misses {
        out += &format!("MISSED {}\n", miss.escape_debug());
    }
    out += &format!(
        "Linux {kernel}: {passes} of {attempts} forbidden actions passed, while guard-agent was killed \
         {kills} times and upgraded {upgrades} times in {:.0} s\n",
        *took_ms as f64 / 1000.0
    );
    for line in summary {
        out += &format!("  {}\n", line.escape_debug());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::summary;
    use guard_vm_wire::CanaryFigures;

    #[test]
    fn what_went_wrong_comes_first_and_cannot_write_to_a_terminal() {
        let misses = vec!["a \x1b[2Jpass".to_owned()];
        let figures = CanaryFigures { misses, passes: 1, attempts: 3, ..CanaryFigures::default() };
        let text = summary(&figures);
        assert!(text.starts_with("MISSED a \\u{1b}[2Jpass\n"), "{text}");
        assert!(text.contains("1 of 3 forbidden actions passed"), "{text}");
    }
}
