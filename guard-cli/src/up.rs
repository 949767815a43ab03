//! `guard up`: controller and guard-agent in one process, for one machine.
//!
//! The controller starts first and is asked for a join token; guard-agent joins it over loopback
//! exactly as a host of a fleet would, so there is one way in and no second protocol.

use crate::{
    controller::credentials::Credentials,
    doctor,
    exit::{CANNOT_ENFORCE, FAILED, WithCode},
    output, policy,
};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use guard_agent::{
    kernel::{
        RING_BYTES,
        load::{BPFFS, EbpfConfig},
    },
    selector::{Selector, Selectors},
    service::{self as agent, AgentError, ControllerConfig, OBJECT_DEFAULT},
    socket::{
        PATH_DEFAULT,
        client::ask,
        protocol::{Reply, Request, Status},
    },
    spool::LIMIT_DEFAULT,
};
use guard_audit::retention::{Rule, Rules};
use guard_controller::{
    Config, Controller, FirstUser, Running, sinks::SinksFile, witness::WitnessesFile,
};
use guard_policy::Policy;
use serde_json::json;
use std::{
    fs,
    io::IsTerminal as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::sleep,
};
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

/// How often to look whether guard-agent enforces yet.
const READY_POLL: Duration = Duration::from_millis(100);

/// Start Guard on this machine: web UI, REST and enforcement in one process.
///
/// Needs root and a kernel with the BPF LSM. Prints a link for the first sign-in. Ends in order on
/// SIGTERM and SIGINT; the kernel goes on enforcing, and what needs a person waits for the next
/// start.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  sudo guard up\n  \
    sudo guard up --policy /etc/guard/base.cedar --policy /etc/guard/team.cedar\n\n\
    Exit codes: 0 asked to stop; 1 failed; 3 this machine cannot enforce (see `guard doctor`).")]
pub(crate) struct Up {
    /// Policy file (Cedar); several form one policy; none: the shipped one.
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Everything that is kept: evidence, decisions, users, keys.
    #[arg(long, env = "GUARD_STATE", value_name = "DIR", default_value = "/var/lib/guard")]
    state: PathBuf,
    /// Where the web UI and REST listen. No TLS: put a reverse proxy before anything but loopback.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7443")]
    ui: SocketAddr,
    /// Further host name under which the UI is asked for.
    #[arg(long, value_name = "NAME")]
    ui_name: Vec<String>,
    /// Where guard-agents of other hosts link (mutual TLS).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7444")]
    rpc: SocketAddr,
    /// Socket for `guard run`, `status` and `why`.
    #[arg(long, env = "GUARD_SOCKET", value_name = "PATH", default_value = PATH_DEFAULT)]
    socket: PathBuf,
    /// Compiled eBPF programs.
    #[arg(long, env = "GUARD_EBPF_OBJECT", value_name = "FILE", default_value = OBJECT_DEFAULT)]
    ebpf_object: PathBuf,
    /// File of sinks: where evidence goes besides (JSON; see docs/siem.md).
    #[arg(long, value_name = "FILE")]
    sinks: Option<PathBuf>,
    /// File of witnesses, who cosign the evidence log (JSON; see docs/evidence.md).
    #[arg(long, value_name = "FILE")]
    witnesses: Option<PathBuf>,
    /// Erase payloads of a class of evidence after so many days, such as executed=90 or all=730
    /// (repeatable; default: nothing is ever erased; see docs/evidence.md).
    #[arg(long, value_name = "CLASS=DAYS")]
    retain: Vec<Rule>,
    /// Name of the first user, if there is none yet.
    #[arg(long, value_name = "NAME", default_value = "admin")]
    first_user: String,
    /// OS account that is the first user's own: they cannot approve what its sessions do. Under sudo
    /// the account that called it; run agents as an account of their own, or let a second person
    /// approve.
    #[arg(long, env = "SUDO_USER", value_name = "ACCOUNT")]
    own_account: Vec<String>,
    /// Make sessions of a program, a user or a cgroup from their first instruction, without `guard
    /// run`: program=PATH,as=NAME, uid=N,as=NAME or cgroup=PATH,as=NAME (repeatable).
    #[arg(long, value_name = "WHAT,as=NAME")]
    select: Vec<Selector>,
    /// Enforce what can be enforced where this kernel refuses a program that the policy needs. Without this such a machine is
    /// refused.
    #[arg(long)]
    danger_enforce_in_part: bool,
    /// Longest hold, seconds; the policy may ask for less.
    #[arg(long, value_name = "S", default_value_t = 600,
        value_parser = clap::value_parser!(u64).range(1..=600))]
    hold_ttl: u64,
    /// One JSON line on stdout when ready, instead of text.
    #[arg(long)]
    json: bool,
}

/// How it ended.
enum End {
    Signal,
    Agent(Result<(), AgentError>),
    Controller(&'static str),
}

impl Up {
    pub(crate) fn execute(self) -> Result<ExitCode> {
        // The policy first: its author need not be root to learn what is wrong with it.
        let policy = Arc::new(policy::load(&self.policy)?);
        let selectors = Selectors::resolve(self.select.clone())?;
        if !nix::unistd::geteuid().is_root() {
            let error = "`guard up` needs root: sudo guard up".to_owned();
            return Err(WithCode { code: FAILED, error }.into());
        }
        if let Some(error) = doctor::refusal(&self.ebpf_object) {
            return Err(WithCode { code: CANNOT_ENFORCE, error }.into());
        }
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let colours = std::io::stderr().is_terminal();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(colours)
            .with_writer(std::io::stderr)
            .init();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(self.serve(policy, selectors))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn serve(self, policy: Arc<Policy>, selectors: Selectors) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        create_private(&self.state)?;
        let object = fs::read(&self.ebpf_object)
            .with_context(|| format!("cannot read {}", self.ebpf_object.display()))?;
        let mut running = Controller::start(self.controller_config(policy.clone())?).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let agent = self.agent_config(&running, policy, selectors, object).await?;
        let agent = agent::run(agent, async move {
            // An error means that `stop` is gone: stop as well.
            let _ = stopped.await;
        });
        tokio::pin!(agent);
        let end = tokio::select! {
            ended = &mut agent => End::Agent(ended),
            failed = wait(&self, &mut running) => End::Controller(failed?),
            _ = terminate.recv() => End::Signal,
            _ = interrupt.recv() => End::Signal,
        };
        // guard-agent first: its last evidence goes to the controller.
        let end = match end {
            End::Agent(ended) => End::Agent(ended),
            other => {
                let _ = stop.send(());
                let ended = agent.await;
                if let (Err(error), End::Signal) = (&ended, &other) {
                    tracing::error!(%error, "guard-agent did not stop in order");
                }
                other
            }
        };
        Credentials::remove(&self.state);
        running.shutdown().await;
        match end {
            End::Signal | End::Agent(Ok(())) => Ok(()),
            End::Agent(Err(error)) => Err(error.into()),
            End::Controller(name) => bail!("guard-controller: {name} stopped by itself"),
        }
    }

    fn controller_config(&self, policy: Arc<Policy>) -> Result<Config> {
        let mut config = Config::new(self.state.join("controller"), policy);
        config.ui_addr = self.ui;
        config.ui_names = self.ui_name.clone();
        config.rpc_addr = self.rpc;
        config.first_user =
            FirstUser { name: self.first_user.clone(), principals: self.own_account.clone() };
        if let Some(path) = &self.sinks {
            config.sinks = SinksFile::load(path)?;
        }
        if let Some(path) = &self.witnesses {
            config.witnesses = WitnessesFile::load(path)?;
        }
        config.retention = Rules::new(self.retain.clone());
        Ok(config)
    }

    async fn agent_config(
        &self,
        running: &Running,
        policy: Arc<Policy>,
        selectors: Selectors,
        object: Vec<u8>,
    ) -> Result<agent::Config> {
        // A token at every start: used only by a host that has not joined, or whose certificate has
        // expired; otherwise it lapses.
        let join = running.controller.new_join_token().await?;
        let pin = join.ca_pin.parse().context("the controller's own CA pin")?;
        Ok(agent::Config {
            state_dir: self.state.join("agent"),
            socket: self.socket.clone(),
            policy,
            controller: Some(ControllerConfig {
                url: format!("https://{}", reachable(running.rpc_addr)),
                join: Some((Zeroizing::new(join.token), pin)),
            }),
            spool_limit_bytes: LIMIT_DEFAULT,
            selectors,
            ebpf: EbpfConfig {
                object,
                pin_root: Path::new(BPFFS).join("guard"),
                ring_bytes: RING_BYTES,
                hold_ttl_ns: self.hold_ttl * 1_000_000_000,
                hash_key: rand::random(),
                // Filled in from the policy.
                policy_epoch: 0,
                hash_content: false,
                danger_no_self_protection: false,
                danger_pin_version: None,
            },
            danger_enforce_in_part: self.danger_enforce_in_part,
        })
    }

    fn announce(&self, status: &Status, running: &Running, file: &Path) -> Result<()> {
        let ui = format!("http://{}", reachable(running.ui_addr));
        let sign_in = running.first_sign_in.as_ref();
        let sign_in = sign_in.map(|token| format!("{ui}/sign-in?token={token}"));
        if self.json {
            return output::json(&json!({
                "ui": ui,
                "sign_in": sign_in,
                "rpc": reachable(running.rpc_addr).to_string(),
                "socket": self.socket,
                "credentials": file,
                "host": status.host,
                "policy_digest": status.policy_digest,
                "coverage": status.coverage,
            }));
        }
        let sign_in = sign_in.map_or_else(
            || format!("{} has a password", self.first_user),
            |link| format!("{link}\n{:13}(works once, for {})", "", self.first_user),
        );
        let text = format!(
            "Guard enforces on this machine.\n\n\
             Page         {ui}\n\
             Sign in      {sign_in}\n\
             Policy       {}\n\
             Enforced\n{}\n\
             Start an agent:   guard run --as NAME -- CMD…\n\
             Watch and decide: sudo guard approvals watch\n",
            status.policy_files.join(", "),
            crate::status::coverage(&status.coverage),
        );
        output::text(&text)
    }
}

/// Announces once guard-agent enforces and is linked; then waits for a server to fail.
async fn wait(up: &Up, running: &mut Running) -> Result<&'static str> {
    let status = loop {
        let socket = up.socket.clone();
        let asked = tokio::task::spawn_blocking(move || ask(&socket, &Request::Status {})).await?;
        match asked {
            Ok(Reply::Status(status)) if status.link == "up" => break status,
            _ => sleep(READY_POLL).await,
        }
    };
    let url = format!("http://{}", reachable(running.ui_addr));
    let file = Credentials::create(&up.state, &url, &running.controller, &up.first_user).await?;
    up.announce(&status, running, &file)?;
    Ok(running.failed().await)
}

/// An address under which this machine reaches a listener of its own.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

fn create_private(dir: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot create the state directory {}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_on_loopback() {
        for (listening, reached) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:2", "127.0.0.1:2"),
            ("[::1]:3", "[::1]:3"),
            ("10.0.0.1:4", "10.0.0.1:4"),
        ] {
            assert_eq!(reachable(listening.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
