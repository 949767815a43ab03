//! The binary `guard-agent`: flags and environment → configuration → service → signal → stop.

mod arguments;

use anyhow::{Context as _, Result, bail};
use arguments::{Args, Command};
use clap::Parser as _;
use guard_agent::{
    kernel::load::{BPFFS, EbpfConfig},
    selector::Selectors,
    service::{AgentError, Config, ControllerConfig, run},
    spool::read::export,
};
use guard_policy::{Policy, PolicySource};
use std::{fs, io::BufWriter, path::PathBuf, process::ExitCode, sync::Arc};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

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
        let mut out = BufWriter::new(std::io::stdout().lock());
        export(&args.state.join("spool"), args.after, &mut out)?;
        return Ok(());
    }
    let config = config(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = async move {
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
            hash_content: args.hash_programs,
            danger_no_self_protection: args.danger_no_self_protection,
            danger_pin_version: args.danger_pin_version,
        },
        danger_enforce_in_part: args.danger_enforce_in_part,
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
