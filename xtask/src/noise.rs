//! `cargo xtask noise`: holds by the thousand in a VM while signals, kills and tracers disturb who is held.

use crate::{
    build,
    cache::repository,
    run::say,
    setup::{self, Kernel},
    vm,
};
use anyhow::Result;
use guard_vm_wire::{
    Job, Task,
    noise::{NOISE_FILE, NoiseFigures},
};
use std::process::ExitCode;

/// Longest time for all of it, seconds: an attempt takes some ten milliseconds under emulation.
const TIMEOUT_S: u64 = 14_400;

/// `cargo xtask noise`.
#[derive(clap::Args)]
#[command(
    after_help = "Ends with 1 if any attempt was lost, came back as errno 513 or otherwise than decided, or left an entry
in the kernel's tables."
)]
pub(crate) struct Arguments {
    /// Kernel
    #[arg(long, value_name = "V", default_value = "7.3")]
    kernel: Kernel,
    /// Attempts, each of which is held
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    holds: u64,
    /// What the noise is drawn from; another one is other noise
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Runs it, prints the summary, writes `out/noise-KERNEL.json`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let &Arguments { kernel, holds, seed } = arguments;
    let built = build::everything(setup::for_build()?)?;
    let out = repository().join("out");
    let request = vm::Request::new(Job::new(Task::Noise { holds, seed }, TIMEOUT_S));
    let folder = out.join(format!("noise-{kernel}"));
    let figures: NoiseFigures = vm::measure(kernel, &built, &request, &folder, NOISE_FILE)?;
    let path = out.join(format!("noise-{kernel}.json"));
    vm::write_json(&path, &figures)?;
    print!("{}", summary(&figures));
    say(format!("written to {}", path.display()));
    let good = figures.misses.is_empty() && figures.attempts.begun > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What went wrong first.
fn summary(figures: &NoiseFigures) -> String {
    let NoiseFigures { kernel, misses, seed, rounds, holds, attempts, took_ms, .. } = figures;
    let mut out = String::new();
    for miss in misses {
        out += &format!("MISSED {}\n", miss.escape_debug());
    }
    let seconds = *took_ms as f64 / 1000.0;
    let rate = attempts.begun as f64 / seconds.max(0.001);
    out += &format!(
        "Linux {kernel}: {holds} holds of {} attempts in {rounds} rounds from seed {seed}, {seconds:.0} s ({rate:.0}/s)\n",
        attempts.begun
    );
    out += &format!(
        "  allowed {}, denied {}, killed {} (in {} of {} processes), lost {}, wrong {}, as 513 {}, forks refused {}, slowest {:.1} s\n",
        attempts.allowed,
        attempts.denied,
        attempts.killed,
        attempts.processes_killed,
        attempts.processes,
        attempts.lost,
        attempts.wrong,
        attempts.seen_513,
        attempts.forks_refused,
        attempts.slowest_ms as f64 / 1000.0
    );
    for (what, counts) in [
        ("noise", &figures.noise),
        ("the kernel counted", &figures.counters),
        ("entries before", &figures.tables_before),
        ("entries after", &figures.tables_after),
    ] {
        let counts = counts.iter().map(|(name, count)| format!("{} {count}", name.escape_debug()));
        out += &format!("  {what}: {}\n", counts.collect::<Vec<_>>().join(", "));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::summary;
    use guard_vm_wire::noise::NoiseFigures;

    #[test]
    fn what_went_wrong_comes_first_and_cannot_write_to_a_terminal() {
        let misses = vec!["a \x1b[2Jleak".to_owned()];
        let figures = NoiseFigures { misses, holds: 7, ..NoiseFigures::default() };
        let text = summary(&figures);
        assert!(text.starts_with("MISSED a \\u{1b}[2Jleak\n"), "{text}");
        assert!(text.contains("7 holds of 0 attempts"), "{text}");
    }
}
