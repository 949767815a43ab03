//! The commands against a real controller on loopback: what they list, decide and follow.

use super::*;
use crate::controller::credentials::Credentials;
use guard_agent::link::enrol::{Join, enrol_patiently};
use guard_controller::{Config, Controller, Running};
use guard_model::{
    Action, ActionDigest, BootId, DecisionTerms, FileAccess, FileRef, HoldRequest, HoldState,
    HostId, ProcessContext, SessionId, SessionInfo,
};
use guard_policy::Policy;
use std::sync::Arc;
use tempfile::TempDir;
use uuid::Uuid;
use zeroize::Zeroizing;

struct Setup {
    dir: TempDir,
    running: Running,
    host: HostId,
}

const BOOT: BootId = BootId(Uuid::from_u128(2));

impl Setup {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let policy = Arc::new(Policy::default_policy());
        let mut config = Config::new(dir.path().join("controller"), policy);
        config.ui_addr = ([127, 0, 0, 1], 0).into();
        config.rpc_addr = ([127, 0, 0, 1], 0).into();
        let running = Controller::start(config).await.unwrap();
        let token = running.controller.new_join_token().await.unwrap();
        let url = format!("https://{}", running.rpc_addr);
        let ca_pin = token.ca_pin.parse().unwrap();
        let join = Join { url, token: Zeroizing::new(token.token), ca_pin };
        let host = enrol_patiently(&join, "test-host").await.unwrap().host;
        let setup = Self { dir, running, host };
        setup.credentials().await;
        setup
    }

    async fn credentials(&self) {
        let url = format!("http://{}", self.running.ui_addr);
        let controller = &self.running.controller;
        Credentials::create(self.dir.path(), &url, controller, "admin").await.unwrap();
    }

    fn reach(&self) -> Reach {
        Reach {
            url: None,
            token: None,
            state: self.dir.path().to_owned(),
            danger_plain_http: false,
            json: false,
        }
    }

    fn client(&self) -> Client {
        Client::new(&self.reach()).unwrap()
    }

    /// A hold of `principal`'s session, as guard-agent sends it.
    async fn hold(&self, number: u64, principal: &str) -> HoldId {
        let request = request(self.host, number, principal);
        let (id, json) = (request.hold_id, serde_json::to_string(&request).unwrap());
        self.running.controller.receive_hold(self.host, BOOT, id, &json).await.unwrap();
        id
    }
}

fn request(host: HostId, number: u64, principal: &str) -> HoldRequest {
    let now = output::now_unix_ms();
    let session = SessionInfo {
        id: SessionId::derive(host, BOOT, number),
        name: "bot".into(),
        principal: principal.into(),
        uid: 1000,
        started_unix_ms: now,
        root_pid: 10,
        command: vec!["bot".into()],
    };
    let process = ProcessContext { pid: 10, tid: 10, uid: 1000, ..ProcessContext::default() };
    let file = FileRef {
        path: "/etc/shadow".into(),
        path_error: None,
        dev: 1,
        ino: number,
        generation: 0,
        owner_uid: 0,
        mode: 0o100_640,
    };
    let access = FileAccess { read: true, ..FileAccess::default() };
    let action = Action::Open { file, access };
    HoldRequest {
        hold_id: HoldId::derive(host, BOOT, number),
        host,
        boot: BOOT,
        digest: ActionDigest::of(host, BOOT, session.id, &process, &action),
        session,
        process,
        action,
        statements: Vec::new(),
        terms: DecisionTerms {
            approver_groups: vec!["approvers".into()],
            quorum: 1,
            ttl_ms: 60_000,
            scope: "once".into(),
            stepup: None,
        },
        recent: Vec::new(),
        held_at_unix_ms: now,
        deadline_unix_ms: now + 60_000,
    }
}

#[tokio::test]
async fn a_hold_is_listed_shown_and_approved_by_the_beginning_of_its_id() {
    let setup = Setup::start().await;
    let id = setup.hold(1, "dev").await;
    let client = setup.client();
    let page = client.holds("open").await.unwrap();
    assert_eq!((page.total, page.holds[0].hold.request.hold_id), (1, id));
    assert!(page.holds[0].may_decide);
    let prefix = &id.to_string()[..8];
    assert_eq!(find(&client, prefix).await.unwrap(), id);
    let item = client.hold(id).await.unwrap();
    assert!(show::in_full(&item).contains("open for read /etc/shadow"));
    let item = client.decide(id, Verdict::Allow, "ticket 412").await.unwrap();
    assert_eq!(item.hold.state, HoldState::Approved);
    assert_eq!(item.hold.reason.as_deref(), Some("ticket 412"));
    assert_eq!(client.holds("open").await.unwrap().total, 0);
    let error = client.decide(id, Verdict::Deny, "again").await.unwrap_err().to_string();
    assert!(error.contains("already approved"), "{error}");
    setup.running.shutdown().await;
}

#[tokio::test]
async fn nobody_approves_for_their_own_session_from_the_command_line_either() {
    let setup = Setup::start().await;
    let id = setup.hold(1, "admin").await;
    let client = setup.client();
    let item = client.hold(id).await.unwrap();
    assert!(!item.may_decide, "{:?}", item.why_not);
    assert!(client.decide(id, Verdict::Allow, "please").await.is_err());
    assert_eq!(client.hold(id).await.unwrap().hold.state, HoldState::Pending);
    setup.running.shutdown().await;
}

#[tokio::test]
async fn a_wrong_token_is_refused_in_words() {
    let setup = Setup::start().await;
    let reach = Reach {
        url: Some(format!("http://{}", setup.running.ui_addr)),
        token: Some("guard-api-wrong".into()),
        ..setup.reach()
    };
    let error = Client::new(&reach).unwrap().holds("open").await.err().unwrap().to_string();
    assert!(error.to_lowercase().contains("token"), "{error}");
    setup.running.shutdown().await;
}

#[tokio::test]
async fn a_new_start_ends_the_token_of_the_last_one() {
    let setup = Setup::start().await;
    let before = setup.client();
    assert!(before.holds("open").await.is_ok());
    setup.credentials().await;
    assert!(before.holds("open").await.is_err());
    assert!(setup.client().holds("open").await.is_ok());
    setup.running.shutdown().await;
}

#[tokio::test]
async fn the_stream_of_changes_names_a_hold_that_arrives() {
    use http_body_util::BodyExt as _;
    let setup = Setup::start().await;
    let client = setup.client();
    let mut stream = client.events().await.unwrap();
    let mut parser = sse::Parser::default();
    let mut id = None;
    // The first event says that the stream is open; the hold comes after it.
    while let Some(frame) = stream.frame().await {
        for event in parser.push(frame.unwrap().data_ref().unwrap()).unwrap() {
            match event.name.as_str() {
                "ready" => id = Some(setup.hold(1, "dev").await),
                "hold" => {
                    let id = id.unwrap().to_string();
                    assert!(event.data.contains(&id), "{}", event.data);
                    setup.running.shutdown().await;
                    return;
                }
                _ => {}
            }
        }
    }
    panic!("the stream ended before the hold was named");
}

#[tokio::test]
async fn without_a_controller_the_error_says_what_to_start() {
    let setup = Setup::start().await;
    let client = setup.client();
    setup.running.shutdown().await;
    let error = client.holds("open").await.err().unwrap().to_string();
    assert!(error.contains("guard up"), "{error}");
}

#[test]
fn the_beginning_of_an_id_stands_for_it_only_if_it_is_the_only_one() {
    let ids = ["3f2a0000-0000-0000-0000-000000000001", "3f2b0000-0000-0000-0000-000000000002"]
        .map(|id| id.parse::<HoldId>().unwrap());
    assert_eq!(unique(ids.into_iter(), "3F2A"), Ok(ids[0]));
    assert!(unique(ids.into_iter(), "3f2").unwrap_err().contains("several"));
    assert!(unique(ids.into_iter(), "aaaa").unwrap_err().contains("nothing that waits"));
}
