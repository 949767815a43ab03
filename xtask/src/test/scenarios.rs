//! The checks that need a VM: the scenarios on every kernel, and a kernel on which Guard has to refuse.

use super::{
    Arguments, Row, attempts,
    bypass::{self, Tried},
};
use crate::{
    build::{self, Built},
    cache::repository,
    run::say,
    setup::{self, Kernel},
    vm,
};
use anyhow::{Context as _, Result};
use guard_vm_wire::{Job, Report, Task, WITH_ANOTHER_HASH, WITHOUT_BPF_LSM};
use std::{
    collections::VecDeque,
    fs,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Longest time for all scenarios on one kernel, seconds.
const SCENARIOS_TIMEOUT_S: u64 = 1500;
/// Longest time for Guard to refuse, seconds.
const REFUSAL_TIMEOUT_S: u64 = 120;
/// The ways out with all evidence, in `out/`.
pub(super) const BYPASS_FILE: &str = "bypass.json";
/// VMs that run at a time. A VM has two CPUs and is mostly one that is busy; more than two on a machine with two
/// cores only wait for one another, and scenarios have deadlines.
const AT_ONCE: usize = 2;
/// The kernel that is booted without the BPF LSM as well. Which LSMs start is decided by code that has
/// been the same since 5.7, so one is enough.
const WITHOUT_BPF_ON: Kernel = Kernel::V7_3;
/// The kernel that is booted with another hash as well. What guard-agent does then is the same on all of them, and what
/// makes it safe there is tried on each with the kernel's own hash.
const ANOTHER_HASH_ON: Kernel = Kernel::V6_12;

/// A VM to be run, and what its row is called.
struct Run {
    what: String,
    kernel: Kernel,
    boot: setup::Boot,
    request: vm::Request,
    /// In `out/`.
    folder: String,
}

/// The rows that `arguments` ask for.
pub(super) fn run(arguments: &Arguments) -> Result<Vec<Row>> {
    let kernels =
        if arguments.kernel.is_empty() { Kernel::ALL.to_vec() } else { arguments.kernel.clone() };
    let mut names = arguments.scenario.clone();
    if arguments.is_only_bypass() {
        names.extend(bypass::scenarios());
    }
    let all = names.is_empty();
    // These need a VM of their own.
    let mut taken = |wanted: &str| {
        let before = names.len();
        names.retain(|name| name != wanted);
        names.len() < before
    };
    let (refusal, another_hash) = (taken(WITHOUT_BPF_LSM), taken(WITH_ANOTHER_HASH));
    let built = build::everything(setup::for_build()?)?;
    let mut runs = Vec::new();
    if all || !names.is_empty() {
        for &kernel in &kernels {
            runs.push(on_kernel(kernel, setup::for_vm(kernel)?, names.clone()));
        }
    }
    // A name that was given counts, whatever the kernels; of all rows only what they ask for.
    if !arguments.scenario.is_empty() && refusal
        || (all || refusal) && kernels.contains(&WITHOUT_BPF_ON)
    {
        runs.push(without_bpf_lsm(setup::for_vm(WITHOUT_BPF_ON)?));
    }
    for &kernel in &kernels {
        if another_hash && !arguments.kernel.is_empty()
            || (all || another_hash) && kernel == ANOTHER_HASH_ON
        {
            runs.push(with_another_hash(kernel, setup::for_vm(kernel)?));
        }
    }
    let (rows, tried): (Vec<_>, Vec<_>) = play(runs, &built).into_iter().unzip();
    if all || arguments.is_only_bypass() {
        let tried: Vec<_> = tried.into_iter().flatten().collect();
        eprint!("{}", bypass::table(&tried));
        let text = format!("{:#}\n", bypass::json(&tried));
        let path = repository().join("out").join(BYPASS_FILE);
        fs::write(&path, &text).with_context(|| path.display().to_string())?;
        say(format!("written to {}", path.display()));
    }
    Ok(rows)
}

/// All scenarios on one kernel. A VM that does not come up is a failure of that kernel, not of the run.
fn on_kernel(kernel: Kernel, boot: setup::Boot, names: Vec<String>) -> Run {
    let request = vm::Request::new(Job::new(Task::Scenarios(names), SCENARIOS_TIMEOUT_S));
    let what = format!("VM scenarios on {kernel}");
    Run { what, kernel, boot, request, folder: format!("vm-{kernel}") }
}

/// Guard on a kernel that was started without the BPF LSM.
fn without_bpf_lsm(boot: setup::Boot) -> Run {
    let job = Job::new(Task::WithoutBpfLsm, REFUSAL_TIMEOUT_S);
    let request = vm::Request { bpf_lsm: false, ..vm::Request::new(job) };
    let what = "VM without the BPF LSM".to_owned();
    Run { what, kernel: WITHOUT_BPF_ON, boot, request, folder: "vm-without-bpf-lsm".to_owned() }
}

/// Guard on a kernel whose IMA hashes otherwise.
fn with_another_hash(kernel: Kernel, boot: setup::Boot) -> Run {
    let job = Job::new(Task::Scenarios(vec![WITH_ANOTHER_HASH.to_owned()]), SCENARIOS_TIMEOUT_S);
    let request = vm::Request { hashes_otherwise: true, ..vm::Request::new(job) };
    let what = format!("VM with another hash on {kernel}");
    Run { what, kernel, boot, request, folder: format!("vm-with-another-hash-{kernel}") }
}

/// Runs the VMs, [`AT_ONCE`] at a time, and returns their rows in the order given.
fn play(runs: Vec<Run>, built: &Built) -> Vec<(Row, Vec<Tried>)> {
    let queue: Mutex<VecDeque<_>> = Mutex::new(runs.into_iter().enumerate().collect());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || {
        let mut done = Vec::new();
        while let Some((place, run)) = next() {
            done.push((place, row(run, built)));
        }
        done
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            .flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, done)| done).collect()
}

/// Boots, counts what is reported, and keeps the files in `out/`.
fn row(run: Run, built: &Built) -> (Row, Vec<Tried>) {
    let Run { what, kernel, boot, request, folder } = run;
    let (start, mut tried) = (Instant::now(), Vec::new());
    let out = repository().join("out").join(folder);
    // What an earlier run left is no evidence of this one.
    let _ = fs::remove_file(out.join("evidence.ndjson"));
    let mut row = Row { what, passed: 0, failed: 0, took: Duration::ZERO, problems: Vec::new() };
    let ended = vm::boot_and_run(kernel, &boot, built, &request, Some(&out), &mut |report| {
        if let Report::Scenario { name, problem, took_ms, from_ns, to_ns } = report {
            let seconds = *took_ms as f64 / 1000.0;
            tried.push(Tried {
                kernel,
                scenario: name.clone(),
                passed: problem.is_empty(),
                from_ns: *from_ns,
                to_ns: *to_ns,
                evidence: Vec::new(),
            });
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
    if let Ok(evidence) = fs::read(out.join("evidence.ndjson")) {
        attempts::assign(&String::from_utf8_lossy(&evidence), &mut tried);
    }
    row.took = start.elapsed();
    (row, tried)
}
