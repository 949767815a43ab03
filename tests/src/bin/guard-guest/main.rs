//! The first process of a test VM's user space: sets the machine up, starts Guard, runs the job that
//! xtask put on the payload disk, hands over what was seen, and switches the machine off.

mod answer;
mod bench;
mod bpf;
mod canary;
mod changes;
mod command;
mod demo;
mod events;
mod evidence;
mod figures;
mod guard;
mod http;
mod noise;
mod ports;
mod refusal;
mod relay;
mod result;
mod scenario;
mod scenarios;
mod stack;
mod system;
mod tables;
mod verified;

use guard_vm_wire::{JOB_FILE, Job, PAYLOAD_DIR, Report, RunResult, TROUBLE, Task};
use ports::Ports;
use std::{path::Path, time::Instant};

/// Why the job could not be done; told to xtask as [`Report::Trouble`].
pub(crate) type Trouble = String;

fn main() {
    if let Err(trouble) = system::mount_all() {
        // Nothing else is there to say it with.
        eprintln!("guard-guest: {trouble}");
        system::power_off();
    }
    match Ports::open() {
        Ok(mut ports) => {
            if let Err(trouble) = run(&mut ports) {
                ports.report(&Report::Trouble { text: trouble });
            }
            guard::collect_logs(&mut ports);
            ports.finish();
        }
        Err(trouble) => eprintln!("guard-guest: {trouble}"),
    }
    system::power_off()
}

fn run(ports: &mut Ports) -> Result<(), Trouble> {
    let kernel = system::kernel_release();
    ports.report(&Report::Booted { kernel: kernel.clone() });
    system::prepare()?;
    let path = Path::new(PAYLOAD_DIR).join(JOB_FILE);
    let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let job: Job =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut result = RunResult { kernel, ..RunResult::default() };
    let outcome = perform(ports, &job, &mut result);
    ports.send_json("result.json", &result);
    outcome
}

fn perform(ports: &mut Ports, job: &Job, result: &mut RunResult) -> Result<(), Trouble> {
    if !job.guard {
        let Task::Command(argv) = &job.task else {
            return Err("without Guard only a command can be run".to_owned());
        };
        ready(ports, None);
        let ended = command::run(ports, job, argv, None);
        return finish(ports, ended, result);
    }
    if let Task::Scenarios(names) = &job.task {
        return scenario::run_all(ports, names);
    }
    match job.task {
        Task::WithoutBpfLsm => return refusal::run(ports),
        Task::Figures => return figures::run(ports, &result.kernel),
        Task::Canary { kills, upgrades } => {
            return canary::run(ports, &result.kernel, kills, upgrades);
        }
        Task::Noise { holds, seed } => return noise::run(ports, &result.kernel, holds, seed),
        Task::Bench => return bench::run(ports, &result.kernel),
        Task::Verified => return verified::run(ports, &result.kernel),
        Task::Events => return events::run(ports, &result.kernel),
        _ => {}
    }
    let mut guard = guard::Guard::start(job.policy)?;
    let mut sign_in = None;
    if job.page {
        demo::open_page()?;
        sign_in = Some(guard.sign_in_path()?);
    }
    ready(ports, sign_in);
    let beside = job.beside.then(command::start_beside).transpose()?;
    let answering = answer::Answering::start(guard.api(), job.answer.into());
    let ended = match &job.task {
        Task::Command(argv) => command::run(ports, job, argv, Some("vm")),
        Task::Demo { linger_s } => demo::run(ports, job, *linger_s),
        Task::Scenarios(_)
        | Task::WithoutBpfLsm
        | Task::Figures
        | Task::Events
        | Task::Canary { .. }
        | Task::Noise { .. }
        | Task::Bench
        | Task::Verified => Err("this task starts Guard by itself".to_owned()),
    };
    answering.stop();
    command::stop_beside(beside);
    guard.stop();
    result::collect(ports, result);
    finish(ports, ended, result)
}

fn ready(ports: &mut Ports, sign_in: Option<String>) {
    let after_ms = system::uptime_ms();
    ports.report(&Report::Ready { after_ms, sign_in });
}

fn finish(
    ports: &mut Ports,
    ended: Result<command::Ended, Trouble>,
    result: &mut RunResult,
) -> Result<(), Trouble> {
    let ended = ended.inspect_err(|_| result.exit_status = TROUBLE)?;
    result.exit_status = ended.status;
    result.signal = ended.signal;
    result.timed_out = ended.timed_out;
    result.duration_ms = u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX);
    ports.report(&Report::Exit { status: ended.status, timed_out: ended.timed_out });
    Ok(())
}

/// Milliseconds since `start`.
pub(crate) fn took_ms(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
