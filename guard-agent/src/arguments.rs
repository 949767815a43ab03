//! The flags of `guard-agent`.

use clap::{Parser, Subcommand};
use guard_agent::{
    kernel::{RING_BYTES, parse_mib},
    link::tls::CaPin,
    selector::Selector,
    service::OBJECT_DEFAULT,
    socket::PATH_DEFAULT,
    spool::LIMIT_DEFAULT,
};
use std::path::PathBuf;

/// Holds risky actions of AI agents in the kernel until a policy or a person decides.
///
/// Needs root and a kernel with the BPF LSM (`guard doctor` says). Logs go to stderr; RUST_LOG
/// sets their level. Exit code 3: this host cannot enforce.
#[derive(Debug, Parser)]
#[command(name = "guard-agent", version)]
pub(crate) struct Args {
    /// Controller, https://HOST:PORT; without one, what needs a person is denied at its deadline.
    #[arg(long, env = "GUARD_CONTROLLER", value_name = "URL")]
    pub(crate) controller: Option<String>,
    /// File with a single-use join token; needed once.
    #[arg(long, env = "GUARD_JOIN_TOKEN_FILE", value_name = "FILE", requires = "ca_pin")]
    pub(crate) join_token_file: Option<PathBuf>,
    /// SHA-256 of the controller's CA certificate; needed once.
    #[arg(long, env = "GUARD_CA_PIN", value_name = "HEX")]
    pub(crate) ca_pin: Option<CaPin>,
    /// Policy files (Cedar); without one, the shipped policy.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(crate) policy: Vec<PathBuf>,
    /// State directory.
    #[arg(long, env = "GUARD_STATE", value_name = "DIR", default_value = "/var/lib/guard/agent")]
    pub(crate) state: PathBuf,
    /// Local socket for `guard run`, `guard status` and `guard why`.
    #[arg(long, env = "GUARD_SOCKET", value_name = "PATH", default_value = PATH_DEFAULT)]
    pub(crate) socket: PathBuf,
    /// Compiled eBPF programs.
    #[arg(long, env = "GUARD_EBPF_OBJECT", value_name = "FILE", default_value = OBJECT_DEFAULT)]
    pub(crate) ebpf_object: PathBuf,
    /// Make sessions of a program, a user or a cgroup from their first instruction, without `guard
    /// run`: program=PATH,as=NAME, uid=N,as=NAME or cgroup=PATH,as=NAME (repeatable).
    #[arg(long, value_name = "WHAT,as=NAME")]
    pub(crate) select: Vec<Selector>,
    /// Longest hold, seconds.
    #[arg(long, value_name = "S", default_value_t = 600,
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) hold_ttl: u64,
    /// Records that the kernel keeps for guard-agent, MiB, a power of two; beyond, holds are denied and
    /// losses counted. Maps that a former guard-agent left keep their size until the next boot.
    #[arg(long, value_name = "MIB", default_value_t = RING_BYTES >> 20, value_parser = parse_mib)]
    pub(crate) ring_size: u32,
    /// Most evidence on disk, MiB.
    #[arg(long, value_name = "MIB", default_value_t = LIMIT_DEFAULT >> 20,
        value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    pub(crate) spool_limit: u64,
    /// Write all evidence that this host still has to stdout as NDJSON, and exit.
    #[arg(long)]
    pub(crate) export_evidence: bool,
    /// With --export-evidence: only what the last boot has after the record of this sequence.
    #[arg(long, value_name = "SEQUENCE", requires = "export_evidence")]
    pub(crate) after: Option<u64>,
    /// Hash (SHA-256) every program that a session executes, for evidence and approvers; a policy that reads
    /// `context.sha256` has it done anyway. The kernel reads the whole file at each exec.
    #[arg(long)]
    pub(crate) hash_programs: bool,
    /// Let other processes of root change Guard's maps and remove its pins, as a bpftool up to 7.5 wants that
    /// lists maps, or a debugger of guard-agent.
    #[arg(long)]
    pub(crate) danger_no_self_protection: bool,
    /// Enforce what can be enforced where this kernel refuses a program that the policy needs; the log and the coverage say
    /// which. Without this such a host is refused.
    #[arg(long)]
    pub(crate) danger_enforce_in_part: bool,
    /// Tests only: pin the programs as if they were of this ABI version.
    #[arg(long, hide = true, value_name = "N")]
    pub(crate) danger_pin_version: Option<u32>,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// End enforcement on this host, deliberately: evidence first, then everything that is held is denied,
    /// then the programs are detached.
    ///
    /// Only root may, from outside of every session. SIGTERM ends guard-agent without ending enforcement.
    Stop {
        /// Why; it stands in evidence with who asked.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// guard-agent's local socket.
        #[arg(long, env = "GUARD_SOCKET", value_name = "PATH", default_value = PATH_DEFAULT)]
        socket: PathBuf,
    },
}
