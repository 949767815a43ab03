//! `cargo xtask budgets`: what the verifier goes through for each program on each kernel, beside its budget.

use crate::{
    build,
    cache::repository,
    run::say,
    setup::{self, Kernel},
    vm,
};
use anyhow::{Context as _, Result};
use guard_vm_wire::{
    Job, Task,
    budget::{VERIFIED_FILE, Verified, parse, problems, text},
};
use std::{fs, path::PathBuf, process::ExitCode};

/// Longest time for Guard to start and tell, seconds.
const TIMEOUT_S: u64 = 300;

/// `cargo xtask budgets`.
#[derive(clap::Args)]
#[command(
    after_help = "Fails if a program is more than a tenth over its budget in tests/budgets/, has none, or is not loaded."
)]
pub(crate) struct Arguments {
    /// Only this kernel (repeatable)
    #[arg(long, value_name = "V")]
    kernel: Vec<Kernel>,
    /// Make what was measured the budget
    #[arg(long)]
    write: bool,
}

/// Measures and compares, or renews.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let kernels =
        if arguments.kernel.is_empty() { Kernel::ALL.to_vec() } else { arguments.kernel.clone() };
    let built = build::everything(setup::for_build()?)?;
    let mut whole = true;
    for kernel in kernels {
        let request = vm::Request::new(Job::new(Task::Verified, TIMEOUT_S));
        let out = repository().join("out").join(format!("budgets-{kernel}"));
        let measured: Verified = vm::measure(kernel, &built, &request, &out, VERIFIED_FILE)?;
        let path = file(kernel);
        let old = fs::read_to_string(&path).unwrap_or_default();
        let budget =
            parse(&old).map_err(anyhow::Error::msg).with_context(|| path.display().to_string())?;
        println!("Linux {}", measured.kernel);
        for (name, number) in &measured.programs {
            let before = budget.get(name).map_or_else(|| "–".to_owned(), u64::to_string);
            println!("  {name:<26} {number:>8} {before:>8}");
        }
        let found = problems(&measured.programs, &budget);
        if arguments.write {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            fs::write(&path, text(kernel.name(), &measured.programs))
                .with_context(|| path.display().to_string())?;
            say(format!("written: {}", path.display()));
        } else {
            for problem in &found {
                println!("FAILED {kernel}: {problem}");
            }
            whole &= found.is_empty();
        }
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn file(kernel: Kernel) -> PathBuf {
    repository().join("tests/budgets").join(format!("{kernel}.toml"))
}
