//! `--native`: the demo on this machine, where its kernel accepts LSM programs.

use super::{auto::Auto, invite, plan};
use crate::{
    build,
    run::{quietly, say},
    setup,
};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

/// Reserved for documentation (RFC 5737): nothing real answers there.
const ADDRESSES: [&str; 2] = ["198.51.100.10", "198.51.100.7"];
const HELLO: &str = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello from guard's demo\n";
const AGENT: &str = include_str!("../../../tests/demo/agent.sh");

/// Runs it, or says why this machine cannot.
pub(crate) fn run(port: u16, auto: bool) -> Result<ExitCode> {
    let built = build::everything(setup::for_build()?)?;
    let guard = built.bin.join("guard");
    say("asking `guard doctor` whether this machine can enforce");
    let doctor = Command::new(&guard)
        .args(["doctor", "--ebpf-object"])
        .arg(&built.object)
        .stdin(Stdio::null())
        .output()?;
    eprint!("{}", String::from_utf8_lossy(&doctor.stdout));
    eprint!("{}", String::from_utf8_lossy(&doctor.stderr));
    if !doctor.status.success() {
        bail!(
            "this machine cannot enforce, so nothing was started: `guard doctor` above says why. \
             `cargo xtask demo` without --native runs the same in a VM."
        );
    }
    let scratch = tempfile::tempdir()?;
    let _servers = TestServers::start()?;
    let mut up = Up::start(&guard, &built.object, scratch.path(), port)?;
    let link = up.sign_in()?;
    let path = link.find("/sign-in").and_then(|at| link.get(at..)).context("no sign-in link")?;
    let deciding = auto.then(|| Auto::start(port, path.to_owned()));
    if deciding.is_none() {
        invite(&link, false);
    }
    let steps = agent(&guard, scratch.path())?;
    drop(up);
    match deciding {
        Some(deciding) => Ok(plan::judge(&steps, &deciding.finish()?)),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// The two addresses that the agent asks, on this machine's loopback interface while the demo runs.
struct TestServers;

impl TestServers {
    fn start() -> Result<Self> {
        for address in ADDRESSES {
            let at = format!("{address}/32");
            quietly(Command::new("ip").args(["addr", "add", &at, "dev", "lo"]))
                .context("the demo's test addresses (needs root)")?;
        }
        // From here on they are taken away again, whatever fails.
        let servers = Self;
        for address in ADDRESSES {
            let listener = TcpListener::bind((address, 80))
                .with_context(|| format!("serve on {address}:80"))?;
            thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                    let _ = stream.read(&mut [0; 4096]);
                    let _ = stream.write_all(HELLO.as_bytes());
                }
            });
        }
        Ok(servers)
    }
}

impl Drop for TestServers {
    fn drop(&mut self) {
        for address in ADDRESSES {
            let at = format!("{address}/32");
            if let Err(error) = quietly(Command::new("ip").args(["addr", "del", &at, "dev", "lo"]))
            {
                say(format!("take {at} off the interface lo yourself: {error:#}"));
            }
        }
    }
}

/// `guard up`; stopped when dropped.
struct Up {
    process: Child,
}

impl Up {
    fn start(guard: &Path, object: &Path, scratch: &Path, port: u16) -> Result<Self> {
        let process = Command::new(guard)
            .args(["up", "--json", "--ui", &format!("127.0.0.1:{port}")])
            .arg("--state")
            .arg(scratch.join("state"))
            .arg("--ebpf-object")
            .arg(object)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {} up", guard.display()))?;
        Ok(Self { process })
    }

    /// The first line that it prints has the link.
    fn sign_in(&mut self) -> Result<String> {
        let stdout = self.process.stdout.take().context("no output of `guard up`")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let announced: Value = serde_json::from_str(&line).context("`guard up` did not start")?;
        let link = announced.get("sign_in").and_then(Value::as_str);
        link.map(str::to_owned).context("`guard up` made no sign-in link")
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let pid = self.process.id().to_string();
        let _ = quietly(Command::new("kill").args(["-TERM", &pid]));
        let _ = self.process.wait();
    }
}

/// Runs the agent in a home of its own; the text of its steps.
fn agent(guard: &Path, scratch: &Path) -> Result<String> {
    let (home, steps) = (scratch.join("home"), scratch.join("steps"));
    fs::create_dir_all(home.join("work"))?;
    fs::create_dir_all(home.join(".ssh"))?;
    fs::write(home.join(".ssh/id_ed25519"), "not a key\n")?;
    let script = scratch.join("coding-agent");
    fs::write(&script, AGENT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Command::new(guard)
        .args(["run", "--as", "coding-agent", "--", "/bin/bash"])
        .arg(&script)
        .arg(&steps)
        .env("HOME", &home)
        .current_dir(home.join("work"))
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{} run", guard.display()))?;
    fs::read_to_string(&steps).with_context(|| steps.display().to_string())
}
