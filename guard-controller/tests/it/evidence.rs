//! Evidence: in order, without gaps, once, durable before it is acknowledged.

use crate::support::{Agent, actor, boot, events, start};
use guard_audit::{Event, Record, log};
use guard_controller::{EvidenceFilter, Role, Running, evidence};
use guard_model::{HoldState, SessionId, Verdict};
use guard_proto::v1::{EvidenceBatch, EvidenceRecord, from_host::Message};
use std::collections::BTreeMap;

fn lost(agent: &Agent, sequence: u64) -> Record {
    agent.record(sequence, Event::Lost { counter: "events_lost".into(), count: sequence })
}

fn of_session(agent: &Agent, id: SessionId, sequence: u64, event: Event) -> Record {
    Record { session: Some(id), ..agent.record(sequence, event) }
}

async fn stored(running: &Running, agent: &Agent) -> Vec<u64> {
    let filter = EvidenceFilter { host: Some(agent.enrolled.host), ..EvidenceFilter::default() };
    let stored = running.controller.evidence(&filter).await.unwrap();
    stored.iter().map(|stored| stored.record.sequence).collect()
}

#[tokio::test]
async fn a_batch_sent_twice_is_stored_once_and_a_gap_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut agent = Agent::linked(&running).await;
    let records: Vec<_> = (1..=5).map(|sequence| lost(&agent, sequence)).collect();
    agent.evidence(&records[..3]).await;
    assert_eq!(agent.evidence_ack().await, 3);
    agent.evidence(&records[1..4]).await;
    assert_eq!(agent.evidence_ack().await, 4);
    agent.evidence(&[lost(&agent, 6)]).await;
    assert_eq!(agent.evidence_ack().await, 4);
    assert!(agent.refused().await.contains("send from 5"));
    agent.evidence(&records[4..]).await;
    assert_eq!(agent.evidence_ack().await, 5);
    assert_eq!(stored(&running, &agent).await, [1, 2, 3, 4, 5]);
    running.shutdown().await;
}

#[tokio::test]
async fn a_record_that_differs_from_the_stored_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut agent = Agent::linked(&running).await;
    let first = lost(&agent, 1);
    agent.evidence(std::slice::from_ref(&first)).await;
    assert_eq!(agent.evidence_ack().await, 1);
    let changed = Record { unix_ms: 1, ..first.clone() };
    agent.evidence(&[changed, lost(&agent, 2)]).await;
    assert_eq!(agent.evidence_ack().await, 1);
    assert!(agent.refused().await.contains("other content"));
    let refusals = |event: &Event| matches!(event, Event::HostRefused { .. });
    assert!(events(&running.controller).await.iter().any(refusals));
    running.shutdown().await;
}

#[tokio::test]
async fn evidence_about_another_host_or_that_is_no_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut agent = Agent::linked(&running).await;
    let other = Agent::linked(&running).await;
    let foreign = Record { host: other.enrolled.host, ..lost(&agent, 1) };
    agent.evidence(&[foreign]).await;
    assert_eq!(agent.evidence_ack().await, 0);
    assert!(agent.refused().await.contains("about host"));
    let boot_id = agent.boot.to_string();
    for (record_json, word) in [
        (b"{".to_vec(), "not a record"),
        (vec![0xff], "UTF-8"),
        (vec![b' '; evidence::RECORD_BYTES_MAX + 1], "bytes"),
        (serde_json::to_vec(&lost(&agent, 2)).unwrap(), "sequence differs"),
        (serde_json::to_vec(&Record { boot: boot(), ..lost(&agent, 1) }).unwrap(), "boot differs"),
    ] {
        let record = EvidenceRecord { sequence: 1, boot_id: boot_id.clone(), record_json };
        let batch = EvidenceBatch { boot_id: boot_id.clone(), records: vec![record] };
        agent.send(Message::Evidence(batch)).await;
        assert_eq!(agent.evidence_ack().await, 0);
        let refused = agent.refused().await;
        assert!(refused.contains(word), "{refused}");
    }
    assert_eq!(stored(&running, &agent).await, [] as [u64; 0]);
    running.shutdown().await;
}

#[tokio::test]
async fn evidence_of_an_earlier_boot_is_taken_and_acknowledged_apart() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut agent = Agent::linked(&running).await;
    let earlier = boot();
    let old = Record { boot: earlier, ..lost(&agent, 1) };
    agent.evidence(&[old, lost(&agent, 1), lost(&agent, 2)]).await;
    assert_eq!(agent.evidence_ack().await, 1);
    assert_eq!(agent.evidence_ack().await, 2);
    let mut again = Agent::link(running.rpc_addr, &agent.enrolled, agent.boot, &[]).await;
    assert_eq!(again.evidence_ack().await, 2, "a new link hears where to go on");
    running.shutdown().await;
}

#[tokio::test]
async fn the_outcome_in_evidence_settles_an_approval_whose_end_was_not_heard() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let ann = actor(controller, "ann", &[Role::Approver]).await;
    let mut agent = Agent::linked(&running).await;
    let held = agent.request(1, 1);
    agent.held(&held).await;
    controller.decide(held.hold_id, &ann, Verdict::Allow, "x").await.unwrap();
    let mut agent = Agent::link(running.rpc_addr, &agent.enrolled, agent.boot, &[]).await;
    agent.evidence_ack().await;
    let state = async || controller.hold(held.hold_id).await.unwrap().unwrap().state;
    assert_eq!(state().await, HoldState::Approved);
    let outcome = Event::Outcome {
        hold_id: Some(held.hold_id),
        pid: 100,
        tid: 100,
        action: "open".into(),
        verdict: Verdict::Allow,
        reason: "grant".into(),
    };
    agent.evidence(&[agent.record(1, outcome)]).await;
    agent.evidence_ack().await;
    assert_eq!(state().await, HoldState::Consumed);
    running.shutdown().await;
}

#[tokio::test]
async fn sessions_and_counters_are_derived_from_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let mut agent = Agent::linked(&running).await;
    let held = agent.request(1, 1);
    let id = held.session.id;
    let counters = BTreeMap::from([("events_lost".to_owned(), 3)]);
    let batch = [
        of_session(&agent, id, 1, Event::SessionStarted { info: held.session.clone() }),
        of_session(&agent, id, 2, Event::Forked { pid: 100, child_pid: 101, child_tid: 101 }),
        of_session(&agent, id, 3, Event::Executed { pid: 101, exe: "/bin/cat".into() }),
        agent.record(4, Event::Heartbeat { counters: counters.clone(), pending_holds: 0 }),
    ];
    agent.evidence(&batch).await;
    assert_eq!(agent.evidence_ack().await, 4);
    agent.held(&held).await;
    let view = controller.session(id).await.unwrap().unwrap();
    assert_eq!(view.summary.info, held.session);
    assert_eq!((view.summary.pending_holds, view.summary.ended_unix_ms), (1, None));
    let pids: Vec<_> = view.processes.iter().map(|process| process.node.pid).collect();
    assert_eq!(pids, [100, 101]);
    // Three of the host's, and the controller's own record that a hold is pending.
    assert_eq!((view.timeline.len(), view.timeline_cut), (4, false));
    assert_eq!(controller.sessions(true, 10).await.unwrap().len(), 1);
    let host = controller.host(agent.enrolled.host).await.unwrap().unwrap();
    assert_eq!((host.counters, host.pending_holds), (counters, 1));
    let ended = of_session(&agent, id, 5, Event::SessionEnded {});
    agent.evidence(&[ended]).await;
    agent.evidence_ack().await;
    assert_eq!(controller.sessions(true, 10).await.unwrap(), []);
    running.shutdown().await;
}

/// What a stranger with the key finds in the log's files.
fn verified(dir: &std::path::Path, key: &log::VerifierKey) -> log::Report {
    log::verify(&log::Dir::new(dir.join("state/log")), std::slice::from_ref(key), &[])
}

#[tokio::test]
async fn the_log_on_disk_verifies_and_one_changed_byte_of_it_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut agent = Agent::linked(&running).await;
    let records: Vec<_> = (1..=300).map(|sequence| lost(&agent, sequence)).collect();
    agent.evidence(&records).await;
    assert_eq!(agent.evidence_ack().await, 300);
    let key = running.controller.log_key().unwrap();
    let report = verified(dir.path(), &key);
    assert_eq!(report.problems.lines, [""; 0], "while it is written to");
    running.shutdown().await;
    let report = verified(dir.path(), &key);
    assert_eq!(report.problems.lines, [""; 0]);
    assert!(report.size > 300 && report.entries == report.size, "{report:?}");
    assert_eq!(report.hosts[&agent.enrolled.host].lost["events_lost"], 300 * 301 / 2);
    let path = dir.path().join("state/log/payload/000");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(!verified(dir.path(), &key).is_sound());
}

#[tokio::test]
async fn an_erased_payload_is_gone_and_a_new_key_is_believed_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let first = controller.log_key().unwrap();
    let mut agent = Agent::linked(&running).await;
    let secret = agent.record(1, Event::Lost { counter: "a-secret".into(), count: 1 });
    let second_record = lost(&agent, 2);
    agent.evidence(&[secret.clone(), second_record.clone()]).await;
    agent.evidence_ack().await;
    let all = controller.evidence(&EvidenceFilter::default()).await.unwrap();
    let at = all.iter().find(|stored| stored.record == secret).unwrap().position - 1;
    let (old, second) = controller.rotate_log_key("ann").await.unwrap();
    assert_eq!(first.as_str(), old.as_str());
    assert_ne!(first.as_str(), second.as_str());
    controller.erase_evidence(at, " ", "ann").await.unwrap_err();
    controller.erase_evidence(1 << 40, "asked for", "ann").await.unwrap_err();
    controller.erase_evidence(at, "asked for", "ann").await.unwrap();
    let again = controller.erase_evidence(at, "asked for", "ann").await.unwrap_err();
    assert!(again.to_string().contains("already"), "{again}");
    assert_eq!(stored(&running, &agent).await, [2]);
    // Sent again, it is what was logged, as far as anybody can still tell.
    agent.evidence(&[secret, second_record, lost(&agent, 3)]).await;
    assert_eq!(agent.evidence_ack().await, 3);
    running.shutdown().await;
    let running = start(dir.path()).await;
    assert_eq!(running.controller.log_key().unwrap(), second);
    running.shutdown().await;
    for key in [&first, &second] {
        let report = verified(dir.path(), key);
        assert_eq!((report.problems.lines, report.erased), (Vec::new(), 1));
    }
    for file in std::fs::read_dir(dir.path().join("state/log/payload")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"a-secret"));
    }
}

#[tokio::test]
async fn what_an_earlier_version_stored_is_moved_into_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let agent = Agent::linked(&running).await;
    running.shutdown().await;
    let path = dir.path().join("state/controller.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    for sequence in 1..=600 {
        sqlx::query(
            "INSERT INTO evidence_before_log (host, boot, sequence, unix_ms, event, record_json) \
             VALUES (?, ?, ?, 0, 'lost', ?)",
        )
        .bind(agent.enrolled.host.to_string())
        .bind(agent.boot.to_string())
        .bind(sequence)
        .bind(serde_json::to_string(&lost(&agent, sequence.try_into().unwrap())).unwrap())
        .execute(&pool)
        .await
        .unwrap();
    }
    pool.close().await;
    for _ in 0..2 {
        let running = start(dir.path()).await;
        let last = running.controller.last_evidence(agent.enrolled.host, agent.boot).await;
        assert_eq!(last.unwrap(), 600);
        assert!(verified(dir.path(), &running.controller.log_key().unwrap()).is_sound());
        running.shutdown().await;
    }
}

#[tokio::test]
async fn a_record_of_its_own_that_the_log_would_not_take_is_counted_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let reason = "x".repeat(evidence::RECORD_BYTES_MAX);
    running.controller.audit(Event::Stopped { component: "x".into(), reason }).await.unwrap();
    let lost = Event::Lost { counter: "record_too_large".into(), count: 1 };
    assert_eq!(events(&running.controller).await.last(), Some(&lost));
    running.shutdown().await;
}

#[tokio::test]
async fn what_only_the_controller_can_know_is_not_taken_from_a_host() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut agent = Agent::linked(&running).await;
    let key = Event::LogKeyRotated { old: "x".into(), new: "y".into(), by: "z".into() };
    agent.evidence(&[agent.record(1, key)]).await;
    assert_eq!(agent.evidence_ack().await, 0);
    assert!(agent.refused().await.contains("controller's to say"));
    running.shutdown().await;
}

#[tokio::test]
async fn the_controllers_own_records_have_no_gap_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let running = start(dir.path()).await;
        Agent::linked(&running).await;
        running.shutdown().await;
    }
    let running = start(dir.path()).await;
    let all = running.controller.evidence(&EvidenceFilter::default()).await.unwrap();
    let mut next = BTreeMap::new();
    for stored in &all {
        let expected = next.entry((stored.record.host, stored.record.boot)).or_insert(1);
        assert_eq!(stored.record.sequence, *expected);
        *expected += 1;
    }
    assert_eq!(next.len(), 4, "one chain per run");
    let count = |wanted: fn(&Event) -> bool| {
        all.iter().filter(|stored| wanted(&stored.record.event)).count()
    };
    assert_eq!(count(|event| matches!(event, Event::Started { .. })), 4);
    assert_eq!(count(|event| matches!(event, Event::Stopped { .. })), 3);
    running.shutdown().await;
}

/// The words with which a controller refuses to start.
async fn refusal(dir: &std::path::Path) -> String {
    match guard_controller::Controller::start(crate::support::config(dir)).await {
        Ok(_) => panic!("it started"),
        Err(error) => chain(&error),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", chain(cause)))
}

#[tokio::test]
async fn a_log_whose_key_is_missing_or_anothers_is_refused_and_no_key_is_made_up() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let key = running.controller.log_key().unwrap();
    running.shutdown().await;
    let (path, kept) = (dir.path().join("state/log.key"), dir.path().join("kept"));
    std::fs::rename(&path, &kept).unwrap();
    let said = refusal(dir.path()).await;
    assert!(said.contains("log.key is missing") && said.contains("backup"), "{said}");
    assert!(!path.exists(), "a key was made up");
    let other = log::LogKey::generate(key.name()).unwrap();
    std::fs::write(&path, other.to_secret_text().as_bytes()).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, private).unwrap();
    let said = refusal(dir.path()).await;
    assert!(said.contains("the head"), "{said}");
    std::fs::rename(&kept, &path).unwrap();
    let running = start(dir.path()).await;
    assert_eq!(running.controller.log_key().unwrap().as_str(), key.as_str());
    running.shutdown().await;
}

#[tokio::test]
async fn a_host_that_reorders_within_a_batch_has_the_rest_refused_and_nothing_of_it_logged() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let mut agent = Agent::linked(&running).await;
    let [one, two, three] = [1, 2, 3].map(|sequence| lost(&agent, sequence));
    agent.evidence(&[two.clone(), one.clone()]).await;
    assert_eq!(agent.evidence_ack().await, 0);
    agent.refused().await;
    agent.evidence(&[one.clone(), three.clone(), two.clone()]).await;
    assert_eq!(agent.evidence_ack().await, 1);
    assert!(agent.refused().await.contains("send from 2"));
    // The same twice in one batch is one record; another one of that number is refused.
    let changed = Record { unix_ms: 1, ..two.clone() };
    agent.evidence(&[two.clone(), two, changed, three]).await;
    assert_eq!(agent.evidence_ack().await, 2);
    assert!(agent.refused().await.contains("other content"));
    assert_eq!(stored(&running, &agent).await, [1, 2]);
    running.shutdown().await;
}

#[tokio::test]
async fn an_erased_holds_row_is_gone_and_one_under_way_is_not_erased() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let ann = actor(controller, "ann", &[Role::Approver]).await;
    let mut agent = Agent::linked(&running).await;
    let mut held = agent.request(1, 1);
    held.session.command = vec!["a-secret-argument".into()];
    agent.held(&held).await;
    let event = Event::Held { request: Box::new(held.clone()) };
    let record = of_session(&agent, held.session.id, 1, event);
    agent.evidence(std::slice::from_ref(&record)).await;
    agent.evidence_ack().await;
    let all = controller.evidence(&EvidenceFilter::default()).await.unwrap();
    let at = all.iter().find(|stored| stored.record == record).unwrap().position - 1;
    let refused = async || {
        let refused = controller.erase_evidence(at, "asked for", "ann").await.unwrap_err();
        assert!(refused.to_string().contains("under way"), "{refused}");
    };
    refused().await;
    controller.decide(held.hold_id, &ann, Verdict::Allow, "x").await.unwrap();
    // The host may still ask again: it has not said that it is through.
    refused().await;
    controller.hold_finished(agent.enrolled.host, held.hold_id, true).await.unwrap();
    controller.erase_evidence(at, "asked for", "ann").await.unwrap();
    assert_eq!(controller.hold(held.hold_id).await.unwrap(), None);
    let session = controller.session(held.session.id).await.unwrap().unwrap();
    assert_eq!(session.summary.info.command, []);
    assert_eq!(session.summary.info.name, held.session.name);
    // Once the host links anew it has nothing to ask, and the request stays gone.
    drop(agent);
    running.shutdown().await;
    let running = start(dir.path()).await;
    assert_eq!(running.controller.hold(held.hold_id).await.unwrap(), None);
    running.shutdown().await;
    for file in std::fs::read_dir(dir.path().join("state")).unwrap() {
        let path = file.unwrap().path();
        let bytes = if path.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        let found = bytes.windows(17).any(|window| window == b"a-secret-argument");
        assert!(!found, "{}", path.display());
    }
}

#[tokio::test]
async fn a_database_from_a_backup_adopts_the_log_and_one_that_is_ahead_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let (state, copy) = (dir.path().join("state"), dir.path().join("copy"));
    let running = start(dir.path()).await;
    let mut agent = Agent::linked(&running).await;
    agent.evidence(&[lost(&agent, 1)]).await;
    agent.evidence_ack().await;
    running.shutdown().await;
    let cp = |from: &str, to: &std::path::Path| {
        let from = state.join(from);
        let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(done.unwrap().success());
    };
    std::fs::create_dir(&copy).unwrap();
    cp("controller.db", &copy);
    cp("log", &copy);
    let running = start(dir.path()).await;
    let mut agent = Agent::link(running.rpc_addr, &agent.enrolled, agent.boot, &[]).await;
    assert_eq!(agent.evidence_ack().await, 1);
    let more: Vec<_> = (2..=300).map(|sequence| lost(&agent, sequence)).collect();
    agent.evidence(&more).await;
    agent.evidence_ack().await;
    running.controller.erase_evidence(100, "asked for", "ann").await.unwrap();
    running.shutdown().await;
    // The files as they were and the database as it is: nothing that was acknowledged is dropped.
    let newest = dir.path().join("newest");
    std::fs::rename(state.join("log"), &newest).unwrap();
    std::fs::rename(copy.join("log"), state.join("log")).unwrap();
    let refused = evidence::adopt(&state).await.unwrap_err().to_string();
    assert!(refused.contains("has committed"), "{refused}");
    std::fs::remove_dir_all(state.join("log")).unwrap();
    std::fs::rename(&newest, state.join("log")).unwrap();
    // The database as it was and the files as they are.
    std::fs::rename(copy.join("controller.db"), state.join("controller.db")).unwrap();
    let report = evidence::adopt(&state).await.unwrap();
    assert!(report.is_sound() && report.erased == 1, "{report:?}");
    let running = start(dir.path()).await;
    let mut agent = Agent::link(running.rpc_addr, &agent.enrolled, agent.boot, &[]).await;
    assert_eq!(agent.evidence_ack().await, 300);
    agent.evidence(&[lost(&agent, 301)]).await;
    assert_eq!(agent.evidence_ack().await, 301);
    let key = running.controller.log_key().unwrap();
    running.shutdown().await;
    assert_eq!(verified(dir.path(), &key).problems.lines, [""; 0]);
    // A damaged log is not adopted.
    let path = state.join("log/payload/000");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let damaged = evidence::adopt(&state).await.unwrap_err();
    assert!(matches!(damaged, evidence::AdoptError::Damaged(_)), "{damaged}");
}
