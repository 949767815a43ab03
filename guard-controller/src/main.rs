//! `guard-controller`: reads its command line, serves until a signal, stops in order.

mod arguments;

use anyhow::{Context as _, bail};
use arguments::Arguments;
use clap::Parser;
use guard_controller::{Controller, Running};
use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How long the token of `--api-token-file` is good: every start makes a new one.
const API_TOKEN_TTL_MS: u64 = 24 * 3600 * 1000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut running = Controller::start(arguments.config()?).await?;
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
