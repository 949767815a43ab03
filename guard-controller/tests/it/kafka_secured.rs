//! Kafka over TLS with each way to sign in: a front that is strict about both stands before
//! librdkafka's mock cluster, which speaks neither.

use crate::{
    program::Python,
    support::{config, eventually},
};
use guard_audit::Event;
use guard_controller::{Config, Controller, Running, sinks::SinksFile};
use serde_json::{Value, json};
use std::{fs, path::Path};

const USER: &str = "guard";
const PASSWORD: &str = "correct, horse=battery";

/// Terminates TLS, answers ApiVersions and the two SASL requests itself, lets nothing else pass before
/// a sign-in, and hands the rest to the mock cluster with its own port in the answers.
const FRONT: &str = r#"
import base64, hashlib, hmac, json, os, socket, ssl, struct, sys, threading
from confluent_kafka import Consumer, Producer, TopicPartition
folder, mechanism, user, password = sys.argv[1:5]
producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "x"})
listed = producer.list_topics("evidence", timeout=10)
broker = list(listed.brokers.values())[0]
consumer = Consumer({"bootstrap.servers": f"{broker.host}:{broker.port}", "group.id": "g", "auto.offset.reset": "error"})
consumer.assign([TopicPartition("evidence", p, 0) for p in listed.topics["evidence"].partitions])
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
counts = {"signed_in": 0, "refused": 0, "too_early": 0, "no_tls": 0}
host = broker.host.encode()
theirs, ours = (struct.pack(">h", len(host)) + host + struct.pack(">i", p) for p in (broker.port, port))
API_VERSIONS, HANDSHAKE, AUTHENTICATE = 18, 17, 36
VERSIONS = [(0, 0, 7), (1, 0, 11), (2, 0, 5), (3, 0, 5), (API_VERSIONS, 0, 0), (HANDSHAKE, 0, 1), (AUTHENTICATE, 0, 1), (19, 0, 4)]
def exactly(stream, count):
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data
def frame(stream):
    return exactly(stream, struct.unpack(">i", exactly(stream, 4))[0])
def send(stream, body):
    stream.sendall(struct.pack(">i", len(body)) + body)
def scram(name):
    first = (yield).decode()
    assert first.startswith("n,,"), first
    bare = first[3:]
    fields = dict(f.split("=", 1) for f in bare.split(","))
    salt, nonce = os.urandom(16), fields["r"] + base64.b64encode(os.urandom(9)).decode()
    said = f"r={nonce},s={base64.b64encode(salt).decode()},i=4096"
    final = (yield said.encode()).decode()
    without, proof = final.rsplit(",p=", 1)
    mac = lambda key, text: hmac.new(key, text, name).digest()
    salted = hashlib.pbkdf2_hmac(name, password.encode(), salt, 4096)
    client = mac(salted, b"Client Key")
    stored, all_said = hashlib.new(name, client).digest(), ",".join([bare, said, without]).encode()
    good = bytes(a ^ b for a, b in zip(client, mac(stored, all_said)))
    if fields["n"] != user or base64.b64decode(proof) != good or f"r={nonce}" not in without:
        yield None
    yield b"v=" + base64.b64encode(mac(mac(salted, b"Server Key"), all_said))
def plain():
    said = yield
    yield b"" if said == b"\0" + user.encode() + b"\0" + password.encode() else None
def serve(raw):
    try:
        stream = tls.wrap_socket(raw, server_side=True)
    except (ssl.SSLError, OSError):
        counts["no_tls"] += 1
        return
    behind = socket.create_connection((broker.host, broker.port))
    signed_in, dialogue = False, None
    try:
        while True:
            request = frame(stream)
            key, version, correlation = struct.unpack(">hhi", request[:8])
            head = struct.pack(">i", correlation)
            rest = request[8:]
            if key == API_VERSIONS:
                error = 0 if version == 0 else 35
                body = struct.pack(">hi", error, len(VERSIONS)) + b"".join(struct.pack(">hhh", *v) for v in VERSIONS)
                send(stream, head + body)
                continue
            if key in (HANDSHAKE, AUTHENTICATE):
                client = struct.unpack(">h", rest[:2])[0]
                rest = rest[2 + max(client, 0):]
            if key == HANDSHAKE:
                wanted = rest[2:2 + struct.unpack(">h", rest[:2])[0]].decode()
                name = mechanism.encode()
                send(stream, head + struct.pack(">hih", 0 if wanted == mechanism else 33, 1, len(name)) + name)
                dialogue = plain() if mechanism == "PLAIN" else scram("sha" + mechanism[-3:])
                next(dialogue)
                continue
            if key == AUTHENTICATE:
                answer = dialogue.send(rest[4:4 + struct.unpack(">i", rest[:4])[0]])
                tail = struct.pack(">q", 0) if version >= 1 else b""
                if answer is None:
                    counts["refused"] += 1
                    words = b"no"
                    send(stream, head + struct.pack(">hh", 58, len(words)) + words + struct.pack(">i", 0) + tail)
                    return
                signed_in = signed_in or mechanism == "PLAIN" or answer.startswith(b"v=")
                counts["signed_in"] += signed_in
                send(stream, head + struct.pack(">hhi", 0, -1, len(answer)) + answer + tail)
                continue
            if not signed_in:
                counts["too_early"] += 1
                return
            send(behind, request)
            send(stream, frame(behind).replace(theirs, ours))
    except (EOFError, OSError):
        pass
    finally:
        stream.close()
        behind.close()
def accept():
    while True:
        threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
threading.Thread(target=accept, daemon=True).start()
print(json.dumps({"port": port}))
for line in sys.stdin:
    got, empty = [], 0
    while line.strip() == "all" and empty < 5:
        message = consumer.poll(0.2)
        if message is None:
            empty += 1
        elif message.error():
            got.append(str(message.error()))
        else:
            got.append(json.loads(message.value())["metadata"]["sequence"])
    print(json.dumps({"got": got, **counts}))
"#;

/// A certificate for 127.0.0.1 that signs itself, as `NAME.pem`, and the files of the front.
fn certificate(dir: &Path, name: &str) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    fs::write(dir.join(name), made.cert.pem()).unwrap();
    fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

fn sinks(dir: &Path, port: &Value, sasl: &str, (ca, password): (&str, &str)) -> Config {
    let credentials = dir.join("credentials");
    fs::write(&credentials, json!({ "username": USER, "password": password }).to_string()).unwrap();
    let to = json!({ "kind": "kafka", "brokers": [format!("127.0.0.1:{port}")], "topic": "evidence",
        "sasl": sasl, "credentials_file": credentials, "tls": { "ca_file": dir.join(ca) } });
    let file = dir.join("sinks.json");
    fs::write(&file, json!({ "sinks": [{ "name": "s", "to": to }] }).to_string()).unwrap();
    let mut config = config(dir);
    config.sinks = SinksFile::load(&file).unwrap();
    config
}

/// What the sink says once it fails, with nothing delivered.
async fn failure(running: Running) -> String {
    eventually("the sink says that it fails", || async {
        running.controller.sinks().await.unwrap()[0].failing.is_some()
    })
    .await;
    let sink = running.controller.sinks().await.unwrap().remove(0);
    assert_eq!((sink.next, sink.delivered), (0, 0));
    running.shutdown().await;
    sink.failing.unwrap()
}

async fn everything_arrives(mechanism: &str, sasl: &str) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    certificate(dir, "other.pem");
    certificate(dir, "ca.pem");
    let folder = dir.to_str().unwrap();
    let mut front = Python::start(FRONT, &[folder, mechanism, USER, PASSWORD]);
    let port = front.says().await["port"].clone();

    let foreign = sinks(dir, &port, sasl, ("other.pem", PASSWORD));
    let said = failure(Controller::start(foreign).await.unwrap()).await;
    assert!(said.contains("certificate"), "{said}");
    let state = front.ask("counts").await;
    assert!(state["no_tls"].as_u64().unwrap() > 0 && state["signed_in"] == 0, "{state}");

    let wrong = sinks(dir, &port, sasl, ("ca.pem", "incorrect"));
    let said = failure(Controller::start(wrong).await.unwrap()).await;
    assert!(!said.contains("incorrect"), "a secret in words: {said}");
    let state = front.ask("counts").await;
    assert!(state["refused"].as_u64().unwrap() > 0 && state["signed_in"] == 0, "{state}");

    let right = sinks(dir, &port, sasl, ("ca.pem", PASSWORD));
    let running = Controller::start(right).await.unwrap();
    for count in 0..50 {
        running.controller.audit(Event::Lost { counter: "x".into(), count }).await.unwrap();
    }
    eventually("everything is delivered", || async {
        let sink = running.controller.sinks().await.unwrap().remove(0);
        sink.lag == 0 && sink.next > 50
    })
    .await;
    let size = running.controller.log_health().await.unwrap().size;
    running.shutdown().await;
    let state = front.ask("all").await;
    assert_eq!(state["too_early"], 0, "{state}");
    let mut got: Vec<u64> = serde_json::from_value(state["got"].clone()).unwrap();
    got.sort_unstable();
    got.dedup();
    assert!(got.iter().copied().take_while(|at| *at < size).eq(0..size), "a gap: {got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_over_tls_with_plain_delivers_to_its_own_authority_and_password_only() {
    everything_arrives("PLAIN", "plain").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_over_tls_with_scram_sha_256_delivers_to_its_own_authority_and_password_only() {
    everything_arrives("SCRAM-SHA-256", "scram-sha-256").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_over_tls_with_scram_sha_512_delivers_to_its_own_authority_and_password_only() {
    everything_arrives("SCRAM-SHA-512", "scram-sha-512").await;
}
