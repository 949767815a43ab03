//! `cargo xtask fuzz`: every decoder of kernel, socket, wire and file input under libFuzzer.
//!
//! Guard's own crates are compiled once more, with coverage counters; the crates that they depend on are
//! those of every other build. ARCHITECTURE.md says why it is done this way.

use crate::{
    build::SELECTION,
    cache::{repository, target},
    run::{at_root, loudly, quietly, say},
    setup,
};
use anyhow::{Context as _, Result, bail};
use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

/// Longest time for one input, seconds; a decoder takes microseconds, the whole log some milliseconds.
const INPUT_TIMEOUT_S: u32 = 5;
/// Most memory of a target, MiB: the default policy and a log are a few.
const MEMORY_MIB: u32 = 1024;
/// Seconds for each target in `cargo xtask test`: with the start of each they stay below 15 in all.
const SECONDS_IN_TESTS: u32 = 1;

/// `cargo xtask fuzz`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz                                   every target for 60 seconds
  cargo xtask fuzz --target ring --seconds 3600
  cargo xtask fuzz --merge                           and then adds what reached new code to the corpora

An input that made a target fail is kept in out/fuzz/; `cargo run -p guard-fuzz -- replay TARGET FILE` runs it again.")]
pub(crate) struct Arguments {
    /// Only this target (repeatable)
    #[arg(long, value_name = "T")]
    target: Vec<String>,
    /// Seconds for each target
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Reduce the committed corpora to what reaches code, with what was found here added
    #[arg(long)]
    merge: bool,
}

/// How one target's run ended.
pub(crate) struct Ended {
    /// The target.
    pub name: String,
    /// In words, if it failed.
    pub problem: Option<String>,
    /// libFuzzer's last line.
    pub summary: String,
}

/// Runs the verb.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let fuzzer = Fuzzer::build()?;
    let names = fuzzer.names(&arguments.target)?;
    let mut failed = false;
    for name in &names {
        say(format!("fuzzing {name} for {} s", arguments.seconds));
        let ended = fuzzer.fuzz(name, arguments.seconds)?;
        println!("{:<10} {}", ended.name, ended.summary);
        if let Some(problem) = ended.problem {
            println!("FAILED {problem}");
            failed = true;
        } else if arguments.merge {
            fuzzer.merge(name)?;
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Every target, briefly, as a part of `cargo xtask test`.
pub(crate) fn briefly() -> Result<Vec<Ended>> {
    let fuzzer = Fuzzer::build()?;
    let names = fuzzer.names(&[])?;
    names.iter().map(|name| fuzzer.fuzz(name, SECONDS_IN_TESTS)).collect()
}

/// The instrumented binary.
struct Fuzzer {
    binary: PathBuf,
}

impl Fuzzer {
    fn build() -> Result<Self> {
        let library = setup::for_fuzz()?;
        say("building the fuzz targets");
        let directory = target().join("fuzz");
        let mut cargo = at_root("cargo");
        // The same packages, features and profile as everywhere, so that only Guard's own crates are new;
        // a test among them, because tests' features count as well.
        cargo.args(["build", "--quiet"]).args(SELECTION);
        cargo.args([
            "--bin",
            "guard-fuzz",
            "--test",
            "corpus",
            "--features",
            "guard-fuzz/libfuzzer",
        ]);
        cargo.env("RUSTC_WORKSPACE_WRAPPER", source().join("instrumented-rustc"));
        cargo.env("GUARD_LIBFUZZER", library);
        if !loudly(&mut cargo)? {
            bail!("the fuzz targets could not be built");
        }
        // The next ordinary build puts an ordinary one in its place.
        let (built, binary) =
            (target().join("debug/guard-fuzz"), made(directory)?.join("guard-fuzz"));
        fs::copy(&built, &binary).with_context(|| built.display().to_string())?;
        Ok(Self { binary })
    }

    /// The names of all targets, or those that were asked for.
    fn names(&self, wanted: &[String]) -> Result<Vec<String>> {
        let said = quietly(Command::new(&self.binary).arg("targets"))?;
        let all: Vec<String> =
            said.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect();
        if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
            bail!("no target `{unknown}`; there are {}", all.join(", "));
        }
        Ok(if wanted.is_empty() { all } else { wanted.to_vec() })
    }

    /// Runs one target over its corpus and then on with changed inputs.
    fn fuzz(&self, name: &str, seconds: u32) -> Result<Ended> {
        let found = made(target().join("fuzz").join("found").join(name))?;
        let failures = made(repository().join("out").join("fuzz"))?;
        let mut command = Command::new(&self.binary);
        command.args(["fuzz", name]).arg(&found).arg(corpus(name));
        command.arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-timeout={INPUT_TIMEOUT_S}"));
        command.arg(format!("-rss_limit_mb={MEMORY_MIB}"));
        command.arg(format!("-artifact_prefix={}/{name}-", failures.display()));
        command.arg("-print_final_stats=1").env("RUST_BACKTRACE", "0");
        let output = command.output().context("cannot run guard-fuzz")?;
        let said = String::from_utf8_lossy(&output.stderr);
        let summary = summary(&said);
        let problem = (!output.status.success() || summary.runs == 0).then(|| {
            let why = said.lines().filter(|line| tells(line)).collect::<Vec<_>>().join("\n    ");
            format!("fuzz target {name} ({}):\n    {why}", output.status)
        });
        Ok(Ended { name: name.to_owned(), problem, summary: summary.text() })
    }

    /// Keeps, in the committed corpus, as few inputs as reach everything that was reached.
    fn merge(&self, name: &str) -> Result<()> {
        let new = made(target().join("fuzz").join("merged").join(name))?;
        fs::remove_dir_all(&new)?;
        let new = made(new)?;
        let found = target().join("fuzz").join("found").join(name);
        let mut command = Command::new(&self.binary);
        command.args(["fuzz", name, "-merge=1"]).arg(&new).arg(corpus(name)).arg(&found);
        quietly(command.env("RUST_BACKTRACE", "0"))?;
        for entry in fs::read_dir(corpus(name))? {
            let path = entry?.path();
            // Seeds and the bundle have names of their own and stay.
            if path.file_name().is_some_and(|name| name.len() == SHA1_HEX) {
                fs::remove_file(path)?;
            }
        }
        for entry in fs::read_dir(&new)? {
            let path = entry?.path();
            let bytes = fs::read(&path)?;
            let kept =
                fs::read_dir(corpus(name))?.filter_map(|file| fs::read(file.ok()?.path()).ok());
            if !kept.into_iter().any(|other| other == bytes) {
                fs::copy(&path, corpus(name).join(path.file_name().unwrap_or_default()))?;
            }
        }
        Ok(())
    }
}

/// Length of the names that libFuzzer gives.
const SHA1_HEX: usize = 40;

fn source() -> PathBuf {
    repository().join("tests/fuzz")
}

fn corpus(name: &str) -> PathBuf {
    source().join("corpus").join(name)
}

fn made(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// What libFuzzer says of a whole run.
#[derive(Debug, Default, PartialEq)]
struct Summary {
    runs: u64,
    coverage: u64,
}

impl Summary {
    fn text(&self) -> String {
        format!("{} inputs, {} places of the code reached", self.runs, self.coverage)
    }
}

fn summary(said: &str) -> Summary {
    let number = |text: &str| text.split_whitespace().next()?.parse().ok();
    let runs =
        said.lines().find_map(|line| number(line.strip_prefix("stat::number_of_executed_units:")?));
    let coverage = said.lines().rev().find_map(|line| number(line.split_once(" cov: ")?.1));
    Summary { runs: runs.unwrap_or(0), coverage: coverage.unwrap_or(0) }
}

/// Lines of a failure that say what it was.
fn tells(line: &str) -> bool {
    let words =
        ["panicked at", "ERROR: libFuzzer", "Test unit written", "assertion", "left:", "right:"];
    words.iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::{Summary, summary};

    #[test]
    fn what_libfuzzer_says_is_counted_and_silence_is_no_run() {
        let said = "#2\tINITED cov: 10 ft: 11\n#99\tDONE   cov: 345 ft: 800 corp: 4/5b\n\
                    stat::number_of_executed_units: 99\n";
        assert_eq!(summary(said), Summary { runs: 99, coverage: 345 });
        assert_eq!(summary("").runs, 0);
    }
}
