//! The command line of `guard-controller`.

use anyhow::Context as _;
use clap::Parser;
use guard_audit::retention::{Rule, Rules};
use guard_controller::{Config, sinks::SinksFile, witness::WitnessesFile};
use guard_policy::{Policy, PolicySource};
use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};

/// Guard's server: people decide here what AI agents may do.
#[derive(Debug, Parser)]
#[command(name = "guard-controller", version, max_term_width = 100)]
#[command(after_help = "Example:
  guard-controller --state /var/lib/guard/controller --rpc 0.0.0.0:7444 --rpc-name guard.example.org

The first start makes the user `admin` and prints a one-time sign-in link. Logs go to stderr;
RUST_LOG sets their level (default: info).")]
pub(super) struct Arguments {
    /// Directory for database and keys; created with mode 0700
    #[arg(long, value_name = "DIR", default_value = "/var/lib/guard/controller")]
    state: PathBuf,
    /// Address of the web UI and the REST API
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7443")]
    ui: SocketAddr,
    /// Host name, besides loopback's, under which browsers reach the UI (repeatable)
    #[arg(long = "ui-name", value_name = "NAME")]
    ui_names: Vec<String>,
    /// Browsers reach the UI through a proxy that ends TLS
    #[arg(long)]
    ui_behind_tls: bool,
    /// Address for guard-agents
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7444")]
    rpc: SocketAddr,
    /// Name or IP address, besides loopback's, under which guard-agents reach it (repeatable)
    #[arg(long = "rpc-name", value_name = "NAME")]
    rpc_names: Vec<String>,
    /// Policy file in Cedar (repeatable; default: the shipped policy)
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// File of sinks: where evidence goes besides (JSON; see docs/siem.md)
    #[arg(long, value_name = "FILE")]
    sinks: Option<PathBuf>,
    /// File of witnesses, who cosign the evidence log (JSON; see docs/evidence.md)
    #[arg(long, value_name = "FILE")]
    witnesses: Option<PathBuf>,
    /// Erases payloads of a class of evidence after so many days, such as executed=90 or all=730
    /// (repeatable; default: nothing is ever erased; see docs/evidence.md)
    #[arg(long, value_name = "CLASS=DAYS")]
    retain: Vec<Rule>,
    /// Writes a new join token for one guard-agent into FILE (mode 0600)
    #[arg(long, value_name = "FILE")]
    pub(super) join_token_file: Option<PathBuf>,
    /// Writes a new API token of the first user, good for a day, into FILE (mode 0600)
    #[arg(long, value_name = "FILE")]
    pub(super) api_token_file: Option<PathBuf>,
    /// Prints addresses, sign-in link and CA pin as one line of JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl Arguments {
    /// What the controller is started with.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        let mut config = Config::new(&self.state, Arc::new(policy(&self.policy)?));
        config.ui_addr = self.ui;
        config.ui_names.clone_from(&self.ui_names);
        config.ui_behind_tls = self.ui_behind_tls;
        config.rpc_addr = self.rpc;
        config.rpc_names.clone_from(&self.rpc_names);
        if let Some(path) = &self.sinks {
            config.sinks = SinksFile::load(path)?;
        }
        if let Some(path) = &self.witnesses {
            config.witnesses = WitnessesFile::load(path)?;
        }
        config.retention = Rules::new(self.retain.clone());
        Ok(config)
    }
}

fn policy(files: &[PathBuf]) -> anyhow::Result<Policy> {
    if files.is_empty() {
        return Ok(Policy::default_policy());
    }
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(PolicySource { file: path.display().to_string(), text })
    };
    let sources = files.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    Policy::load(&sources).context("the policy is refused; nothing was started")
}
