//! What the engine's tests share: holds, judgements, decisions.

mod histories;
mod kernel_model;
mod promises;
mod protocol;

use super::*;
use crate::decide::PolicyAllow;
use guard_common::{
    event::{EVENT_CONSUMED, EVENT_EXPIRED, REASON_EXPIRED, REASON_GRANT, REASON_STALE_GRANT},
    hold::{KIND_OPEN, VERDICT_ALLOW},
};
use guard_model::{
    Action, ActionDigest, Decision, DecisionTerms, FileAccess, FileRef, ProcessContext,
    SessionInfo, Withdrawal,
};
use guard_proto::decision::{DecisionVerifier, sign};
use proptest::prelude::*;
use std::collections::HashSet;
use uuid::Uuid;

const HOST: HostId = HostId(Uuid::from_u128(1));
const BOOT: BootId = BootId(Uuid::from_u128(2));
const SECOND: u64 = 1_000_000_000;
/// The kernel's deadline in these tests.
const TTL: u64 = 600 * SECOND;

fn limits() -> Limits {
    Limits { holds: 8, waiting_per_session: 3, farewells: 4 }
}

fn engine() -> Engine {
    Engine::new(HOST, BOOT, limits())
}

fn key(tid: u32, object: u64) -> Box<ActionKey> {
    let mut words = [0; guard_common::hold::OBJECT_WORDS];
    words[0] = object;
    Box::new(ActionKey {
        start_boottime_ns: u64::from(tid),
        tgid: 100 + tid / 4,
        tid,
        kind: KIND_OPEN,
        access: 1,
        flags: 0,
        object_len: 40,
        object: words,
    })
}

fn announcement(hold: u64, tid: u32, object: u64, now_ns: u64) -> Announcement {
    Announcement { hold, session: 7, key: key(tid, object), deadline_ns: now_ns + TTL }
}

fn digest(hold: u64) -> ActionDigest {
    ActionDigest([u8::try_from(hold % 251).unwrap(); 32])
}

fn action() -> Action {
    let file = FileRef {
        path: "/a".into(),
        path_error: None,
        dev: 1,
        ino: 2,
        generation: 0,
        owner_uid: 0,
        mode: 0o100_644,
    };
    Action::Open { file, access: FileAccess::default() }
}

fn judged(hold: u64) -> Box<Judged> {
    let (process, action) = (ProcessContext::default(), action());
    Box::new(Judged { digest: digest(hold), process, action, statements: vec![] })
}

fn allow(hold: u64) -> Judgement {
    Judgement::Allow(PolicyAllow::for_tests(), judged(hold))
}

fn ask(hold: u64, ttl_ms: u64) -> Judgement {
    Judgement::Person(Box::new(HoldRequest {
        hold_id: HoldId::derive(HOST, BOOT, hold),
        host: HOST,
        boot: BOOT,
        session: SessionInfo {
            id: SessionId::derive(HOST, BOOT, 7),
            name: "bot".into(),
            principal: "dev".into(),
            uid: 1000,
            started_unix_ms: 0,
            root_pid: 1,
            command: vec![],
        },
        process: ProcessContext::default(),
        action: action(),
        digest: digest(hold),
        statements: vec![],
        terms: DecisionTerms {
            approver_groups: vec![],
            quorum: 1,
            ttl_ms,
            scope: "once".into(),
            stepup: None,
        },
        recent: vec![],
        held_at_unix_ms: 0,
        deadline_unix_ms: 0,
    }))
}

fn decision(hold: u64, digest: ActionDigest, verdict: Verdict) -> VerifiedDecision {
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let signed = sign(
        &key,
        &Decision {
            host: HOST,
            boot: BOOT,
            hold_id: HoldId::derive(HOST, BOOT, hold),
            digest,
            verdict,
            decided_by: "ann".into(),
            reason: "because".into(),
            decided_at_unix_ms: 0,
        },
    );
    let verifier = DecisionVerifier::new(key.verifying_key().to_bytes(), HOST, BOOT).unwrap();
    verifier.verify(&signed).unwrap()
}

fn outcome(hold: u64, key: Box<ActionKey>, event: u32, verdict: u32, reason: u32) -> KernelOutcome {
    KernelOutcome { hold, session: 7, event, key, verdict, reason }
}

/// Verdicts of the grants among some commands.
fn grants(commands: &[Command]) -> Vec<(u64, u32)> {
    let grant = |command: &Command| match command {
        Command::Grant { hold, grant, .. } => Some((*hold, grant.verdict)),
        _ => None,
    };
    commands.iter().filter_map(grant).collect()
}

/// The kernel's numbers of the holds whose processes are resumed.
fn resumes(commands: &[Command]) -> Vec<u64> {
    let resume = |command: &Command| match command {
        Command::Resume { hold, .. } => Some(*hold),
        _ => None,
    };
    commands.iter().filter_map(resume).collect()
}

fn farewells(commands: &[Command]) -> Vec<HoldEnd> {
    let end = |command: &Command| match command {
        Command::Farewell(farewell) => Some(farewell.end),
        _ => None,
    };
    commands.iter().filter_map(end).collect()
}

fn refusals(commands: &[Command]) -> usize {
    let refused = |command: &&Command| {
        matches!(command, Command::Evidence { event, .. }
            if matches!(**event, Event::DecisionRefused { .. }))
    };
    commands.iter().filter(refused).count()
}

fn requests(commands: &[Command]) -> usize {
    commands.iter().filter(|command| matches!(command, Command::Request(_))).count()
}

/// An engine with the link up and hold 1 of thread 4 waiting for a person for 60 s.
fn waiting() -> Engine {
    let mut engine = engine();
    engine.link_up();
    assert_eq!(engine.announce(announcement(1, 4, 0, 0)), Announced::Judge);
    engine.judge(0, 1, ask(1, 60_000));
    assert_eq!(requests(&engine.take_commands()), 1);
    engine
}
