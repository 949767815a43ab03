//! `guard-controller` as a child process, and receivers of evidence from PyPI.

use crate::support::{Agent, PATIENCE, boot, enrol};
use serde_json::Value;
use std::{net::SocketAddr, path::Path, path::PathBuf, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// The program as a child, which dies with the test.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) rpc: SocketAddr,
}

impl Program {
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[]).await
    }

    fn command(dir: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_guard-controller"));
        command
            .args(["--ui", "127.0.0.1:0", "--rpc", "127.0.0.1:0", "--json", "--state"])
            .arg(dir.join("state"))
            .arg("--join-token-file")
            .arg(dir.join("token"))
            .stderr(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// With sinks, and its standard output in a file.
    pub(crate) fn start_into(dir: &Path, sinks: &Path, out: std::fs::File) -> Self {
        let mut command = Self::command(dir);
        let child = command.arg("--sinks").arg(sinks).stdout(out).spawn().unwrap();
        Self { child, rpc: ([127, 0, 0, 1], 0).into() }
    }

    pub(crate) async fn start_with(dir: &Path, arguments: &[&str]) -> Self {
        let mut command = Self::command(dir);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        let rpc = line["rpc"].as_str().unwrap().trim_start_matches("https://").parse().unwrap();
        Self { child, rpc }
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

fn ca_pem(dir: &Path) -> String {
    let text = std::fs::read_to_string(dir.join("state/ca.pem")).unwrap();
    text[text.find("-----BEGIN CERTIFICATE-----").unwrap()..].to_owned()
}

/// A fake guard-agent, linked to the program.
pub(crate) async fn linked(program: &Program, dir: &Path) -> Agent {
    let token = std::fs::read_to_string(dir.join("token")).unwrap();
    let enrolled = enrol(program.rpc, &ca_pem(dir), token.trim()).await.unwrap();
    let mut agent = Agent::link(program.rpc, &enrolled, boot(), &[]).await;
    agent.evidence_ack().await;
    agent
}

/// A receiver in Python that says JSON lines and is asked by lines; it dies with the test.
pub(crate) struct Python {
    child: Child,
    asks: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
}

impl Python {
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(python())
            .args(["-u", "-c", script])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let asks = child.stdin.take().unwrap();
        let says = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, asks, says }
    }

    /// The next line that it says.
    pub(crate) async fn says(&mut self) -> Value {
        let line = timeout(PATIENCE, self.says.next_line()).await.expect("it says nothing");
        serde_json::from_str(&line.unwrap().expect("the receiver ended")).unwrap()
    }

    pub(crate) async fn ask(&mut self, line: &str) -> Value {
        self.asks.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        self.says().await
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().unwrap().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Where `cargo xtask setup` has put the receivers.
pub(crate) fn cache() -> PathBuf {
    match (std::env::var_os("GUARD_CACHE"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => PathBuf::from(home).join(".cache/guard"),
        (None, None) => panic!("neither GUARD_CACHE nor HOME is set"),
    }
}

/// The interpreter that it has given them.
fn python() -> PathBuf {
    let python = cache().join("receivers/bin/python3");
    assert!(python.exists(), "{}: run `cargo xtask setup` first", python.display());
    python
}
