//! The one entry for people and CI.

mod bench;
mod budgets;
mod build;
mod cache;
mod canary;
mod demo;
mod evidence;
mod figures;
mod fuzz;
mod noise;
mod run;
mod setup;
mod test;
mod vm;

use clap::{Parser, Subcommand};
use guard_vm_wire::TROUBLE;
use std::process::ExitCode;

/// Sets up, builds, tests and shows Guard.
#[derive(Parser)]
#[command(name = "cargo xtask", max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Examples:
  cargo xtask demo                                  the whole thing, in a VM, in your browser
  cargo xtask test                                  everything that CI checks
  cargo xtask test --only vm --kernel 6.12          the VM scenarios on one kernel
  cargo xtask vm --kernel 7.3 --answer deny -- cat /home/dev/.ssh/id_ed25519
                                                    try a program of your own against Guard (docs/vm.md)

Everything that is downloaded or built for the VMs is kept in $GUARD_CACHE (default ~/.cache/guard).")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Installs and fetches what building and testing need; does nothing twice
    Setup,
    /// Builds the eBPF programs and the binaries
    Build,
    /// Runs a command in a VM, as a session under Guard
    Vm(vm::Arguments),
    /// Runs all checks: format, lints, unit and property tests, VM scenarios, browser
    Test(test::Arguments),
    /// Measures what the goals of docs/performance.md are about, misses first
    Bench(bench::Arguments),
    /// Compares what the verifier goes through for each program with its budget, or renews that
    Budgets(budgets::Arguments),
    /// Feeds changed inputs to every decoder, with libFuzzer
    Fuzz(fuzz::Arguments),
    /// Measures holds by the thousand in a VM, and says whether any went wrong
    Figures(figures::Arguments),
    /// Kills and upgrades guard-agent in a VM under forbidden actions; none may pass
    Canary(canary::Arguments),
    /// Shows that the evidence log keeps what it promises: kill -9, flipped bits, OCSF
    Evidence(evidence::Arguments),
    /// Signals, kills and traces who is held in a VM; nobody may be lost, and nothing left behind
    Noise(noise::Arguments),
    /// Shows Guard: a scripted coding agent in a VM, its holds in your browser
    Demo(demo::Arguments),
}

fn main() -> ExitCode {
    let verb = match Arguments::try_parse() {
        Ok(arguments) => arguments.verb,
        Err(error) => return usage(&error),
    };
    let trouble = if matches!(verb, Verb::Vm(_)) { TROUBLE } else { 1 };
    let result = match verb {
        Verb::Setup => setup::everything().map(|_| ExitCode::SUCCESS),
        Verb::Build => setup::for_build().and_then(build::everything).map(|_| ExitCode::SUCCESS),
        Verb::Vm(arguments) => vm::run(arguments),
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Budgets(arguments) => budgets::run(&arguments),
        Verb::Fuzz(arguments) => fuzz::run(&arguments),
        Verb::Figures(arguments) => figures::run(&arguments),
        Verb::Canary(arguments) => canary::run(&arguments),
        Verb::Evidence(arguments) => evidence::run(&arguments),
        Verb::Noise(arguments) => noise::run(&arguments),
        Verb::Demo(arguments) => demo::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(trouble)
    })
}

/// Help, or what is wrong with the command line. `vm` never ends with a status that could be the
/// command's own.
fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    let is_vm = std::env::args().nth(1).is_some_and(|verb| verb == "vm");
    match (error.use_stderr(), is_vm) {
        (false, _) => ExitCode::SUCCESS,
        (true, true) => ExitCode::from(TROUBLE),
        (true, false) => ExitCode::from(2),
    }
}
