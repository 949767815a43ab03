//! What the link sends, without a network.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::{
    window::{BATCH_BYTES, BATCHES_MAX, Window},
    *,
};
use crate::spool::{LIMIT_DEFAULT, Spool, SpoolConfig};
use guard_audit::Event;
use guard_model::HostId;
use std::path::Path;
use tokio::time::timeout;
use uuid::Uuid;

/// Records of a session that floods: far more than may be under way.
const FLOOD: u64 = 4_000;
/// Nothing that a test waits for takes as long.
const SOON: Duration = Duration::from_secs(20);
/// What does not come within this does not come.
const NOTHING: Duration = Duration::from_millis(200);

fn spool(root: &Path) -> Spool {
    let config = SpoolConfig {
        root: root.to_owned(),
        limit_bytes: LIMIT_DEFAULT,
        host: HostId(Uuid::from_u128(1)),
        boot: BootId(Uuid::from_u128(2)),
    };
    Spool::open(&config).unwrap()
}

fn record(spool: &Spool, number: u64) {
    let event = Event::Heartbeat { counters: Default::default(), pending_holds: number };
    spool.record(1, 1, None, event);
}

fn flooded(root: &Path) -> Spool {
    let spool = spool(root);
    for number in 0..FLOOD {
        record(&spool, number);
    }
    spool
}

/// The number of records and the bytes of JSON in a message, if it is evidence.
fn evidence(message: v1::FromHost) -> Option<(usize, usize)> {
    let Some(from_host::Message::Evidence(batch)) = message.message else { return None };
    let bytes = batch.records.iter().map(|record| record.record_json.len()).sum();
    Some((batch.records.len(), bytes))
}

#[tokio::test]
async fn a_hold_overtakes_all_evidence_but_a_few_small_batches() {
    let directory = tempfile::tempdir().unwrap();
    let spool = flooded(directory.path());
    let mut reader = spool.reader();
    // Buffers without end: only the window can hold evidence back.
    let (stream, mut sent) = mpsc::channel(FLOOD as usize);
    let (driver, mut from_driver) = mpsc::channel(1);
    let window = Window::default();
    let holds = talk(&mut from_driver, &stream);
    let flood = replay(&mut reader, &stream, &window, GATHER_TIME);
    let check = async {
        let mut records = 0;
        for _ in 0..BATCHES_MAX {
            let message = timeout(SOON, sent.recv()).await.unwrap().unwrap();
            let (count, bytes) = evidence(message).unwrap();
            assert!(bytes <= BATCH_BYTES, "{bytes}");
            records += count;
        }
        assert!(timeout(NOTHING, sent.recv()).await.is_err(), "more is under way");
        driver.send(ToLink::Heartbeat(v1::Heartbeat::default())).await.unwrap();
        let next = timeout(SOON, sent.recv()).await.unwrap().unwrap();
        assert_eq!(evidence(next), None, "it comes next");
        // Each answer lets one more go, until there is nothing more.
        while records < FLOOD as usize {
            window.answered();
            let message = timeout(SOON, sent.recv()).await.unwrap().unwrap();
            records += evidence(message).unwrap().0;
            assert!(timeout(NOTHING / 20, sent.recv()).await.is_err(), "one for one");
        }
    };
    tokio::select! {
        ended = holds => panic!("{ended:?}"),
        ended = flood => panic!("{ended:?}"),
        () = check => {}
    }
}

#[tokio::test]
async fn records_one_after_the_other_travel_together() {
    let directory = tempfile::tempdir().unwrap();
    let spool = spool(directory.path());
    let mut reader = spool.reader();
    let (stream, mut sent) = mpsc::channel(8);
    let window = Window::default();
    let sending = replay(&mut reader, &stream, &window, 10 * GATHER_TIME);
    let check = async {
        // Until it waits: what is there at the start is a backlog, which nothing follows.
        tokio::task::yield_now().await;
        for number in 0..5 {
            record(&spool, number);
            while !spool.is_written() {
                std::thread::sleep(Duration::from_millis(1));
            }
            tokio::task::yield_now().await;
        }
        let first = timeout(SOON, sent.recv()).await.unwrap().unwrap();
        assert_eq!(evidence(first).unwrap().0, 5);
    };
    tokio::select! {
        ended = sending => panic!("{ended:?}"),
        () = check => {}
    }
}

#[tokio::test]
async fn the_position_that_the_controller_says_first_makes_the_window_no_wider() {
    let window = Window::default();
    for _ in 0..3 {
        window.answered();
    }
    for _ in 0..BATCHES_MAX {
        timeout(SOON, window.send_one()).await.unwrap();
    }
    assert!(timeout(NOTHING, window.send_one()).await.is_err());
    window.answered();
    timeout(SOON, window.send_one()).await.unwrap();
}
