//! Receivers of evidence that live in the test, and are strict about their protocol: Splunk's collector,
//! OTLP over HTTP, syslog over TLS. Each can hang up on everybody and come back.

use crate::support::eventually;
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::TcpListener,
    runtime::{Builder, Runtime},
};

/// The entry's index in the log.
pub(crate) fn sequence(event: &Value) -> u64 {
    event["metadata"]["sequence"].as_u64().unwrap()
}

/// A listener, and a runtime that dies with all its connections.
async fn listen_apart(addr: SocketAddr) -> (std::net::TcpListener, Runtime) {
    let listener = loop {
        match std::net::TcpListener::bind(addr) {
            Ok(listener) => break listener,
            // The former listener is about to be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    listener.set_nonblocking(true).unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    (listener, runtime)
}

/// A receiver on a port and a runtime of its own, which can die with all its connections and come
/// back.
pub(crate) struct Receiver {
    pub(crate) addr: SocketAddr,
    router: Router,
    runtime: Option<Runtime>,
}

impl Receiver {
    pub(crate) async fn start(router: Router) -> Self {
        let mut receiver = Self { addr: ([127, 0, 0, 1], 0).into(), router, runtime: None };
        receiver.up().await;
        receiver
    }

    pub(crate) async fn up(&mut self) {
        let (listener, runtime) = listen_apart(self.addr).await;
        self.addr = listener.local_addr().unwrap();
        let router = self.router.clone();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        self.runtime = Some(runtime);
    }

    /// Hangs up on everybody and stops listening.
    pub(crate) fn down(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.down();
    }
}

/// The token that [`Splunk`] knows.
pub(crate) const SPLUNK_TOKEN: &str = "0f1e";

/// A Splunk that keeps what it has acknowledged and forgets the rest when it dies.
#[derive(Clone, Default)]
pub(crate) struct Splunk(pub(crate) Arc<Mutex<Indexer>>);

#[derive(Default)]
pub(crate) struct Indexer {
    /// Events that were acknowledged.
    pub(crate) kept: Vec<Value>,
    /// Each request's events until they are acknowledged, by acknowledgement.
    pub(crate) received: Vec<Vec<Value>>,
    /// Nothing is acknowledged before this.
    pub(crate) acknowledges: bool,
    /// How often it is to be asked for an acknowledgement in vain.
    pub(crate) in_vain: usize,
    asked: Vec<usize>,
}

impl Splunk {
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/services/collector/event", post(collect))
            .route("/services/collector/ack", post(acks))
            .with_state(self.clone())
    }
}

fn authorized(headers: &HeaderMap) -> bool {
    let channel = headers.get("x-splunk-request-channel").and_then(|value| value.to_str().ok());
    headers["authorization"] == format!("Splunk {SPLUNK_TOKEN}")
        && channel.is_some_and(|channel| channel.parse::<uuid::Uuid>().is_ok())
}

async fn collect(
    State(splunk): State<Splunk>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    if !authorized(&headers) {
        return (StatusCode::FORBIDDEN, json!({ "text": "Invalid token", "code": 4 }).to_string());
    }
    let mut events = Vec::new();
    for event in serde_json::Deserializer::from_str(&body).into_iter::<Value>() {
        let Ok(event) = event else {
            let words = json!({ "text": "Invalid data format", "code": 6 });
            return (StatusCode::BAD_REQUEST, words.to_string());
        };
        assert!(event["event"].is_object() && event["time"].is_string());
        assert_eq!(event["sourcetype"], "guard:ocsf");
        events.push(event);
    }
    let mut indexer = splunk.0.lock().unwrap();
    indexer.received.push(events);
    indexer.asked.push(0);
    let ack = indexer.received.len() - 1;
    (StatusCode::OK, json!({ "text": "Success", "code": 0, "ackId": ack }).to_string())
}

async fn acks(
    State(splunk): State<Splunk>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    assert!(authorized(&headers));
    let asked: Value = serde_json::from_str(&body).unwrap();
    let mut indexer = splunk.0.lock().unwrap();
    let mut said = serde_json::Map::new();
    for ack in asked["acks"].as_array().unwrap() {
        let at = usize::try_from(ack.as_u64().unwrap()).unwrap();
        let mut known = indexer.acknowledges && at < indexer.received.len();
        if known {
            indexer.asked[at] += 1;
            known = indexer.asked[at] > indexer.in_vain;
        }
        if known {
            let events = std::mem::take(&mut indexer.received[at]);
            indexer.kept.extend(events);
        }
        said.insert(ack.to_string(), known.into());
    }
    (StatusCode::OK, json!({ "acks": said }).to_string())
}

/// An OTLP receiver that is strict about the shape. It refuses one record, which says `ring-3`, with a
/// partial success.
#[derive(Clone, Default)]
pub(crate) struct Collector {
    pub(crate) got: Arc<Mutex<Vec<Value>>>,
    /// How long it takes to answer once it has kept everything.
    pub(crate) answers_after: Duration,
}

impl Collector {
    pub(crate) fn router(&self) -> Router {
        Router::new().route("/v1/logs", post(logs)).with_state(self.clone())
    }
}

async fn logs(
    State(collector): State<Collector>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    if headers["x-key"] != "k" {
        return (StatusCode::UNAUTHORIZED, String::new());
    }
    assert_eq!(headers["content-type"], "application/json");
    let request: Value = serde_json::from_str(&body).unwrap();
    let mut rejected = 0;
    for resource in request["resourceLogs"].as_array().unwrap() {
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "guard");
        for record in resource["scopeLogs"][0]["logRecords"].as_array().unwrap() {
            assert!(record["timeUnixNano"].as_str().unwrap().parse::<u64>().unwrap() > 0);
            assert!((1..=24).contains(&record["severityNumber"].as_u64().unwrap()));
            let body = record["body"]["stringValue"].as_str().unwrap();
            if body.contains("ring-3") {
                rejected += 1;
                continue;
            }
            collector.got.lock().unwrap().push(serde_json::from_str(body).unwrap());
        }
    }
    tokio::time::sleep(collector.answers_after).await;
    let said = match rejected {
        0 => json!({}),
        count => json!({ "partialSuccess": { "rejectedLogRecords": count.to_string() } }),
    };
    (StatusCode::OK, said.to_string())
}

/// A syslog receiver over TLS that takes frames apart and is strict about them.
pub(crate) struct SyslogReceiver {
    pub(crate) addr: SocketAddr,
    acceptor: tokio_rustls::TlsAcceptor,
    pub(crate) got: Arc<Mutex<Vec<String>>>,
    runtime: Option<Runtime>,
}

impl SyslogReceiver {
    /// On a free port, and the PEM of the authority that it has its certificate from.
    pub(crate) async fn start() -> (Self, String) {
        let (pem, acceptor) = own_tls();
        let addr = ([127, 0, 0, 1], 0).into();
        let mut receiver = Self { addr, acceptor, got: Arc::default(), runtime: None };
        receiver.up().await;
        (receiver, pem)
    }

    pub(crate) async fn up(&mut self) {
        let (listener, runtime) = listen_apart(self.addr).await;
        self.addr = listener.local_addr().unwrap();
        let (acceptor, got) = (self.acceptor.clone(), self.got.clone());
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, got) = (acceptor.clone(), got.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    while let Some(message) = next_frame(&mut stream).await {
                        got.lock().unwrap().push(message);
                    }
                });
            }
        });
        self.runtime = Some(runtime);
    }

    /// Syslog does not acknowledge: whoever wants no loss lets the receiver read before it dies.
    pub(crate) async fn has_got(&self, count: u64) {
        eventually("the receiver has read everything", || async {
            self.got.lock().unwrap().len() as u64 >= count
        })
        .await;
    }

    /// As [`Self::has_got`], where some come twice.
    pub(crate) async fn has_every(&self, size: u64) {
        eventually("the receiver has read everything", || async {
            self.indexes().into_iter().max().is_some_and(|last| last + 1 >= size)
        })
        .await;
    }

    /// The indexes of all that it has got, each message checked against RFC 5424.
    pub(crate) fn indexes(&self) -> Vec<u64> {
        let of = |message: &String| {
            let (head, body) = message.split_once('\u{feff}').unwrap();
            let fields: Vec<&str> = head.trim_end().split(' ').collect();
            let priority = fields[0].strip_prefix('<').unwrap().strip_suffix(">1").unwrap();
            assert_eq!(priority.parse::<u8>().unwrap() / 8, 13, "facility: {head}");
            assert_eq!((fields.len(), fields[3], fields[4], fields[6]), (7, "guard", "-", "-"));
            sequence(&serde_json::from_str(body).unwrap())
        };
        self.got.lock().unwrap().iter().map(of).collect()
    }

    /// Returns when every connection is closed.
    pub(crate) async fn down(&mut self) {
        let runtime = self.runtime.take();
        tokio::task::spawn_blocking(move || drop(runtime)).await.unwrap();
    }
}

impl Drop for SyslogReceiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn next_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut len = 0;
    loop {
        match stream.read_u8().await.ok()? {
            b' ' => break,
            digit => len = len * 10 + usize::from(char::from(digit).to_digit(10).unwrap() as u8),
        }
    }
    let mut message = vec![0; len];
    stream.read_exact(&mut message).await.ok()?;
    Some(String::from_utf8(message).unwrap())
}

/// A certificate for `localhost` that signs itself, as PEM, and a server's TLS with it.
pub(crate) fn own_tls() -> (String, tokio_rustls::TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (made.cert.pem(), tokio_rustls::TlsAcceptor::from(Arc::new(config)))
}
