//! A started controller, a fake guard-agent, and holds for it to send.

use guard_audit::{Event, Record};
use guard_controller::{Config, Controller, Role, Running, UserSpec};
use guard_model::{
    Action, ActionDigest, BootId, DecisionTerms, FileAccess, FileRef, HoldId, HoldRequest, HostId,
    ProcessContext, SessionId, SessionInfo,
};
use guard_policy::Policy;
use guard_proto::{
    decision::{DecisionVerifier, VerifiedDecision},
    v1::{
        EnrolRequest, EvidenceBatch, EvidenceRecord, FromController, FromHost, Hello,
        HoldRequested, enrolment_client::EnrolmentClient, from_controller::Message as ToHost,
        from_host::Message, host_client::HostClient,
    },
};
use rcgen::{CertificateParams, KeyPair};
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use uuid::Uuid;

/// Longer than anything here takes, even on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn config(dir: &Path) -> Config {
    let mut config = Config::new(dir.join("state"), Arc::new(Policy::default_policy()));
    config.ui_addr = ([127, 0, 0, 1], 0).into();
    config.rpc_addr = ([127, 0, 0, 1], 0).into();
    config
}

pub(crate) async fn start(dir: &Path) -> Running {
    Controller::start(config(dir)).await.unwrap()
}

pub(crate) fn now_unix_ms() -> u64 {
    guard_controller::clock::unix_ms()
}

/// A user with the given roles, as an actor.
pub(crate) async fn actor(
    controller: &Controller,
    name: &str,
    roles: &[Role],
) -> guard_controller::Actor {
    let spec = UserSpec { name: name.into(), roles: roles.into(), ..UserSpec::default() };
    controller.create_user(spec, "test").await.unwrap().actor()
}

/// A hold of `session` number, on the file `/secret/<number>`, due in a minute.
pub(crate) fn request(host: HostId, boot: BootId, session: u64, number: u64) -> HoldRequest {
    let process = ProcessContext { pid: 100, tid: 100, uid: 1000, ..ProcessContext::default() };
    let file = FileRef {
        path: format!("/secret/{number}").as_str().into(),
        path_error: None,
        dev: 1,
        ino: number,
        generation: 0,
        owner_uid: 0,
        mode: 0o100_600,
    };
    let action = Action::Open { file, access: FileAccess { read: true, ..FileAccess::default() } };
    let session = SessionInfo {
        id: SessionId::derive(host, boot, session),
        name: "agent".into(),
        principal: "dev".into(),
        uid: 1000,
        started_unix_ms: now_unix_ms(),
        root_pid: 100,
        command: vec!["bash".into()],
    };
    HoldRequest {
        hold_id: HoldId::derive(host, boot, number),
        host,
        boot,
        digest: ActionDigest::of(host, boot, session.id, &process, &action),
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
        held_at_unix_ms: now_unix_ms(),
        deadline_unix_ms: now_unix_ms() + 60_000,
    }
}

pub(crate) fn boot() -> BootId {
    BootId(Uuid::new_v4())
}

/// What a host has after it enrolled.
#[derive(Clone)]
pub(crate) struct Enrolled {
    pub(crate) host: HostId,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    pub(crate) ca_pem: String,
    pub(crate) decision_key: [u8; 32],
}

pub(crate) async fn channel(
    rpc: SocketAddr,
    ca_pem: &str,
    identity: Option<Identity>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(ca_pem))
        .domain_name("localhost");
    if let Some(identity) = identity {
        tls = tls.identity(identity);
    }
    let endpoint = Endpoint::from_shared(format!("https://{rpc}")).unwrap();
    endpoint.tls_config(tls)?.connect().await
}

pub(crate) async fn enrol(rpc: SocketAddr, ca_pem: &str, token: &str) -> Result<Enrolled, Status> {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::new(vec!["a.example".into()]).unwrap();
    let csr_pem = csr.serialize_request(&key).unwrap().pem().unwrap();
    let mut client = EnrolmentClient::new(channel(rpc, ca_pem, None).await.unwrap());
    let request = EnrolRequest { join_token: token.into(), csr_pem, hostname: "box-1".into() };
    let response = client.enrol(request).await?.into_inner();
    Ok(Enrolled {
        host: response.host_id.parse().unwrap(),
        certificate_pem: response.certificate_pem,
        key_pem: key.serialize_pem(),
        ca_pem: response.ca_pem,
        decision_key: response.decision_key.try_into().unwrap(),
    })
}

pub(crate) async fn enrolled(running: &Running) -> Enrolled {
    let token = running.controller.new_join_token().await.unwrap().token;
    enrol(running.rpc_addr, running.controller.ca_pem(), &token).await.unwrap()
}

pub(crate) fn hello(boot: BootId, pending: &[HoldId]) -> Hello {
    Hello {
        boot_id: boot.to_string(),
        hostname: "box-1".into(),
        version: "0.1.0".into(),
        kernel: "6.12.0".into(),
        policy_digest: "00".into(),
        coverage_json: "[]".into(),
        pending_hold_ids: pending.iter().map(ToString::to_string).collect(),
    }
}

/// A fake guard-agent with an open link.
pub(crate) struct Agent {
    pub(crate) enrolled: Enrolled,
    pub(crate) boot: BootId,
    outgoing: mpsc::Sender<FromHost>,
    incoming: Streaming<FromController>,
}

impl Agent {
    /// Opens a link without saying hello.
    pub(crate) async fn silent(
        rpc: SocketAddr,
        enrolled: &Enrolled,
        boot: BootId,
    ) -> Result<Self, Status> {
        let identity = Identity::from_pem(&enrolled.certificate_pem, &enrolled.key_pem);
        let channel = channel(rpc, &enrolled.ca_pem, Some(identity)).await.unwrap();
        let (outgoing, messages) = mpsc::channel(64);
        let mut client = HostClient::new(channel).max_encoding_message_size(64 << 20);
        let incoming = client.link(ReceiverStream::new(messages)).await?.into_inner();
        Ok(Self { enrolled: enrolled.clone(), boot, outgoing, incoming })
    }

    /// Opens a link, says hello, and waits for the welcome and the first acknowledgement.
    pub(crate) async fn link(
        rpc: SocketAddr,
        enrolled: &Enrolled,
        boot: BootId,
        pending: &[HoldId],
    ) -> Self {
        let mut agent = Self::silent(rpc, enrolled, boot).await.unwrap();
        agent.send(Message::Hello(hello(boot, pending))).await;
        assert!(matches!(agent.next().await, ToHost::Welcome(_)));
        agent
    }

    pub(crate) async fn linked(running: &Running) -> Self {
        let enrolled = enrolled(running).await;
        let mut agent = Self::link(running.rpc_addr, &enrolled, boot(), &[]).await;
        assert_eq!(agent.evidence_ack().await, 0);
        agent
    }

    pub(crate) async fn send(&self, message: Message) {
        self.outgoing.send(FromHost { message: Some(message) }).await.unwrap();
    }

    pub(crate) async fn hold(&self, request: &HoldRequest) {
        let request_json = serde_json::to_string(request).unwrap();
        let hold_id = request.hold_id.to_string();
        self.send(Message::HoldRequested(HoldRequested { hold_id, request_json })).await;
    }

    /// Sends a hold and waits until it is durable.
    pub(crate) async fn held(&mut self, request: &HoldRequest) {
        self.hold(request).await;
        let ToHost::HoldAck(ack) = self.next().await else { panic!("expected HoldAck") };
        assert_eq!(ack.hold_id, request.hold_id.to_string());
    }

    pub(crate) fn request(&self, session: u64, number: u64) -> HoldRequest {
        request(self.enrolled.host, self.boot, session, number)
    }

    pub(crate) async fn try_next(&mut self) -> Result<Option<ToHost>, Status> {
        let next = timeout(PATIENCE, self.incoming.message()).await.expect("no message in time")?;
        Ok(next.map(|next| next.message.unwrap()))
    }

    pub(crate) async fn next(&mut self) -> ToHost {
        self.try_next().await.unwrap().expect("the link ended")
    }

    /// The link ends; why.
    pub(crate) async fn end(&mut self) -> Status {
        loop {
            match self.try_next().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("ended"),
                Err(status) => return status,
            }
        }
    }

    pub(crate) async fn refused(&mut self) -> String {
        match self.next().await {
            ToHost::Refused(refused) => format!("{}: {}", refused.what, refused.why),
            other => panic!("expected Refused, got {other:?}"),
        }
    }

    pub(crate) async fn evidence_ack(&mut self) -> u64 {
        match self.next().await {
            ToHost::EvidenceAck(ack) => ack.sequence,
            other => panic!("expected EvidenceAck, got {other:?}"),
        }
    }

    /// The next message is a decision that verifies as guard-agent verifies it.
    pub(crate) async fn decision(&mut self) -> VerifiedDecision {
        let ToHost::Decision(signed) = self.next().await else { panic!("expected a decision") };
        let Enrolled { host, decision_key, .. } = self.enrolled;
        DecisionVerifier::new(decision_key, host, self.boot).unwrap().verify(&signed).unwrap()
    }

    pub(crate) fn record(&self, sequence: u64, event: Event) -> Record {
        Record {
            host: self.enrolled.host,
            boot: self.boot,
            sequence,
            boottime_ns: sequence,
            unix_ms: now_unix_ms(),
            session: None,
            event,
        }
    }

    pub(crate) async fn evidence(&self, records: &[Record]) {
        let records = records
            .iter()
            .map(|record| EvidenceRecord {
                sequence: record.sequence,
                boot_id: record.boot.to_string(),
                record_json: serde_json::to_vec(record).unwrap(),
            })
            .collect();
        let boot_id = self.boot.to_string();
        self.send(Message::Evidence(EvidenceBatch { boot_id, records })).await;
    }
}

/// Waits until `check` holds; it is asked again and again.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let waited = timeout(PATIENCE, async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "never happened: {what}");
}

/// All evidence events, in stored order.
pub(crate) async fn events(controller: &Controller) -> Vec<Event> {
    let filter = guard_controller::EvidenceFilter::default();
    let stored = controller.evidence(&filter).await.unwrap();
    stored.into_iter().map(|stored| stored.record.event).collect()
}

/// Changes the controller's database behind its back, as time would.
pub(crate) async fn sql(dir: &Path, statement: &'static str) {
    let path = dir.join("state/controller.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query(statement).execute(&pool).await.unwrap();
    pool.close().await;
}
