//! Figures of the evidence log, beside plain SQLite on the same disk in the same run.
//! `cargo run --release -p guard-controller --example figures -- [ENTRIES TO VERIFY] [DIR]`
//!
//! Both keep the same JSON, durable before the call returns: the log as the controller appends to
//! it (journal, head and index in SQLite, files, signed checkpoint), SQLite as one INSERT for each
//! record and one transaction for each batch (WAL, synchronous = FULL). Figures depend on the disk:
//! compare the two columns, not the numbers.

#![expect(clippy::unwrap_used, reason = "a failure is the result")]

use guard_audit::{
    Event, Record,
    log::{Dir, Draft, Log, LogKey, Proof, checkpoint, verify, write_bundle},
};
use guard_controller::{
    db::Db,
    evidence::{Entry, EvidenceStore as _, MerkleEvidence},
};
use guard_model::{BootId, HostId};
use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use std::{path::Path, sync::Arc, time::Instant};
use uuid::Uuid;

/// Entries to verify if no number is given.
const ENTRIES: u64 = 1_000_000;

/// How long each way of appending is measured, s.
const SECONDS: f64 = 5.0;

/// Hosts that append at once in the concurrent case.
const HOSTS: u64 = 32;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let entries = arguments.next().map_or(ENTRIES, |text| text.parse().expect("ENTRIES: a number"));
    let given = arguments.next();
    let temporary = tempfile::tempdir().unwrap();
    let dir = given.map_or_else(|| temporary.path().to_owned(), Into::into);
    std::fs::create_dir_all(&dir).unwrap();
    println!("records of {} bytes of JSON, {} s each\n", json(1).len(), SECONDS);
    println!("{:34}{:>14}{:>14}", "records/s", "log", "SQLite");
    for batch in [1, 64, 512] {
        let log = append(&dir, 1, batch).await;
        let plain = sqlite(&dir, batch).await;
        println!("{:34}{log:>14.0}{plain:>14.0}", format!("one host, batches of {batch}"));
    }
    let log = append(&dir, HOSTS, 1).await;
    let plain = sqlite(&dir, 1).await;
    println!("{:34}{log:>14.0}{plain:>14.0}", format!("{HOSTS} hosts at once, one by one"));
    whole(&dir.join("whole"), entries);
}

fn record(host: u64, sequence: u64) -> Record {
    Record {
        host: HostId(Uuid::from_u128(u128::from(host) + 1)),
        boot: BootId(Uuid::from_u128(1)),
        sequence,
        boottime_ns: sequence,
        unix_ms: 1_700_000_000_000,
        session: None,
        event: Event::Lost { counter: "a record of usual length ".repeat(20), count: sequence },
    }
}

fn json(sequence: u64) -> String {
    serde_json::to_string(&record(0, sequence)).unwrap()
}

/// Records a second that the controller's store takes.
async fn append(dir: &Path, hosts: u64, batch: u64) -> f64 {
    let dir = dir.join(format!("log-{hosts}-{batch}"));
    std::fs::create_dir_all(&dir).unwrap();
    let db = Db::open(&dir.join("controller.db")).await.unwrap();
    let own = HostId(Uuid::from_u128(99));
    let store = Arc::new(MerkleEvidence::open(db, &dir, own).await.unwrap());
    let started = Instant::now();
    let host = |host| {
        let store = Arc::clone(&store);
        async move {
            let mut last = 0;
            while started.elapsed().as_secs_f64() < SECONDS {
                let entry = |n| {
                    let record = record(host, last + n);
                    let json = serde_json::to_string(&record).unwrap();
                    Entry { record, json }
                };
                let entries: Vec<_> = (1..=batch).map(entry).collect();
                let Record { host, boot, .. } = entries[0].record;
                let done = store.append(host, boot, entries).await.unwrap();
                assert_eq!(done.refused, None);
                last = done.last;
            }
            last
        }
    };
    let tasks: Vec<_> = (0..hosts).map(|n| tokio::spawn(host(n))).collect();
    let mut count = 0;
    for task in tasks {
        count += task.await.unwrap();
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    store.close().await;
    rate
}

/// Records a second that a table takes.
async fn sqlite(dir: &Path, batch: u64) -> f64 {
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
    while started.elapsed().as_secs_f64() < SECONDS {
        let mut tx = pool.begin().await.unwrap();
        for _ in 0..batch {
            count += 1;
            sqlx::query("INSERT INTO evidence (host, sequence, json) VALUES ('host', ?, ?)")
                .bind(i64::try_from(count).unwrap())
                .bind(json(count))
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

/// A log of that many entries: written, verified, proven.
fn whole(dir: &Path, entries: u64) {
    let key = LogKey::generate("figures.test/guard").unwrap();
    let mut log = Log::create(Dir::new(dir), &key).unwrap();
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
    let wrote = started.elapsed().as_secs_f64();
    println!("\n{entries} entries in commits of 1,024, without SQLite: {wrote:.1} s");
    let files = log.storage();
    let started = Instant::now();
    let report = verify(&*files, &[key.verifier().clone()], &[]);
    assert!(report.is_sound() && report.entries == entries, "{:?}", report.problems);
    let took = started.elapsed().as_secs_f64();
    println!("verified whole: {took:.1} s, {:.0} entries/s", entries as f64 / took);
    let head = checkpoint(&*files).unwrap();
    let started = Instant::now();
    let proof = Proof::make(&*files, &head, entries / 3).unwrap().to_text();
    let took = started.elapsed().as_secs_f64() * 1000.0;
    println!("proof of one entry: {} bytes, made in {took:.2} ms", proof.len());
    let mut bundle = Vec::new();
    let count = entries.min(1000);
    write_bundle(&files, (0, count), &mut bundle).unwrap();
    println!("bundle of {count} entries: {} bytes", bundle.len());
}
