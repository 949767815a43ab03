//! A controller in this process, and a fake host that sends it holds.

use guard_audit::{Event, Record};
use guard_controller::{Config, Controller, HoldView, Role, Running, UserSpec, evidence::Entry};
use guard_model::{
    Action, ActionDigest, BootId, Coverage, CoverageState, DecisionTerms, Endpoint, FileAccess,
    FileRef, HoldId, HoldRequest, HostId, PolicyStatement, ProcessContext, ProcessNode, ProgramRef,
    RawText, SessionId, SessionInfo, Tier, Verdict,
};
use guard_policy::Policy;
use guard_proto::v1::Hello;
use rcgen::{CertificateParams, KeyPair};
use std::{collections::HashSet, future::Future, path::Path, sync::Arc, time::Duration};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// A controller that runs, and one host.
pub(crate) struct Fake {
    runtime: Runtime,
    running: Option<Running>,
    host: HostId,
    boot: BootId,
}

impl Fake {
    pub(crate) fn start(state: &Path) -> Self {
        let runtime = Runtime::new().unwrap();
        let mut config = Config::new(state.join("state"), Arc::new(Policy::default_policy()));
        config.ui_addr = ([127, 0, 0, 1], 0).into();
        config.rpc_addr = ([127, 0, 0, 1], 0).into();
        config.first_user.name = "root".into();
        let running = runtime.block_on(Controller::start(config)).unwrap();
        let boot = BootId(Uuid::new_v4());
        let host = runtime.block_on(enrol(&running.controller, boot));
        Self { runtime, running: Some(running), host, boot }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn controller(&self) -> &Controller {
        &self.running().controller
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running().ui_addr)
    }

    /// The address of a page that signs `name`, a new user with `roles`, in.
    pub(crate) fn sign_in_url(&self, name: &str, roles: &[Role]) -> String {
        let controller = self.controller();
        let spec = UserSpec { name: name.into(), roles: roles.into(), ..UserSpec::default() };
        let token = self.wait(async {
            controller.create_user(spec, "root").await.unwrap();
            controller.new_sign_in_link(name, "root").await.unwrap()
        });
        self.url(&format!("/sign-in?token={token}"))
    }

    /// Sends a hold of `action`; `number` tells holds apart.
    pub(crate) fn hold(&self, number: u64, action: Action) -> HoldId {
        let request = self.request(number, action);
        let json = serde_json::to_string(&request).unwrap();
        let id = request.hold_id;
        let received = self.controller().receive_hold(self.host, self.boot, id, &json);
        self.wait(received).unwrap();
        id
    }

    pub(crate) fn view(&self, id: HoldId) -> HoldView {
        self.wait(self.controller().hold(id)).unwrap().unwrap()
    }

    /// A few records of evidence of the session.
    pub(crate) fn evidence(&self) {
        let info = self.session();
        let file = file("/home/dev/work/src/main.rs", 4711);
        let decided = Event::Decided {
            hold_id: HoldId::derive(self.host, self.boot, 900),
            digest: ActionDigest([7; 32]),
            process: process(4242),
            action: Action::Open { file, access: FileAccess { read: true, ..Default::default() } },
            verdict: Verdict::Allow,
            tier: Tier::Agent,
            statements: Vec::new(),
        };
        let events = [
            Event::SessionStarted { info: info.clone() },
            Event::Executed { pid: 4200, exe: "/usr/bin/claude".into() },
            Event::Forked { pid: 4200, child_pid: 4242, child_tid: 4242 },
            Event::Executed { pid: 4242, exe: "/usr/bin/bash".into() },
            decided,
            Event::Forked { pid: 4242, child_pid: 4243, child_tid: 4243 },
            Event::Executed { pid: 4243, exe: "/usr/bin/git".into() },
            Event::Exited { pid: 4243, tid: 4243 },
        ];
        let record = |(sequence, event): (u64, Event)| Record {
            host: self.host,
            boot: self.boot,
            sequence,
            boottime_ns: sequence,
            unix_ms: now(),
            session: Some(info.id),
            event,
        };
        let entry =
            |record: Record| Entry { json: serde_json::to_string(&record).unwrap(), record };
        let entries = (1..).zip(events).map(record).map(entry).collect();
        self.wait(self.controller().receive_evidence(self.host, self.boot, entries)).unwrap();
    }

    /// Record `sequence` of the host: somebody has allowed a hold.
    pub(crate) fn person_decided(&self, sequence: u64, hold_id: HoldId, reason: &str) {
        let decided = Event::PersonDecided {
            hold_id,
            digest: self.view(hold_id).request.digest,
            verdict: Verdict::Allow,
            decided_by: "ann".into(),
            reason: reason.into(),
        };
        self.record(sequence, decided);
    }

    /// One record of the session.
    pub(crate) fn record(&self, sequence: u64, event: Event) {
        let record = Record {
            host: self.host,
            boot: self.boot,
            sequence,
            boottime_ns: sequence,
            unix_ms: now(),
            session: Some(self.session().id),
            event,
        };
        let entry = Entry { json: serde_json::to_string(&record).unwrap(), record };
        self.wait(self.controller().receive_evidence(self.host, self.boot, vec![entry])).unwrap();
    }

    /// Waits until what was written can be found.
    pub(crate) fn indexed(&self) {
        let health = || self.wait(self.controller().log_health()).unwrap();
        while health().waiting > 0 || health().unindexed() > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn session(&self) -> SessionInfo {
        SessionInfo {
            id: SessionId::derive(self.host, self.boot, 1),
            name: "claude-code".into(),
            principal: "dev".into(),
            uid: 1000,
            started_unix_ms: now() - 754_000,
            root_pid: 4200,
            command: words(&["claude", "--resume", "fix the build"]),
        }
    }

    fn request(&self, number: u64, action: Action) -> HoldRequest {
        let (session, process) = (self.session(), process(4242));
        let statement = PolicyStatement {
            id: "connect-outside-the-list".into(),
            file: "default.cedar".into(),
            line: 118,
            text: STATEMENT.into(),
            reason: Some("It talks to an address that is not on the list".into()),
        };
        HoldRequest {
            hold_id: HoldId::derive(self.host, self.boot, number),
            host: self.host,
            boot: self.boot,
            digest: ActionDigest::of(self.host, self.boot, session.id, &process, &action),
            session,
            process,
            action,
            statements: vec![statement],
            terms: DecisionTerms {
                approver_groups: vec!["approvers".into()],
                quorum: 1,
                ttl_ms: 600_000,
                scope: "once".into(),
                stepup: None,
            },
            recent: vec![
                "exec /usr/bin/git status".into(),
                "open for read /home/dev/work/.git/config".into(),
                "open for read /home/dev/work/Cargo.toml".into(),
            ],
            held_at_unix_ms: now(),
            deadline_unix_ms: now() + 600_000,
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.shutdown());
        }
    }
}

const STATEMENT: &str = "@id(\"connect-outside-the-list\")
@hold(\"approvers\")
@reason(\"It talks to an address that is not on the list\")
forbid (
  principal is Guard::Session,
  action == Guard::Action::\"connect\",
  resource is Guard::Endpoint
)
unless { context.approved };";

async fn enrol(controller: &Controller, boot: BootId) -> HostId {
    let token = controller.new_join_token().await.unwrap().token;
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let (host, _) = controller.enrol(&token, &csr, "build-7").await.unwrap();
    let coverage = |action: &str, hook: &str, state, reason: &str| Coverage {
        action: action.into(),
        hook: hook.into(),
        state,
        reason: reason.into(),
    };
    let coverage = vec![
        coverage("exec", "bprm_check_security", CoverageState::Enforced, ""),
        coverage("open", "file_open", CoverageState::Enforced, ""),
        coverage(
            "connect",
            "socket_connect",
            CoverageState::Degraded,
            "datagrams sent without connect are not seen by this hook",
        ),
    ];
    let hello = Hello {
        boot_id: boot.to_string(),
        version: "0.1.0".into(),
        kernel: "6.12.57-1-cloud-amd64".into(),
        coverage_json: serde_json::to_string(&coverage).unwrap(),
        policy_digest: Policy::default_policy().digest().into(),
        hostname: "build-7".into(),
        ..Hello::default()
    };
    controller.host_linked(host, boot, &hello, &HashSet::new()).await.unwrap();
    host
}

fn now() -> u64 {
    guard_controller::clock::unix_ms()
}

fn words(words: &[&str]) -> Vec<RawText> {
    words.iter().map(|word| RawText::from(*word)).collect()
}

fn process(pid: u32) -> ProcessContext {
    let node = |pid, ppid, uid, exe: &str, cmdline: &[&str], labelled| ProcessNode {
        pid,
        ppid,
        uid,
        exe: exe.into(),
        cmdline: words(cmdline),
        labelled,
    };
    ProcessContext {
        pid,
        tid: pid,
        start_boottime_ns: 5_000_000_000,
        ppid: 4200,
        uid: 1000,
        gid: 1000,
        comm: "bash".into(),
        exe: "/usr/bin/bash".into(),
        cmdline: words(&["bash", "-c", "./deploy.sh --now"]),
        cwd: "/home/dev/work".into(),
        cgroup: "/user.slice/user-1000.slice/session-4.scope".into(),
        cap_eff: "0000000000000000".into(),
        ancestors: vec![
            node(pid, 4200, 1000, "/usr/bin/bash", &["bash", "-c", "./deploy.sh --now"], true),
            node(
                4200,
                812,
                1000,
                "/usr/bin/claude",
                &["claude", "--resume", "fix the build"],
                true,
            ),
            node(812, 800, 1000, "/usr/bin/bash", &["-bash"], false),
            node(800, 1, 0, "/usr/sbin/sshd", &["sshd: dev [priv]"], false),
            node(1, 0, 0, "/usr/lib/systemd/systemd", &["/sbin/init"], false),
        ],
    }
}

fn file(path: &str, ino: u64) -> FileRef {
    FileRef {
        path: path.into(),
        path_error: None,
        dev: 254 << 20 | 1,
        ino,
        generation: 1,
        owner_uid: 1000,
        mode: 0o100_644,
    }
}

/// Reading a file.
pub(crate) fn read(path: &str) -> Action {
    let access = FileAccess { read: true, ..FileAccess::default() };
    Action::Open { file: file(path, 1_311_233), access }
}

/// Executing a program with arguments.
pub(crate) fn exec(path: &str, argv: &[&str]) -> Action {
    let program = ProgramRef { file: file(path, 1_311_090), sha256: None };
    Action::Exec {
        program,
        argv: words(argv),
        argv_complete: true,
        interpreter: false,
        unnamed: false,
        loader: false,
        gains: false,
        environment: Vec::new(),
    }
}

/// Connecting by TCP.
pub(crate) fn connect(ip: &str, port: u16) -> Action {
    let endpoint = Endpoint::Inet { ip: ip.parse().unwrap(), port, mapped: false };
    Action::Connect { endpoint, socket_type: 1, protocol: 6 }
}
