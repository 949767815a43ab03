//! A driver with a fake kernel, in a folder of its own.

mod content;
mod flows;
mod survival;

use super::*;
use crate::{
    engine::Limits,
    kernel::{KernelBody, KernelError, Sent, Tampering},
    session::why::WhyState,
    socket::{
        peer::Peer,
        protocol::{Reply, Request},
    },
    spool::{LIMIT_DEFAULT, SpoolConfig, read::export},
};
use guard_audit::Record;
use guard_common::{
    counter::{COUNTERS, EVENTS_LOST},
    event::{
        EVENT_CONSUMED, EVENT_REFUSED, Header, REASON_GRANT, REASON_NOT_HOLDABLE,
        REASON_NOT_RESTARTABLE, REASON_OUTSIDE,
    },
    hold::{
        Grant, HoldRecord, KIND_CAPABILITY, KIND_IPC, KIND_KEYRING, KIND_OPEN, OBJECT_WORDS,
        StandingKey, VERDICT_ALLOW, VERDICT_DENY,
    },
    label::{LABEL_FLAG_ROOT, LABEL_FLAG_UNSEEN, Label, SelectorKey},
    sent::{SentKey, SentRecord},
};
use guard_model::{
    Action, Decision, FileAccess, FileRef, HoldId, HoldRequest, SystemOperation, Verdict,
};
use guard_policy::{Policy, PolicySource};
use guard_proto::decision::{DecisionVerifier, sign};
use std::{
    collections::HashMap,
    os::fd::{AsRawFd as _, BorrowedFd},
    sync::Mutex,
};
use tokio::sync::oneshot;
use uuid::Uuid;

const HOST: HostId = HostId(Uuid::from_u128(1));
const BOOT: BootId = BootId(Uuid::from_u128(2));

const POLICY: &str = r#"
@id("work")
permit (principal, action, resource);

@id("never")
@reason("not this one")
forbid (principal, action == Guard::Action::"open", resource)
when { resource.path like "*/never" };

@id("no-reboot")
forbid (principal, action == Guard::Action::"capability", resource)
when { resource.detail like "CAP_SYS_BOOT*" };

@id("no-keys-for-one-program")
forbid (principal, action == Guard::Action::"keyring", resource)
when { context.exe == "/usr/bin/untrusted" };

@id("secret")
@hold("approvers")
@reason("a secret")
forbid (principal, action == Guard::Action::"open", resource)
when { resource.path == "/secret" }
unless { context.approved };
"#;

/// What the fake kernel has, shared with the test.
#[derive(Debug, Default)]
struct Inside {
    held: Vec<(ActionKey, HoldRecord)>,
    grants: Vec<Grant>,
    resumed: usize,
    forgotten: usize,
    reannounced: usize,
    dead: Vec<u32>,
    labels: HashMap<u32, Label>,
    counters: Vec<u64>,
    standing: Vec<StandingKey>,
    sent: Vec<(SentKey, SentRecord)>,
    selectors: Vec<(SelectorKey, u64)>,
    tampered: Vec<Tampering>,
    follows_another_abi: bool,
    woken: Vec<u32>,
    expiring: bool,
    ended: bool,
    /// Who holds it keeps [`Kernel::grant`] from coming back.
    gate: Option<Arc<Mutex<()>>>,
}

#[derive(Clone, Debug, Default)]
struct FakeKernel(Arc<Mutex<Inside>>);

impl FakeKernel {
    fn inside<T>(&self, look: impl FnOnce(&mut Inside) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    fn verdicts(&self) -> Vec<(u64, u32)> {
        self.inside(|inside| inside.grants.iter().map(|g| (g.hold_id, g.verdict)).collect())
    }
}

/// The process behind a pidfd, as procfs tells.
fn pid_of(pidfd: BorrowedFd<'_>) -> u32 {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap();
    line.trim().parse().unwrap()
}

impl Kernel for FakeKernel {
    fn grant(&mut self, _: &ActionKey, grant: Grant) -> Result<(), KernelError> {
        let gate = self.inside(|inside| {
            inside.grants.push(grant);
            inside.gate.clone()
        });
        drop(gate.as_ref().map(|gate| gate.lock().unwrap()));
        Ok(())
    }

    fn resume(&mut self, key: &ActionKey) -> Result<bool, KernelError> {
        Ok(self.inside(|inside| {
            inside.resumed += 1;
            !inside.dead.contains(&key.tid)
        }))
    }

    fn is_alive(&mut self, key: &ActionKey) -> bool {
        self.inside(|inside| !inside.dead.contains(&key.tid))
    }

    fn drop_stale_grants(&mut self) -> Result<(), KernelError> {
        Ok(())
    }

    fn forget(&mut self, _: &ActionKey, _: u64) -> Result<(), KernelError> {
        self.inside(|inside| inside.forgotten += 1);
        Ok(())
    }

    fn holds(&mut self) -> Result<Vec<(ActionKey, HoldRecord)>, KernelError> {
        Ok(self.inside(|inside| inside.held.clone()))
    }

    fn reannounce(&mut self, _: &ActionKey) -> Result<(), KernelError> {
        self.inside(|inside| inside.reannounced += 1);
        Ok(())
    }

    fn label(&mut self, pidfd: BorrowedFd<'_>, label: Label) -> Result<(), KernelError> {
        self.inside(|inside| inside.labels.insert(pid_of(pidfd), label));
        Ok(())
    }

    fn label_of(&mut self, pidfd: BorrowedFd<'_>) -> Result<Option<Label>, KernelError> {
        Ok(self.inside(|inside| inside.labels.get(&pid_of(pidfd)).copied()))
    }

    fn allow_standing(&mut self, standing: StandingKey) -> Result<(), KernelError> {
        self.inside(|inside| inside.standing.push(standing));
        Ok(())
    }

    fn set_selectors(&mut self, selectors: &[(SelectorKey, u64)]) -> Result<(), KernelError> {
        self.inside(|inside| inside.selectors = selectors.to_vec());
        Ok(())
    }

    fn counters(&mut self) -> Result<Vec<u64>, KernelError> {
        Ok(self.inside(|inside| inside.counters.clone()))
    }

    fn take_sent(&mut self, is_final: &dyn Fn(&SentKey) -> bool) -> Result<Vec<Sent>, KernelError> {
        self.inside(|inside| {
            let all = std::mem::take(&mut inside.sent);
            let (taken, left) = all.into_iter().partition(|(key, _)| is_final(key));
            inside.sent = left;
            Ok(Vec::into_iter(taken).map(|(key, sums)| Sent::new(key, sums)).collect())
        })
    }

    fn follows_another_abi(&self) -> bool {
        self.inside(|inside| inside.follows_another_abi)
    }

    fn wake(&mut self, pidfd: BorrowedFd<'_>) -> Result<(), KernelError> {
        self.inside(|inside| inside.woken.push(pid_of(pidfd)));
        Ok(())
    }

    fn mend(&mut self) -> Vec<Tampering> {
        self.inside(|inside| std::mem::take(&mut inside.tampered))
    }

    fn expire_from_now(&mut self) -> Result<(), KernelError> {
        self.inside(|inside| inside.expiring = true);
        Ok(())
    }

    fn end(&mut self) -> Result<Vec<u32>, KernelError> {
        self.inside(|inside| inside.ended = true);
        Ok(vec![])
    }
}

/// A driver in a folder of its own.
struct Bench {
    driver: Driver<FakeKernel>,
    kernel: FakeKernel,
    said: mpsc::Receiver<ToLink>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), FakeKernel::default())
    }

    fn in_folder(folder: tempfile::TempDir, kernel: FakeKernel) -> Self {
        Self::with(folder, kernel, POLICY, None)
    }

    fn with(
        folder: tempfile::TempDir,
        kernel: FakeKernel,
        policy: &str,
        contents: Option<Contents>,
    ) -> Self {
        let source = PolicySource { file: "test.cedar".into(), text: policy.into() };
        let policy = Arc::new(Policy::load(&[source]).unwrap());
        let (to_link, said) = mpsc::channel(64);
        let link = Some(LinkHandle { to_link, reset: Arc::new(Notify::new()) });
        let root = folder.path().join("spool");
        let spool = SpoolConfig { root, limit_bytes: LIMIT_DEFAULT, host: HOST, boot: BOOT };
        let mut driver = Driver::new(Parts {
            kernel: kernel.clone(),
            engine: Engine::new(HOST, BOOT, Limits::default()),
            decider: Decider::new(policy, HOST, BOOT, "box".into()),
            sessions: Sessions::new(HOST, BOOT),
            selectors: Selectors::default(),
            proc: Proc::default(),
            contents,
            spool: Spool::open(&spool).unwrap(),
            link,
            coverage: vec![],
            host: HOST,
            boot: BOOT,
            kernel_release: "7.3".into(),
            sessions_path: folder.path().join("sessions.json"),
            losses_path: folder.path().join("losses.json"),
            notifier: Notifier::default(),
        });
        driver.start().unwrap();
        Self { driver, kernel, said, folder }
    }

    fn event(&mut self, event: KernelEvent) {
        self.driver.event(event);
        self.driver.settle();
    }

    fn news(&mut self, news: FromLink) {
        self.driver.news(news);
        self.driver.settle();
    }

    fn ask(&mut self, request: Request) -> Reply {
        self.ask_as(std::process::id(), request)
    }

    fn ask_as(&mut self, pid: u32, request: Request) -> Reply {
        let (reply, mut answer) = oneshot::channel();
        let pidfd = crate::kernel::pidfd_open(pid).unwrap();
        let uid = nix::unistd::getuid().as_raw();
        self.driver.call(Call { peer: Peer { pid, uid, pidfd }, request, reply });
        answer.try_recv().unwrap()
    }

    /// Starts this very process as session `bot`; the kernel's handle of it.
    fn start_session(&mut self) -> u64 {
        let run = Request::Run { name: "bot".into(), command: vec![] };
        assert!(matches!(self.ask(run), Reply::Running { .. }));
        self.kernel.inside(|inside| inside.labels[&std::process::id()].session)
    }

    fn request(&mut self) -> Option<Box<HoldRequest>> {
        match self.said.try_recv() {
            Ok(ToLink::Request(request)) => Some(request),
            _ => None,
        }
    }

    /// Ends this life and returns the evidence of all.
    fn end(self) -> (Vec<Record>, tempfile::TempDir) {
        self.driver.stop("test").close();
        let mut out = Vec::new();
        export(&self.folder.path().join("spool"), None, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let records = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (records, self.folder)
    }
}

/// What comes from elsewhere than the kernel, and who may send it.
fn inputs() -> (Inputs, mpsc::Sender<Call>, mpsc::Sender<FromLink>) {
    let (to_driver, from_link) = mpsc::channel(8);
    let (calls_in, calls) = mpsc::channel(8);
    // Nobody hashes.
    let (_, hashed) = mpsc::channel(1);
    (Inputs { from_link, calls, hashed }, calls_in, to_driver)
}

fn key() -> ActionKey {
    ActionKey {
        start_boottime_ns: 1,
        tgid: std::process::id(),
        tid: std::process::id(),
        kind: KIND_OPEN,
        access: 1,
        flags: 0,
        object_len: 40,
        object: [0; OBJECT_WORDS],
    }
}

fn header(session: u64, hold_id: u64) -> Header {
    let pid = std::process::id();
    let start_boottime_ns = 1;
    Header { session, hold_id, tgid: pid, tid: pid, start_boottime_ns, ..Header::default() }
}

fn held(session: u64, hold: u64, path: &str) -> KernelEvent {
    let file = FileRef {
        path: path.into(),
        path_error: None,
        dev: 1,
        ino: 2,
        generation: 0,
        owner_uid: 0,
        mode: 0o100_644,
    };
    let access = FileAccess { read: true, ..FileAccess::default() };
    let body = KernelBody::Held {
        key: Box::new(key()),
        action: Box::new(Action::Open { file, access }),
        deadline_ns: clock::boottime_ns() + 600_000_000_000,
    };
    KernelEvent { header: header(session, hold), body }
}

fn consumed(session: u64, hold: u64, verdict: u32) -> KernelEvent {
    let body = KernelBody::Outcome {
        event: EVENT_CONSUMED,
        key: Box::new(key()),
        verdict,
        reason: REASON_GRANT,
    };
    KernelEvent { header: header(session, hold), body }
}

fn decided(request: &HoldRequest, verdict: Verdict) -> FromLink {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let decision = Decision {
        host: HOST,
        boot: BOOT,
        hold_id: request.hold_id,
        digest: request.digest,
        verdict,
        decided_by: "ann".into(),
        reason: "needed".into(),
        decided_at_unix_ms: 1,
    };
    let verifier = DecisionVerifier::new(key.verifying_key().to_bytes(), HOST, BOOT).unwrap();
    FromLink::Decision(Box::new(verifier.verify(&sign(&key, &decision)).unwrap()))
}

fn count(records: &[Record], what: impl Fn(&Event) -> bool) -> usize {
    records.iter().filter(|record| what(&record.event)).count()
}
