//! Sinks against receivers that check the protocol: none may see a gap, whoever dies meanwhile.

use crate::{
    receivers::{Collector, Receiver, SPLUNK_TOKEN, Splunk, SyslogReceiver, own_tls, sequence},
    support::{config, eventually},
};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use guard_audit::Event;
use guard_controller::{Config, Controller, Running, sinks::SinksFile};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

/// A controller whose sinks are as in `json`.
fn with_sinks(dir: &Path, json: &Value) -> Config {
    let path = dir.join("sinks.json");
    fs::write(&path, json.to_string()).unwrap();
    let mut config = config(dir);
    config.sinks = SinksFile::load(&path).unwrap();
    config
}

async fn lose(running: &Running, from: u64, count: u64) {
    for number in from..from + count {
        let event = Event::Lost { counter: format!("ring-{number}"), count: 1 };
        running.controller.audit(event).await.unwrap();
    }
}

/// Waits until the sink has nothing left to deliver.
async fn delivered(running: &Running) {
    eventually("the sink has delivered everything", || async {
        let sinks = running.controller.sinks().await.unwrap();
        sinks[0].lag == 0 && sinks[0].next > 0
    })
    .await;
}

/// Every index from 0 on is there, in order at its first appearance.
fn without_gap(indexes: &[u64]) -> u64 {
    let mut seen = BTreeSet::new();
    for index in indexes {
        if seen.insert(*index) {
            assert_eq!(*index, seen.len() as u64 - 1, "in order, without a gap: {indexes:?}");
        }
    }
    seen.len() as u64
}

#[tokio::test]
async fn a_file_has_every_event_over_restarts_crashes_and_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let (path, rotated) = (dir.path().join("events.ndjson"), dir.path().join("events.1"));
    let sinks = json!({ "sinks": [{ "name": "file", "to": { "kind": "file", "path": path } }] });
    let config = with_sinks(dir.path(), &sinks);
    let running = Controller::start(config.clone()).await.unwrap();
    lose(&running, 0, 20).await;
    delivered(&running).await;
    fs::rename(&path, &rotated).unwrap();
    lose(&running, 20, 20).await;
    delivered(&running).await;
    // A crash in the middle of a line.
    drop(running);
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("{\"metadata\":{\"sequence\":4");
    fs::write(&path, text).unwrap();
    let running = loop {
        // The dropped controller's tasks end on their own.
        match Controller::start(config.clone()).await {
            Ok(running) => break running,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    lose(&running, 40, 20).await;
    delivered(&running).await;
    running.shutdown().await;
    let text = fs::read_to_string(&rotated).unwrap() + &fs::read_to_string(&path).unwrap();
    let indexes: Vec<u64> =
        text.lines().map(|line| sequence(&serde_json::from_str(line).unwrap())).collect();
    assert!(without_gap(&indexes) >= 60 + 4);
}

/// What a webhook's receiver knows.
#[derive(Clone, Default)]
struct Hook {
    got: Arc<Mutex<Vec<(String, Value)>>>,
    refused: Arc<Mutex<u32>>,
}

const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn hook(State(hook): State<Hook>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, seconds) = (text("webhook-id"), text("webhook-timestamp"));
    let age = guard_controller::clock::unix_ms() / 1000 - seconds.parse::<u64>().unwrap();
    assert!(age < 300, "the specification's tolerance");
    let secret = BASE64_STANDARD.decode(SECRET).unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
    let mut signed = format!("{id}.{seconds}.").into_bytes();
    signed.extend_from_slice(&body);
    let signature = text("webhook-signature");
    let tag = BASE64_STANDARD.decode(signature.strip_prefix("v1,").unwrap()).unwrap();
    if ring::hmac::verify(&key, &signed, &tag).is_err() {
        return StatusCode::UNAUTHORIZED;
    }
    let mut refused = hook.refused.lock().unwrap();
    if *refused > 0 {
        *refused -= 1;
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["type"], "guard.evidence");
    hook.got.lock().unwrap().push((id, body));
    StatusCode::NO_CONTENT
}

fn webhook(dir: &Path, addr: SocketAddr, secret: &str) -> Value {
    let path = dir.join("secret");
    fs::write(&path, format!("whsec_{secret}\n")).unwrap();
    let url = format!("http://{addr}/in");
    json!({ "sinks": [{ "name": "hook",
        "to": { "kind": "webhook", "url": url, "secret_file": path } }] })
}

#[tokio::test]
async fn a_webhooks_receiver_may_refuse_die_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let state = Hook::default();
    *state.refused.lock().unwrap() = 1;
    let router = Router::new().route("/in", post(hook)).with_state(state.clone());
    let mut receiver = Receiver::start(router).await;
    let config = with_sinks(dir.path(), &webhook(dir.path(), receiver.addr, SECRET));
    let running = Controller::start(config).await.unwrap();
    lose(&running, 0, 10).await;
    delivered(&running).await;
    receiver.down();
    lose(&running, 10, 10).await;
    eventually("the sink says that it fails", || async {
        let sink = running.controller.sinks().await.unwrap().remove(0);
        sink.failing.is_some() && sink.lag > 0
    })
    .await;
    receiver.up().await;
    delivered(&running).await;
    running.shutdown().await;
    let got = state.got.lock().unwrap().clone();
    let indexes: Vec<u64> = got.iter().map(|(_, body)| sequence(&body["data"][0])).collect();
    assert!(without_gap(&indexes) >= 20);
    let same = |(id, body): &(String, Value)| body["data"][0]["metadata"]["uid"] == id.as_str();
    assert!(got.iter().all(same), "the id is the leaf hash, at every repetition");
}

#[tokio::test]
async fn a_webhook_with_another_secret_delivers_nothing_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let state = Hook::default();
    let router = Router::new().route("/in", post(hook)).with_state(state.clone());
    let receiver = Receiver::start(router).await;
    let wrong = BASE64_STANDARD.encode([7; 32]);
    let config = with_sinks(dir.path(), &webhook(dir.path(), receiver.addr, &wrong));
    let running = Controller::start(config).await.unwrap();
    eventually("the sink says why", || async {
        let sink = running.controller.sinks().await.unwrap().remove(0);
        sink.failing.is_some_and(|why| why.contains("401")) && sink.next == 0
    })
    .await;
    assert!(state.got.lock().unwrap().is_empty());
    running.shutdown().await;
}

#[tokio::test]
async fn splunk_loses_what_it_has_not_acknowledged_and_gets_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let splunk = Splunk::default();
    let mut receiver = Receiver::start(splunk.router()).await;
    let token = dir.path().join("token");
    fs::write(&token, format!("{SPLUNK_TOKEN}\n")).unwrap();
    let url = format!("http://{}", receiver.addr);
    let config = with_sinks(
        dir.path(),
        &json!({ "sinks": [{ "name": "splunk",
            "to": { "kind": "splunk_hec", "url": url, "token_file": token } }] }),
    );
    let running = Controller::start(config.clone()).await.unwrap();
    lose(&running, 0, 10).await;
    let received = || splunk.0.lock().unwrap().received.len();
    eventually("Splunk has received something", || async { received() > 0 }).await;
    let sink = running.controller.sinks().await.unwrap().remove(0);
    assert_eq!(sink.next, 0, "received is not written: the cursor stays");
    // It dies with what it has received.
    receiver.down();
    splunk.0.lock().unwrap().received.clear();
    splunk.0.lock().unwrap().acknowledges = true;
    // And so do we, before it is back.
    running.shutdown().await;
    receiver.up().await;
    let running = Controller::start(config).await.unwrap();
    lose(&running, 10, 10).await;
    delivered(&running).await;
    running.shutdown().await;
    let kept = splunk.0.lock().unwrap().kept.clone();
    let indexes: Vec<u64> = kept.iter().map(|event| sequence(&event["event"])).collect();
    assert!(without_gap(&indexes) >= 20 + 4);
}

#[tokio::test]
async fn a_sink_is_replayed_from_any_entry_and_evidence_says_by_whom() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.ndjson");
    let sinks = json!({ "sinks": [{ "name": "file", "to": { "kind": "file", "path": path } }] });
    let running = Controller::start(with_sinks(dir.path(), &sinks)).await.unwrap();
    lose(&running, 0, 5).await;
    delivered(&running).await;
    assert!(!running.controller.replay_sink("none", 0, "ann").await.unwrap());
    assert!(running.controller.replay_sink("file", 2, "ann").await.unwrap());
    delivered(&running).await;
    let read = || fs::read_to_string(&path).unwrap();
    eventually("the replay's own record", || async { read().contains("from entry 2 on") }).await;
    running.shutdown().await;
    let text = read();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |wanted| events.iter().filter(|event| sequence(event) == wanted).count();
    assert_eq!((count(1), count(2), count(3)), (1, 2, 2));
}

#[tokio::test]
async fn a_sink_that_cannot_work_keeps_the_controller_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("none");
    let sinks = json!({ "sinks": [{ "name": "hook", "to": { "kind": "webhook",
        "url": "https://127.0.0.1:1/", "secret_file": missing } }] });
    let Err(error) = Controller::start(with_sinks(dir.path(), &sinks)).await else {
        panic!("it started");
    };
    let words = format!("{:#}", anyhow::Error::from(error));
    assert!(words.contains("secret cannot be read"), "{words}");
}

#[tokio::test]
async fn syslog_over_tls_goes_on_after_the_receivers_restart_and_trusts_its_authority_only() {
    let dir = tempfile::tempdir().unwrap();
    let (mut receiver, pem) = SyslogReceiver::start().await;
    let (other, _) = own_tls();
    fs::write(dir.path().join("ca.pem"), pem).unwrap();
    fs::write(dir.path().join("other.pem"), other).unwrap();
    let sinks = |ca: &str| {
        let address = format!("localhost:{}", receiver.addr.port());
        let to = json!({ "kind": "syslog", "address": address,
            "tls": { "ca_file": dir.path().join(ca) } });
        with_sinks(dir.path(), &json!({ "sinks": [{ "name": "syslog", "to": to }] }))
    };
    let (wrong, right) = (sinks("other.pem"), sinks("ca.pem"));
    let running = Controller::start(wrong).await.unwrap();
    eventually("another authority is refused", || async {
        let sink = running.controller.sinks().await.unwrap().remove(0);
        sink.failing.is_some_and(|why| why.contains("certificate")) && sink.next == 0
    })
    .await;
    running.shutdown().await;
    assert!(receiver.got.lock().unwrap().is_empty());
    let running = Controller::start(right).await.unwrap();
    lose(&running, 0, 10).await;
    delivered(&running).await;
    receiver.has_got(running.controller.log_health().await.unwrap().size).await;
    receiver.down().await;
    receiver.up().await;
    lose(&running, 10, 10).await;
    delivered(&running).await;
    receiver.has_got(running.controller.log_health().await.unwrap().size).await;
    running.shutdown().await;
    assert!(without_gap(&receiver.indexes()) >= 20 + 4);
}

#[tokio::test]
async fn what_an_otlp_receiver_says_it_has_not_kept_is_counted_and_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector::default();
    let receiver = Receiver::start(collector.router()).await;
    let header = dir.path().join("header");
    fs::write(&header, "X-Key: k\n").unwrap();
    let url = format!("http://{}", receiver.addr);
    let to = json!({ "kind": "otlp", "url": url, "header_file": header });
    let config = with_sinks(dir.path(), &json!({ "sinks": [{ "name": "otlp", "to": to }] }));
    let running = Controller::start(config).await.unwrap();
    lose(&running, 0, 6).await;
    let lost = || async { running.controller.sinks().await.unwrap()[0].rejected };
    eventually("the refused record is counted", || async { lost().await == 1 }).await;
    let told = || collector.got.lock().unwrap().iter().any(|e| e.to_string().contains("otlp"));
    eventually("the loss is evidence and arrives", || async { told() }).await;
    delivered(&running).await;
    assert_eq!(lost().await, 1);
    running.shutdown().await;
    let kept = collector.got.lock().unwrap().clone();
    let indexes: BTreeSet<u64> = kept.iter().map(sequence).collect();
    let missing = (0..=*indexes.last().unwrap()).filter(|index| !indexes.contains(index));
    assert_eq!(missing.count(), 1);
}
