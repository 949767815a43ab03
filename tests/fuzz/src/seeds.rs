//! Valid inputs for every target, made from the types themselves: what the corpus begins with, and proof that
//! the targets get past the first check of what they test.

mod memory;
mod ring;

pub use memory::Memory;

use crate::targets::wire::{BOOT, HOST, key};
use guard_agent::{socket::protocol::Request, spool::frame};
use guard_audit::{
    Event, Record,
    log::{Draft, Log, LogKey, Proof, VerifierKey, checkpoint, write_bundle},
};
use guard_model::{
    ActionDigest, Coverage, CoverageState, Decision, HoldId, HoldRequest, ProcessContext, RawText,
    SessionId, SessionInfo, Verdict, Withdrawal,
};
use guard_proto::v1::{self, from_controller, from_host};
use prost::Message as _;
use std::sync::{Arc, LazyLock};
use uuid::Uuid;

/// A bundle that was made once: what the target `bundle` compares with.
pub const BUNDLE: &[u8] = include_bytes!("../corpus/bundle/whole");
/// The public key that it verifies with.
pub const BUNDLE_KEY: &str = include_str!("../bundle.vkey");
/// Entries of the log that is damaged: a full tile and the beginning of another.
const LOG_ENTRIES: u64 = 260;
/// Entries of a bundle, which has to stay small in the corpus.
const BUNDLE_ENTRIES: u64 = 5;
const NOW_UNIX_MS: u64 = 1_700_000_000_000;

/// A whole log, in memory.
#[derive(Debug)]
pub struct Genuine {
    /// Its files.
    pub files: Memory,
    /// Who signed it.
    pub key: VerifierKey,
    /// Entries.
    pub size: u64,
    /// Root hash, hexadecimal.
    pub root: String,
}

/// The log that the targets damage. Made anew in every process: its salts and its key are random.
pub static LOG: LazyLock<Genuine> = LazyLock::new(|| log(LOG_ENTRIES));

fn log(entries: u64) -> Genuine {
    let files = Memory::default();
    let key = LogKey::generate("log.fuzz/guard").unwrap();
    let mut log = Log::create(files.copy(), &key).unwrap();
    let records = (1..=entries).map(|n| Draft::new(record(n, lost(n))).unwrap());
    let drafts: Vec<Draft> = records.collect();
    let staged = log.stage(&drafts, NOW_UNIX_MS).unwrap();
    log.publish(staged).unwrap();
    log.settle().unwrap();
    let files = log.storage().copy();
    let key = key.verifier().clone();
    let report = guard_audit::log::verify(&files, std::slice::from_ref(&key), &[]);
    assert!(report.is_sound(), "{:?}", report.problems);
    Genuine { files, key, size: report.size, root: report.root }
}

/// A new bundle, and the key that it verifies with.
#[must_use]
pub fn new_bundle() -> (Vec<u8>, String) {
    let Genuine { files, key, size, .. } = log(BUNDLE_ENTRIES);
    let mut bytes = Vec::new();
    write_bundle(&Arc::new(files), (0, size), &mut bytes).unwrap();
    (bytes, key.as_str().to_owned())
}

fn lost(n: u64) -> Event {
    Event::Lost { counter: "events_lost".into(), count: n }
}

fn record(sequence: u64, event: Event) -> Record {
    let session = Some(SessionId(Uuid::from_u128(3)));
    let unix_ms = NOW_UNIX_MS + sequence;
    Record { host: HOST, boot: BOOT, sequence, boottime_ns: sequence, unix_ms, session, event }
}

/// Inputs that the target `name` accepts.
#[must_use]
pub fn of(name: &str) -> Vec<(String, Vec<u8>)> {
    let numbered = |all: Vec<Vec<u8>>| {
        let name = |(n, bytes)| (format!("seed-{n:02}"), bytes);
        all.into_iter().enumerate().map(name).collect()
    };
    match name {
        "ring" => ring::all(),
        "request" => numbered(requests()),
        "selector" => numbered(selectors()),
        "spool" => numbered(vec![frames()]),
        "record" => numbered(records().iter().map(json).collect()),
        "wire" => numbered(messages()),
        "decision" => numbered(decisions()),
        "proof" => numbered(proofs()),
        "bundle" => vec![("whole".into(), BUNDLE.to_vec())],
        "log" => numbered(damages()),
        "policy" => numbered(policies()),
        _ => vec![],
    }
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn requests() -> Vec<Vec<u8>> {
    let command = vec!["claude".into(), RawText::new(vec![0xff, b'\\', b'a'])];
    let run = Request::Run { name: "bot-1.a_b".into(), command };
    vec![json(&run), json(&Request::Status {}), json(&Request::Why {})]
}

fn selectors() -> Vec<Vec<u8>> {
    let all = ["program=/opt/a,b/run,as=a.b_c-1", "uid=1001,as=bots", "cgroup=/agents.slice,as=x"];
    all.map(|text| text.as_bytes().to_vec()).to_vec()
}

fn frames() -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records().iter().take(3) {
        frame::append(&json(record), &mut bytes);
    }
    bytes
}

fn action() -> guard_model::Action {
    let first = ring::all().into_iter().next().unwrap();
    let event = guard_agent::kernel::decode_event(&first.1).unwrap();
    match event.body {
        guard_agent::kernel::KernelBody::Held { action, .. } => *action,
        other => panic!("the first seed is a held action, not {other:?}"),
    }
}

fn hold_request() -> HoldRequest {
    HoldRequest {
        hold_id: HoldId(Uuid::from_u128(4)),
        host: HOST,
        boot: BOOT,
        session: SessionInfo {
            id: SessionId(Uuid::from_u128(3)),
            name: "bot".into(),
            principal: "dev".into(),
            uid: 1000,
            started_unix_ms: NOW_UNIX_MS,
            root_pid: 1,
            command: vec!["claude".into()],
        },
        process: ProcessContext::default(),
        action: action(),
        digest: ActionDigest([4; 32]),
        statements: vec![],
        terms: guard_model::DecisionTerms {
            approver_groups: vec!["approvers".into()],
            quorum: 1,
            ttl_ms: 60_000,
            scope: "once".into(),
            stepup: None,
        },
        recent: vec![],
        held_at_unix_ms: NOW_UNIX_MS,
        deadline_unix_ms: NOW_UNIX_MS,
    }
}

fn records() -> Vec<Record> {
    let coverage = Coverage {
        action: "open".into(),
        hook: "file_open".into(),
        state: CoverageState::Absent,
        reason: "refused".into(),
    };
    let hold_id = HoldId(Uuid::from_u128(4));
    let events = [
        lost(9),
        Event::Started {
            component: "guard-agent".into(),
            version: "0.1.0".into(),
            kernel: "7.3".into(),
            coverage: vec![coverage],
        },
        Event::Withdrawn { hold_id, why: Withdrawal::Expired },
        Event::PersonDecided {
            hold_id,
            digest: ActionDigest([4; 32]),
            verdict: Verdict::Allow,
            decided_by: "ann".into(),
            reason: "needed | \"now\"".into(),
        },
        Event::Outcome {
            hold_id: Some(hold_id),
            pid: 5,
            tid: 6,
            action: "open".into(),
            verdict: Verdict::Deny,
            reason: "expired".into(),
        },
        Event::Held { request: Box::new(hold_request()) },
    ];
    (1..).zip(events).map(|(sequence, event)| record(sequence, event)).collect()
}

fn messages() -> Vec<Vec<u8>> {
    let hold_id = Uuid::from_u128(4).to_string();
    let boot_id = BOOT.to_string();
    let record_json = json(&records()[0]);
    let evidence = v1::EvidenceRecord { sequence: 1, boot_id: boot_id.clone(), record_json };
    let request_json = String::from_utf8(json(&hold_request())).unwrap();
    let from_host = [
        from_host::Message::HoldRequested(v1::HoldRequested {
            hold_id: hold_id.clone(),
            request_json,
        }),
        from_host::Message::HoldWithdrawn(v1::HoldWithdrawn {
            hold_id: hold_id.clone(),
            why: "expired".into(),
        }),
        from_host::Message::HoldFinished(v1::HoldFinished {
            hold_id: hold_id.clone(),
            consumed: true,
        }),
        from_host::Message::Evidence(v1::EvidenceBatch {
            boot_id: boot_id.clone(),
            records: vec![evidence],
        }),
        from_host::Message::Heartbeat(v1::Heartbeat {
            boottime_ns: 1,
            pending_holds: 2,
            sessions: 3,
        }),
        from_host::Message::Hello(v1::Hello { boot_id: boot_id.clone(), ..v1::Hello::default() }),
    ];
    let (payload, signature) = (vec![1, 2], vec![3; 64]);
    let from_controller = [
        from_controller::Message::Decision(v1::SignedDecision { payload, signature }),
        from_controller::Message::EvidenceAck(v1::EvidenceAck { boot_id, sequence: 9 }),
        from_controller::Message::HoldAck(v1::HoldAck { hold_id }),
    ];
    let up = from_host.map(|message| (0, v1::FromHost { message: Some(message) }.encode_to_vec()));
    let down = from_controller
        .map(|message| (1, v1::FromController { message: Some(message) }.encode_to_vec()));
    up.into_iter().chain(down).map(|(who, bytes)| [vec![who], bytes].concat()).collect()
}

fn decisions() -> Vec<Vec<u8>> {
    let decision = |verdict| Decision {
        host: HOST,
        boot: BOOT,
        hold_id: HoldId(Uuid::from_u128(4)),
        digest: ActionDigest([4; 32]),
        verdict,
        decided_by: "ann".into(),
        reason: "needed".into(),
        decided_at_unix_ms: NOW_UNIX_MS,
    };
    let payload = |verdict| guard_proto::decision::sign(&key(), &decision(verdict)).payload;
    [Verdict::Allow, Verdict::Deny].map(payload).to_vec()
}

fn proofs() -> Vec<Vec<u8>> {
    let checkpoint = checkpoint(&LOG.files).unwrap();
    let proof = Proof::of_entry(&LOG.files, 257).unwrap();
    vec![checkpoint.text().as_bytes().to_vec(), proof.to_text().into_bytes()]
}

/// One changed byte in each of the log's files, and each of them emptied.
fn damages() -> Vec<Vec<u8>> {
    let files = u8::try_from(LOG.files.names().len()).unwrap();
    (0..files).flat_map(|which| [vec![which, 1, 40, 0, 1], vec![which, 0]]).collect()
}

fn policies() -> Vec<Vec<u8>> {
    let texts = [
        "permit (principal, action, resource);",
        "@hold(\"approvers\") @reason(\"a secret\") @ttl(\"10m\")\nforbid (principal, action == \
         Guard::Action::\"open\", resource in Guard::Directory::\"/home/dev/.ssh\")\nunless { \
         context.approved };",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
