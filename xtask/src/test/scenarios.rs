//! The checks that need a VM: the scenarios on every kernel, and a kernel on which Guard has to refuse.

use super::{
    Arguments, Row,
    bypass::{self, Tried},
};
use crate::{
    build::{self, Built},
    cache::repository,
    setup::{self, Kernel},
    vm,
};
use anyhow::Result;
use guard_vm_wire::{Job, Report, Task, WITHOUT_BPF_LSM};
use std::time::{Duration, Instant};

/// Longest time for all scenarios on one kernel, seconds.
const SCENARIOS_TIMEOUT_S: u64 = 1500;
/// Longest time for Guard to refuse, seconds.
const REFUSAL_TIMEOUT_S: u64 = 120;
/// The kernel that is booted without the BPF LSM as well. Which LSMs start is decided by code that has
/// been the same since 5.7, so one is enough.
const WITHOUT_BPF_ON: Kernel = Kernel::V7_3;

/// The rows that `arguments` ask for.
pub(super) fn run(arguments: &Arguments) -> Result<Vec<Row>> {
    let kernels =
        if arguments.kernel.is_empty() { Kernel::ALL.to_vec() } else { arguments.kernel.clone() };
    let mut wanted = arguments.scenario.clone();
    if arguments.is_only_bypass() {
        wanted.extend(bypass::scenarios());
    }
    let all = wanted.is_empty();
    let is_refusal = |name: &String| name == WITHOUT_BPF_LSM;
    let (refusal, names): (Vec<_>, Vec<_>) = wanted.into_iter().partition(is_refusal);
    let built = build::everything(setup::for_build()?)?;
    let (mut rows, mut tried) = (Vec::new(), Vec::new());
    if all || !names.is_empty() {
        for &kernel in &kernels {
            let boot = setup::for_vm(kernel)?;
            rows.push(on_kernel(kernel, &boot, &built, names.clone(), &mut tried));
        }
    }
    // A name that was given counts, whatever the kernels; of all rows only what they ask for.
    if !arguments.scenario.is_empty() && !refusal.is_empty()
        || (all || !refusal.is_empty()) && kernels.contains(&WITHOUT_BPF_ON)
    {
        let boot = setup::for_vm(WITHOUT_BPF_ON)?;
        rows.push(without_bpf_lsm(&boot, &built, &mut tried));
    }
    if all || arguments.is_only_bypass() {
        eprint!("{}", bypass::table(&tried));
    }
    Ok(rows)
}

/// All scenarios on one kernel. A VM that does not come up is a failure of that kernel, not of the run.
fn on_kernel(
    kernel: Kernel,
    boot: &setup::Boot,
    built: &Built,
    names: Vec<String>,
    tried: &mut Vec<Tried>,
) -> Row {
    let job = Job::new(Task::Scenarios(names), SCENARIOS_TIMEOUT_S);
    let request = vm::Request::new(job);
    let what = format!("VM scenarios on {kernel}");
    row(what, kernel, boot, built, &request, &format!("vm-{kernel}"), tried)
}

/// Guard on a kernel that was started without the BPF LSM.
fn without_bpf_lsm(boot: &setup::Boot, built: &Built, tried: &mut Vec<Tried>) -> Row {
    let job = Job::new(Task::WithoutBpfLsm, REFUSAL_TIMEOUT_S);
    let request = vm::Request { bpf_lsm: false, ..vm::Request::new(job) };
    let what = "VM without the BPF LSM".to_owned();
    row(what, WITHOUT_BPF_ON, boot, built, &request, "vm-without-bpf-lsm", tried)
}

/// Boots, counts what is reported, and keeps the files in `out/` under `folder`.
fn row(
    what: String,
    kernel: Kernel,
    boot: &setup::Boot,
    built: &Built,
    request: &vm::Request,
    folder: &str,
    tried: &mut Vec<Tried>,
) -> Row {
    let start = Instant::now();
    let out = repository().join("out").join(folder);
    let mut row = Row { what, passed: 0, failed: 0, took: Duration::ZERO, problems: Vec::new() };
    let ended = vm::boot_and_run(kernel, boot, built, request, Some(&out), &mut |report| {
        if let Report::Scenario { name, problem, took_ms } = report {
            let seconds = *took_ms as f64 / 1000.0;
            tried.push(Tried { kernel, scenario: name.clone(), passed: problem.is_empty() });
            if problem.is_empty() {
                row.passed += 1;
                eprintln!("  {kernel:>5}  ok    {seconds:>6.1} s  {name}");
            } else {
                row.failed += 1;
                let problem = problem.escape_debug().to_string();
                eprintln!("  {kernel:>5}  FAIL  {seconds:>6.1} s  {name}: {problem}");
                row.problems.push(format!("{kernel}: {name}: {problem}"));
            }
        }
    });
    if let Err(error) = ended {
        row.failed += 1;
        row.problems.push(format!("{kernel}: {error:#}"));
    }
    if row.passed + row.failed == 0 {
        row.failed = 1;
        row.problems.push(format!("{kernel}: no scenario was run"));
    }
    row.took = start.elapsed();
    row
}
