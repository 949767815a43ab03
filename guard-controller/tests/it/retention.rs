//! Retention and legal holds: what is held is never erased, whatever the order; what is not old
//! enough is never erased; every erasure is evidence; a crash anywhere is finished.

use crate::support::{Agent, config, now_unix_ms, start};
use guard_audit::{
    Event, HoldScope, LogReader as _, Record,
    log::{Dir, DirReader, verify},
    retention::Rules,
};
use guard_controller::{Controller, LegalHoldError, Round, Running};
use guard_model::{BootId, SessionId};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};
use uuid::Uuid;

const DAY_MS: u64 = 24 * 3600 * 1000;

async fn start_with(dir: &Path, rules: &[&str]) -> Running {
    let mut config = config(dir);
    config.retention = Rules::new(rules.iter().map(|rule| rule.parse().unwrap()));
    Controller::start(config).await.unwrap()
}

/// A host has lost so much of `a-secret`, in a session or outside of any.
fn lost(agent: &Agent, sequence: u64, session: Option<u64>) -> Record {
    let event = Event::Lost { counter: "a-secret".into(), count: sequence };
    let id = |n| SessionId::derive(agent.enrolled.host, agent.boot, n);
    Record { session: session.map(id), ..agent.record(sequence, event) }
}

fn all(controller: &Controller) -> Vec<(u64, String, Option<Record>)> {
    let dir = Dir::new(controller.log_dir());
    let size = guard_audit::log::checkpoint(&dir).unwrap().head.size;
    let reader = DirReader::new(Arc::new(dir), Arc::new(AtomicU64::new(size)));
    let mut found = Vec::new();
    while (found.len() as u64) < size {
        for raw in reader.read_raw(found.len() as u64, 1000).unwrap() {
            let class = raw.envelope.class.clone();
            let entry = raw.into_entry().unwrap();
            found.push((entry.index, class, entry.record));
        }
    }
    assert_eq!(reader.size(), size);
    found
}

/// Positions of a class whose payload is there.
fn there(controller: &Controller, class: &str) -> BTreeSet<u64> {
    let found =
        all(controller).into_iter().filter(|(_, of, record)| of == class && record.is_some());
    found.map(|(index, _, _)| index).collect()
}

async fn rounds(controller: &Controller, now: u64) -> Round {
    let mut sum = Round::default();
    loop {
        let round = controller.expire_evidence(now).await.unwrap();
        sum.erased += round.erased;
        sum.kept += round.kept;
        if !round.more {
            return sum;
        }
    }
}

fn sound(dir: &Path, controller: &Controller) -> u64 {
    let log = Dir::new(dir.join("state/log"));
    let report = verify(&log, &[controller.log_key().unwrap()], &[]);
    assert_eq!(report.problems.lines, [""; 0]);
    report.erased
}

#[tokio::test]
async fn what_is_older_than_its_rule_is_erased_with_evidence_and_nothing_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_with(dir.path(), &["lost=30"]).await;
    let controller = &running.controller;
    let mut agent = Agent::linked(&running).await;
    let records: Vec<_> = (1..=300).map(|n| lost(&agent, n, None)).collect();
    agent.evidence(&records).await;
    agent.evidence_ack().await;
    let logged = there(controller, "lost");
    let young = rounds(controller, now_unix_ms() + 29 * DAY_MS).await;
    assert_eq!((young, there(controller, "lost")), (Round::default(), logged.clone()));
    let others = all(controller).len() - 300;
    let old = rounds(controller, now_unix_ms() + 31 * DAY_MS).await;
    assert_eq!((old.erased, old.kept), (300, 0));
    let after = all(controller);
    assert_eq!(after.iter().filter(|(_, _, record)| record.is_none()).count(), 300);
    assert!(after.len() > others, "{others}");
    let Some(Event::PayloadsExpired { of, days, count, entries, .. }) =
        after.iter().rev().find_map(|(_, _, record)| match record.as_ref().map(|r| &r.event) {
            Some(event @ Event::PayloadsExpired { .. }) => Some(event.clone()),
            _ => None,
        })
    else {
        panic!("no evidence of it")
    };
    assert_eq!((&*of, days, count), ("lost", 30, 300));
    assert_eq!(entries.iter().map(|(_, count)| count).sum::<u64>(), 300);
    assert_eq!(rounds(controller, now_unix_ms() + 31 * DAY_MS).await, Round::default());
    assert_eq!(sound(dir.path(), controller), 300);
    // Nothing of it is left in any file, the database included.
    running.shutdown().await;
    for name in ["state/controller.db", "state/log/payload/000"] {
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"a-secret"), "{name}");
    }
    // Sent again, it is what was logged, as far as anybody can still tell.
    let running = start(dir.path()).await;
    assert_eq!(
        running.controller.last_evidence(agent.enrolled.host, agent.boot).await.unwrap(),
        300
    );
    running.shutdown().await;
}

#[tokio::test]
async fn without_a_rule_nothing_is_erased_however_old() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let before = all(&running.controller);
    assert_eq!(rounds(&running.controller, u64::MAX).await, Round::default());
    assert_eq!(all(&running.controller), before);
    running.shutdown().await;
}

#[tokio::test]
async fn what_a_legal_hold_keeps_is_never_erased_whatever_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_with(dir.path(), &["lost=1"]).await;
    let controller = &running.controller;
    let mut agent = Agent::linked(&running).await;
    let far = now_unix_ms() + 100 * DAY_MS;
    // Of a session, set before its records come.
    let session = Some(SessionId::derive(agent.enrolled.host, agent.boot, 7));
    let of_session = HoldScope { session, ..HoldScope::default() };
    let first = controller.set_legal_hold(of_session, "matter 1", "ann").await.unwrap();
    let mut records = Vec::new();
    for n in 1..=20 {
        records.push(lost(&agent, n, (n % 2 == 0).then_some(7)));
    }
    agent.evidence(&records).await;
    agent.evidence_ack().await;
    let logged = there(controller, "lost");
    let round = rounds(controller, far).await;
    assert_eq!((round.erased, round.kept), (10, 10));
    let kept = there(controller, "lost");
    assert_eq!(kept.len(), 10);
    // Nobody erases it by hand either.
    let held = *kept.first().unwrap();
    let refused = controller.erase_evidence(held, "asked for", "ann").await.unwrap_err();
    assert!(refused.to_string().contains(&first.id.to_string()), "{refused}");
    // A second hold on the same: lifting one of them is not enough, over a restart.
    let class = Some("lost".to_owned());
    let of_class = HoldScope { class, ..HoldScope::default() };
    let second = controller.set_legal_hold(of_class, "matter 2", "bob").await.unwrap();
    controller.lift_legal_hold(first.id, "settled", "ann").await.unwrap();
    assert_eq!(rounds(controller, far).await.erased, 0);
    running.shutdown().await;
    let running = start_with(dir.path(), &["lost=1"]).await;
    let controller = &running.controller;
    let round = rounds(controller, far).await;
    assert_eq!((round.erased, round.kept), (0, 10));
    assert_eq!(there(controller, "lost"), kept);
    let again = controller.lift_legal_hold(first.id, "settled", "ann").await.unwrap_err();
    assert!(matches!(again, LegalHoldError::NotFound(_)), "{again}");
    controller.lift_legal_hold(second.id, "settled", "bob").await.unwrap();
    assert_eq!(rounds(controller, far).await.erased, 10);
    assert_eq!(there(controller, "lost").intersection(&logged).count(), 0);
    assert_eq!(sound(dir.path(), controller), 20);
    running.shutdown().await;
}

#[tokio::test]
async fn a_legal_hold_and_its_lifting_are_evidence_that_nothing_erases() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_with(dir.path(), &["all=1"]).await;
    let controller = &running.controller;
    let everything = HoldScope::default();
    let hold = controller.set_legal_hold(everything, "matter", "ann").await.unwrap();
    let far = now_unix_ms() + 100 * DAY_MS;
    assert_eq!(rounds(controller, far).await.erased, 0);
    controller.lift_legal_hold(hold.id, "settled", "bob").await.unwrap();
    assert!(rounds(controller, far).await.erased > 0);
    for (class, who, why) in
        [("legal_hold_set", "ann", "matter"), ("legal_hold_lifted", "bob", "settled")]
    {
        let found = all(controller).into_iter().find(|(_, of, _)| of == class).unwrap();
        let said = serde_json::to_value(found.2.unwrap()).unwrap();
        assert_eq!((&said["by"], &said["reason"]), (&who.into(), &why.into()), "{class}");
        let refused = controller.erase_evidence(found.0, "x", "ann").await.unwrap_err();
        assert!(refused.to_string().contains("verification needs it"), "{refused}");
    }
    sound(dir.path(), controller);
    running.shutdown().await;
}

#[tokio::test]
async fn a_legal_hold_that_could_keep_nothing_is_refused_and_so_is_one_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let typo = HoldScope { class: Some("losst".into()), ..HoldScope::default() };
    let never = HoldScope { from_unix_ms: Some(2), to_unix_ms: Some(2), ..HoldScope::default() };
    for scope in [typo, never] {
        let refused = controller.set_legal_hold(scope, "x", "ann").await.unwrap_err();
        assert!(refused.to_string().contains("nothing would be kept"), "{refused}");
    }
    let refused = controller.set_legal_hold(HoldScope::default(), " ", "ann").await.unwrap_err();
    assert!(refused.to_string().contains("a reason"), "{refused}");
    let limit = guard_controller::service::LEGAL_HOLDS_MAX;
    for _ in 0..limit {
        controller.set_legal_hold(HoldScope::default(), "x", "ann").await.unwrap();
    }
    let refused = controller.set_legal_hold(HoldScope::default(), "x", "ann").await.unwrap_err();
    assert!(refused.to_string().contains(&limit.to_string()), "{refused}");
    running.shutdown().await;
}

#[tokio::test]
async fn an_erasure_that_a_crash_has_interrupted_is_finished_by_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut agent = Agent::linked(&running).await;
    agent.evidence(&(1..=4).map(|n| lost(&agent, n, None)).collect::<Vec<_>>()).await;
    agent.evidence_ack().await;
    let logged: Vec<u64> = there(&running.controller, "lost").into_iter().collect();
    let told = |entries: Vec<(u64, u64)>| Event::PayloadsExpired {
        of: "lost".into(),
        days: 1,
        before_unix_ms: u64::MAX,
        count: 2,
        kept: 0,
        entries,
    };
    // Killed when the log had told of it, and nothing was erased yet.
    running.controller.audit(told(vec![(logged[0], 2)])).await.unwrap();
    let own = running.controller.own_id();
    running.shutdown().await;
    // Killed when only the outbox had it.
    let boot = BootId(Uuid::new_v4());
    let record = Record {
        host: own,
        boot,
        sequence: 1,
        boottime_ns: 0,
        unix_ms: now_unix_ms(),
        session: None,
        event: told(vec![(logged[2], 2)]),
    };
    let options =
        sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("state/controller.db"));
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("INSERT INTO outbox (host, boot, sequence, record_json) VALUES (?, ?, 1, ?)")
        .bind(own.to_string())
        .bind(boot.to_string())
        .bind(serde_json::to_string(&record).unwrap())
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    for _ in 0..2 {
        let running = start(dir.path()).await;
        assert!(there(&running.controller, "lost").is_empty());
        assert_eq!(sound(dir.path(), &running.controller), 4);
        running.shutdown().await;
    }
}

#[tokio::test]
async fn a_legal_hold_is_set_only_once_an_erasure_that_failed_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_with(dir.path(), &["lost=1"]).await;
    let controller = &running.controller;
    let mut agent = Agent::linked(&running).await;
    agent.evidence(&(1..=4).map(|n| lost(&agent, n, None)).collect::<Vec<_>>()).await;
    agent.evidence_ack().await;
    // Where the new file of payloads would be written, there is a directory.
    let in_the_way = dir.path().join("state/log/payload/000.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let far = now_unix_ms() + 9 * DAY_MS;
    controller.expire_evidence(far).await.unwrap_err();
    assert_eq!(there(controller, "lost").len(), 4);
    let everything = HoldScope::default;
    controller.set_legal_hold(everything(), "matter", "ann").await.unwrap_err();
    assert!(controller.legal_holds(false).await.unwrap().is_empty());
    std::fs::remove_dir(&in_the_way).unwrap();
    controller.set_legal_hold(everything(), "matter", "ann").await.unwrap();
    assert!(there(controller, "lost").is_empty(), "told of before the hold: gone before it");
    assert_eq!(rounds(controller, far).await.erased, 0);
    assert_eq!(sound(dir.path(), controller), 4);
    running.shutdown().await;
}

#[tokio::test]
async fn rounds_are_bounded_and_go_on_where_they_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_with(dir.path(), &["lost=1"]).await;
    let mut agent = Agent::linked(&running).await;
    let mut sequence = 0;
    for _ in 0..5 {
        let records: Vec<_> = (1..=1000).map(|n| lost(&agent, sequence + n, None)).collect();
        sequence += 1000;
        agent.evidence(&records).await;
        agent.evidence_ack().await;
    }
    let (far, mut erased) = (now_unix_ms() + 2 * DAY_MS, Vec::new());
    loop {
        let round = running.controller.expire_evidence(far).await.unwrap();
        erased.push(round.erased);
        assert!(round.erased <= 2048, "{erased:?}");
        if !round.more {
            break;
        }
    }
    assert_eq!(erased.iter().sum::<u64>(), 5000);
    assert!(erased.len() >= 3, "{erased:?}");
    assert_eq!(sound(dir.path(), &running.controller), 5000);
    running.shutdown().await;
}

#[tokio::test]
async fn a_lost_databases_legal_holds_come_back_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let scope = HoldScope { class: Some("started".into()), ..HoldScope::default() };
    let controller = &running.controller;
    let kept = controller.set_legal_hold(scope, "matter", "ann").await.unwrap();
    let gone = controller.set_legal_hold(HoldScope::default(), "x", "ann").await.unwrap();
    controller.lift_legal_hold(gone.id, "y", "ann").await.unwrap();
    running.shutdown().await;
    for name in ["controller.db", "controller.db-wal", "controller.db-shm"] {
        let _ = std::fs::remove_file(dir.path().join("state").join(name));
    }
    guard_controller::evidence::adopt(&dir.path().join("state")).await.unwrap();
    let running = start_with(dir.path(), &["all=1"]).await;
    let holds = running.controller.legal_holds(true).await.unwrap();
    assert_eq!(holds.iter().map(|hold| hold.id).collect::<Vec<_>>(), [kept.id]);
    let started = there(&running.controller, "started");
    assert!(!started.is_empty());
    assert!(rounds(&running.controller, now_unix_ms() + 9 * DAY_MS).await.erased > 0);
    assert!(there(&running.controller, "started").is_superset(&started));
    running.shutdown().await;
}
