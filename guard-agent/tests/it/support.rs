//! A kernel side made of channels, a guard-agent around it, and a controller to talk to.

use guard_agent::{
    driver::EventStream,
    kernel::{EbpfConfig, Kernel, KernelBody, KernelError, KernelEvent, Sent},
    link::tls::CaPin,
    names::Names,
    selector::Selectors,
    service::{AgentError, Config, ControllerConfig, State, run_with},
    spool::{LIMIT_DEFAULT, read::export},
};
use guard_audit::Record;
use guard_common::{
    counter::COUNTERS,
    event::{EVENT_CONSUMED, Header, REASON_GRANT},
    hold::{ActionKey, Grant, HoldRecord, KIND_OPEN, OBJECT_WORDS, StandingKey},
    label::{Label, SelectorKey},
    sent::SentKey,
};
use guard_controller::{Actor, Controller, HoldFilter, HoldView, Role, Running, UserSpec};
use guard_model::{Action, Coverage, CoverageState, FileAccess, FileRef};
use guard_policy::Policy;
use std::{
    collections::HashMap,
    net::SocketAddr,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// Longer than anything here takes, even on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What the kernel has, over the lives of guard-agents.
#[derive(Default)]
struct Inside {
    holds: HashMap<ActionKey, HoldRecord>,
    actions: HashMap<ActionKey, Action>,
    grants: HashMap<ActionKey, Grant>,
    verdicts: Vec<(u64, u32)>,
    events: Option<mpsc::UnboundedSender<KernelEvent>>,
}

#[derive(Clone, Default)]
pub(crate) struct FakeKernel(Arc<Mutex<Inside>>);

impl FakeKernel {
    /// A thread of this process opens a file, and is held.
    pub(crate) fn hold(&self, hold: u64, path: &str) {
        let mut inside = self.0.lock().unwrap();
        let key = ActionKey {
            // Every hold is another thread's.
            start_boottime_ns: hold,
            tgid: std::process::id(),
            tid: std::process::id(),
            kind: KIND_OPEN,
            access: 1,
            flags: 0,
            object_len: 40,
            object: [0; OBJECT_WORDS],
        };
        let file = FileRef {
            path: path.into(),
            path_error: None,
            dev: 1,
            ino: hold,
            generation: 0,
            owner_uid: 0,
            mode: 0o100_600,
        };
        let access = FileAccess { read: true, ..FileAccess::default() };
        let deadline_ns = guard_agent::clock::boottime_ns() + 600_000_000_000;
        let record = HoldRecord { hold_id: hold, session: 7, deadline_ns, ..HoldRecord::default() };
        inside.holds.insert(key, record);
        inside.actions.insert(key, Action::Open { file, access });
        inside.announce(&key);
    }

    /// Every decision that was consumed.
    pub(crate) fn verdicts(&self) -> Vec<(u64, u32)> {
        self.0.lock().unwrap().verdicts.clone()
    }
}

impl Inside {
    fn announce(&self, key: &ActionKey) {
        let record = self.holds[key];
        let body = KernelBody::Held {
            key: Box::new(*key),
            action: Box::new(self.actions[key].clone()),
            deadline_ns: record.deadline_ns,
        };
        self.tell(key, record.hold_id, body);
    }

    fn tell(&self, key: &ActionKey, hold_id: u64, body: KernelBody) {
        let header = Header {
            session: 7,
            hold_id,
            tgid: key.tgid,
            tid: key.tid,
            start_boottime_ns: key.start_boottime_ns,
            ..Header::default()
        };
        if let Some(events) = &self.events {
            let _ = events.send(KernelEvent { header, body });
        }
    }
}

impl Kernel for FakeKernel {
    fn drop_stale_grants(&mut self) -> Result<(), KernelError> {
        Ok(())
    }

    fn grant(&mut self, key: &ActionKey, grant: Grant) -> Result<(), KernelError> {
        self.0.lock().unwrap().grants.insert(*key, grant);
        Ok(())
    }

    fn resume(&mut self, _: &ActionKey) -> Result<bool, KernelError> {
        let mut inside = self.0.lock().unwrap();
        for (key, grant) in std::mem::take(&mut inside.grants) {
            inside.holds.remove(&key);
            inside.verdicts.push((grant.hold_id, grant.verdict));
            let body = KernelBody::Outcome {
                event: EVENT_CONSUMED,
                key: Box::new(key),
                verdict: grant.verdict,
                reason: REASON_GRANT,
            };
            inside.tell(&key, grant.hold_id, body);
        }
        Ok(true)
    }

    fn is_alive(&mut self, _: &ActionKey) -> bool {
        true
    }

    fn forget(&mut self, key: &ActionKey, _: u64) -> Result<(), KernelError> {
        self.0.lock().unwrap().holds.remove(key);
        Ok(())
    }

    fn holds(&mut self) -> Result<Vec<(ActionKey, HoldRecord)>, KernelError> {
        Ok(self.0.lock().unwrap().holds.iter().map(|(key, record)| (*key, *record)).collect())
    }

    fn reannounce(&mut self, key: &ActionKey) -> Result<(), KernelError> {
        self.0.lock().unwrap().announce(key);
        Ok(())
    }

    fn label(&mut self, _: BorrowedFd<'_>, _: Label) -> Result<(), KernelError> {
        Ok(())
    }

    fn label_of(&mut self, _: BorrowedFd<'_>) -> Result<Option<Label>, KernelError> {
        Ok(None)
    }

    fn allow_standing(&mut self, _: StandingKey) -> Result<(), KernelError> {
        Ok(())
    }

    fn set_selectors(&mut self, _: &[(SelectorKey, u64)]) -> Result<(), KernelError> {
        Ok(())
    }

    fn take_sent(&mut self, _: &dyn Fn(&SentKey) -> bool) -> Result<Vec<Sent>, KernelError> {
        Ok(vec![])
    }

    fn counters(&mut self) -> Result<Vec<u64>, KernelError> {
        Ok(vec![0; COUNTERS as usize])
    }
}

struct Events(mpsc::UnboundedReceiver<KernelEvent>);

impl EventStream for Events {
    async fn next(&mut self) -> Option<KernelEvent> {
        self.0.recv().await
    }

    fn try_next(&mut self) -> Option<KernelEvent> {
        self.0.try_recv().ok()
    }
}

/// A guard-agent that runs.
pub(crate) struct Agent {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), AgentError>>,
    state: PathBuf,
}

impl Agent {
    pub(crate) fn start(
        dir: &Path,
        kernel: &FakeKernel,
        controller: SocketAddr,
        join: Option<(String, String)>,
    ) -> Self {
        let join = join.map(|(token, pin)| (token.into(), pin.parse::<CaPin>().unwrap()));
        let config = Config {
            state_dir: dir.join("agent"),
            socket: dir.join("agent.sock"),
            policy: Arc::new(Policy::default_policy()),
            controller: Some(ControllerConfig { url: format!("https://{controller}"), join }),
            spool_limit_bytes: LIMIT_DEFAULT,
            selectors: Selectors::default(),
            ebpf: EbpfConfig {
                object: vec![],
                pin_root: dir.into(),
                ring_bytes: guard_agent::kernel::RING_BYTES,
                hold_ttl_ns: 0,
                hash_key: [0; 2],
                policy_epoch: 0,
                hash_content: false,
                danger_no_self_protection: false,
                danger_pin_version: None,
            },
            danger_enforce_in_part: false,
        };
        let (sender, receiver) = mpsc::unbounded_channel();
        kernel.0.lock().unwrap().events = Some(sender);
        let (stop, stopped) = oneshot::channel();
        let (kernel, state) = (kernel.clone(), dir.join("agent"));
        let task = tokio::spawn(async move {
            let state = State::open(&config.state_dir)?;
            let shutdown = async {
                let _ = stopped.await;
            };
            let side = (kernel, &mut Events(receiver), coverage());
            let names = Names::start(config.policy.clone()).map_err(AgentError::Names)?;
            run_with(config, state, side, names, Handle::current(), shutdown).await
        });
        Self { stop, task, state }
    }

    /// Stops it in an orderly way.
    pub(crate) async fn stop(self) -> Vec<Record> {
        self.stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
        let mut out = Vec::new();
        export(&self.state.join("spool"), None, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Stops it, whether it ever joined or not.
    pub(crate) async fn stop_unjoined(self) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(PATIENCE, self.task).await.unwrap();
    }

    /// How it ends by itself.
    pub(crate) async fn end(self) -> Result<(), AgentError> {
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap()
    }
}

/// Everything enforced, as far as a fake can.
fn coverage() -> Vec<Coverage> {
    let row = |action: &str| Coverage {
        action: action.into(),
        hook: "fake".into(),
        state: CoverageState::Enforced,
        reason: String::new(),
    };
    ["exec", "open", "connect"].map(row).into()
}

/// Starts a controller; on `addr` if it is given.
pub(crate) async fn controller(dir: &Path, addr: Option<SocketAddr>) -> Running {
    let policy = Arc::new(Policy::default_policy());
    let mut config = guard_controller::Config::new(dir.join("controller"), policy);
    config.ui_addr = ([127, 0, 0, 1], 0).into();
    config.rpc_addr = addr.unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
    Controller::start(config).await.unwrap()
}

pub(crate) async fn token(running: &Running) -> (String, String) {
    let token = running.controller.new_join_token().await.unwrap();
    (token.token, token.ca_pin)
}

pub(crate) async fn approver(running: &Running) -> Actor {
    let roles = vec![Role::Approver];
    let spec = UserSpec { name: "ann".into(), roles, ..UserSpec::default() };
    running.controller.create_user(spec, "test").await.unwrap().actor()
}

/// Waits until `look` finds something.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(look: impl Fn() -> F) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap()
}

/// The oldest hold that waits for a person.
pub(crate) async fn open_hold(controller: &Controller) -> HoldView {
    until(|| async { controller.holds(&HoldFilter::open()).await.unwrap().pop() }).await
}
