//! `cargo xtask test`: every check, what it does as it goes, a table at the end.

mod attempts;
mod bypass;
mod scenarios;

use crate::{
    build::{self, SELECTION},
    cache::repository,
    run::{at_root, have, say},
    setup::{self, Kernel},
    vm,
};
use anyhow::{Context as _, Result};
use clap::ValueEnum;
use guard_vm_wire::{Job, Report, Task};
use std::{
    io::{BufRead as _, BufReader, Write},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// Longest time for the browser to approve what the VM's process waits for, seconds.
const HELD_TIMEOUT_S: u64 = 240;

/// The tests of the pages.
const BROWSER: [&str; 2] = ["--test", "browser"];

/// `cargo xtask test`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test                                   everything
  cargo xtask test --only unit                       unit and property tests
  cargo xtask test --only vm --kernel 7.3            the VM scenarios on one kernel
  cargo xtask test --only vm --scenario two_hundred_threads_held_at_once_each_get_their_answer")]
pub(crate) struct Arguments {
    /// Only this part (repeatable)
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// Only this kernel (repeatable)
    #[arg(long, value_name = "V")]
    kernel: Vec<Kernel>,
    /// Only this VM scenario (repeatable)
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// Print the ways out with every evidence id as JSON (out/bypass.json), the table of checks to stderr
    #[arg(long)]
    json: bool,
}

/// A part of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Format, lints, licences
    Lint,
    /// Unit and property tests
    Unit,
    /// Every fuzz target over its corpus and a moment longer
    Fuzz,
    /// Scenarios in VMs
    Vm,
    /// Of these, the ways out that a hostile session tries, as a table by row and kernel
    Bypass,
    /// The pages in a real Chromium
    Browser,
}

impl Arguments {
    /// Whether the ways out are wanted and not all scenarios, which have them.
    fn is_only_bypass(&self) -> bool {
        self.only.contains(&Part::Bypass) && !self.only.contains(&Part::Vm)
    }
}

/// A line of the table.
struct Row {
    what: String,
    passed: u32,
    failed: u32,
    took: Duration,
    problems: Vec<String>,
}

/// Runs the checks.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let mut rows = Vec::new();
    if wanted(Part::Lint) {
        rows.extend(lints()?);
    }
    if wanted(Part::Unit) {
        rows.push(unit()?);
    }
    if wanted(Part::Fuzz) {
        rows.push(fuzz()?);
    }
    if wanted(Part::Vm) || arguments.is_only_bypass() {
        rows.extend(scenarios::run(arguments)?);
    }
    if wanted(Part::Browser) {
        rows.push(browser()?);
        rows.push(browser_and_vm()?);
    }
    if arguments.json {
        let path = repository().join("out").join(scenarios::BYPASS_FILE);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        print!("{text}");
        return Ok(table(&rows, &mut std::io::stderr().lock()));
    }
    Ok(table(&rows, &mut std::io::stdout().lock()))
}

fn lints() -> Result<Vec<Row>> {
    let mut checks: Vec<(&str, Command)> = Vec::new();
    let mut cargo = |name, args: &[&str]| {
        let mut command = at_root("cargo");
        command.args(args);
        checks.push((name, command));
    };
    cargo("cargo fmt", &["fmt", "--all", "--check"]);
    let clippy = ["--all-targets", "--", "-D", "warnings"];
    cargo("cargo clippy", &[&["clippy", "--quiet"], &SELECTION[..], &clippy].concat());
    if have("cargo-deny") {
        cargo("cargo deny", &["deny", "--offline", "check", "licenses", "bans", "sources"]);
    } else {
        say("cargo-deny is not installed: licences and sources are not checked in this run");
    }
    if have("typos") {
        checks.push(("typos", at_root("typos")));
    } else {
        say("typos is not installed: spelling is not checked in this run");
    }
    let mut fmt = at_root("cargo");
    fmt.current_dir(repository().join("guard-ebpf")).args(["fmt", "--check"]);
    checks.push(("cargo fmt (guard-ebpf)", fmt));
    let mut rows = Vec::new();
    for (name, mut command) in checks {
        say(name);
        let start = Instant::now();
        let done = crate::run::loudly(&mut command)?;
        rows.push(Row {
            what: name.to_owned(),
            passed: u32::from(done),
            failed: u32::from(!done),
            took: start.elapsed(),
            problems: if done { Vec::new() } else { vec![format!("{name} failed: see above")] },
        });
    }
    Ok(rows)
}

fn unit() -> Result<Row> {
    let what = "unit and property tests";
    setup::for_unit()?;
    let mut cargo = at_root("cargo");
    if have("cargo-nextest") {
        cargo.args(["nextest", "run"]).args(SELECTION);
        cargo.args(["-E", "not binary(browser) and not binary(vm_page)"]);
        return nextest(what, &mut cargo);
    }
    cargo.args(["test", "--no-fail-fast"]).args(SELECTION).args(["--exclude", "guard-tests"]);
    cargo_test(what, &mut cargo)
}

/// The fuzz targets, each for a moment: `cargo xtask fuzz` does more.
fn fuzz() -> Result<Row> {
    let (what, start) = ("fuzz targets".to_owned(), Instant::now());
    let ended = crate::fuzz::briefly()?;
    for target in &ended {
        eprintln!("  {:<10} {}", target.name, target.summary);
    }
    let all = u32::try_from(ended.len()).unwrap_or(u32::MAX);
    let problems: Vec<String> = ended.into_iter().filter_map(|target| target.problem).collect();
    let failed = u32::try_from(problems.len()).unwrap_or(u32::MAX);
    Ok(Row { what, passed: all - failed, failed, took: start.elapsed(), problems })
}

/// The pages, in a real Chromium against a real controller.
fn browser() -> Result<Row> {
    let what = "browser (Chromium)";
    setup::for_browser()?;
    let mut cargo = at_root("cargo");
    if have("cargo-nextest") {
        return nextest(what, cargo.args(["nextest", "run"]).args(SELECTION).args(BROWSER));
    }
    // Here with the other few of guard-tests, which cannot be excluded in part.
    cargo.args(["test", "--no-fail-fast"]).args(SELECTION).args(BROWSER);
    cargo_test(what, cargo.args(["--bin", "guard-guest", "--bin", "guard-workload"]))
}

/// A real process, held by a real kernel, approved in a real Chromium.
fn browser_and_vm() -> Result<Row> {
    let (what, start) = ("browser and VM", Instant::now());
    say(what);
    let kernel = Kernel::V7_3;
    let built = build::everything(setup::for_build()?)?;
    let boot = setup::for_vm(kernel)?;
    // Held by the shipped policy: the session reads a private key.
    let command = ["cat", "/home/dev/.ssh/id_ed25519"].map(str::to_owned).to_vec();
    let job = Job { page: true, ..Job::new(Task::Command(command), HELD_TIMEOUT_S) };
    let port = crate::demo::free_port(None)?;
    let request = vm::Request { ui_port: Some(port), ..vm::Request::new(job) };
    let out = repository().join("out").join("vm-page");
    let mut page = None;
    let ended = vm::boot_and_run(kernel, &boot, &built, &request, Some(&out), &mut |report| {
        if let Report::Ready { sign_in: Some(path), .. } = report {
            let mut cargo = at_root("cargo");
            cargo.args(["test", "--quiet"]).args(SELECTION).args(["--test", "vm_page"]);
            cargo.env("GUARD_VM_SIGN_IN", format!("http://127.0.0.1:{port}{path}"));
            page = cargo.stdin(Stdio::null()).stdout(Stdio::null()).spawn().ok();
        }
    });
    let approved = page.is_some_and(|mut page| page.wait().is_ok_and(|status| status.success()));
    let mut problems = Vec::new();
    if !approved {
        problems.push(format!("{what}: the page was not driven to an approval (see above)"));
    }
    match ended {
        Ok(ended) if ended.status == 0 => {}
        Ok(ended) => problems.push(format!("{what}: the held process ended with {}", ended.status)),
        Err(error) => problems.push(format!("{what}: {error:#}")),
    }
    let passed = u32::from(problems.is_empty());
    let took = start.elapsed();
    Ok(Row { what: what.to_owned(), passed, failed: 1 - passed, took, problems })
}

/// Runs `cargo test`, shows what it says, and adds its summaries up.
fn cargo_test(what: &str, cargo: &mut Command) -> Result<Row> {
    say(format!("{what}, with `cargo test`: cargo-nextest is not installed"));
    let start = Instant::now();
    let mut child = cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let (mut passed, mut failed, mut problems) = (0, 0, Vec::new());
    for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).lines()) {
        let line = line?;
        eprintln!("{line}");
        if let Some(summary) = line.strip_prefix("test result: ") {
            let (ok, bad) = counts(&summary.replace(';', ","));
            passed += ok;
            failed += bad;
        }
    }
    let status = child.wait()?;
    if !status.success() || passed == 0 {
        failed = failed.max(1);
        problems.push(format!("{what}: cargo test ended with {status}, {passed} tests passed"));
    }
    Ok(Row { what: what.to_owned(), passed, failed, took: start.elapsed(), problems })
}

/// Runs nextest, shows what it says, and counts from its summary.
fn nextest(what: &str, cargo: &mut Command) -> Result<Row> {
    say(what);
    let start = Instant::now();
    let mut child = cargo
        .args(["--no-fail-fast", "--status-level", "fail", "--final-status-level", "fail"])
        .args(["--color", "never"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run cargo nextest: install cargo-nextest")?;
    let mut summary = None;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines() {
            let line = line?;
            eprintln!("{line}");
            if line.trim_start().starts_with("Summary") {
                summary = Some(line);
            }
        }
    }
    let status = child.wait()?;
    let (mut passed, mut failed) = summary.as_deref().map_or((0, 0), counts);
    let mut problems = Vec::new();
    if !status.success() || passed == 0 {
        failed = failed.max(1);
        problems.push(format!("{what}: nextest ended with {status}"));
    }
    if summary.is_none() {
        passed = 0;
        problems.push(format!("{what}: no test was run"));
    }
    Ok(Row { what: what.to_owned(), passed, failed, took: start.elapsed(), problems })
}

/// `Summary [ 1.2s] 12 tests run: 11 passed, 1 failed, 0 skipped` → (11, 1).
fn counts(summary: &str) -> (u32, u32) {
    let before = |word: &str| {
        let mut last = 0;
        for pair in summary.split_whitespace().collect::<Vec<_>>().windows(2) {
            if let [number, found] = pair
                && found.trim_end_matches(',') == word
            {
                last = number.parse().unwrap_or(0);
            }
        }
        last
    };
    (before("passed"), before("failed") + before("timed"))
}

fn table(rows: &[Row], out: &mut dyn Write) -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
    let _ = writeln!(out, "\n{:<28} {:>7} {:>7} {:>9}", "check", "passed", "failed", "time");
    for row in rows {
        passed += row.passed;
        failed += row.failed;
        let seconds = row.took.as_secs_f64();
        let _ = writeln!(
            out,
            "{:<28} {:>7} {:>7} {:>7.1} s",
            row.what, row.passed, row.failed, seconds
        );
    }
    for problem in rows.iter().flat_map(|row| &row.problems) {
        let _ = writeln!(out, "FAILED {problem}");
    }
    let _ = writeln!(out, "\n{passed} passed, {failed} failed");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn a_summary_is_counted() {
        let line = "     Summary [   1.202s] 12 tests run: 11 passed (1 slow), 1 failed, 3 skipped";
        assert_eq!(counts(line), (11, 1));
        assert_eq!(counts("Summary [ 0.1s] 2 tests run: 2 passed, 0 skipped"), (2, 0));
        assert_eq!(counts("ok. 7 passed, 0 failed, 1 ignored, 0 measured, 0 filtered out"), (7, 0));
        assert_eq!(counts("Summary [ 9s] 3 tests run: 1 passed, 1 failed, 1 timed out"), (1, 2));
    }
}
