//! The binary `guard-agent`: flags and environment → configuration → service → signal → stop.

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use guard_agent::{
    kernel::{
        RING_BYTES,
        load::{BPFFS, EbpfConfig},
        parse_mib,
    },
    link::tls::CaPin,
    selector::{Selector, Selectors},
    service::{AgentError, Config, ControllerConfig, OBJECT_DEFAULT, run},
    socket::PATH_DEFAULT,
    spool::{LIMIT_DEFAULT, read::export},
};
use guard_policy::{Policy, PolicySource};
use std::{fs, path::PathBuf, process::ExitCode, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

/// Holds risky actions of AI agents in the kernel until a policy or a person decides.
///
/// Needs root and a kernel with the BPF LSM (`guard doctor` says). Logs go to stderr; RUST_LOG
/// sets their level. Exit code 3: this host cannot enforce.
#[derive(Debug, Parser)]
#[command(name = "guard-agent", version)]
struct Args {
    /// Controller, https://HOST:PORT; without one, what needs a person is denied at its deadline.
    #[arg(long, env = "GUARD_CONTROLLER", value_name = "URL")]
    controller: Option<String>,
    /// File with a single-use join token; needed once.
    #[arg(long, env = "GUARD_JOIN_TOKEN_FILE", value_name = "FILE", requires = "ca_pin")]
    join_token_file: Option<PathBuf>,
    /// SHA-256 of the controller's CA certificate; needed once.
    #[arg(long, env = "GUARD_CA_PIN", value_name = "HEX")]
    ca_pin: Option<CaPin>,
    /// Policy files (Cedar); without one, the shipped policy.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    policy: Vec<PathBuf>,
    /// State directory.
    #[arg(long, env = "GUARD_STATE", value_name = "DIR", default_value = "/var/lib/guard/agent")]
    state: PathBuf,
    /// Local socket for `guard run`, `guard status` and `guard why`.
    #[arg(long, env = "GUARD_SOCKET", value_name = "PATH", default_value = PATH_DEFAULT)]
    socket: PathBuf,
    /// Compiled eBPF programs.
    #[arg(long, env = "GUARD_EBPF_OBJECT", value_name = "FILE", default_value = OBJECT_DEFAULT)]
    ebpf_object: PathBuf,
    /// Make sessions of a program, a user or a cgroup from their first instruction, without `guard
    /// run`: program=PATH,as=NAME, uid=N,as=NAME or cgroup=PATH,as=NAME (repeatable).
    #[arg(long, value_name = "WHAT,as=NAME")]
    select: Vec<Selector>,
    /// Longest hold, seconds.
    #[arg(long, value_name = "S", default_value_t = 600,
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    hold_ttl: u64,
    /// Records that the kernel keeps for guard-agent, MiB, a power of two; beyond, holds are denied and
    /// losses counted. Maps that a former guard-agent left keep their size until the next boot.
    #[arg(long, value_name = "MIB", default_value_t = RING_BYTES >> 20, value_parser = parse_mib)]
    ring_size: u32,
    /// Most evidence on disk, MiB.
    #[arg(long, value_name = "MIB", default_value_t = LIMIT_DEFAULT >> 20,
        value_parser = clap::value_parser!(u64).range(16..=1 << 20))]
    spool_limit: u64,
    /// Write all evidence that this host still has to stdout as NDJSON, and exit.
    #[arg(long)]
    export_evidence: bool,
    /// Tests only: pin the programs as if they were of this ABI version.
    #[arg(long, hide = true, value_name = "N")]
    danger_pin_version: Option<u32>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
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

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .init();
    match start(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(error.downcast_ref().map_or(1, AgentError::exit_code))
        }
    }
}

fn start(args: Args) -> Result<()> {
    if let Some(Command::Stop { reason, socket }) = args.command {
        guard_agent::stop::stop(&socket, &reason)?;
        println!("Enforcement has ended on this host.");
        return Ok(());
    }
    if args.export_evidence {
        export(&args.state.join("spool"), &mut std::io::stdout().lock())?;
        return Ok(());
    }
    let config = config(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = async {
            tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        };
        Ok(run(config, shutdown).await?)
    })
}

fn config(args: Args) -> Result<Config> {
    let join = match (&args.join_token_file, args.ca_pin) {
        (Some(path), Some(pin)) => {
            let token = fs::read_to_string(path)
                .with_context(|| format!("cannot read the join token in {}", path.display()))?;
            Some((Zeroizing::new(token.trim().to_owned()), pin))
        }
        _ => None,
    };
    if join.is_some() && args.controller.is_none() {
        bail!("--join-token-file needs --controller");
    }
    let object = fs::read(&args.ebpf_object).with_context(|| {
        let path = args.ebpf_object.display();
        format!("cannot read the eBPF programs in {path}: build them with `cargo xtask build`")
    })?;
    Ok(Config {
        state_dir: args.state,
        socket: args.socket,
        policy: Arc::new(policy(&args.policy)?),
        controller: args.controller.map(|url| ControllerConfig { url, join }),
        spool_limit_bytes: args.spool_limit << 20,
        selectors: Selectors::resolve(args.select)?,
        ebpf: EbpfConfig {
            object,
            pin_root: PathBuf::from(BPFFS).join("guard"),
            ring_bytes: args.ring_size << 20,
            hold_ttl_ns: args.hold_ttl * 1_000_000_000,
            hash_key: rand::random(),
            // Filled in from the policy.
            policy_epoch: 0,
            danger_pin_version: args.danger_pin_version,
        },
    })
}

fn policy(paths: &[PathBuf]) -> Result<Policy> {
    if paths.is_empty() {
        return Ok(Policy::default_policy());
    }
    let sources = paths.iter().map(|path| {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the policy {}", path.display()))?;
        Ok(PolicySource { file: path.display().to_string(), text })
    });
    Ok(Policy::load(&sources.collect::<Result<Vec<_>>>()?)?)
}
