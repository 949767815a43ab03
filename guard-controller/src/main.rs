//! `guard-controller`: reads its command line, serves until a signal, stops in order.

use anyhow::{Context as _, bail};
use clap::Parser;
use guard_controller::{Config, Controller, Running, sinks::SinksFile};
use guard_policy::{Policy, PolicySource};
use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Guard's server: people decide here what AI agents may do.
#[derive(Debug, Parser)]
#[command(name = "guard-controller", version, max_term_width = 100)]
#[command(after_help = "Example:
  guard-controller --state /var/lib/guard/controller --rpc 0.0.0.0:7444 --rpc-name guard.example.org

The first start makes the user `admin` and prints a one-time sign-in link. Logs go to stderr;
RUST_LOG sets their level (default: info).")]
struct Arguments {
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
    /// Writes a new join token for one guard-agent into FILE (mode 0600)
    #[arg(long, value_name = "FILE")]
    join_token_file: Option<PathBuf>,
    /// Writes a new API token of the first user, good for a day, into FILE (mode 0600)
    #[arg(long, value_name = "FILE")]
    api_token_file: Option<PathBuf>,
    /// Prints addresses, sign-in link and CA pin as one line of JSON
    #[arg(long)]
    json: bool,
}

/// How long the token of `--api-token-file` is good: every start makes a new one.
const API_TOKEN_TTL_MS: u64 = 24 * 3600 * 1000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut running = Controller::start(config(&arguments)?).await?;
    if let Some(path) = &arguments.join_token_file {
        let token = running.controller.new_join_token().await?.token;
        write_secret(path, &token).with_context(|| path.display().to_string())?;
    }
    if let Some(path) = &arguments.api_token_file {
        let (controller, name) = (&running.controller, format!("start-{}", std::process::id()));
        let user = &controller.config().first_user.name;
        let (token, _) =
            controller.new_api_token(user, &name, API_TOKEN_TTL_MS, "guard-controller").await?;
        write_secret(path, &token).with_context(|| path.display().to_string())?;
    }
    announce(&running, arguments.json);
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        name = running.failed() => Some(name),
    };
    running.shutdown().await;
    match failed {
        None => Ok(()),
        Some(name) => bail!("{name} ended by itself; see the log"),
    }
}

fn config(arguments: &Arguments) -> anyhow::Result<Config> {
    let mut config = Config::new(&arguments.state, Arc::new(policy(&arguments.policy)?));
    config.ui_addr = arguments.ui;
    config.ui_names.clone_from(&arguments.ui_names);
    config.ui_behind_tls = arguments.ui_behind_tls;
    config.rpc_addr = arguments.rpc;
    config.rpc_names.clone_from(&arguments.rpc_names);
    if let Some(path) = &arguments.sinks {
        config.sinks = SinksFile::load(path)?;
    }
    Ok(config)
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

fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    writeln!(file, "{secret}")?;
    fs::rename(&draft, path)
}

fn announce(running: &Running, json: bool) {
    let Running { controller, ui_addr, rpc_addr, first_sign_in, .. } = running;
    let link = first_sign_in.as_ref().map(|t| format!("http://{ui_addr}/sign-in?token={t}"));
    let ca_pin = controller.ca_pin();
    if json {
        let line = serde_json::json!({
            "ui": format!("http://{ui_addr}/"),
            "rpc": format!("https://{rpc_addr}"),
            "ca_pin": ca_pin,
            "sign_in": link,
        });
        println!("{line}");
        return;
    }
    println!("UI:            http://{ui_addr}/");
    println!("guard-agents:  https://{rpc_addr}  (CA pin {ca_pin})");
    if let Some(link) = link {
        println!("Sign in once:  {link}");
    }
}
