//! `guard-witness`: makes a witness, or serves one until a signal.

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};
use guard_audit::log::VerifierKey;
use guard_witness::{LOGS_MAX, State, Witness, serve};
use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

/// A witness of transparency logs (C2SP tlog-witness): cosigns what continues what it has seen.
#[derive(Debug, Parser)]
#[command(name = "guard-witness", version, max_term_width = 100)]
#[command(after_help = "Example:
  guard-witness init --state /var/lib/guard-witness --name witness.example.org/1
  guard-witness serve --state /var/lib/guard-witness --logs logs.txt --listen 0.0.0.0:7445

Run it on a machine that those who run the log cannot change, or it shows nothing. It speaks plain
HTTP: what it says is signed. Logs go to stderr; RUST_LOG sets their level (default: info).")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a new witness: its key and its state in one directory. Prints its public key
    Init {
        /// A directory that has no witness
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// The witness's name for the world, such as witness.example.org/1
        #[arg(long, value_name = "NAME")]
        name: String,
    },
    /// Print the public key
    Key {
        /// The directory of `init`
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
    /// Answer logs on POST /add-checkpoint
    Serve {
        /// The directory of `init`; nothing else may use it
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Verifier keys (NAME+ID+KEY) of the logs to cosign for, one a line
        #[arg(long, value_name = "FILE")]
        logs: PathBuf,
        /// Where to listen
        #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:7445")]
        listen: SocketAddr,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match arguments.command {
        Command::Init { state, name } => {
            println!("{}", State::create(&state, &name)?.public().as_str());
            Ok(())
        }
        Command::Key { state } => {
            println!("{}", State::open(&state)?.1.public().as_str());
            Ok(())
        }
        Command::Serve { state, logs, listen } => {
            let logs = keys(&logs)?;
            let (state, key) = State::open(&state)?;
            let witness = Arc::new(Witness::new(state, key, logs));
            let listener = TcpListener::bind(listen)
                .await
                .with_context(|| format!("cannot listen on {listen}"))?;
            println!("{} on http://{}", witness.key().as_str(), listener.local_addr()?);
            let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
            let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
            // What is under way is either durable and answered or neither: a log asks again.
            tokio::select! {
                never = serve(listener, witness) => match never {},
                _ = terminate.recv() => Ok(()),
                _ = interrupt.recv() => Ok(()),
            }
        }
    }
}

fn keys(path: &PathBuf) -> anyhow::Result<Vec<VerifierKey>> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| shown.to_string())?;
    let lines =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let keys = lines.map(|line| VerifierKey::parse(line).with_context(|| shown.to_string()));
    let keys = keys.collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(!keys.is_empty(), "{shown}: there is no key of a log in it");
    ensure!(keys.len() <= LOGS_MAX, "{shown}: at most {LOGS_MAX} keys are taken");
    Ok(keys)
}
