//! The stage on which the scenarios of the VM matrix play: one Guard, sessions, answers, evidence.

use crate::{
    Trouble,
    answer::{self, Answering, How},
    command::{User, as_user, wait},
    evidence,
    guard::{self, Guard, Ring},
    ports::Ports,
    scenarios,
    system::{self, boot_ns},
    took_ms,
};
use guard_vm_wire::Report;
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The policy of the scenarios: what is in `/home/dev/held` needs a person, `/home/dev/brief` too but
/// not for long; the rest as the shipped policy has it.
const POLICY: &str = include_str!("../../../scenarios.cedar");
/// Where it stands in the VM.
const POLICY_FILE: &str = "/run/guard/scenarios.cedar";
/// Longest time for one session of a scenario; emulation is slow, a hang must still end.
const SESSION_TIMEOUT: Duration = Duration::from_secs(240);
/// Longest wait for something to become visible.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);

/// What a scenario may use.
pub(crate) struct Stage {
    pub(crate) guard: Guard,
}

/// How a session ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Exit code, or minus the signal.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A session that is still running.
pub(crate) struct Running {
    child: Child,
    readers: Vec<thread::JoinHandle<String>>,
}

/// Plays the named scenarios, or all of them.
pub(crate) fn run_all(ports: &mut Ports, names: &[String]) -> Result<(), Trouble> {
    system::keep_state_in_memory()?;
    let mut stage = Stage::set_up(ports, Ring::Small)?;
    let mut failed = 0;
    let is_named = |name: &str| names.iter().any(|wanted| wanted == name);
    let on_request = scenarios::ON_REQUEST.iter().filter(|(name, _)| is_named(name));
    let always = scenarios::ALL.iter().filter(|(name, _)| names.is_empty() || is_named(name));
    for (name, play) in on_request.chain(always) {
        let (start, from_ns) = (Instant::now(), boot_ns());
        let problem = play(&mut stage).err().unwrap_or_default();
        failed += u32::from(!problem.is_empty());
        let took_ms = took_ms(start);
        stage.clear();
        let (name, to_ns) = ((*name).to_owned(), boot_ns());
        ports.report(&Report::Scenario { name, problem, took_ms, from_ns, to_ns });
    }
    stage.guard.stop();
    ports.send_bytes("evidence.ndjson", guard::agent_evidence().as_bytes());
    ports.report(&Report::Exit { status: u8::from(failed > 0), timed_out: false });
    Ok(())
}

fn prepare_files() -> Result<(), Trouble> {
    for directory in ["held", "brief", "plain"] {
        let directory = Path::new("/home/dev").join(directory);
        make_dir(&directory)?;
        write(&directory.join("secret"), "the secret\n")?;
        write(&directory.join("secret-deny"), "the secret\n")?;
    }
    make_dir(Path::new("/home/dev/held/many"))?;
    for i in 0..200 {
        let name = if i % 2 == 1 { format!("{i}-deny") } else { i.to_string() };
        write(&Path::new("/home/dev/held/many").join(name), "x")?;
    }
    Ok(())
}

pub(crate) fn make_dir(path: &Path) -> Result<(), Trouble> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    own(path)
}

fn own(path: &Path) -> Result<(), Trouble> {
    let dev = Some(crate::command::DEV_UID);
    chown(path, dev, dev).map_err(|error| format!("{}: {error}", path.display()))
}

/// A file of the user `dev`.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Trouble> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    own(path)
}

impl Stage {
    /// The scenarios' files and policy, and Guard running with them.
    pub(crate) fn set_up(ports: &mut Ports, ring: Ring) -> Result<Self, Trouble> {
        prepare_files()?;
        let policy = Path::new(POLICY_FILE);
        fs::write(policy, POLICY).map_err(|error| format!("{}: {error}", policy.display()))?;
        let guard = Guard::start_with(Some(policy), ring)?;
        ports.report(&Report::Ready { after_ms: system::uptime_ms(), sign_in: None });
        Ok(Self { guard })
    }

    /// Starts a session.
    pub(crate) fn start(&self, user: User, argv: &[&str]) -> Result<Running, Trouble> {
        self.spawn(user, Some("scenario"), argv)
    }

    /// Starts a command that is no session.
    pub(crate) fn start_unlabelled(&self, user: User, argv: &[&str]) -> Result<Running, Trouble> {
        self.spawn(user, None, argv)
    }

    fn spawn(&self, user: User, name: Option<&str>, argv: &[&str]) -> Result<Running, Trouble> {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let mut command = as_user(user, name, &argv, Path::new(user.home()));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("start `{}`: {error}", argv.join(" ")))?;
        let mut readers = Vec::new();
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            readers.push(read(out));
            readers.push(read(err));
        }
        Ok(Running { child, readers })
    }

    /// A session from start to end, holds answered by `how`.
    pub(crate) fn session(&self, user: User, how: How, argv: &[&str]) -> Result<Outcome, Trouble> {
        self.session_named("scenario", user, how, argv)
    }

    /// As [`Stage::session`], with a name that the policy knows.
    pub(crate) fn session_named(
        &self,
        name: &str,
        user: User,
        how: How,
        argv: &[&str],
    ) -> Result<Outcome, Trouble> {
        self.answered(how, || self.spawn(user, Some(name), argv))
    }

    /// What `start` starts, to its end, holds answered by `how`.
    pub(crate) fn answered(
        &self,
        how: How,
        start: impl FnOnce() -> Result<Running, Trouble>,
    ) -> Result<Outcome, Trouble> {
        let answering = Answering::start(self.guard.api(), how);
        let outcome = start().and_then(Running::finish);
        answering.stop();
        outcome
    }

    /// Waits until exactly `n` holds are pending.
    pub(crate) fn wait_for_pending(&self, n: usize) -> Result<Vec<Value>, Trouble> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pending = self.pending()?;
            if pending.len() == n {
                return Ok(pending);
            }
            if Instant::now() > deadline {
                return Err(format!("{} holds are pending, expected {n}", pending.len()));
            }
            // A long queue is slow to read under emulation, and reading it slows what fills it.
            thread::sleep(PAUSE * u32::try_from(1 + pending.len() / 4).unwrap_or(1));
        }
    }

    /// Waits until a hold is pending that is another one than `hold`.
    pub(crate) fn wait_for_another(&self, hold: &Value) -> Result<Value, Trouble> {
        let id = |hold: &Value| hold.pointer("/request/hold_id").cloned();
        for _ in 0..10 {
            let next = self.wait_for_pending(1)?.swap_remove(0);
            if id(&next).is_some() && id(&next) != id(hold) {
                return Ok(next);
            }
            thread::sleep(Duration::from_millis(500));
        }
        Err("nobody was asked again".to_owned())
    }

    /// Plays under another policy of guard-agent's, and puts the scenarios' own back.
    pub(crate) fn under(
        &mut self,
        policy: &str,
        play: impl FnOnce(&Self) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        self.guard.set_policy(Path::new(policy))?;
        let played = play(self);
        self.guard.set_policy(Path::new(POLICY_FILE))?;
        played
    }

    /// Holds that are pending now.
    pub(crate) fn pending(&self) -> Result<Vec<Value>, Trouble> {
        let page = self.guard.api().get("/api/v1/holds?state=pending&limit=200")?;
        let holds = page.get("holds").unwrap_or(&page);
        Ok(holds.as_array().cloned().unwrap_or_default())
    }

    /// Answers what is pending now; how many holds that were.
    pub(crate) fn answer(&self, how: How) -> usize {
        answer::answer_pending(&self.guard.api(), how)
    }

    /// Waits until guard-agent's evidence has a record that `wanted` accepts.
    pub(crate) fn evidence(&self, wanted: impl Fn(&Value) -> bool) -> Result<Value, Trouble> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let records = evidence::records();
            if let Some(record) = records.iter().rev().find(|record| wanted(record)) {
                return Ok(Value::clone(record));
            }
            if Instant::now() > deadline {
                let told = records.iter().rev().filter(|record| record["event"] != "heartbeat");
                let last: Vec<_> = told.take(5).map(|record| record.to_string()).collect();
                let last = last.join("\n");
                return Err(format!(
                    "no such record in guard-agent's evidence, which ends\n{last}"
                ));
            }
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// Denies what a failed scenario left behind, so that the next one starts clean.
    pub(crate) fn clear(&self) {
        self.answer(How::Deny);
    }
}

/// Whether guard-agent has written down that this operation was held.
pub(crate) fn was_held(operation: &str) -> bool {
    evidence::any(|record| {
        let action = &record["request"]["action"];
        // Most actions are one of a kind's operations.
        record["event"] == "held"
            && [&action["operation"], &action["action"]].iter().any(|name| **name == operation)
    })
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once.
    pub(crate) fn kill(self) {
        let _ = self.finish_within(Duration::ZERO);
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> Result<Outcome, Trouble> {
        self.finish_within(SESSION_TIMEOUT)
    }

    /// Waits for its end for no longer than `patience`; then it is killed.
    pub(crate) fn finish_within(mut self, patience: Duration) -> Result<Outcome, Trouble> {
        use std::os::unix::process::ExitStatusExt as _;
        let deadline = Instant::now() + patience;
        let (status, timed_out) =
            wait(&mut self.child, deadline).map_err(|error| error.to_string())?;
        let mut texts = self.readers.into_iter().map(|reader| reader.join().unwrap_or_default());
        let (out, err) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
        if timed_out {
            let limit = patience.as_secs();
            return Err(format!("not ended after {limit} s; stdout {out:?}, stderr {err:?}"));
        }
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
        Ok(Outcome { code, out, err })
    }
}

fn read(mut from: impl std::io::Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

impl Outcome {
    /// Exit code 0 and `text` in the output.
    pub(crate) fn expect_success(&self, text: &str) -> Result<(), Trouble> {
        if self.code == 0 && self.out.contains(text) {
            return Ok(());
        }
        Err(format!("expected success with {text:?}, got {self:?}"))
    }

    /// A failure with `text` somewhere.
    pub(crate) fn expect_failure(&self, text: &str) -> Result<(), Trouble> {
        let said = self.out.contains(text) || self.err.contains(text);
        if self.code != 0 && said {
            return Ok(());
        }
        Err(format!("expected a failure with {text:?}, got {self:?}"))
    }
}

/// Waits until somebody has made the file.
pub(crate) fn wait_for_file(path: &str) -> Result<(), Trouble> {
    let deadline = Instant::now() + PATIENCE;
    while !Path::new(path).exists() {
        expect(Instant::now() < deadline, format!("{path} was not made"))?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Runs a command outside of any session, as root.
pub(crate) fn shell(command: &str) -> Result<(), Trouble> {
    let done = std::process::Command::new("sh").args(["-c", command]).status();
    expect(done.is_ok_and(|status| status.success()), format!("`{command}` failed"))
}

/// An expectation in words.
pub(crate) fn expect(holds: bool, otherwise: impl Into<String>) -> Result<(), Trouble> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}
