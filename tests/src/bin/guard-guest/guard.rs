//! Guard in the VM: controller and guard-agent as separate processes, so that each can be killed.

use crate::{
    Trouble,
    http::Api,
    ports::Ports,
    system::{OneCpu, PATH, tool},
};
use guard_vm_wire::{PAYLOAD_DIR, UI_PORT};
use serde_json::Value;
use std::{
    fs::{self, File, OpenOptions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Longest wait for a part of Guard to be ready; emulation is slow.
const PATIENCE: Duration = Duration::from_secs(240);
const PAUSE: Duration = Duration::from_millis(50);
const LOGS: &str = "/run/guard-logs";
const AGENT_STATE: &str = "/var/lib/guard/agent";
const CONTROLLER_STATE: &str = "/var/lib/guard/controller";
const SOCKET: &str = "/run/guard/agent.sock";
const JOIN_TOKEN: &str = "/run/guard/join-token";
const API_TOKEN: &str = "/run/guard/api-token";
/// Where packages that are not the distribution's put programs.
const BIN: &str = "/usr/local/bin";
const RPC_PORT: u16 = 7444;
/// The controller's sinks, if there is such a file when it starts.
pub(crate) const SINKS: &str = "/run/guard-sinks.json";
/// Programs that a session and the scenarios use.
const INSTALLED: [&str; 4] = ["guard", "guard-agent", "guard-controller", "guard-workload"];

/// The ring buffer between kernel and guard-agent.
#[derive(Clone, Copy)]
pub(crate) enum Ring {
    /// What guard-agent takes by itself.
    AsShipped,
    /// [`SMALL_RING_MIB`].
    Small,
    /// [`LEAST_RING_MIB`].
    Least,
}

/// A ring that can be filled within seconds under emulation, and that 200 held threads do not fill.
const SMALL_RING_MIB: &str = "2";
/// The smallest that guard-agent takes: 16,000 forks and exits overflow it.
const LEAST_RING_MIB: &str = "1";
/// Where the object of another version is made.
const OTHER_OBJECT: &str = "/run/guard/other-guard-ebpf.o";

/// An ABI version that no release has.
const OTHER_ABI: &str = "4000000";

/// Which version of the eBPF programs guard-agent loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// As built.
    Built,
    /// Another object of the same ABI.
    Rebuilt,
    /// Another object of another ABI: no map is shared but those of the sessions.
    OtherAbi,
}

impl Version {
    pub(crate) const ALL: [Self; 3] = [Self::Built, Self::Rebuilt, Self::OtherAbi];
}

/// Guard, running.
pub(crate) struct Guard {
    controller: Child,
    agent: Child,
    policy: Option<PathBuf>,
    select: Vec<String>,
    ring: Ring,
    version: Version,
    protects: bool,
    ca_pin: String,
    sign_in: Option<String>,
    api: Api,
}

impl Guard {
    /// Starts both, with the payload's policy if there is one.
    pub(crate) fn start(policy: bool) -> Result<Self, Trouble> {
        let path = Path::new(PAYLOAD_DIR).join("policy.cedar");
        Self::start_with(policy.then_some(path.as_path()), Ring::AsShipped)
    }

    /// Starts both with a policy, and waits until actions are held and the page answers.
    pub(crate) fn start_with(policy: Option<&Path>, ring: Ring) -> Result<Self, Trouble> {
        install_programs()?;
        fs::create_dir_all(LOGS).map_err(|error| format!("{LOGS}: {error}"))?;
        let policy = policy.map(Path::to_path_buf);
        let (controller, announced) = start_controller(policy.as_deref())?;
        let text = |name: &str| announced.get(name).and_then(Value::as_str).map(str::to_owned);
        let ca_pin = text("ca_pin").ok_or("the controller announced no CA pin")?;
        let token =
            fs::read_to_string(API_TOKEN).map_err(|error| format!("{API_TOKEN}: {error}"))?;
        let addr = SocketAddr::from(([127, 0, 0, 1], UI_PORT));
        let api = Api { addr, token: token.trim().to_owned() };
        // Until everything is attached.
        let _one = OneCpu::enter()?;
        let agent = start_agent(policy.as_deref(), &ca_pin, &[], ring, Version::Built, true)?;
        let sign_in = text("sign_in");
        let (select, version, protects) = (vec![], Version::Built, true);
        let mut guard = Self {
            controller,
            agent,
            policy,
            select,
            ring,
            version,
            protects,
            ca_pin,
            sign_in,
            api,
        };
        guard.wait_for_agent()?;
        Ok(guard)
    }

    /// A client of the REST API.
    pub(crate) fn api(&self) -> Api {
        self.api.clone()
    }

    /// Path and query of the one-time sign-in link.
    pub(crate) fn sign_in_path(&self) -> Result<String, Trouble> {
        let link = self.sign_in.as_deref().ok_or("the controller made no sign-in link")?;
        let path = link.find("/sign-in").and_then(|at| link.get(at..));
        path.map(str::to_owned).ok_or_else(|| format!("not a sign-in link: {link}"))
    }

    fn wait_for_agent(&mut self) -> Result<(), Trouble> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(status)) = self.agent.try_wait() {
                return Err(format!(
                    "guard-agent ended with {status}: {}",
                    tail("guard-agent.log")
                ));
            }
            if is_linked() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("guard-agent is not ready: {}", tail("guard-agent.log")));
            }
            thread::sleep(PAUSE);
        }
    }

    /// The controller gets the processor only when nobody else wants it. Its place is on another host, where it
    /// takes none of the time in which an action here is decided.
    pub(crate) fn let_controller_wait(&self) -> Result<(), Trouble> {
        let directory = format!("/proc/{}/task", self.controller.id());
        let failed = |error: std::io::Error| format!("{directory}: {error}");
        for task in fs::read_dir(&directory).map_err(failed)?.flatten() {
            let Some(tid) = task.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let parameters = libc::sched_param { sched_priority: 0 };
            // SAFETY: whole parameters; the threads that it makes later inherit it.
            if unsafe { libc::sched_setscheduler(tid, libc::SCHED_IDLE, &raw const parameters) } < 0
            {
                return Err(failed(std::io::Error::last_os_error()));
            }
        }
        Ok(())
    }

    /// `kill -9` of the controller.
    pub(crate) fn kill_controller(&mut self) {
        let _ = self.controller.kill();
        let _ = self.controller.wait();
    }

    /// Starts the controller again on the same state.
    pub(crate) fn restart_controller(&mut self) -> Result<(), Trouble> {
        let (controller, _) = start_controller(self.policy.as_deref())?;
        self.controller = controller;
        let token =
            fs::read_to_string(API_TOKEN).map_err(|error| format!("{API_TOKEN}: {error}"))?;
        token.trim().clone_into(&mut self.api.token);
        Ok(())
    }

    /// `kill -9` of guard-agent.
    pub(crate) fn kill_agent(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }

    /// Starts guard-agent again on the same state.
    pub(crate) fn restart_agent(&mut self) -> Result<(), Trouble> {
        self.start_agent()?;
        self.wait_for_agent()
    }

    /// Starts guard-agent again and does not wait for it.
    pub(crate) fn start_agent(&mut self) -> Result<(), Trouble> {
        let policy = self.policy.as_deref();
        let (select, protects) = (&self.select, self.protects);
        self.agent = start_agent(policy, &self.ca_pin, select, self.ring, self.version, protects)?;
        Ok(())
    }

    /// What the next start loads.
    pub(crate) fn set_version(&mut self, version: Version) -> Result<(), Trouble> {
        // What follows the ELF file is no part of it, but of what makes it another object.
        let object = format!("{PAYLOAD_DIR}/guard-ebpf.o");
        let mut bytes = fs::read(&object).map_err(|error| format!("{object}: {error}"))?;
        bytes.push(b'\n');
        fs::write(OTHER_OBJECT, bytes).map_err(|error| format!("{OTHER_OBJECT}: {error}"))?;
        self.version = version;
        Ok(())
    }

    /// Whether the next start keeps other processes off maps and pins.
    pub(crate) fn set_protects(&mut self, protects: bool) {
        self.protects = protects;
    }

    /// Whether guard-agent has ended, and how.
    pub(crate) fn agent_has_ended(&mut self) -> Option<std::process::ExitStatus> {
        self.agent.try_wait().ok().flatten()
    }

    /// Stops guard-agent in order and starts it again with these `--select`.
    pub(crate) fn select(&mut self, selectors: &[&str]) -> Result<(), Trouble> {
        self.select = selectors.iter().map(|selector| (*selector).to_owned()).collect();
        end(&mut self.agent);
        self.restart_agent()
    }

    /// As [`Guard::select`], with another policy for guard-agent.
    pub(crate) fn set_policy(&mut self, policy: &Path) -> Result<(), Trouble> {
        self.policy = Some(policy.to_path_buf());
        end(&mut self.agent);
        self.restart_agent()
    }

    /// guard-agent's process id.
    pub(crate) fn agent_pid(&self) -> u32 {
        self.agent.id()
    }

    /// Makes guard-agent stand still.
    pub(crate) fn stop_agent_process(&self) {
        self.signal_agent(libc::SIGSTOP);
    }

    /// Lets it go on.
    pub(crate) fn continue_agent_process(&self) {
        self.signal_agent(libc::SIGCONT);
    }

    fn signal_agent(&self, signal: i32) {
        let pid = i32::try_from(self.agent.id()).unwrap_or(i32::MAX);
        // SAFETY: no pointers.
        unsafe { libc::kill(pid, signal) };
    }

    /// Stops both in order: guard-agent's last evidence first.
    pub(crate) fn stop(&mut self) {
        for child in [&mut self.agent, &mut self.controller] {
            end(child);
        }
    }
}

/// Asks a part of Guard to end, and makes it end.
fn end(child: &mut Child) {
    if child.try_wait().is_ok_and(|status| status.is_some()) {
        return;
    }
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    // SAFETY: no pointers.
    unsafe { libc::kill(pid, libc::SIGTERM) };
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().is_ok_and(|status| status.is_none()) {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            break;
        }
        thread::sleep(PAUSE);
    }
}

/// All programs of the payload, where a package would put them; fine if they are there.
pub(crate) fn install_programs() -> Result<(), Trouble> {
    // Debian makes it in a maintainer script, and none ran.
    fs::create_dir_all(BIN).map_err(|error| format!("{BIN}: {error}"))?;
    for name in INSTALLED {
        if !Path::new(BIN).join(name).exists() {
            install(name)?;
        }
    }
    Ok(())
}

/// A bind mount of the payload's program where a package would put it: rules about programs see the
/// path that they would see on a real host.
fn install(name: &str) -> Result<(), Trouble> {
    let to = format!("{BIN}/{name}");
    File::create(&to).map_err(|error| format!("{to}: {error}"))?;
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&to, mode).map_err(|error| format!("{to}: {error}"))?;
    tool("mount", &["--bind", &format!("{PAYLOAD_DIR}/bin/{name}"), &to])
}

fn log(name: &str) -> Result<File, Trouble> {
    let path = Path::new(LOGS).join(name);
    let opened = OpenOptions::new().create(true).append(true).open(&path);
    opened.map_err(|error| format!("{}: {error}", path.display()))
}

fn start_controller(policy: Option<&Path>) -> Result<(Child, Value), Trouble> {
    let announced = Path::new("/run/guard/controller.json");
    let out = File::create(announced).map_err(|error| error.to_string())?;
    let mut command = Command::new("/usr/local/bin/guard-controller");
    command
        .args(["--state", CONTROLLER_STATE, "--json"])
        .args(["--ui", &format!("127.0.0.1:{UI_PORT}")])
        .args(["--rpc", &format!("127.0.0.1:{RPC_PORT}")])
        .args(["--join-token-file", JOIN_TOKEN, "--api-token-file", API_TOKEN])
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(log("guard-controller.log")?);
    if let Some(policy) = policy {
        command.arg("--policy").arg(policy);
    }
    if Path::new(SINKS).exists() {
        command.args(["--sinks", SINKS]);
    }
    let mut child = command.spawn().map_err(|error| format!("guard-controller: {error}"))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read(announced).unwrap_or_default();
        if let Ok(value) = serde_json::from_slice(&text) {
            return Ok((child, value));
        }
        let ended = child.try_wait().ok().flatten();
        if ended.is_some() || Instant::now() > deadline {
            let said = tail("guard-controller.log");
            return Err(format!("guard-controller is not ready ({ended:?}): {said}"));
        }
        thread::sleep(PAUSE);
    }
}

fn start_agent(
    policy: Option<&Path>,
    ca_pin: &str,
    select: &[String],
    ring: Ring,
    version: Version,
    protects: bool,
) -> Result<Child, Trouble> {
    let built = format!("{PAYLOAD_DIR}/guard-ebpf.o");
    let object = if version == Version::Built { &built } else { OTHER_OBJECT };
    let mut command = Command::new("/usr/local/bin/guard-agent");
    command
        .args(["--controller", &format!("https://127.0.0.1:{RPC_PORT}")])
        .args(["--join-token-file", JOIN_TOKEN, "--ca-pin", ca_pin])
        .args(["--state", AGENT_STATE, "--socket", SOCKET])
        .args(["--ebpf-object", object])
        .env("PATH", PATH)
        .stdin(Stdio::null())
        .stdout(log("guard-agent.log")?)
        .stderr(log("guard-agent.log")?);
    if let Some(policy) = policy {
        command.arg("--policy").arg(policy);
    }
    let mib = match ring {
        Ring::AsShipped => None,
        Ring::Small => Some(SMALL_RING_MIB),
        Ring::Least => Some(LEAST_RING_MIB),
    };
    if let Some(mib) = mib {
        command.args(["--ring-size", mib]);
    }
    if !protects {
        command.arg("--danger-no-self-protection");
    }
    if version == Version::OtherAbi {
        command.args(["--danger-pin-version", OTHER_ABI]);
    }
    for selector in select {
        command.args(["--select", selector]);
    }
    command.spawn().map_err(|error| format!("guard-agent: {error}"))
}

/// Whether guard-agent answers on its socket and is linked to the controller.
fn is_linked() -> bool {
    status().get("link").is_some_and(|link| link == "up")
}

/// What guard-agent says of itself; null if it does not answer.
pub(crate) fn status() -> Value {
    let output = Command::new("/usr/local/bin/guard")
        .args(["status", "--json", "--socket", SOCKET])
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else { return Value::Null };
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The end of a log.
fn tail(name: &str) -> String {
    let text = fs::read_to_string(Path::new(LOGS).join(name)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join(" | ")
}

/// All evidence that guard-agent has, as NDJSON.
pub(crate) fn agent_evidence() -> String {
    agent_evidence_after(0)
}

/// What of it follows the record of this sequence.
pub(crate) fn agent_evidence_after(sequence: u64) -> String {
    let output = Command::new("/usr/local/bin/guard-agent")
        .args(["--export-evidence", "--state", AGENT_STATE, "--after", &sequence.to_string()])
        .stdin(Stdio::null())
        .output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// Sends the logs.
pub(crate) fn collect_logs(ports: &mut Ports) {
    for name in ["guard-controller.log", "guard-agent.log"] {
        ports.send_file(name, &Path::new(LOGS).join(name));
    }
    ports.send_file("beside.log", Path::new("/run/guard/beside.log"));
}
