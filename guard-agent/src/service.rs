//! guard-agent as a service: from configuration to an orderly stop.
//!
//! ```text
//! state directory, lock → kernel (or refuse) → identity (enrol) → spool → driver: adopt
//!   → link, socket → run … shutdown → evidence "stopped" → spool flushed → link told
//! ```

mod host;

use crate::{
    content::Contents,
    context::Proc,
    decide::Decider,
    driver::{Driver, DriverError, End, EventStream, Inputs, LinkHandle, Parts},
    engine::{Engine, Limits},
    kernel::{Kernel, LoadError, ebpf::Ebpf, load::EbpfConfig},
    link::{
        FROM_LINK_MAX, FromLink, Link, LinkConfig, TO_LINK_MAX,
        enrol::EnrolError,
        identity::{Identity, IdentityError},
        tls::CaPin,
    },
    names::Names,
    notify::Notifier,
    selector::Selectors,
    session::Sessions,
    socket::{self, Socket, SocketError},
    spool::{Spool, SpoolConfig, SpoolError},
};
use guard_model::{BootId, Coverage, CoverageState};
use guard_policy::Policy;
use guard_proto::InvalidField;
use nix::fcntl::{Flock, FlockArg};
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{
    runtime::{Builder, Handle},
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
};
use zeroize::Zeroizing;

/// Longest wait at the end for the controller to take the last evidence. What it does not take, it
/// gets at the next start.
const FAREWELL_TIME: Duration = Duration::from_secs(2);

/// Where the compiled eBPF object is by convention.
pub const OBJECT_DEFAULT: &str = "/usr/lib/guard/guard-ebpf.o";

/// What every policy is about. Where no program at all is attached for one of these, nothing is enforced.
const INDISPENSABLE: [&str; 3] = ["exec", "open", "connect"];

/// A controller.
#[derive(Clone)]
pub struct ControllerConfig {
    /// `https://HOST:PORT`.
    pub url: String,
    /// Token and pinned CA for a host that has not joined yet.
    pub join: Option<(Zeroizing<String>, CaPin)>,
}

/// What guard-agent needs to know.
#[derive(Clone)]
pub struct Config {
    /// Identity, spool, session names; created with mode 0700.
    pub state_dir: PathBuf,
    /// The local socket.
    pub socket: PathBuf,
    /// The policy in force.
    pub policy: Arc<Policy>,
    /// None: what needs a person waits for its deadline, and is denied.
    pub controller: Option<ControllerConfig>,
    /// Most bytes of evidence on disk.
    pub spool_limit_bytes: u64,
    /// What is a session without `guard run`.
    pub selectors: Selectors,
    /// What to load into the kernel.
    pub ebpf: EbpfConfig,
    /// Go on where the policy decides on an action of which this host does not see everything.
    pub danger_enforce_in_part: bool,
}

impl Config {
    /// Whether somebody wants to know what programs contain.
    fn hashes_content(&self) -> bool {
        self.ebpf.hash_content || self.policy.reads_content()
    }
}

/// Why guard-agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// This host cannot enforce anything.
    #[error("nothing can be enforced on this host")]
    Load(#[from] LoadError),
    /// It can enforce something, but not all that a policy decides on.
    #[error(
        "`{action}` cannot be enforced on this host, and every policy decides on it: {reason} \
         (`guard doctor` says more)"
    )]
    Uncovered {
        /// The action.
        action: String,
        /// What the kernel said.
        reason: String,
    },
    /// The policy decides on an action that is enforced in part only.
    #[error(
        "`{action}` cannot be enforced in full on this host, and the policy decides on it: {reason}. To enforce the rest \
         all the same, start with --danger-enforce-in-part, or permit `{action}` without conditions"
    )]
    InPart {
        /// The action.
        action: String,
        /// What the kernel said.
        reason: String,
    },
    /// A file of the state directory, or one that says who this host is.
    #[error("cannot {verb} {path}")]
    File {
        /// What was attempted.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another guard-agent runs.
    #[error("another guard-agent uses {path}; stop that one first")]
    Running {
        /// The lock.
        path: PathBuf,
    },
    /// The kernel does not say which boot this is.
    #[error("{path} says {text:?}, which is not a boot id")]
    Boot {
        /// The file.
        path: PathBuf,
        /// Its content.
        text: String,
    },
    /// This host has no identity and no way to get one.
    #[error(
        "this host has not joined controller {url}: give a join token and the CA pin \
         (--join-token-file, --ca-pin; `guard-controller` makes both)"
    )]
    NotJoined {
        /// The controller.
        url: String,
    },
    /// It could not join.
    #[error("this host could not join its controller")]
    Enrol(#[from] EnrolError),
    /// Its identity cannot be used.
    #[error("this host's identity cannot be used")]
    Identity(#[from] IdentityError),
    /// Its identity's decision key is not one.
    #[error("this host's identity cannot be used")]
    DecisionKey(#[from] InvalidField),
    /// Evidence cannot be kept.
    #[error("evidence cannot be kept")]
    Spool(#[from] SpoolError),
    /// The local socket.
    #[error("the local socket cannot be opened")]
    Socket(#[from] SocketError),
    /// Other names of files cannot be looked for.
    #[error(
        "this host's mounts (/proc/self/mountinfo) cannot be read, or no thread can look for names of files"
    )]
    Names(#[source] io::Error),
    /// The driver's thread.
    #[error("guard-agent's own thread cannot be started")]
    Thread(#[source] io::Error),
    /// It ran, and cannot go on.
    #[error("guard-agent cannot go on")]
    Driver(#[from] DriverError),
}

impl AgentError {
    /// Exit code of the process: 3 where the host cannot enforce, 1 for everything else.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Load(_) | Self::Uncovered { .. } | Self::InPart { .. } => 3,
            _ => 1,
        }
    }
}

/// Runs until `shutdown`. Refuses where nothing can be enforced.
///
/// The driver has a thread and a reactor to itself: no other thread has to wake up before it for an event of
/// the kernel's, and none that is busy with the controller stands before it. The caller's runtime has the rest.
///
/// # Errors
/// [`AgentError`].
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), AgentError> {
    let beside = Handle::current();
    let runtime = Builder::new_current_thread().enable_all().build().map_err(AgentError::Thread)?;
    let (ended, end) = oneshot::channel();
    let thread = thread::Builder::new().name("guard-driver".to_owned()).spawn(move || {
        // Nobody hears it if the caller has gone, and then nobody needs to.
        let _ = ended.send(runtime.block_on(load_and_run(config, beside, shutdown)));
    });
    let thread = thread.map_err(AgentError::Thread)?;
    match end.await {
        Ok(ended) => ended,
        Err(_) => match thread.join() {
            Err(panic) => std::panic::resume_unwind(panic),
            Ok(()) => Err(AgentError::Thread(io::Error::other("it ended without a word"))),
        },
    }
}

async fn load_and_run(
    config: Config,
    beside: Handle,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let state = State::open(&config.state_dir)?;
    // It walks through directories while the kernel looks at the programs.
    let names = Names::start(config.policy.clone()).map_err(AgentError::Names)?;
    let policy_epoch = policy_epoch(config.policy.digest());
    let hash_content = config.hashes_content();
    let ebpf = EbpfConfig { policy_epoch, hash_content, ..config.ebpf.clone() };
    let (kernel, mut events, coverage) = Ebpf::load(&ebpf)?;
    names.wait();
    run_with(config, state, (kernel, &mut events, coverage), names, beside, shutdown).await
}

/// A number that differs from that of any other policy (but for one chance in 2³²), from its digest.
fn policy_epoch(digest: &str) -> u32 {
    digest.get(..8).and_then(|start| u32::from_str_radix(start, 16).ok()).unwrap_or_default()
}

/// The locked state directory.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    _lock: Flock<fs::File>,
}

impl State {
    /// Creates and locks it.
    ///
    /// # Errors
    /// [`AgentError::File`], [`AgentError::Running`].
    pub fn open(directory: &Path) -> Result<Self, AgentError> {
        let mut builder = fs::DirBuilder::new();
        let create = builder.recursive(true).mode(0o700).create(directory);
        create.map_err(|source| file("create", directory, source))?;
        let path = directory.join("lock");
        let mut options = fs::OpenOptions::new();
        let opened = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let opened = opened.map_err(|source| file("open", &path, source))?;
        let lock = Flock::lock(opened, FlockArg::LockExclusiveNonblock)
            .map_err(|_| AgentError::Running { path })?;
        Ok(Self { directory: directory.to_owned(), _lock: lock })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// As [`run`], with any kernel side (what carries out, what tells, what is covered) and names that are being
/// looked for, and in the caller's task; link and socket run `beside` it.
///
/// # Errors
/// [`AgentError`].
pub async fn run_with<K: Kernel>(
    config: Config,
    state: State,
    (kernel, events, coverage): (K, &mut impl EventStream, Vec<Coverage>),
    names: Names,
    beside: Handle,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    require_coverage(&coverage, &config.policy, config.danger_enforce_in_part)?;
    tokio::pin!(shutdown);
    let facts = Facts::read()?;
    let identity = tokio::select! {
        identity = host::identify(&config, &state, &facts.hostname) => identity?,
        () = &mut shutdown => return Ok(()),
    };
    let host = match &identity {
        Some(identity) => identity.host,
        None => host::local_host_id(&state)?,
    };
    let boot = facts.boot;
    let spool = Spool::open(&SpoolConfig {
        root: host::spool_root(&state, host)?,
        limit_bytes: config.spool_limit_bytes,
        host,
        boot,
    })?;
    let (to_driver, from_link) = mpsc::channel(FROM_LINK_MAX);
    let link = identity
        .zip(config.controller.as_ref())
        .map(|(identity, controller)| {
            let link = LinkConfig {
                url: controller.url.clone(),
                identity_path: state.path("identity.json"),
                boot,
                hostname: facts.hostname.clone(),
                kernel: facts.kernel.clone(),
                policy_digest: config.policy.digest().to_owned(),
                coverage: coverage.clone(),
            };
            start_link(link, identity, to_driver, &spool, &beside)
        })
        .transpose()?;
    let (link, link_task) = link.unzip();
    let (contents, hashed) = if config.hashes_content() {
        let (contents, hashed) = Contents::start().map_err(AgentError::Thread)?;
        (Some(contents), hashed)
    } else {
        (None, mpsc::channel(1).1)
    };
    let (calls_in, calls) = socket::calls();
    let socket = {
        // Its reactor is the one of the runtime that it is opened in.
        let _inside = beside.enter();
        Socket::open(&config.socket)?
    };
    let mut driver = Driver::new(Parts {
        kernel,
        engine: Engine::new(host, boot, Limits::default()),
        decider: Decider::new(config.policy.clone(), host, boot, facts.hostname).with_names(names),
        sessions: Sessions::new(host, boot),
        selectors: config.selectors,
        proc: Proc::default(),
        contents,
        spool,
        link,
        coverage,
        host,
        boot,
        kernel_release: facts.kernel,
        sessions_path: state.path("sessions.json"),
        losses_path: state.path("losses.json"),
        notifier: Notifier::from_env(),
    });
    driver.start()?;
    let socket = beside.spawn(socket.serve(calls_in));
    driver.ready();
    tracing::info!(%host, %boot, socket = %config.socket.display(), "guard-agent enforces");
    let mut inputs = Inputs { from_link, calls, hashed };
    let ended = driver.run(events, &mut inputs, &mut shutdown).await;
    socket.abort();
    let reason = match &ended {
        Ok(End::Asked) => "asked to stop".to_owned(),
        Ok(End::Enforcement(reason)) => format!("enforcement was ended: {reason}"),
        Err(error) => error.to_string(),
    };
    stop(driver.stop(&reason), link_task).await;
    ended?;
    Ok(())
}

/// Refuses where the policy decides on an action that this host does not see in full: to a session, some of that kind
/// would be allowed without a trace. With `in_part` that is said aloud, and to everybody who asks for the coverage; but what
/// every policy is about must be seen at all.
fn require_coverage(
    coverage: &[Coverage],
    policy: &Policy,
    in_part: bool,
) -> Result<(), AgentError> {
    let mut actions: Vec<&str> = coverage.iter().map(|row| row.action.as_str()).collect();
    actions.extend(INDISPENSABLE);
    actions.sort_unstable();
    actions.dedup();
    for action in actions {
        let rows = coverage.iter().filter(|row| row.action == action);
        let absent: Vec<_> =
            rows.clone().filter(|row| row.state == CoverageState::Absent).collect();
        let reasons: Vec<_> =
            absent.iter().map(|row| format!("{}: {}", row.hook, row.reason)).collect();
        let reason =
            if reasons.is_empty() { "no program for it".to_owned() } else { reasons.join("; ") };
        let action = action.to_owned();
        if INDISPENSABLE.contains(&action.as_str()) && absent.len() == rows.count() {
            return Err(AgentError::Uncovered { action, reason });
        }
        if absent.is_empty() {
            continue;
        }
        if policy.decides_on(&action) && !in_part {
            return Err(AgentError::InPart { action, reason });
        }
        tracing::error!(action, reason, "not enforced in full");
    }
    Ok(())
}

fn start_link(
    config: LinkConfig,
    identity: Identity,
    to_driver: mpsc::Sender<FromLink>,
    spool: &Spool,
    beside: &Handle,
) -> Result<(LinkHandle, JoinHandle<()>), AgentError> {
    let (to_link, from_driver) = mpsc::channel(TO_LINK_MAX);
    let reset = Arc::new(Notify::new());
    let link = Link::new(config, identity, to_driver, from_driver, reset.clone())?;
    let task = beside.spawn(link.run(spool.reader()));
    Ok((LinkHandle { to_link, reset }, task))
}

/// Flushes the spool, and gives the controller a moment to take the end of it.
async fn stop(spool: Spool, link: Option<JoinHandle<()>>) {
    let reader = spool.reader();
    let closed = tokio::task::spawn_blocking(move || spool.close()).await;
    if let Err(error) = closed {
        tracing::error!(%error, "the spool was not closed in order");
    }
    if let Some(link) = link {
        let end = tokio::time::Instant::now() + FAREWELL_TIME;
        while !link.is_finished() && !reader.is_acknowledged() && tokio::time::Instant::now() < end
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        link.abort();
    }
}

/// What this machine says of itself.
struct Facts {
    boot: BootId,
    kernel: String,
    hostname: String,
}

impl Facts {
    fn read() -> Result<Self, AgentError> {
        let read = |path: &str| {
            let text = fs::read_to_string(path);
            text.map(|text| text.trim().to_owned())
                .map_err(|source| file("read", Path::new(path), source))
        };
        let boot_path = "/proc/sys/kernel/random/boot_id";
        let text = read(boot_path)?;
        let boot = text
            .parse()
            .map_err(|_| AgentError::Boot { path: boot_path.into(), text: text.clone() })?;
        Ok(Self {
            boot,
            kernel: read("/proc/sys/kernel/osrelease")?,
            hostname: read("/proc/sys/kernel/hostname")?,
        })
    }
}

fn file(verb: &'static str, path: &Path, source: io::Error) -> AgentError {
    AgentError::File { verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use guard_policy::PolicySource;

    fn policy(text: &str) -> Policy {
        let source = PolicySource { file: "test.cedar".into(), text: text.into() };
        Policy::load(&[source]).unwrap()
    }

    fn row(action: &str, hook: &str, state: CoverageState) -> Coverage {
        Coverage { action: action.into(), hook: hook.into(), state, reason: "refused".into() }
    }

    #[test]
    fn a_host_that_cannot_enforce_an_action_at_all_is_refused_by_name() {
        use CoverageState::{Absent, Enforced};
        let mut coverage = vec![
            row("exec", "bprm_check_security", Enforced),
            row("open", "file_open", Enforced),
            row("open", "path_mknod", Absent),
            row("connect", "socket_connect", Enforced),
        ];
        let says_yes = policy("permit (principal, action, resource);");
        require_coverage(&coverage, &says_yes, false).unwrap();
        coverage[3].state = Absent;
        let error = require_coverage(&coverage, &says_yes, true).unwrap_err();
        assert!(error.to_string().contains("`connect`"), "{error}");
        assert!(error.to_string().contains("socket_connect: refused"), "{error}");
        assert_eq!(error.exit_code(), 3);
        assert!(require_coverage(&[], &says_yes, true).is_err());
    }

    #[test]
    fn a_policy_that_decides_on_what_is_not_seen_in_full_is_refused_by_name_unless_that_is_asked_for()
     {
        use CoverageState::{Absent, Degraded, Enforced};
        let coverage = [
            row("exec", "bprm_check_security", Enforced),
            row("open", "file_open", Enforced),
            row("connect", "socket_connect", Degraded),
            row("mount", "sb_mount", Enforced),
            row("mount", "move_mount", Absent),
            row("self_protection", "bpf_map", Absent),
            row("lineage", "sched_process_exit", Absent),
        ];
        let forbids = "permit (principal, action, resource);
             forbid (principal, action == Guard::Action::\"mount\", resource);";
        for needs in [policy(forbids), Policy::default_policy()] {
            let error = require_coverage(&coverage, &needs, false).unwrap_err();
            assert!(error.to_string().contains("`mount`"), "{error}");
            assert!(error.to_string().contains("move_mount: refused"), "{error}");
            assert!(error.to_string().contains("--danger-enforce-in-part"), "{error}");
            assert_eq!(error.exit_code(), 3);
            require_coverage(&coverage, &needs, true).unwrap();
        }
        let says_yes = policy("permit (principal, action, resource);");
        require_coverage(&coverage, &says_yes, false).unwrap();
    }

    #[test]
    fn a_second_guard_agent_on_one_state_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        let first = State::open(&path).unwrap();
        assert!(matches!(State::open(&path), Err(AgentError::Running { .. })));
        drop(first);
        State::open(&path).unwrap();
    }
}
