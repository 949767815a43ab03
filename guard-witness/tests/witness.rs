//! Every answer of the protocol, over a socket, and what survives a restart.

#![expect(clippy::unwrap_used, reason = "tests")]

use guard_audit::{
    Event, Record,
    log::{BATCH_MAX, Checkpoint, CosignerKey, Dir, Draft, Hash, Log, LogKey, TileHashes, base64},
};
use guard_model::{BootId, HostId};
use guard_witness::{Answer, BODY_BYTES_MAX, State, StateError, Witness, serve};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, path::Path, sync::Arc};
use tokio::net::{TcpListener, TcpStream};

const NAME: &str = "witness.test/1";
const NOW_S: u64 = 1_700_000_000;

/// A log that keeps every checkpoint on the way.
struct Growing {
    log: Log<Dir>,
    heads: Vec<Checkpoint>,
    count: u64,
    word: &'static str,
}

impl Growing {
    fn new(dir: &Path, key: &LogKey, word: &'static str) -> Self {
        let log = Log::create(Dir::new(dir), key).unwrap();
        let heads = vec![log.head().clone()];
        Self { log, heads, count: 0, word }
    }

    fn grow(&mut self, by: u64) -> Checkpoint {
        let drafts: Vec<_> = (1..=by).map(|n| self.draft(self.count + n)).collect();
        self.count += by;
        for drafts in drafts.chunks(BATCH_MAX) {
            let staged = self.log.stage(drafts, NOW_S * 1000).unwrap();
            self.log.publish(staged).unwrap();
        }
        self.heads.push(self.log.head().clone());
        self.log.head().clone()
    }

    fn draft(&self, sequence: u64) -> Draft {
        Draft::new(Record {
            host: HostId(uuid::Uuid::from_u128(1)),
            boot: BootId(uuid::Uuid::from_u128(2)),
            sequence,
            boottime_ns: 0,
            unix_ms: 0,
            session: None,
            event: Event::Lost { counter: self.word.into(), count: 1 },
        })
        .unwrap()
    }

    fn proof(&self, from: u64) -> Vec<Hash> {
        let storage = self.log.storage();
        TileHashes::new(&*storage, self.count).consistency(from).unwrap()
    }

    /// What the log asks a witness that stands at `old`.
    fn request(&self, old: u64) -> String {
        body(old, &self.proof(old), self.log.head())
    }
}

fn body(old: u64, proof: &[Hash], checkpoint: &Checkpoint) -> String {
    let proof: String = proof.iter().map(|hash| base64(hash) + "\n").collect();
    format!("old {old}\n{proof}\n{}", checkpoint.text())
}

struct Setup {
    dir: tempfile::TempDir,
    key: LogKey,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        State::create(&dir.path().join("state"), NAME).unwrap();
        Self { dir, key: LogKey::generate("log.test/a").unwrap() }
    }

    fn witness(&self) -> Witness {
        let (state, key) = State::open(&self.dir.path().join("state")).unwrap();
        Witness::new(state, key, vec![self.key.verifier().clone()])
    }

    fn log(&self, name: &'static str) -> Growing {
        Growing::new(&self.dir.path().join(name), &self.key, name)
    }
}

fn cosigned(answer: &Answer, checkpoint: &Checkpoint, key: &CosignerKey) {
    let Answer::Cosigned(line) = answer else { panic!("{answer:?}") };
    let with = checkpoint.with_signatures(line).unwrap();
    assert_eq!(key.verify(&with), Ok(NOW_S));
}

#[test]
fn what_continues_is_cosigned_and_a_fork_never_is() {
    let setup = Setup::new();
    let witness = setup.witness();
    let ask = |body: &str| witness.add_checkpoint(body.as_bytes(), NOW_S);
    let (mut log, mut fork) = (setup.log("log"), setup.log("fork"));
    let first = log.grow(3);
    cosigned(&ask(&log.request(0)), &first, witness.key());
    // Asked again it says where it stands; from there it cosigns the same again.
    assert_eq!(ask(&log.request(0)), Answer::Conflict(3));
    cosigned(&ask(&log.request(3)), &first, witness.key());
    let second = log.grow(700);
    cosigned(&ask(&log.request(3)), &second, witness.key());
    // Another tree of the same size, one that grew from another, one that begins anew.
    fork.grow(703);
    assert_eq!(ask(&fork.request(703)), Answer::Conflict(703));
    let third = fork.grow(10);
    assert!(matches!(ask(&fork.request(703)), Answer::Inconsistent(_)));
    assert!(matches!(ask(&body(703, &[], &third)), Answer::Inconsistent(_)));
    assert_eq!(ask(&fork.request(0)), Answer::Conflict(703));
    // An older one: there is no way back.
    assert_eq!(ask(&body(3, &[], &first)), Answer::Conflict(703));
    assert!(matches!(ask(&body(703, &[], &first)), Answer::BadRequest(_)));
    log.grow(1);
    assert!(matches!(ask(&log.request(703)), Answer::Cosigned(_)));
}

#[test]
fn the_last_checkpoint_is_durable_before_the_answer_and_bounds_the_next_start() {
    let setup = Setup::new();
    let mut log = setup.log("log");
    log.grow(5);
    let witness = setup.witness();
    assert!(matches!(witness.add_checkpoint(log.request(0).as_bytes(), 0), Answer::Cosigned(_)));
    // As after kill -9: nothing is written at the end.
    let open = State::open(&setup.dir.path().join("state"));
    assert!(matches!(open, Err(StateError::Locked(_))), "two witnesses with one state");
    drop(witness);
    let witness = setup.witness();
    assert_eq!(witness.add_checkpoint(log.request(0).as_bytes(), 0), Answer::Conflict(5));
    // What cannot be kept is not cosigned.
    log.grow(1);
    let logs = setup.dir.path().join("state/logs");
    std::fs::rename(&logs, setup.dir.path().join("away")).unwrap();
    std::fs::write(&logs, "in the way").unwrap();
    assert_eq!(witness.add_checkpoint(log.request(5).as_bytes(), 0), Answer::Failed);
    std::fs::remove_file(&logs).unwrap();
    std::fs::rename(setup.dir.path().join("away"), &logs).unwrap();
    for file in std::fs::read_dir(&logs).unwrap() {
        std::fs::write(file.unwrap().path(), "damaged").unwrap();
    }
    assert_eq!(witness.add_checkpoint(log.request(5).as_bytes(), 0), Answer::Failed);
}

#[test]
fn a_witness_is_made_once_and_never_implicitly() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    assert!(matches!(State::open(&state), Err(StateError::Missing(_))));
    let key = State::create(&state, NAME).unwrap();
    assert!(matches!(State::create(&state, NAME), Err(StateError::Exists(_))));
    assert_eq!(State::open(&state).unwrap().1.public(), key.public());
    assert!(matches!(State::create(&dir.path().join("x"), "a name"), Err(StateError::Key(_))));
}

#[test]
fn what_is_no_request_is_refused_with_words() {
    let setup = Setup::new();
    let witness = setup.witness();
    let mut log = setup.log("log");
    let head = log.grow(3);
    let text = head.text();
    let hash = base64(&[0; 32]);
    for bad in [
        String::new(),
        "old 0\n".into(),
        format!("old 00\n\n{text}"),
        format!("old -1\n\n{text}"),
        format!("old\n\n{text}"),
        format!("new 0\n\n{text}"),
        format!("old 0\nnot a hash\n\n{text}"),
        format!("old 0\n{}\n{text}", format!("{hash}\n").repeat(64)),
        format!("old 0\n\n{}", text.trim_end()),
        "old 0\n\nlog.test/a\n".into(),
    ] {
        let answer = witness.add_checkpoint(bad.as_bytes(), 0);
        assert!(matches!(answer, Answer::BadRequest(_)), "{bad}: {answer:?}");
    }
    assert!(matches!(witness.add_checkpoint(&[0xff, b'\n', b'\n'], 0), Answer::BadRequest(_)));
    // The proof from nothing is empty.
    let answer = witness.add_checkpoint(body(0, &[[0; 32]], &head).as_bytes(), 0);
    assert!(matches!(answer, Answer::Inconsistent(_)), "{answer:?}");
}

async fn post(addr: SocketAddr, method: &str, path: &str, body: String) -> (u16, String, String) {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(header::HOST, "witness.test");
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let kind = parts.headers[header::CONTENT_TYPE].to_str().unwrap().to_owned();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap();
    (parts.status.as_u16(), kind, text)
}

#[tokio::test]
async fn every_answer_has_the_code_of_the_protocol() {
    let setup = Setup::new();
    let witness = Arc::new(setup.witness());
    let key = witness.key().clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, witness));
    let ask = |body: String| post(addr, "POST", "/add-checkpoint", body);
    let mut log = setup.log("log");
    let head = log.grow(3);
    let (status, _, line) = ask(log.request(0)).await;
    assert_eq!(status, 200);
    assert!(line.starts_with("— witness.test/1 ") && line.ends_with('\n'), "{line}");
    key.verify(&head.with_signatures(&line).unwrap()).unwrap();
    let conflict = ask(log.request(0)).await;
    assert_eq!(conflict, (409, "text/x.tlog.size".into(), "3\n".into()));
    let mut fork = setup.log("fork");
    fork.grow(5);
    assert_eq!(ask(fork.request(3)).await.0, 422);
    let stranger = LogKey::generate("log.test/a").unwrap();
    let mut forged = Growing::new(&setup.dir.path().join("forged"), &stranger, "forged");
    forged.grow(4);
    assert_eq!(ask(forged.request(3)).await.0, 403);
    let other = LogKey::generate("log.test/b").unwrap();
    let mut unknown = Growing::new(&setup.dir.path().join("unknown"), &other, "unknown");
    unknown.grow(4);
    assert_eq!(ask(unknown.request(0)).await.0, 404);
    assert_eq!(ask("old 1\n\n".into()).await.0, 400);
    assert_eq!(ask("x".repeat(BODY_BYTES_MAX + 1)).await.0, 413);
    assert_eq!(post(addr, "GET", "/add-checkpoint", String::new()).await.0, 405);
    assert_eq!(post(addr, "POST", "/", String::new()).await.0, 404);
}
