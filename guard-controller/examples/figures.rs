//! Figures of the evidence log, beside plain SQLite on the same disk. `cargo xtask bench --only
//! evidence` runs it, each step as a process of its own, and makes a table of what it says:
//!
//! - `append DIR SECONDS`: the log as the controller appends to it (journal, head and index in
//!   SQLite, files, signed checkpoint), and the same JSON as one INSERT for each record and one
//!   transaction for each batch (WAL, synchronous = FULL); both durable before the call returns.
//! - `write STATE ENTRIES`, then `verify STATE`, `bundle STATE`, `verify-bundle STATE`, `index STATE`.
//!
//! Each says one line of JSON. Figures depend on the disk: compare, do not quote.

#![expect(clippy::unwrap_used, reason = "a failure is the result")]

use guard_audit::{
    Event, Record,
    log::{
        Dir, DirReader, Draft, Log, LogKey, Proof, VerifierKey, checkpoint, own_keys, verify,
        verify_bundle, write_bundle,
    },
};
use guard_controller::{
    db::Db,
    evidence::{Entry, EvidenceStore as _, MerkleEvidence, adopt, log_dir},
    search::Index,
};
use guard_model::{BootId, HostId};
use serde_json::{Value, json};
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, BufWriter, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Hosts that append at once in the concurrent cases.
const HOSTS: u64 = 32;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = match words[..] {
        ["append", dir, seconds] => appends(dir.as_ref(), seconds.parse().unwrap()).await,
        ["write", state, entries] => written(state.as_ref(), entries.parse().unwrap()),
        ["verify", state] => verified(state.as_ref()),
        ["bundle", state] => bundled(state.as_ref()),
        ["verify-bundle", state] => bundle_verified(state.as_ref()),
        ["index", state] => indexed(state.as_ref()).await,
        _ => panic!(
            "append DIR SECONDS | write STATE ENTRIES | verify | bundle | verify-bundle | index"
        ),
    };
    println!("{said}");
}

fn record(host: u64, sequence: u64) -> Record {
    Record {
        host: HostId(Uuid::from_u128(u128::from(host) + 1)),
        boot: BootId(Uuid::from_u128(1)),
        sequence,
        boottime_ns: sequence * 1_000_000,
        unix_ms: 1_700_000_000_000 + sequence,
        session: None,
        event: Event::Lost { counter: "a record of usual length ".repeat(20), count: sequence },
    }
}

fn own() -> HostId {
    HostId(Uuid::from_u128(99))
}

async fn appends(dir: &Path, seconds: u64) -> Value {
    let time = Duration::from_secs(seconds);
    let mut cases = Vec::new();
    for (what, hosts, batch) in [
        ("one host, one by one", 1, 1),
        ("one host, batches of 64", 1, 64),
        ("one host, batches of 512", 1, 512),
        ("32 hosts at once, one by one", HOSTS, 1),
        ("32 hosts at once, batches of 64", HOSTS, 64),
    ] {
        let appended = append(dir, hosts, batch, time).await;
        // As many in a transaction as a group commit has.
        let plain = sqlite(dir, hosts * batch, time).await;
        let is_best = (hosts, batch) == (HOSTS, 64);
        cases.push(json!({
            "what": what, "per_s": appended.per_s, "sqlite_per_s": plain, "is_best": is_best,
            "ack_p50_ms": appended.p50_ms, "ack_p99_ms": appended.p99_ms,
        }));
    }
    json!({ "cases": cases, "record_bytes": serde_json::to_vec(&record(0, 1)).unwrap().len() })
}

struct Appended {
    per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// What the controller's store takes, and how long an append waits for its acknowledgement.
async fn append(dir: &Path, hosts: u64, batch: u64, time: Duration) -> Appended {
    let dir = dir.join(format!("log-{hosts}-{batch}"));
    fs::create_dir_all(&dir).unwrap();
    let db = Db::open(&dir.join("controller.db")).await.unwrap();
    let store = Arc::new(MerkleEvidence::open(db, &dir, own()).await.unwrap());
    let started = Instant::now();
    let host = |host| {
        let store = Arc::clone(&store);
        async move {
            let (mut last, mut waits) = (0, Vec::new());
            while started.elapsed() < time {
                let entry = |n| {
                    let record = record(host, last + n);
                    let json = serde_json::to_string(&record).unwrap();
                    Entry { record, json }
                };
                let entries: Vec<_> = (1..=batch).map(entry).collect();
                let Record { host, boot, .. } = entries[0].record;
                let asked = Instant::now();
                let done = store.append(host, boot, entries).await.unwrap();
                waits.push(asked.elapsed());
                assert_eq!(done.refused, None);
                last = done.last;
            }
            (last, waits)
        }
    };
    let tasks: Vec<_> = (0..hosts).map(|n| tokio::spawn(host(n))).collect();
    let (mut count, mut waits) = (0, Vec::new());
    for task in tasks {
        let (last, of_host) = task.await.unwrap();
        count += last;
        waits.extend(of_host);
    }
    let per_s = count as f64 / started.elapsed().as_secs_f64();
    store.close().await;
    waits.sort_unstable();
    let at = |part: usize| waits[(waits.len() * part / 100).min(waits.len() - 1)].as_secs_f64();
    Appended { per_s, p50_ms: at(50) * 1000.0, p99_ms: at(99) * 1000.0 }
}

/// Records a second that a table takes.
async fn sqlite(dir: &Path, batch: u64, time: Duration) -> f64 {
    let path = dir.join(format!("plain-{}.db", Uuid::new_v4()));
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let table = "CREATE TABLE evidence (position INTEGER PRIMARY KEY, host TEXT NOT NULL, \
                 sequence INTEGER NOT NULL, json TEXT NOT NULL, UNIQUE (host, sequence)) STRICT";
    sqlx::query(table).execute(&pool).await.unwrap();
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < time {
        let mut tx = pool.begin().await.unwrap();
        for _ in 0..batch {
            count += 1;
            sqlx::query("INSERT INTO evidence (host, sequence, json) VALUES ('host', ?, ?)")
                .bind(i64::try_from(count).unwrap())
                .bind(serde_json::to_string(&record(0, count)).unwrap())
                .execute(&mut *tx)
                .await
                .unwrap();
        }
        tx.commit().await.unwrap();
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    pool.close().await;
    rate
}

/// A log of that many entries in a state directory.
fn written(state: &Path, entries: u64) -> Value {
    fs::DirBuilder::new().mode(0o700).create(state).unwrap();
    let key = LogKey::generate(&format!("guard/log/{}", own())).unwrap();
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(state.join("log.key"))
        .unwrap();
    file.write_all(key.to_secret_text().as_bytes()).unwrap();
    let mut log = Log::create(Dir::new(log_dir(state)), &key).unwrap();
    let started = Instant::now();
    let mut at = 0;
    while at < entries {
        let count = (entries - at).min(1024);
        let drafts = (1..=count).map(|n| Draft::new(record(0, at + n)).unwrap());
        let staged = log.stage(&drafts.collect::<Vec<_>>(), 0).unwrap();
        log.publish(staged).unwrap();
        at += count;
    }
    log.settle().unwrap();
    json!({ "seconds": started.elapsed().as_secs_f64() })
}

fn opened(state: &Path) -> (Arc<Dir>, Vec<VerifierKey>, u64) {
    let files = Arc::new(Dir::new(log_dir(state)));
    let size = checkpoint(&*files).unwrap().head.size;
    let keys = own_keys(&*files).unwrap();
    (files, keys, size)
}

fn verified(state: &Path) -> Value {
    let (files, keys, size) = opened(state);
    let started = Instant::now();
    let report = verify(&*files, &keys, &[]);
    let seconds = started.elapsed().as_secs_f64();
    assert!(report.is_sound() && report.entries == size, "{:?}", report.problems);
    let rss_mb = peak_rss_mb();
    let head = checkpoint(&*files).unwrap();
    let started = Instant::now();
    let proof = Proof::make(&*files, &head, size / 3).unwrap().to_text();
    let proof_ms = started.elapsed().as_secs_f64() * 1000.0;
    json!({ "seconds": seconds, "rss_mb": rss_mb, "proof_bytes": proof.len(), "proof_ms": proof_ms })
}

fn bundle_path(state: &Path) -> PathBuf {
    state.join("bundle.tar")
}

fn bundled(state: &Path) -> Value {
    let (files, _, size) = opened(state);
    let started = Instant::now();
    let mut out = BufWriter::new(File::create(bundle_path(state)).unwrap());
    write_bundle(&files, (0, size), &mut out).unwrap();
    out.flush().unwrap();
    let seconds = started.elapsed().as_secs_f64();
    let mb = fs::metadata(bundle_path(state)).unwrap().len() as f64 / 1e6;
    json!({ "seconds": seconds, "rss_mb": peak_rss_mb(), "mb": mb })
}

fn bundle_verified(state: &Path) -> Value {
    let (_, keys, size) = opened(state);
    let started = Instant::now();
    let report = verify_bundle(BufReader::new(File::open(bundle_path(state)).unwrap()), &keys, &[]);
    let seconds = started.elapsed().as_secs_f64();
    assert!(report.is_sound() && report.entries == size, "{:?}", report.problems);
    json!({ "seconds": seconds, "rss_mb": peak_rss_mb() })
}

/// The database's view of the log, and then the search index, made anew.
async fn indexed(state: &Path) -> Value {
    let started = Instant::now();
    let report = adopt(state).await.unwrap();
    let adopted = started.elapsed().as_secs_f64();
    let db = Db::open(&state.join("controller.db")).await.unwrap();
    let size = Arc::new(AtomicU64::new(report.entries));
    let reader = DirReader::new(Arc::new(Dir::new(log_dir(state))), size);
    let index = Index::open(db, Arc::new(reader)).await.unwrap();
    let started = Instant::now();
    while index.step().await.unwrap() > 0 {}
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(index.indexed(), report.entries);
    json!({
        "per_s": report.entries as f64 / seconds,
        "adopted_per_s": report.entries as f64 / adopted,
        "rss_mb": peak_rss_mb(),
    })
}

/// The most memory that this process has had.
fn peak_rss_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
