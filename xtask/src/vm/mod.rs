//! `cargo xtask vm`: a command in a VM, as a session under Guard. docs/vm.md is its manual.

pub(crate) mod machine;
mod output;
mod payload;
mod tail;

use crate::{
    build, cache,
    run::say,
    setup::{self, Kernel},
};
use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use guard_vm_wire::{Answer, Job, Port, Report, TROUBLE, Task};
use machine::Machine;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};
use tail::Tail;

/// How long the VM may take around the command: boot, Guard's start, collecting, power off.
const OVERHEAD: Duration = Duration::from_secs(180);
/// Boots before a VM is given up: 7.3 was seen to crash in its scheduler 1.5 s after power-on, under
/// emulation on a loaded machine. What happens after user space is up is never tried again.
const BOOT_ATTEMPTS: u32 = 3;
/// Pause between two looks at the VM's streams.
const PAUSE: Duration = Duration::from_millis(20);
/// Most that a VM may write to one of its streams, bytes: they are files on our disk.
const STREAM_BYTES_MAX: u64 = 4 << 30;
/// Longest line on the control port, bytes; what is longer is no report.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Lines of the console that are shown when a VM fails.
const CONSOLE_LINES: usize = 30;

/// `cargo xtask vm`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask vm --kernel 7.3 --root --answer deny -- sh -c 'cat /etc/shadow'
  cargo xtask vm --kernel 6.1 --answer approve --out out -- curl -s http://198.51.100.7/
  cargo xtask vm --kernel 6.12 --policy my.cedar --files ./attack -- ./attack.py

The exit status is the command's (128 + signal for a signal, 124 for the timeout), or 201 for trouble
of our own. docs/vm.md describes the VM, its addresses and what --out holds.")]
pub(crate) struct Arguments {
    /// Kernel: 6.1, 6.12, 6.18 or 7.3
    #[arg(long, value_name = "V", default_value = "7.3")]
    kernel: Kernel,
    /// Policy in Cedar; without one, the shipped policy
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// How every hold that needs a person is answered
    #[arg(long, value_enum, default_value_t = AnswerArgument::None)]
    answer: AnswerArgument,
    /// Directory that is copied to the session's working directory
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Directory for evidence.ndjson, logs and result.json
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Run the command as root instead of as `dev` (uid 1000)
    #[arg(long)]
    root: bool,
    /// Seconds until the command is killed
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// Script that is started beside the session, as root and outside of it
    #[arg(long, value_name = "SCRIPT")]
    beside: Option<PathBuf>,
    /// Run the command without Guard, to see what the VM itself does
    #[arg(long)]
    danger_without_guard: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// `--answer`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum AnswerArgument {
    /// Approve every hold
    Approve,
    /// Deny every hold
    Deny,
    /// Leave holds to their deadline
    None,
}

/// What a VM is to do, and with which files.
pub(crate) struct Request {
    /// For guard-guest.
    pub job: Job,
    /// Becomes the policy.
    pub policy: Option<PathBuf>,
    /// Copied to the working directory.
    pub files: Option<PathBuf>,
    /// Started beside the session.
    pub beside: Option<PathBuf>,
    /// Port of this machine that leads to the web page in the VM.
    pub ui_port: Option<u16>,
    /// Whether the kernel starts with the BPF LSM; without, Guard has to refuse.
    pub bpf_lsm: bool,
    /// Whether the kernel's IMA hashes with SHA-1, as some distributions' does, instead of with SHA-256.
    pub hashes_otherwise: bool,
    /// One CPU, and a clock that counts its instructions: the same figures on every machine.
    pub counts_instructions: bool,
}

impl Request {
    /// Nothing but the job, on a kernel with the BPF LSM.
    pub(crate) const fn new(job: Job) -> Self {
        Self {
            job,
            policy: None,
            files: None,
            beside: None,
            ui_port: None,
            bpf_lsm: true,
            hashes_otherwise: false,
            counts_instructions: false,
        }
    }
}

/// What came of it.
pub(crate) struct Ended {
    /// The command's exit status.
    pub status: u8,
}

/// Boots a VM that measures, and reads the figures that it sends as `file`; what else it sends stays beside them
/// in `folder`.
pub(crate) fn measure<T: DeserializeOwned>(
    kernel: Kernel,
    built: &build::Built,
    request: &Request,
    folder: &Path,
    file: &str,
) -> Result<T> {
    let boot = setup::for_vm(kernel)?;
    boot_and_run(kernel, &boot, built, request, Some(folder), &mut |_| {})?;
    let path = folder.join(file);
    let json = fs::read(&path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&json).with_context(|| path.display().to_string())
}

/// Writes figures as JSON to `path`, and returns what was written.
pub(crate) fn write_json(path: &Path, figures: &impl Serialize) -> Result<String> {
    let text = format!("{}\n", serde_json::to_string_pretty(figures)?);
    fs::write(path, &text).with_context(|| path.display().to_string())?;
    Ok(text)
}

/// Runs the command line's request.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    if arguments.danger_without_guard {
        say("WARNING: --danger-without-guard: nothing is held or recorded in this VM");
    }
    for path in [&arguments.policy, &arguments.files, &arguments.beside].into_iter().flatten() {
        fs::metadata(path).with_context(|| path.display().to_string())?;
    }
    let job = Job {
        task: Task::Command(arguments.command),
        answer: match arguments.answer {
            AnswerArgument::Approve => Answer::Approve,
            AnswerArgument::Deny => Answer::Deny,
            AnswerArgument::None => Answer::None,
        },
        root: arguments.root,
        guard: !arguments.danger_without_guard,
        timeout_s: arguments.timeout,
        policy: arguments.policy.is_some(),
        beside: arguments.beside.is_some(),
        page: false,
    };
    let request = Request {
        policy: arguments.policy,
        files: arguments.files,
        beside: arguments.beside,
        ..Request::new(job)
    };
    let boot = setup::for_vm(arguments.kernel)?;
    let built = build::everything(setup::for_build()?)?;
    let ended = boot_and_run(
        arguments.kernel,
        &boot,
        &built,
        &request,
        arguments.out.as_deref(),
        &mut |_| {},
    )?;
    Ok(ExitCode::from(ended.status))
}

/// Boots a VM, relays the command's streams, hands each report to `on_report`, keeps what the guest
/// sends in `out`.
pub(crate) fn boot_and_run(
    kernel: Kernel,
    boot: &setup::Boot,
    built: &build::Built,
    request: &Request,
    out: Option<&Path>,
    on_report: &mut dyn FnMut(&Report),
) -> Result<Ended> {
    for _ in 1..BOOT_ATTEMPTS {
        if let Some(ended) = attempt(kernel, boot, built, request, out, on_report)? {
            return Ok(ended);
        }
        say("the kernel crashed under emulation before Guard was there; booting again");
    }
    attempt(kernel, boot, built, request, out, on_report)?
        .with_context(|| format!("kernel {kernel} crashed in each of {BOOT_ATTEMPTS} boots"))
}

/// One boot. `None`: the VM ended before its user space said a word, so nothing of ours had run.
fn attempt(
    kernel: Kernel,
    boot: &setup::Boot,
    built: &build::Built,
    request: &Request,
    out: Option<&Path>,
    on_report: &mut dyn FnMut(&Report),
) -> Result<Option<Ended>> {
    let scratch = tempfile::Builder::new().prefix("guard-vm-").tempdir_in(cache::directory()?)?;
    let payload = payload::make(scratch.path(), built, request)?;
    say(format!("booting kernel {kernel}"));
    let start = Instant::now();
    let mut machine = Machine::boot(kernel, boot, &payload, scratch.path(), request)?;
    let limit = Duration::from_secs(request.job.timeout_s) + OVERHEAD;
    let mut streams = Streams::new(scratch.path());
    let mut reports = Vec::new();
    loop {
        let running = machine.is_running()?;
        // After the end: all that it wrote last.
        while streams.relay(&mut reports, on_report)? && !running {}
        if !running {
            break;
        }
        if let Some(port) = overflowing(scratch.path()) {
            machine.kill();
            bail!("the VM wrote more than {STREAM_BYTES_MAX} bytes to {port}, and was stopped");
        }
        if start.elapsed() > limit {
            machine.kill();
            keep_console(scratch.path(), out);
            show_console(scratch.path());
            bail!("the VM did not end within {limit:?}; its console is above");
        }
        std::thread::sleep(PAUSE);
    }
    keep_console(scratch.path(), out);
    if reports.is_empty() {
        show_console(scratch.path());
        return Ok(None);
    }
    let kept =
        out.map_or(Ok(()), |out| output::unpack(&scratch.path().join(Port::Output.name()), out));
    // Why the VM ended early says more than that its files are cut off.
    let ended = verdict(&reports, scratch.path())?;
    kept.map(|()| Some(ended))
}

fn keep_console(scratch: &Path, out: Option<&Path>) {
    if let Some(out) = out
        && fs::create_dir_all(out).is_ok()
    {
        let _ = fs::copy(scratch.join(machine::CONSOLE), out.join(machine::CONSOLE));
    }
}

/// A stream that would fill our disk.
fn overflowing(scratch: &Path) -> Option<&'static str> {
    Port::ALL.map(Port::name).into_iter().find(|name| {
        fs::metadata(scratch.join(name)).is_ok_and(|file| file.len() > STREAM_BYTES_MAX)
    })
}

/// What the reports say all in all.
fn verdict(reports: &[Report], scratch: &Path) -> Result<Ended> {
    for report in reports {
        if let Report::Trouble { text } = report {
            bail!("in the VM: {text}");
        }
    }
    let exit = reports.iter().rev().find_map(|report| match report {
        Report::Exit { status, .. } => Some(*status),
        _ => None,
    });
    match exit {
        Some(status) => Ok(Ended { status }),
        None => {
            show_console(scratch);
            bail!("the VM ended without a word (exit status {TROUBLE}); its console is above")
        }
    }
}

fn show_console(scratch: &Path) {
    let text = fs::read(scratch.join(machine::CONSOLE)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(CONSOLE_LINES)) {
        eprintln!("  console | {}", line.escape_debug());
    }
}

/// The VM's streams on this side.
struct Streams {
    stdout: Tail,
    stderr: Tail,
    control: Tail,
    line: Vec<u8>,
}

impl Streams {
    fn new(scratch: &Path) -> Self {
        let tail = |port: Port| Tail::new(scratch.join(port.name()));
        Self {
            stdout: tail(Port::Stdout),
            stderr: tail(Port::Stderr),
            control: tail(Port::Control),
            line: Vec::new(),
        }
    }

    /// Hands on what has come; whether there was anything.
    fn relay(
        &mut self,
        reports: &mut Vec<Report>,
        on_report: &mut dyn FnMut(&Report),
    ) -> Result<bool> {
        let [out, err, control] = [self.stdout.read()?, self.stderr.read()?, self.control.read()?];
        let more = !(out.is_empty() && err.is_empty() && control.is_empty());
        // A reader that has gone (`| head`) does not stop the VM.
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(&out).and_then(|()| stdout.flush());
        let _ = std::io::stderr().lock().write_all(&err);
        drop(stdout);
        self.line.extend(control);
        if self.line.len() > LINE_BYTES_MAX && !self.line.contains(&b'\n') {
            self.line.clear();
        }
        while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.line.drain(..=end).collect();
            match serde_json::from_slice::<Report>(&line) {
                Ok(report) => {
                    if let Report::Note { text } = &report {
                        say(format!("in the VM: {}", text.escape_debug()));
                    }
                    on_report(&report);
                    reports.push(report);
                }
                // A session that is root in the VM can write here: noise, not a reason to stop.
                Err(error) => say(format!("a control line that is no report was ignored: {error}")),
            }
        }
        Ok(more)
    }
}
