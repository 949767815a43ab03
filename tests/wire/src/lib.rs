//! What `cargo xtask vm` and `guard-guest`, the first process in the VM, say to each other.
//!
//! xtask hands over a [`Job`] as `job.json` on the payload disk. The guest answers with
//! [`Report`] lines on the control port and, at the end, files on the output port, each
//! announced by a [`FileHeader`] line. A session may be root in the VM and write to these ports
//! itself, so xtask treats everything that it reads from them as hostile input.

pub mod budget;
pub mod noise;

use serde::{Deserialize, Serialize};

/// Where the payload disk is mounted in the VM, read-only.
pub const PAYLOAD_DIR: &str = "/run/guard-payload";
/// Name of the [`Job`] file on the payload disk.
pub const JOB_FILE: &str = "job.json";
/// Serial of the disk with the root file system.
pub const ROOT_SERIAL: &str = "guard-root";
/// Serial of the payload disk.
pub const PAYLOAD_SERIAL: &str = "guard-payload";
/// TCP port of the web interface inside the VM.
pub const UI_PORT: u16 = 7443;

/// The named virtio-serial ports between the VM and xtask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// The command's standard output, byte for byte.
    Stdout,
    /// The command's standard error, byte for byte.
    Stderr,
    /// [`Report`] lines.
    Control,
    /// Files for `--out`.
    Output,
}

impl Port {
    /// Every port, in the order of the machine's serial slots.
    pub const ALL: [Self; 4] = [Self::Stdout, Self::Stderr, Self::Control, Self::Output];

    /// The port's name: its file name under `/dev/virtio-ports`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "org.guard.stdout",
            Self::Stderr => "org.guard.stderr",
            Self::Control => "org.guard.ctl",
            Self::Output => "org.guard.out",
        }
    }
}

/// How person-tier holds are answered in the VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Every hold is approved.
    Approve,
    /// Every hold is denied.
    Deny,
    /// Nobody answers: holds end at their deadline.
    #[default]
    None,
}

/// What the VM runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One command; as a session of Guard unless the job runs without Guard.
    Command(Vec<String>),
    /// The named scenarios of the VM matrix; none named: all of them.
    Scenarios(Vec<String>),
    /// Guard in a VM whose kernel runs without the BPF LSM: it has to refuse ([`WITHOUT_BPF_LSM`]).
    WithoutBpfLsm,
    /// How long holds take and whether any goes wrong: `figures.json` ([`Figures`]).
    Figures,
    /// Forbidden actions a thousand times a second while guard-agent is killed and upgraded: `canary.json`
    /// ([`CanaryFigures`]).
    Canary {
        /// How often it is killed with SIGKILL and started again.
        kills: u32,
        /// How often another version takes its place.
        upgrades: u32,
    },
    /// Holds while signals, kills and tracers disturb who is held: `noise.json` ([`noise::NoiseFigures`]).
    Noise {
        /// How many attempts, each of which is held.
        holds: u64,
        /// What the noise and the attempts are drawn from.
        seed: u64,
    },
    /// What the kernel side costs, in instructions of a VM that counts them: `bench.json` ([`Bench`]).
    Bench,
    /// What the verifier went through for each program: `verified.json` ([`budget::Verified`]).
    Verified,
    /// How many events a second come from the kernel's ring buffer to a sink, and from which rate on
    /// some are lost: `figures.json` too.
    Events,
    /// The scripted coding agent; whoever has the page outside decides.
    Demo {
        /// The page stays up for that many seconds after the agent's end.
        linger_s: u64,
    },
}

/// All that the VM needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// What to run.
    pub task: Task,
    /// How to answer holds.
    pub answer: Answer,
    /// Run the command as root instead of as `dev` (uid 1000).
    pub root: bool,
    /// Start Guard; false only with `--danger-without-guard`.
    pub guard: bool,
    /// The command is killed after this many seconds.
    pub timeout_s: u64,
    /// A policy file stands on the payload disk as `policy.cedar`.
    pub policy: bool,
    /// A helper stands on the payload disk as `beside`, to be started outside the session.
    pub beside: bool,
    /// The page can be reached from outside, and a sign-in link is reported.
    pub page: bool,
}

impl Job {
    /// A job under Guard with nobody to answer, as `dev`, with the shipped policy.
    #[must_use]
    pub const fn new(task: Task, timeout_s: u64) -> Self {
        Self {
            task,
            answer: Answer::None,
            root: false,
            guard: true,
            timeout_s,
            policy: false,
            beside: false,
            page: false,
        }
    }
}

/// The scenario of [`Task::WithoutBpfLsm`].
pub const WITHOUT_BPF_LSM: &str =
    "a_kernel_without_the_bpf_lsm_is_refused_and_the_boot_parameter_named";

/// The scenario of a VM whose kernel hashes otherwise than with SHA-256 (`ima_hash=`): in no other VM.
pub const WITH_ANOTHER_HASH: &str =
    "what_a_program_contains_is_known_where_the_kernel_hashes_otherwise";

/// One line on the control port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Report {
    /// The VM's user space runs.
    Booted {
        /// Kernel release, as `uname -r` prints it.
        kernel: String,
    },
    /// Guard enforces and its page answers.
    Ready {
        /// Milliseconds from boot.
        after_ms: u64,
        /// Path and query of the one-time sign-in link, where the task needs one.
        sign_in: Option<String>,
    },
    /// Something worth telling the user.
    Note {
        /// The text.
        text: String,
    },
    /// A scenario of the matrix has ended.
    Scenario {
        /// Its name: a sentence about behaviour.
        name: String,
        /// Empty: passed. Otherwise what was seen instead.
        problem: String,
        /// Milliseconds that it took.
        took_ms: u64,
        /// When it began, by the VM's boot clock in ns, which evidence has too.
        from_ns: u64,
        /// When all that it had begun was over.
        to_ns: u64,
    },
    /// The command has ended.
    Exit {
        /// Exit status, 128 + signal for a signal, [`TIMED_OUT`] for the timeout.
        status: u8,
        /// The timeout ended it.
        timed_out: bool,
    },
    /// The VM could not do its job: Guard did not start, the command does not exist, …
    Trouble {
        /// What went wrong.
        text: String,
    },
}

/// Announces a file on the output port: this as one JSON line, then exactly `bytes` bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHeader {
    /// Plain file name: no separators.
    pub name: String,
    /// Size of what follows.
    pub bytes: u64,
}

/// Exit status for a command that the timeout ended, as timeout(1) has it.
pub const TIMED_OUT: u8 = 124;
/// Exit status for trouble of our own.
pub const TROUBLE: u8 = 201;

/// `result.json` in `--out`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunResult {
    /// Kernel release.
    pub kernel: String,
    /// The command's exit status; 128 + signal for a signal, 124 for the timeout.
    pub exit_status: u8,
    /// The signal that ended the command.
    pub signal: Option<i32>,
    /// The timeout ended the command.
    pub timed_out: bool,
    /// Milliseconds from the command's start to its end.
    pub duration_ms: u64,
    /// Holds that a person had to decide.
    pub holds: u64,
    /// What became of the holds, by state.
    pub decisions: std::collections::BTreeMap<String, u64>,
    /// Events and holds that the kernel side dropped, by counter.
    pub drops: std::collections::BTreeMap<String, u64>,
    /// Evidence records by kind.
    pub evidence: std::collections::BTreeMap<String, u64>,
}

/// Name of the file with [`Figures`] among those that the VM sends.
pub const FIGURES_FILE: &str = "figures.json";

/// What [`Task::Figures`] measured, by the VM's own monotonic clock.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Kernel release.
    pub kernel: String,
    /// Holds that were lost, answered wrongly or seen as errno 513, and parts that could not be
    /// measured, in words. Empty: all is well.
    pub misses: Vec<String>,
    /// Whether each hold had its outcome.
    pub tallies: Vec<Tally>,
    /// How long single holds took.
    pub spreads: Vec<Spread>,
    /// Events from the ring buffer to a sink, at ever higher rates.
    #[serde(default)]
    pub flows: Vec<Flow>,
    /// Kernel counters of what was lost or denied for want of room; only those above 0.
    pub drops: std::collections::BTreeMap<String, u64>,
}

/// Name of the file with [`CanaryFigures`] among those that the VM sends.
pub const CANARY_FILE: &str = "canary.json";

/// What [`Task::Canary`] saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CanaryFigures {
    /// Kernel release.
    pub kernel: String,
    /// Passes, other errors than `EPERM` and restarts that failed, in words. Empty: all is well.
    pub misses: Vec<String>,
    /// How often guard-agent was killed with SIGKILL and started again.
    pub kills: u32,
    /// How often another version took its place.
    pub upgrades: u32,
    /// Forbidden actions that were attempted.
    pub attempts: u64,
    /// Of these, how many had an effect.
    pub passes: u64,
    /// The canary's own words.
    pub summary: Vec<String>,
    /// Milliseconds from its first attempt to its end.
    pub took_ms: u64,
}

/// Name of the file with [`Bench`] among those that the VM sends.
pub const BENCH_FILE: &str = "bench.json";

/// What [`Task::Bench`] measured. Times are instructions: the VM's clock counts one a nanosecond.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bench {
    /// Kernel release.
    pub kernel: String,
    /// Parts that could not be measured, in words.
    pub problems: Vec<String>,
    /// What the measuring itself costs, to be taken off of each.
    pub nothing: u64,
    /// The measurements.
    pub costs: Vec<Cost>,
    /// What each process ran for an `open` that guard-agent decided, by the scheduler's account and the
    /// process's name, until nobody had anything left to do for it: more than the action waited for.
    pub ran_each: std::collections::BTreeMap<String, u64>,
    /// Events by the thousand, from the ring buffer to the spool.
    pub burst: Option<Burst>,
}

/// One program under one condition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// The program: `open`, `read`, `socket`, `exec`, …
    pub program: String,
    /// Who decides, and how.
    pub condition: Condition,
    /// How many were measured.
    pub n: u64,
    /// Median, instructions, measuring included.
    pub median: u64,
    /// The least.
    pub min: u64,
    /// 99 of 100 were not more.
    pub p99: u64,
}

/// Who decides what is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nobody: no program of Guard's is loaded.
    #[default]
    Native,
    /// A fanotify permission event, answered by a small program.
    Fanotify,
    /// A seccomp notification, its argument read and its id checked by a small program.
    Seccomp,
    /// Guard is loaded, and the process is in no session.
    Unlabelled,
    /// A session's action, decided by guard-agent.
    First,
    /// The same action again, decided by the kernel's cache.
    Again,
}

/// Many events, as fast as one session can cause them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burst {
    /// How many were caused.
    pub events: u64,
    /// Counted as lost, by the kernel's counters or by evidence.
    pub lost: u64,
    /// With a record in the spool.
    pub spooled: u64,
    /// Instructions that guard-agent ran for all of them, by the scheduler's own account.
    pub agent_instructions: u64,
    /// Resident memory of guard-agent afterwards, KiB.
    pub rss_kib: u64,
    /// The most that it ever was, KiB.
    pub peak_rss_kib: u64,
}

/// Many holds and what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Of what kind.
    pub what: String,
    /// How many were attempted.
    pub holds: u64,
    /// With the outcome that was to be.
    pub right: u64,
    /// With another one, 513 included.
    pub wrong: u64,
    /// Without any, or without evidence of one.
    pub lost: u64,
    /// Seen by the process as errno 513, the kernel's own `ERESTARTNOINTR`.
    pub seen_513: u64,
    /// How many were seen to wait at one time.
    pub at_once: u64,
    /// Milliseconds until all were answered and had returned: from the first answer where they were
    /// first made to wait together, else from the start.
    pub took_ms: u64,
}

/// Events of one session, from the kernel's ring buffer to a sink of the controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Events a second that were to be made; 0: as fast as the session can.
    pub offered_per_s: u64,
    /// Whether guard-agent stood still meanwhile, so that the ring buffer had to overflow.
    pub stalled: bool,
    /// How many were made.
    pub made: u64,
    /// How many the sink's receiver has.
    pub delivered: u64,
    /// How many Guard says were lost: the kernel's counter, and what evidence tells.
    pub lost: u64,
    /// Milliseconds in which they were made.
    pub made_in_ms: u64,
    /// Milliseconds until the last of them was delivered, from the first on.
    pub delivered_in_ms: u64,
}

/// The spread of many times, microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// From what to what.
    pub what: String,
    /// How many times.
    pub n: u64,
    /// Median.
    pub p50_us: u64,
    /// 99 of 100 were not longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}
