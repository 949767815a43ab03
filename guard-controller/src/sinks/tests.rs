//! A worker step by step, against a receiver that does what the test says.

use super::{
    BATCH_EVENTS_MAX, Deliver, DeliveryError, Format, Rendered, SINKS_MAX, SinkError, SinkSpec,
    Start, Target, Worker, prepare,
    worker::{Prepared, REJECTED_IN_A_ROW_MAX},
};
use crate::{Config, Controller, Running};
use futures::future::BoxFuture;
use guard_audit::Event;
use guard_policy::Policy;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};
use tempfile::TempDir;

/// What a receiver got, and whom it refuses.
#[derive(Clone, Default)]
struct Receiver {
    kept: Arc<Mutex<Vec<Rendered>>>,
    away: Arc<Mutex<bool>>,
    poison: Arc<Mutex<Option<Poison>>>,
}

/// Which events a receiver refuses.
type Poison = fn(&Rendered) -> bool;

impl Receiver {
    fn indexes(&self) -> Vec<u64> {
        self.kept.lock().unwrap().iter().map(|event| event.index).collect()
    }

    fn refuses(&self, poison: Poison) {
        *self.poison.lock().unwrap() = Some(poison);
    }
}

impl Deliver for Receiver {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Rendered],
    ) -> BoxFuture<'a, Result<u64, DeliveryError>> {
        Box::pin(async move {
            if *self.away.lock().unwrap() {
                return Err(DeliveryError::Unavailable("away".into()));
            }
            if let Some(poison) = *self.poison.lock().unwrap()
                && batch.iter().any(poison)
            {
                return Err(DeliveryError::Rejected("not this".into()));
            }
            self.kept.lock().unwrap().extend_from_slice(batch);
            Ok(0)
        })
    }
}

struct Bench {
    running: Running,
    worker: Worker,
    receiver: Receiver,
    _dir: TempDir,
}

fn spec(name: &str, only: &[&str]) -> SinkSpec {
    SinkSpec {
        name: name.into(),
        format: Format::Ocsf,
        start: Start::Beginning,
        only: only.iter().map(|kind| (*kind).to_owned()).collect(),
        to: Target::Stdout {},
    }
}

impl Bench {
    /// A controller with `losses` records of its own besides those of its start.
    async fn new(losses: u64, only: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let policy = Arc::new(Policy::default_policy());
        let mut config = Config::new(dir.path().join("state"), policy);
        config.ui_addr = ([127, 0, 0, 1], 0).into();
        config.rpc_addr = ([127, 0, 0, 1], 0).into();
        let running = Controller::start(config).await.unwrap();
        let controller = running.controller.clone();
        let (_, mut sinks) = prepare(controller.db(), &[spec("siem", only)], 0).await.unwrap();
        let (state, _): Prepared = sinks.remove(0);
        let receiver = Receiver::default();
        let worker = Worker::new(controller, (state, Box::new(receiver.clone())));
        let bench = Self { running, worker, receiver, _dir: dir };
        bench.lose(losses).await;
        bench
    }

    async fn lose(&self, count: u64) {
        for number in 0..count {
            let event = Event::Lost { counter: format!("ring-{number}"), count: 1 };
            self.running.controller.audit(event).await.unwrap();
        }
        self.indexed().await;
    }

    /// Waits until the outbox is in the log and the log in the index.
    async fn indexed(&self) -> u64 {
        let controller = &self.running.controller;
        controller.flush_evidence().await.unwrap();
        while controller.index().indexed() < controller.index().size() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        controller.index().size()
    }

    async fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.worker.step().await;
        }
    }
}

#[tokio::test]
async fn every_entry_is_delivered_in_order_and_the_cursor_follows() {
    let mut bench = Bench::new(BATCH_EVENTS_MAX as u64 + 3, &[]).await;
    let size = bench.indexed().await;
    bench.steps(3).await;
    assert_eq!(bench.receiver.indexes(), (0..size).collect::<Vec<_>>());
    let view = bench.worker.state.view(size, 0);
    assert_eq!((view.next, view.lag, view.delivered, view.rejected), (size, 0, size, 0));
}

#[tokio::test]
async fn a_receiver_that_is_away_costs_lag_and_nothing_else() {
    let mut bench = Bench::new(5, &[]).await;
    let size = bench.indexed().await;
    *bench.receiver.away.lock().unwrap() = true;
    let (first, second) = (bench.worker.step().await, bench.worker.step().await);
    assert!(second > first, "it backs off: {first:?}, {second:?}");
    let view = bench.worker.state.view(size, 0);
    assert_eq!((view.lag, view.failures), (size, 2));
    assert_eq!(view.failing.as_deref(), Some("away"));
    *bench.receiver.away.lock().unwrap() = false;
    bench.steps(2).await;
    assert_eq!(bench.receiver.indexes(), (0..size).collect::<Vec<_>>());
    let view = bench.worker.state.view(size, 0);
    assert_eq!((view.lag, view.failing), (0, None));
}

#[tokio::test]
async fn an_event_that_the_receiver_refuses_is_given_up_counted_and_in_evidence() {
    let mut bench = Bench::new(20, &[]).await;
    let size = bench.indexed().await;
    bench.receiver.refuses(|event| event.body.contains("ring-7"));
    bench.steps(40).await;
    let lost: BTreeSet<u64> =
        (0..size).filter(|index| !bench.receiver.indexes().contains(index)).collect();
    assert_eq!(lost.len(), 1, "all but the one: {lost:?}");
    assert_eq!(bench.worker.state.view(size, 0).rejected, 1);
    let size = bench.indexed().await;
    bench.steps(3).await;
    let kept = bench.receiver.kept.lock().unwrap().clone();
    let words: Vec<_> = kept.iter().filter(|e| e.body.contains("sink_rejected:siem")).collect();
    assert_eq!(words.len(), 1, "the loss is evidence, and is delivered");
    assert_eq!(bench.worker.state.view(size, 0).lag, 0);
}

#[tokio::test]
async fn a_receiver_that_refuses_everything_is_not_given_everything_up_to() {
    let mut bench = Bench::new(30, &[]).await;
    bench.receiver.refuses(|_| true);
    bench.steps(200).await;
    bench.indexed().await;
    let view = bench.worker.state.view(0, 0);
    assert_eq!(view.rejected, u64::from(REJECTED_IN_A_ROW_MAX));
    assert!(view.failing.unwrap().contains("not this"));
    bench.receiver.refuses(|_| false);
    bench.steps(20).await;
    let size = bench.indexed().await;
    bench.steps(2).await;
    let missing = (0..size).filter(|index| !bench.receiver.indexes().contains(index)).count();
    assert_eq!(missing, usize::try_from(REJECTED_IN_A_ROW_MAX).unwrap());
}

#[tokio::test]
async fn a_filter_passes_what_it_names_and_the_cursor_passes_the_rest() {
    let mut bench = Bench::new(4, &["lost"]).await;
    let size = bench.indexed().await;
    bench.steps(2).await;
    let kept = bench.receiver.kept.lock().unwrap().clone();
    assert_eq!(kept.len(), 4);
    assert!(kept.iter().all(|event| event.code == "lost"));
    assert_eq!(bench.worker.state.view(size, 0).lag, 0);
}

#[tokio::test]
async fn a_batch_is_bounded_in_bytes() {
    let mut bench = Bench::new(0, &[]).await;
    for _ in 0..6 {
        // Four of the largest that the log takes do not fit.
        let counter = "x".repeat(super::BATCH_BYTES_MAX / 4);
        bench.running.controller.audit(Event::Lost { counter, count: 1 }).await.unwrap();
    }
    let size = bench.indexed().await;
    bench.worker.step().await;
    let bytes: usize = bench.receiver.kept.lock().unwrap().iter().map(|e| e.body.len()).sum();
    assert!(bytes <= super::BATCH_BYTES_MAX, "{bytes}");
    bench.steps(8).await;
    assert_eq!(bench.receiver.indexes(), (0..size).collect::<Vec<_>>());
}

#[test]
fn names_are_labels_and_each_is_one_cursor() {
    let check = |specs: &[SinkSpec]| super::spec::check(specs);
    assert!(matches!(check(&[spec("a b", &[])]), Err(SinkError::Value { .. })));
    assert!(matches!(check(&[spec("", &[])]), Err(SinkError::Value { .. })));
    assert!(matches!(check(&[spec("a", &[]), spec("a", &[])]), Err(SinkError::Twice(_))));
    let many: Vec<_> = (0..=SINKS_MAX).map(|number| spec(&format!("s{number}"), &[])).collect();
    assert!(matches!(check(&many), Err(SinkError::TooMany(_))));
    assert!(check(&many[1..]).is_ok());
}

#[test]
fn what_would_leak_or_cannot_work_is_refused_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let short = dir.path().join("short");
    std::fs::write(&short, "whsec_MfKQ9r8GKYqr\n").unwrap();
    let webhook = |url: &str, file: &std::path::Path, more: &str| {
        let file = file.display();
        let text = format!(
            r#"{{"name":"w","to":{{"kind":"webhook","url":"{url}","secret_file":"{file}"{more}}}}}"#
        );
        super::target::open(&serde_json::from_str(&text).unwrap()).map(drop)
    };
    assert!(webhook("http://127.0.0.1:1/x", &secret, "").is_ok());
    assert!(webhook("http://siem.example/x", &secret, r#","danger_plaintext":true"#).is_ok());
    for (url, file, words) in [
        ("http://siem.example/x", &secret, "in the clear"),
        ("ftp://siem.example/x", &secret, "expected https"),
        ("https://user:pw@siem.example/", &secret, "credentials"),
        ("http://127.0.0.1:1/x?token=1", &secret, "query"),
        ("http://127.0.0.1:1/x", &short, "24 to 64 bytes"),
    ] {
        let error = webhook(url, file, "").unwrap_err().to_string();
        assert!(error.contains(words), "{url}: {error}");
    }
    let secret = r#"{"access_key_id":"a","secret_access_key":"b"}"#;
    std::fs::write(&short, secret).unwrap();
    let s3 = |fields: &str| {
        let file = short.display();
        let text = format!(
            r#"{{"name":"s","to":{{"kind":"s3","url":"http://127.0.0.1:1/b","credentials_file":"{file}"{fields}}}}}"#
        );
        super::target::open(&serde_json::from_str(&text).unwrap()).map(drop)
    };
    assert!(s3("").is_ok());
    for (fields, words) in [
        (r#","region":"""#, "region"),
        (r#","prefix":"/x""#, "do not begin with"),
        (r#","max_age_s":0"#, "1 to 3600"),
        (r#","max_age_s":3601"#, "1 to 3600"),
    ] {
        let error = s3(fields).unwrap_err().to_string();
        assert!(error.contains(words), "{fields}: {error}");
    }
    std::fs::write(&short, r#"{"access_key_id":"a","secret_access_key":hunter2}"#).unwrap();
    let error = s3("").unwrap_err().to_string();
    assert!(error.contains("line 1") && !error.contains("hunter2"), "{error}");
    let kafka = |fields: &str| {
        let text = format!(r#"{{"name":"k","to":{{"kind":"kafka",{fields}}}}}"#);
        super::target::open(&serde_json::from_str(&text).unwrap()).map(drop)
    };
    assert!(kafka(r#""brokers":["127.0.0.1:1"],"topic":"t""#).is_ok());
    for (fields, words) in [
        (r#""brokers":[],"topic":"t""#, "1 to 32"),
        (r#""brokers":["127.0.0.1"],"topic":"t""#, "HOST:PORT"),
        (r#""brokers":["127.0.0.1:1"],"topic":"t t""#, "topic"),
        (r#""brokers":["127.0.0.1:1"],"topic":"t","sasl":"plain""#, "go together"),
    ] {
        let error = kafka(fields).unwrap_err().to_string();
        assert!(error.contains(words), "{fields}: {error}");
    }
    let missing = webhook("http://127.0.0.1:1/", &dir.path().join("none"), "").unwrap_err();
    assert!(matches!(missing, SinkError::File { .. }));
    let unknown = r#"{"name":"w","to":{"kind":"stdout","colour":"red"}}"#;
    assert!(serde_json::from_str::<SinkSpec>(unknown).is_err(), "a misspelt field is not ignored");
}
