//! `cargo xtask evidence`: what somebody who does not trust us can look at by themselves.

mod tamper;

use crate::{
    build::SELECTION,
    cache::target,
    run::{at_root, loudly, quietly, say},
};
use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use std::{
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

/// Tests that hold events against OCSF's schemas, and the one that shows that the check can fail.
const OCSF_TESTS: [&str; 4] = [
    "ocsf::tests::every_variant_of_event_and_action_is_a_valid_ocsf_event",
    "ocsf::tests::every_subject_is_a_valid_event_of_its_class",
    "ocsf::tests::whatever_a_session_writes_the_event_is_valid_and_its_lines_are_one_line",
    "ocsf::tests::the_schemas_refuse_what_is_not_ocsf",
];

/// `cargo xtask evidence`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Kills a writer of the log with SIGKILL at random moments: rounds, acknowledged, lost
    Crash {
        /// How often
        #[arg(long, value_name = "N", default_value_t = 3000,
            value_parser = clap::value_parser!(u64).range(1..))]
        rounds: u64,
    },
    /// Flips a bit in each kind of file: guard audit verify and a verifier that shares no code with it
    Tamper {
        /// Entries of the log
        #[arg(long, value_name = "N", default_value_t = 2000,
            value_parser = clap::value_parser!(u64).range(600..=1_000_000))]
        entries: u64,
    },
    /// Validates every kind of event against OCSF's published schemas: variants, errors
    Ocsf,
}

/// Runs it; its table or summary is on standard output.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let good = match arguments.verb {
        Verb::Crash { rounds } => crash(rounds)?,
        Verb::Tamper { entries } => tamper::run(entries)?,
        Verb::Ocsf => ocsf()?,
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds, with the whole workspace's features, so that what the tests and the bench have built is used.
fn built(release: bool, what: &[&str]) -> Result<PathBuf> {
    say("building; the first time takes some minutes");
    let mut cargo = at_root("cargo");
    cargo.args(["build", "--quiet"]).args(SELECTION).args(what);
    if release {
        cargo.arg("--release");
    }
    if !loudly(&mut cargo)? {
        bail!("the build failed: see above");
    }
    Ok(target().join(if release { "release" } else { "debug" }))
}

fn crash(rounds: u64) -> Result<bool> {
    let program = built(true, &["--example", "crash"])?.join("examples/crash");
    // Beside the build, because /tmp is memory on many machines.
    let dir = tempfile::tempdir_in(target()).context("a directory for the log")?;
    let mut command = Command::new(program);
    command.arg(rounds.to_string()).arg(dir.path().join("log"));
    let status = command.stdin(Stdio::null()).status().context("cannot run the crash program")?;
    Ok(status.success())
}

fn ocsf() -> Result<bool> {
    let mut cargo = at_root("cargo");
    cargo.args(["test", "--quiet"]).args(SELECTION).args(["--lib", "--", "--exact", "--nocapture"]);
    let said = quietly(cargo.args(OCSF_TESTS))?;
    let summary: Vec<&str> = said.lines().filter_map(summary).collect();
    let passed: usize = said.lines().filter_map(passed).sum();
    if summary.is_empty() || passed != OCSF_TESTS.len() {
        bail!("{passed} of {} tests ran:\n{said}", OCSF_TESTS.len());
    }
    for line in summary {
        println!("{line}");
    }
    println!("{passed} of {} tests passed, of them one that the check can fail", OCSF_TESTS.len());
    Ok(true)
}

/// The line that a test says; the dots of tests that ended meanwhile may stand before it.
fn summary(line: &str) -> Option<&str> {
    let line = line.trim_start_matches('.');
    line.starts_with("OCSF ").then_some(line)
}

/// `test result: ok. 4 passed; …` → 4.
fn passed(line: &str) -> Option<usize> {
    let counts = line.strip_prefix("test result: ok. ")?;
    counts.split_once(" passed")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn passed_tests_are_counted_from_good_summaries_only() {
        let line = "test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 88 filtered out";
        assert_eq!(super::passed(line), Some(4));
        assert_eq!(super::passed("test result: FAILED. 4 passed; 1 failed"), None);
    }

    #[test]
    fn a_summary_is_found_behind_the_dots_of_other_tests() {
        for line in ["OCSF 1.8.0: errors 0", "..OCSF 1.8.0: errors 0"] {
            assert_eq!(super::summary(line), Some("OCSF 1.8.0: errors 0"));
        }
        assert_eq!(super::summary("..."), None);
        assert_eq!(super::summary("panicked: OCSF"), None);
    }
}
