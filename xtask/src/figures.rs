//! `cargo xtask figures`: holds by the thousand in a VM, what went wrong first and how long they took.
//! A report, not a timed test: docs/performance.md says how to read it.

use crate::{
    build,
    cache::repository,
    run::say,
    setup::{self, Kernel},
    vm,
};
use anyhow::Result;
use guard_vm_wire::{FIGURES_FILE, Figures, Flow, Job, Spread, Tally, Task};
use serde::Serialize;
use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::Instant,
};

/// Longest time for all of it, seconds; it takes some minutes.
const TIMEOUT_S: u64 = 3600;

/// `cargo xtask figures`.
#[derive(clap::Args)]
#[command(after_help = "Ends with 1 if any hold was lost, answered wrongly or seen as errno 513.
The figures are of an emulated machine: docs/performance.md says how to read them.")]
pub(crate) struct Arguments {
    /// Kernel
    #[arg(long, value_name = "V", default_value = "7.3")]
    kernel: Kernel,
    /// Instead: events a second from the ring buffer to a sink, and from which rate on some are lost
    #[arg(long)]
    events: bool,
}

/// The file: figures, and of which machine.
#[derive(Serialize)]
struct Written<'a> {
    machine: &'a Machine,
    figures: &'a Figures,
}

/// Where it was measured.
#[derive(Serialize)]
struct Machine {
    /// The version in the checkout.
    guard: String,
    /// How the VM is run.
    vm: &'static str,
    /// QEMU's version.
    qemu: String,
    /// Processor and number of CPUs of the machine below the VM.
    host: String,
    /// Load average of that machine when it ended: others that work on it make figures longer.
    host_load: String,
    /// How long all of it took, seconds.
    took_s: u64,
}

/// Measures, prints, writes `out/figures-KERNEL.json`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let (kernel, start) = (arguments.kernel, Instant::now());
    let (task, name) = match arguments.events {
        true => (Task::Events, format!("events-{kernel}")),
        false => (Task::Figures, format!("figures-{kernel}")),
    };
    let built = build::everything(setup::for_build()?)?;
    let out = repository().join("out");
    let request = vm::Request::new(Job::new(task, TIMEOUT_S));
    let figures: Figures = vm::measure(kernel, &built, &request, &out.join(&name), FIGURES_FILE)?;
    let machine = Machine::read(start);
    let path = out.join(format!("{name}.json"));
    vm::write_json(&path, &Written { machine: &machine, figures: &figures })?;
    print!("{}", table(&figures, &machine));
    say(format!("written to {}", path.display()));
    let measured = !figures.tallies.is_empty() || !figures.flows.is_empty();
    let good = figures.misses.is_empty() && measured;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Machine {
    fn read(start: Instant) -> Self {
        let said = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            let output = command.args(args).current_dir(repository()).output();
            let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            let text = text.unwrap_or_default();
            text.lines().next().unwrap_or("unknown").trim().to_owned()
        };
        let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let model = model.map_or("unknown processor", |(_, model)| model);
        let load = fs::read_to_string(Path::new("/proc/loadavg")).unwrap_or_default();
        Self {
            guard: said("git", &["describe", "--always", "--dirty"]),
            vm: "QEMU TCG (software emulation), 2 CPUs, 1 GiB",
            qemu: said("qemu-system-x86_64", &["--version"]),
            host: format!("{model}, {cpus} CPUs"),
            host_load: load.split(' ').take(3).collect::<Vec<_>>().join(" "),
            took_s: start.elapsed().as_secs(),
        }
    }
}

/// What went wrong first, then how many, then how long.
fn table(figures: &Figures, machine: &Machine) -> String {
    let mut out = String::new();
    for miss in &figures.misses {
        let _ = writeln!(out, "MISSED {}", miss.escape_debug());
    }
    if figures.misses.is_empty() && figures.flows.is_empty() {
        out += "nothing lost, wrong or seen as 513\n";
    }
    let Machine { vm, host, host_load, .. } = machine;
    let _ = writeln!(out, "\nLinux {} in {vm}; on {host}, load {host_load}\n", figures.kernel);
    if !figures.flows.is_empty() {
        return out + &flows(&figures.flows);
    }
    let _ = writeln!(
        out,
        "{:<42} {:>7} {:>7} {:>6} {:>6} {:>7} {:>8} {:>10}",
        "holds", "number", "right", "wrong", "lost", "as 513", "at once", "time"
    );
    for Tally { what, holds, right, wrong, lost, seen_513, at_once, took_ms } in &figures.tallies {
        let seconds = *took_ms as f64 / 1000.0;
        let _ = writeln!(
            out,
            "{what:<42} {holds:>7} {right:>7} {wrong:>6} {lost:>6} {seen_513:>7} {at_once:>8} \
             {seconds:>8.1} s"
        );
    }
    let _ = writeln!(
        out,
        "\n{:<42} {:>7} {:>10} {:>10} {:>10}",
        "time of one hold, ms", "number", "p50", "p99", "max"
    );
    for Spread { what, n, p50_us, p99_us, max_us } in &figures.spreads {
        let [p50, p99, max] = [p50_us, p99_us, max_us].map(|us| *us as f64 / 1000.0);
        let _ = writeln!(out, "{what:<42} {n:>7} {p50:>10.2} {p99:>10.2} {max:>10.2}");
    }
    out
}

/// Events from the ring buffer to a sink; the first line with a loss is where it starts.
fn flows(flows: &[Flow]) -> String {
    let mut out = format!(
        "{:>14} {:>10} {:>10} {:>10} {:>10} {:>12} {:>10}\n",
        "offered /s", "made", "made /s", "delivered", "lost", "delivered /s", "counted"
    );
    for flow in flows {
        let Flow { offered_per_s, stalled, made, delivered, lost, made_in_ms, delivered_in_ms } =
            flow;
        let offered = match (offered_per_s, stalled) {
            (_, true) => "all, stalled".to_owned(),
            (0, false) => "all it can".to_owned(),
            (rate, false) => rate.to_string(),
        };
        let per_s = |count: u64, ms: u64| count as f64 * 1000.0 / ms.max(1) as f64;
        let counted = if delivered + lost == *made { "exactly" } else { "WRONG" };
        let _ = writeln!(
            out,
            "{offered:>14} {made:>10} {:>10.0} {delivered:>10} {lost:>10} {:>12.0} {counted:>10}",
            per_s(*made, *made_in_ms),
            per_s(*delivered, *delivered_in_ms),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Machine, table};
    use guard_vm_wire::{Figures, Tally};
    use std::time::Instant;

    #[test]
    fn misses_come_first_and_cannot_write_to_a_terminal() {
        let misses = vec!["one \x1b[2Jwas lost".to_owned()];
        let tallies = vec![Tally { what: "holds".into(), ..Tally::default() }];
        let figures = Figures { misses, tallies, ..Figures::default() };
        let text = table(&figures, &Machine::read(Instant::now()));
        assert!(text.starts_with("MISSED one \\u{1b}[2Jwas lost\n"), "{text}");
        assert!(!text.contains("nothing lost"), "{text}");
        let good = table(&Figures::default(), &Machine::read(Instant::now()));
        assert!(good.starts_with("nothing lost, wrong or seen as 513\n"), "{good}");
    }
}
