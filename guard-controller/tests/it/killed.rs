//! kill -9 of guard-controller in the middle of delivery, again and again: no receiver may see a gap,
//! and afterwards the cursor is right. Real receivers where PyPI has one.

use crate::{
    program::{Program, Python, linked},
    support::{Agent, config, eventually},
};
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use guard_audit::Event;
use guard_controller::{Controller, sinks::SinksFile};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpListener;

/// How often the controller is killed.
const ROUNDS: u64 = 5;

/// Feeds the program records without a pause, kills it at bad moments, starts it again; then lets it
/// deliver the rest. Returns how many entries the log has, whose last is delivered.
async fn killed_while_it_delivers(dir: &Path, sinks: &Value) -> u64 {
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
        loop {
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

/// Every index below `size` is there, in order at its first appearance.
fn without_gap(indexes: impl IntoIterator<Item = u64>, size: u64) {
    let mut seen = BTreeSet::new();
    for index in indexes {
        if seen.insert(index) {
            assert_eq!(index, seen.len() as u64 - 1, "in order, without a gap");
        }
    }
    assert!(seen.len() as u64 >= size, "{} of {size}", seen.len());
}

fn sequence(event: &str) -> u64 {
    let event: Value = serde_json::from_str(event).unwrap();
    event["metadata"]["sequence"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_has_no_gap_after_kill_9_in_the_middle_of_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.ndjson");
    let sinks = json!({ "sinks": [{ "name": "s", "to": { "kind": "file", "path": path } }] });
    let size = killed_while_it_delivers(dir.path(), &sinks).await;
    let text = fs::read_to_string(&path).unwrap();
    without_gap(text.lines().map(sequence), size);
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

/// moto's server, which keeps what it has in memory; it is asked through boto3.
const MOTO: &str = r#"
import json, sys, boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer
port = int(sys.argv[1])
server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
server.start()
port = server.get_host_and_port()[1]
s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="eu-central-1",
    aws_access_key_id="AKID", aws_secret_access_key="SECRET", config=Config(retries={"max_attempts": 1}))
s3.create_bucket(Bucket="evidence", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
print(json.dumps({"port": port}))
for line in sys.stdin:
    objects = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="evidence"):
        for found in page.get("Contents", []):
            body = s3.get_object(Bucket="evidence", Key=found["Key"])["Body"].read()
            objects[found["Key"]] = body.decode()
    print(json.dumps(objects))
"#;

fn s3(dir: &Path, port: u64, max_age_s: u64) -> Value {
    let credentials = dir.join("credentials");
    let secret = json!({ "access_key_id": "AKID", "secret_access_key": "SECRET" });
    fs::write(&credentials, secret.to_string()).unwrap();
    let to = json!({ "kind": "s3", "url": format!("http://127.0.0.1:{port}/evidence"),
        "region": "eu-central-1", "prefix": "guard/", "credentials_file": credentials,
        "max_age_s": max_age_s });
    json!({ "sinks": [{ "name": "s", "to": to }] })
}

/// Objects by name, each checked against its name; the indexes that they have, in order.
fn objects(said: &Value) -> (BTreeMap<String, String>, Vec<u64>) {
    let objects: BTreeMap<String, String> = serde_json::from_value(said.clone()).unwrap();
    let mut indexes = Vec::new();
    for (name, text) in &objects {
        let range = name.strip_prefix("guard/").unwrap().strip_suffix(".ndjson").unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let of_object: Vec<u64> = text.lines().map(sequence).collect();
        let expected = [first, last].map(|index| index.parse::<u64>().unwrap());
        assert_eq!([of_object[0], *of_object.last().unwrap()], expected, "{name}");
        indexes.extend(of_object);
    }
    (objects, indexes)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_store_has_every_event_once_after_kill_9_in_the_middle_of_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Python::start(MOTO, &["0"]);
    let port = store.says().await["port"].as_u64().unwrap();
    let size = killed_while_it_delivers(dir.path(), &s3(dir.path(), port, 1)).await;
    let (_, indexes) = objects(&store.ask("all").await);
    // Not only without a gap: a repeated object is the same object.
    assert_eq!(indexes[..usize::try_from(size).unwrap()], (0..size).collect::<Vec<_>>());
    let twice = indexes.len() - indexes.iter().collect::<BTreeSet<_>>().len();
    assert_eq!(twice, 0, "objects overlap");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_for_others_of_their_object_and_a_store_that_is_away_costs_lag_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Python::start(MOTO, &["0"]);
    let port = store.says().await["port"].as_u64().unwrap();
    let sinks = s3(dir.path(), port, 2);
    let file = dir.path().join("sinks.json");
    fs::write(&file, sinks.to_string()).unwrap();
    let mut config = config(dir.path());
    config.sinks = SinksFile::load(&file).unwrap();
    let running = Controller::start(config).await.unwrap();
    let lose = async |from: u64, count: u64| {
        for number in from..from + count {
            let event = Event::Lost { counter: "x".into(), count: number };
            running.controller.audit(event).await.unwrap();
        }
    };
    let delivered = async || {
        eventually("everything is delivered", || async {
            let sink = running.controller.sinks().await.unwrap().remove(0);
            sink.lag == 0 && sink.next > 0
        })
        .await;
    };
    lose(0, 30).await;
    delivered().await;
    let (first, _) = objects(&store.ask("all").await);
    assert!(first.len() <= 2, "events wait for others: {:?}", first.keys());
    store.kill().await;
    lose(30, 30).await;
    eventually("the sink says that it fails", || async {
        running.controller.sinks().await.unwrap()[0].failing.is_some()
    })
    .await;
    // Another of the same name at the same place, empty.
    let mut store = Python::start(MOTO, &[&port.to_string()]);
    assert_eq!(store.says().await["port"], port);
    delivered().await;
    let (_, indexes) = objects(&store.ask("all").await);
    let first: Vec<u64> = first.values().flat_map(|text| text.lines().map(sequence)).collect();
    let all: Vec<u64> = first.into_iter().chain(indexes).collect();
    let size = running.controller.log_health().await.unwrap().size;
    assert_eq!(all, (0..size).collect::<Vec<_>>());
    running.shutdown().await;
}

/// The mock cluster inside librdkafka, which speaks the protocol. It forgets what is older than 5 MB
/// of a partition, so a consumer reads along from the start.
const KAFKA: &str = r#"
import json, sys, threading, time
from confluent_kafka import Consumer, Producer, TopicPartition
producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "x"})
listed = producer.list_topics("evidence", timeout=10)
address = [f"{b.host}:{b.port}" for b in listed.brokers.values()]
partitions = listed.topics["evidence"].partitions
consumer = Consumer({"bootstrap.servers": address[0], "group.id": "g", "auto.offset.reset": "error"})
consumer.assign([TopicPartition("evidence", p, 0) for p in partitions])
got, last = [], time.monotonic()
def read():
    global last
    while True:
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            got.append([-1, "", str(message.error()), ""])
            continue
        headers = dict(message.headers() or [])
        got.append([message.partition(), message.key().decode(), headers["guard-index"].decode(),
            message.value().decode()])
        last = time.monotonic()
threading.Thread(target=read, daemon=True).start()
print(json.dumps({"brokers": address}))
for line in sys.stdin:
    asked = time.monotonic()
    while time.monotonic() - max(last, asked) < 3:
        time.sleep(0.1)
    print(json.dumps(got))
"#;

fn kafka(brokers: &Value) -> Value {
    let to = json!({ "kind": "kafka", "brokers": brokers, "topic": "evidence" });
    json!({ "sinks": [{ "name": "s", "to": to }] })
}

/// Each host's events are in one partition, in order; together they have no gap.
fn of_kafka(said: &Value, size: u64) {
    let got: Vec<(i32, String, String, String)> = serde_json::from_value(said.clone()).unwrap();
    let mut hosts: BTreeMap<String, (i32, Vec<u64>)> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for (partition, key, index, event) in &got {
        assert_eq!(sequence(event).to_string(), *index);
        all.insert(sequence(event));
        let (of_host, indexes) = hosts.entry(key.clone()).or_insert((*partition, Vec::new()));
        assert_eq!(of_host, partition, "{key}");
        // At its first appearance: a repetition after a kill comes again.
        if !indexes.contains(&sequence(event)) {
            indexes.push(sequence(event));
        }
    }
    assert!(hosts.len() >= 2, "{:?}", hosts.keys());
    for (key, (_, indexes)) in hosts {
        assert!(indexes.is_sorted(), "{key}");
    }
    assert!(all.into_iter().take_while(|at| *at < size).eq(0..size), "a gap");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_cluster_has_no_gap_after_kill_9_in_the_middle_of_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Python::start(KAFKA, &[]);
    let brokers = cluster.says().await["brokers"].clone();
    let size = killed_while_it_delivers(dir.path(), &kafka(&brokers)).await;
    of_kafka(&cluster.ask("all").await, size);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_cluster_that_stands_still_costs_lag_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Python::start(KAFKA, &[]);
    let brokers = cluster.says().await["brokers"].clone();
    let file = dir.path().join("sinks.json");
    fs::write(&file, kafka(&brokers).to_string()).unwrap();
    let mut config = config(dir.path());
    config.sinks = SinksFile::load(&file).unwrap();
    let running = Controller::start(config).await.unwrap();
    let mut agent = Agent::linked(&running).await;
    let records = |agent: &Agent, from: u64| -> Vec<_> {
        let event = |n| agent.record(n, Event::Lost { counter: "x".into(), count: n });
        (from..from + 300).map(event).collect()
    };
    agent.evidence(&records(&agent, 1)).await;
    assert_eq!(agent.evidence_ack().await, 300);
    let delivered = async || {
        eventually("everything is delivered", || async {
            let sink = running.controller.sinks().await.unwrap().remove(0);
            sink.lag == 0 && sink.next > 0
        })
        .await;
    };
    delivered().await;
    cluster.signal(Signal::SIGSTOP);
    agent.evidence(&records(&agent, 301)).await;
    assert_eq!(agent.evidence_ack().await, 600);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(running.controller.sinks().await.unwrap()[0].lag >= 300);
    cluster.signal(Signal::SIGCONT);
    delivered().await;
    let size = running.controller.log_health().await.unwrap().size;
    of_kafka(&cluster.ask("all").await, size);
    running.shutdown().await;
}
