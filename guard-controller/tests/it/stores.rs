//! Stores and brokers from PyPI as receivers: an S3-compatible store that checks signatures, a Kafka
//! cluster. Controller and receiver are killed or stand still in the middle of delivery.

use crate::{
    killed::killed_while_it_delivers,
    program::Python,
    support::{Agent, config, eventually},
};
use guard_audit::Event;
use guard_controller::{Controller, sinks::SinksFile};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

fn sequence(event: &str) -> u64 {
    crate::receivers::sequence(&serde_json::from_str(event).unwrap())
}

/// moto's server, which keeps what it has in memory; it is asked through boto3. It checks every signature,
/// with Amazon's own code (botocore), and what the key may do.
const MOTO: &str = r#"
import json, sys, boto3, moto.settings
from botocore.config import Config
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
server.start()
port = server.get_host_and_port()[1]
def client(name, key="x", secret="x"):
    return boto3.client(name, endpoint_url=f"http://127.0.0.1:{port}", region_name="eu-central-1",
        aws_access_key_id=key, aws_secret_access_key=secret, config=Config(retries={"max_attempts": 1}))
client("s3").create_bucket(Bucket="evidence", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
iam = client("iam")
def user(name, *actions):
    iam.create_user(UserName=name)
    allowed = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return made["AccessKeyId"], made["SecretAccessKey"]
writer, reader = user("writer", "s3:PutObject"), user("reader", "s3:ListBucket", "s3:GetObject")
moto.settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
s3 = client("s3", *reader)
print(json.dumps({"port": port, "key": writer[0], "secret": writer[1]}))
for line in sys.stdin:
    objects = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket="evidence"):
        for found in page.get("Contents", []):
            body = s3.get_object(Bucket="evidence", Key=found["Key"])["Body"].read()
            objects[found["Key"]] = body.decode()
    print(json.dumps(objects))
"#;

/// A sink into what a store said of itself.
fn s3(dir: &Path, store: &Value, max_age_s: u64) -> Value {
    let credentials = dir.join("credentials");
    let secret = json!({ "access_key_id": store["key"], "secret_access_key": store["secret"] });
    fs::write(&credentials, secret.to_string()).unwrap();
    let to = json!({ "kind": "s3", "url": format!("http://127.0.0.1:{}/evidence", store["port"]),
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
    let said = store.says().await;
    let size = killed_while_it_delivers(dir.path(), &s3(dir.path(), &said, 1)).await;
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
    let said = store.says().await;
    let sinks = s3(dir.path(), &said, 2);
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
    let mut store = Python::start(MOTO, &[&said["port"].to_string()]);
    let again = store.says().await;
    assert_eq!(again["port"], said["port"]);
    // Credentials are read at each delivery.
    s3(dir.path(), &again, 2);
    delivered().await;
    let (_, indexes) = objects(&store.ask("all").await);
    let first: Vec<u64> = first.values().flat_map(|text| text.lines().map(sequence)).collect();
    let all: Vec<u64> = first.into_iter().chain(indexes).collect();
    let size = running.controller.log_health().await.unwrap().size;
    assert_eq!(all, (0..size).collect::<Vec<_>>());
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_s3_store_that_checks_signatures_takes_ours_and_no_wrong_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Python::start(MOTO, &["0"]);
    let said = store.says().await;
    let mut wrong = said.clone();
    wrong["secret"] = json!("a secret that the store has given to nobody");
    let file = dir.path().join("sinks.json");
    fs::write(&file, s3(dir.path(), &wrong, 1).to_string()).unwrap();
    let mut config = config(dir.path());
    config.sinks = SinksFile::load(&file).unwrap();
    let running = Controller::start(config).await.unwrap();
    eventually("the store refuses the signature", || async {
        let sink = running.controller.sinks().await.unwrap().remove(0);
        sink.next == 0 && sink.failing.is_some_and(|why| why.contains("403"))
    })
    .await;
    assert_eq!(store.ask("all").await, json!({}));
    s3(dir.path(), &said, 1);
    eventually("the right signature is taken", || async {
        let sink = running.controller.sinks().await.unwrap().remove(0);
        sink.lag == 0 && sink.next > 0
    })
    .await;
    let size = running.controller.log_health().await.unwrap().size;
    let (_, indexes) = objects(&store.ask("all").await);
    assert_eq!(indexes, (0..size).collect::<Vec<_>>());
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
