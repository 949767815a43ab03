//! A controller and real witnesses: k of n, one away, one that was shown another log.

use super::*;
use crate::{Config, Controller, Running};
use guard_audit::{
    Event,
    log::{LogKey, VerifierKey, verify},
};
use guard_policy::Policy;
use guard_witness::State;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};

struct Serving {
    spec: WitnessSpec,
    key: CosignerKey,
    task: JoinHandle<()>,
}

/// A witness on loopback for the log of `key`.
async fn witness(dir: &Path, name: &str, key: &VerifierKey) -> Serving {
    let state = dir.join(name);
    if !state.exists() {
        State::create(&state, name).unwrap();
    }
    let (state, own) = State::open(&state).unwrap();
    let public = own.public().clone();
    let witness = Arc::new(guard_witness::Witness::new(state, own, vec![key.clone()]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        guard_witness::serve(listener, witness).await;
    });
    let spec = WitnessSpec { url, key: public.as_str().into(), ca_file: None };
    Serving { spec, key: public, task }
}

async fn start(dir: &Path, quorum: usize, witnesses: &[&Serving]) -> Running {
    let mut config = Config::new(dir.join("state"), Arc::new(Policy::default_policy()));
    config.ui_addr = ([127, 0, 0, 1], 0).into();
    config.rpc_addr = ([127, 0, 0, 1], 0).into();
    let witnesses = witnesses.iter().map(|witness| witness.spec.clone()).collect();
    config.witnesses = WitnessesFile { quorum, witnesses };
    Controller::start(config).await.unwrap()
}

/// Waits until the state is as wanted; the worker asks every few seconds.
async fn until(running: &Running, wanted: impl Fn(&WitnessHealth) -> bool) -> WitnessHealth {
    for _ in 0..200 {
        let health = running.controller.log_health().await.unwrap().witnessed;
        if wanted(&health) {
            return health;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{:?}", running.controller.log_health().await.unwrap().witnessed);
}

async fn key_of(dir: &TempDir) -> VerifierKey {
    let running = start(dir.path(), 0, &[]).await;
    let key = running.controller.log_key().unwrap();
    running.shutdown().await;
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_counts_with_one_witness_away_and_one_that_saw_another_log() {
    let dir = tempfile::tempdir().unwrap();
    let key = key_of(&dir).await;
    let good = witness(dir.path(), "w.test/good", &key).await;
    let away = witness(dir.path(), "w.test/away", &key).await;
    away.task.abort();
    // It knows a log of our name with another key, not ours.
    let other = LogKey::generate(key.name()).unwrap();
    let stranger = witness(dir.path(), "w.test/stranger", other.verifier()).await;
    let running = start(dir.path(), 1, &[&good, &away, &stranger]).await;
    let health = until(&running, |health| health.size > 0).await;
    assert_eq!(health.witnesses[0].failing, None);
    assert!(health.witnesses[1].failing.as_ref().unwrap().contains("connect"), "{health:?}");
    assert!(health.witnesses[2].failing.as_ref().unwrap().contains("log's key"), "{health:?}");
    let before = health.size;
    let lost = Event::Lost { counter: "x".into(), count: 1 };
    running.controller.audit(lost).await.unwrap();
    until(&running, |health| health.size > before).await;
    let log = Dir::new(running.controller.log_dir());
    running.shutdown().await;
    let report = verify(&log, &[key], &[good.key, away.key]);
    assert_eq!(report.problems.lines, [""; 0]);
    assert_eq!(report.witnesses.keys().collect::<Vec<_>>(), ["w.test/good"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_counts_as_witnessed_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let key = key_of(&dir).await;
    let good = witness(dir.path(), "w.test/good", &key).await;
    let away = witness(dir.path(), "w.test/away", &key).await;
    away.task.abort();
    let running = start(dir.path(), 2, &[&good, &away]).await;
    let health = until(&running, |health| health.witnesses[0].size > 0).await;
    assert_eq!(health.size, 0);
    let log = Dir::new(running.controller.log_dir());
    assert_eq!(cosigned(&log).unwrap(), None);
    let lost = Event::Lost { counter: "x".into(), count: 1 };
    running.controller.audit(lost).await.unwrap();
    running.controller.flush_evidence().await.unwrap();
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_set_back_and_went_on_otherwise_is_not_cosigned() {
    let dir = tempfile::tempdir().unwrap();
    let key = key_of(&dir).await;
    let state = dir.path().join("state");
    let old = dir.path().join("old");
    copy(&state, &old);
    // What the copy has is no fork: the witness must have seen more.
    let common = checkpoint(&Dir::new(old.join("log"))).unwrap().head.size;
    let good = witness(dir.path(), "w.test/good", &key).await;
    let running = start(dir.path(), 1, &[&good]).await;
    let health = until(&running, |health| health.size > common).await;
    running.shutdown().await;
    // The whole state as it was before: the log forks, with a good signature.
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::rename(&old, &state).unwrap();
    let running = start(dir.path(), 1, &[&good]).await;
    while running.controller.index().size() <= health.size {
        let lost = Event::Lost { counter: "fork".into(), count: 1 };
        running.controller.audit(lost).await.unwrap();
        running.controller.flush_evidence().await.unwrap();
    }
    let failing = |health: &WitnessHealth| health.witnesses[0].failing.clone();
    let health =
        until(&running, |health| failing(health).is_some_and(|why| why.contains("NOT CONTINUE")))
            .await;
    assert_eq!(health.size, 0);
    running.shutdown().await;
}

fn copy(from: &Path, to: &PathBuf) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

#[test]
fn what_cannot_work_is_refused_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("witnesses.json");
    let key = guard_audit::log::Cosigner::generate("w.test/1").unwrap();
    let one = format!(r#"{{"url": "http://w.test/", "key": "{}"}}"#, key.public().as_str());
    for (text, words) in [
        ("[]".to_owned(), "not a list"),
        (r#"{"quorum": 1, "witnesses": []}"#.into(), "expected 1 to"),
        (format!(r#"{{"quorum": 2, "witnesses": [{one}]}}"#), "expected 1 to"),
        (format!(r#"{{"quorum": 0, "witnesses": [{one}]}}"#), "expected 1 to"),
        (format!(r#"{{"quorum": 1, "witnesses": [{one}, {one}]}}"#), "two witnesses"),
        (r#"{"quorum": 1, "witnesses": [{"url": "http://w/", "key": "x"}]}"#.into(), "NAME+ID+KEY"),
    ] {
        std::fs::write(&path, &text).unwrap();
        let error = WitnessesFile::load(&path).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    std::fs::write(&path, format!(r#"{{"quorum": 1, "witnesses": [{one}]}}"#)).unwrap();
    let mut file = WitnessesFile::load(&path).unwrap();
    file.witnesses[0].url = "ftp://w.test".into();
    let error = prepare(dir.path(), &file).err().unwrap();
    assert!(chain_of(&error).contains("https://"), "{}", chain_of(&error));
}
