//! The `guard` command: what a person types. One module per subcommand; this file only dispatches.

#![cfg_attr(test, expect(clippy::unwrap_used, reason = "tests"))]

mod approvals;
mod audit;
mod completions;
mod controller;
mod doctor;
mod exit;
mod local;
mod output;
mod policy;
mod run;
mod status;
mod up;
mod why;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Guard holds risky actions of AI agents inside the kernel until a person decides.
///
/// Start with `guard doctor`: it says whether this machine can enforce. Then `sudo guard up`, and
/// `guard run --as NAME -- CMD…` for each agent.
#[derive(Debug, Parser)]
#[command(name = "guard", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed, or refused; 2 the command line is wrong; 3 this machine cannot
enforce. `guard audit verify`: 2 also if nothing was verified. `guard run` ends as its command does; 125 if the session could not be started, 126 if the command
cannot be executed, 127 if there is no such command.";

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Run(run::Run),
    Status(status::Status),
    Why(why::Why),
    #[command(subcommand)]
    Approvals(approvals::Approvals),
    #[command(subcommand)]
    Audit(audit::Audit),
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Up(up) => up.execute(),
        Command::Run(run) => run.execute(),
        Command::Status(status) => status.execute(),
        Command::Why(why) => why.execute(),
        Command::Approvals(approvals) => approvals.execute(),
        Command::Audit(audit) => audit.execute(),
        Command::Policy(policy) => policy.execute(),
        Command::Doctor(doctor) => doctor.execute(),
        Command::Completions(completions) => completions.execute::<Cli>(),
    };
    exit::of(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_help() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
        }
    }
}
