//! kill -9 of guard-controller in the middle of delivery, again and again: no receiver may see a gap,
//! and afterwards the cursor is right. Stores and brokers are in `stores`.

use crate::{
    program::{Program, linked},
    receivers::{Collector, Receiver, SPLUNK_TOKEN, Splunk, SyslogReceiver, sequence},
    support::{Agent, config, eventually},
};
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use guard_audit::Event;
use guard_controller::{Controller, sinks::SinksFile};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpListener;

/// How often the controller is killed.
const ROUNDS: u64 = 5;

/// Batches of records that a round has: more than is delivered until the kill, and few enough that the
/// rest is delivered in time by a receiver that makes the sender wait.
const BATCHES: u64 = 40;

/// Feeds the program records, kills it at bad moments, starts it again; then lets it
/// deliver the rest. Returns how many entries the log has, whose last is delivered.
pub(crate) async fn killed_while_it_delivers(dir: &Path, sinks: &Value) -> u64 {
    let file = dir.join("sinks.json");
    fs::write(&file, sinks.to_string()).unwrap();
    let arguments = ["--sinks", file.to_str().unwrap()];
    let mut program = Program::start_with(dir, &arguments).await;
    let mut agent = linked(&program, dir).await;
    let (enrolled, boot) = (agent.enrolled.clone(), agent.boot);
    let mut acked = 0;
    for round in 0..ROUNDS {
        let death = tokio::time::sleep(Duration::from_millis(300 + 170 * round));
        tokio::pin!(death);
        let mut next = acked + 1;
        let end = acked + BATCHES * 50;
        loop {
            if next > end {
                death.await;
                break;
            }
            let event = |n| agent.record(n, Event::Lost { counter: "x".into(), count: n });
            let batch: Vec<_> = (next..next + 50).map(event).collect();
            agent.evidence(&batch).await;
            tokio::select! {
                ack = agent.evidence_ack() => next = ack + 1,
                () = &mut death => break,
            }
        }
        program.kill().await;
        program = Program::start_with(dir, &arguments).await;
        agent = Agent::link(program.rpc, &enrolled, boot, &[]).await;
        acked = agent.evidence_ack().await;
    }
    program.kill().await;
    // The same in this process, to look at its cursor.
    let mut config = config(dir);
    config.sinks = SinksFile::load(&file).unwrap();
    let running = Controller::start(config).await.unwrap();
    eventually("the rest is delivered", || async {
        let sink = running.controller.sinks().await.unwrap().remove(0);
        sink.lag == 0 && sink.rejected == 0
    })
    .await;
    let sink = running.controller.sinks().await.unwrap().remove(0);
    let size = running.controller.log_health().await.unwrap().size;
    assert_eq!((sink.next, sink.lag), (size, 0));
    assert!(sink.delivered >= size, "repetitions count: {} of {size}", sink.delivered);
    drop(running);
    size
}

/// Every index below `size` is there, in order at its first appearance. How many came again.
fn without_gap(indexes: impl IntoIterator<Item = u64>, size: u64) -> usize {
    let mut seen = BTreeSet::new();
    let mut again = 0;
    for index in indexes {
        if seen.insert(index) {
            assert_eq!(index, seen.len() as u64 - 1, "in order, without a gap");
        } else {
            again += 1;
        }
    }
    assert!(seen.len() as u64 >= size, "{} of {size}", seen.len());
    again
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_has_no_gap_after_kill_9_in_the_middle_of_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.ndjson");
    let sinks = json!({ "sinks": [{ "name": "s", "to": { "kind": "file", "path": path } }] });
    let size = killed_while_it_delivers(dir.path(), &sinks).await;
    let text = fs::read_to_string(&path).unwrap();
    without_gap(text.lines().map(|line| sequence(&serde_json::from_str(line).unwrap())), size);
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_output_has_every_event_over_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let (out, file) = (dir.path().join("out"), dir.path().join("sinks.json"));
    fs::write(&file, r#"{"sinks":[{"name":"s","to":{"kind":"stdout"}}]}"#).unwrap();
    let lines = || -> Vec<Value> {
        let text = fs::read_to_string(&out).unwrap_or_default();
        // A kill may cut a line; it comes again, whole.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let starts = || lines().iter().filter(|line| line["rpc"].is_string()).count();
    for round in 1..=ROUNDS {
        let to = fs::File::options().append(true).create(true).open(&out).unwrap();
        let program = Program::start_into(dir.path(), &file, to);
        eventually("it has started", || async { starts() as u64 == round }).await;
        tokio::time::sleep(Duration::from_millis(60 * round)).await;
        program.kill().await;
    }
    let to = fs::File::options().append(true).create(true).open(&out).unwrap();
    let program = Program::start_into(dir.path(), &file, to);
    let indexes = || -> BTreeSet<u64> {
        lines().iter().filter_map(|line| line["metadata"]["sequence"].as_u64()).collect()
    };
    // Each start says more than two things of itself.
    let least = 2 * ROUNDS;
    eventually("the rest is there", || async {
        starts() as u64 == ROUNDS + 1 && indexes().len() as u64 > least
    })
    .await;
    program.kill().await;
    let mut seen = BTreeSet::new();
    for index in lines().iter().filter_map(|line| line["metadata"]["sequence"].as_u64()) {
        assert!(index <= seen.len() as u64, "{index} after {}: a gap", seen.len());
        seen.insert(index);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_has_no_gap_after_kill_9_in_the_middle_of_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let got: Arc<Mutex<Vec<u64>>> = Arc::default();
    let take = |State(got): State<Arc<Mutex<Vec<u64>>>>, body: Bytes| async move {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let events = body["data"].as_array().unwrap().iter().map(|event| &event["metadata"]);
        got.lock().unwrap().extend(events.map(|of| of["sequence"].as_u64().unwrap()));
        StatusCode::NO_CONTENT
    };
    let router = Router::new().route("/", post(take)).with_state(Arc::clone(&got));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let secret = dir.path().join("secret");
    fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let to = json!({ "kind": "webhook", "url": format!("http://{addr}/"), "secret_file": secret,
        "batch": 20 });
    let sinks = json!({ "sinks": [{ "name": "s", "to": to }] });
    let size = killed_while_it_delivers(dir.path(), &sinks).await;
    without_gap(got.lock().unwrap().clone(), size);
}

#[tokio::test(flavor = "multi_thread")]
async fn splunk_has_no_gap_after_kill_9_between_what_it_received_and_its_acknowledgement() {
    let dir = tempfile::tempdir().unwrap();
    let splunk = Splunk::default();
    {
        let mut indexer = splunk.0.lock().unwrap();
        indexer.acknowledges = true;
        // The sender waits half a second for each batch: that is where it is killed.
        indexer.in_vain = 1;
    }
    let receiver = Receiver::start(splunk.router()).await;
    let token = dir.path().join("splunk");
    fs::write(&token, SPLUNK_TOKEN).unwrap();
    let to = json!({ "kind": "splunk_hec", "url": format!("http://{}", receiver.addr),
        "token_file": token });
    let sinks = json!({ "sinks": [{ "name": "s", "to": to }] });
    let size = killed_while_it_delivers(dir.path(), &sinks).await;
    let indexer = splunk.0.lock().unwrap();
    without_gap(indexer.kept.iter().map(|event| sequence(&event["event"])), size);
    let unacknowledged = indexer.received.iter().filter(|batch| !batch.is_empty()).count();
    assert!(unacknowledged > 0, "no kill fell between a batch and its acknowledgement");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_otlp_receiver_has_no_gap_after_kill_9_between_a_request_and_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let collector = Collector { answers_after: Duration::from_millis(100), ..Collector::default() };
    let receiver = Receiver::start(collector.router()).await;
    let header = dir.path().join("header");
    fs::write(&header, "X-Key: k\n").unwrap();
    let to = json!({ "kind": "otlp", "url": format!("http://{}", receiver.addr),
        "header_file": header });
    let sinks = json!({ "sinks": [{ "name": "s", "to": to }] });
    let size = killed_while_it_delivers(dir.path(), &sinks).await;
    let again = without_gap(collector.got.lock().unwrap().iter().map(sequence), size);
    assert!(again > 0, "no kill fell between a request and its answer");
}

/// Nothing is acknowledged here: the sender goes on only once the receiver has not hung up for a while,
/// and what it had sent before it died comes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_syslog_receiver_has_no_gap_after_kill_9_in_the_middle_of_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let (receiver, pem) = SyslogReceiver::start().await;
    let ca = dir.path().join("syslog.pem");
    fs::write(&ca, pem).unwrap();
    let to = json!({ "kind": "syslog", "address": format!("localhost:{}", receiver.addr.port()),
        "tls": { "ca_file": ca } });
    let sinks = json!({ "sinks": [{ "name": "s", "to": to }] });
    let size = killed_while_it_delivers(dir.path(), &sinks).await;
    receiver.has_every(size).await;
    let again = without_gap(receiver.indexes(), size);
    assert!(again > 0, "no kill fell between a batch and its settling");
}
