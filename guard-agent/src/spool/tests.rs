//! The spool against crashes, a full disk and a slow controller.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;
use guard_audit::{Record, log::PAYLOAD_BYTES_MAX};
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

const HOST: HostId = HostId(Uuid::from_u128(1));

fn boot(number: u128) -> BootId {
    BootId(Uuid::from_u128(number))
}

fn config(root: &Path, number: u128) -> SpoolConfig {
    SpoolConfig {
        root: root.to_owned(),
        limit_bytes: LIMIT_DEFAULT,
        host: HOST,
        boot: boot(number),
    }
}

fn heartbeat(number: u64) -> Event {
    Event::Heartbeat { counters: BTreeMap::new(), pending_holds: number }
}

/// Opens, records `count` events, closes.
fn write(config: &SpoolConfig, count: u64) {
    let spool = Spool::open(config).unwrap();
    for number in 0..count {
        spool.record(1, 1, None, heartbeat(number));
    }
    spool.close();
}

fn exported(root: &Path) -> Vec<Record> {
    exported_after(root, None)
}

fn exported_after(root: &Path, after: Option<u64>) -> Vec<Record> {
    let mut out = Vec::new();
    let count = read::export(root, after, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let records: Vec<Record> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len() as u64, count);
    records
}

fn sequences(root: &Path) -> Vec<u64> {
    exported(root).iter().map(|record| record.sequence).collect()
}

fn newest_segment(root: &Path) -> PathBuf {
    let log = disk::list(root).unwrap().pop().unwrap();
    disk::segment_path(&log.path, log.segments.last().unwrap().first)
}

#[test]
fn the_sequence_goes_on_after_a_restart_and_starts_again_in_a_new_boot() {
    let directory = tempfile::tempdir().unwrap();
    write(&config(directory.path(), 7), 3);
    write(&config(directory.path(), 7), 2);
    write(&config(directory.path(), 8), 2);
    assert_eq!(sequences(directory.path()), [1, 2, 3, 4, 5, 1, 2]);
}

#[test]
fn what_follows_a_record_of_the_last_boot_is_exported_alone() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(exported_after(directory.path(), Some(0)), []);
    write(&config(directory.path(), 7), 9);
    for _ in 0..3 {
        write(&config(directory.path(), 8), 2);
    }
    for after in 0..=7 {
        let left = exported_after(directory.path(), Some(after));
        let left: Vec<u64> = left.iter().map(|record| record.sequence).collect();
        assert_eq!(left, (after + 1..=6).collect::<Vec<_>>(), "after {after}");
    }
}

#[test]
fn what_the_controller_has_not_acknowledged_is_sent_again_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    write(&config(directory.path(), 7), 3);
    write(&config(directory.path(), 8), 3);
    let spool = Spool::open(&config(directory.path(), 8)).unwrap();
    let mut reader = spool.reader();
    let batch = reader.next(1 << 20).unwrap().unwrap();
    assert_eq!((batch.boot, batch.records.len()), (boot(7), 3));
    let batch = reader.next(1 << 20).unwrap().unwrap();
    assert_eq!((batch.boot, batch.records.len()), (boot(8), 3));
    assert!(reader.next(1 << 20).unwrap().is_none());
    reader.acknowledger().ack(boot(7), 3).unwrap();
    reader.acknowledger().ack(boot(8), 2).unwrap();
    reader.rewind();
    let batch = reader.next(1 << 20).unwrap().unwrap();
    assert_eq!((batch.boot, batch.records[0].0), (boot(8), 3));
    spool.close();
    // The position outlives the process.
    let spool = Spool::open(&config(directory.path(), 8)).unwrap();
    assert_eq!(spool.reader().next(1 << 20).unwrap().unwrap().records[0].0, 3);
    spool.close();
}

#[test]
fn its_figures_follow_what_is_written_and_what_the_controller_acknowledges() {
    let directory = tempfile::tempdir().unwrap();
    write(&config(directory.path(), 7), 3);
    let spool = Spool::open(&config(directory.path(), 8)).unwrap();
    let figures = || -> Vec<u64> { spool.figures().into_iter().map(|(_, value)| value).collect() };
    let names: Vec<_> = spool.figures().into_iter().map(|(name, _)| name).collect();
    let expected = ["bytes", "limit_bytes", "unacknowledged_records", "queued_records"];
    assert_eq!(names, expected.map(|name| format!("spool_{name}")));
    let before = figures();
    assert_eq!((before[1], before[2], before[3]), (LIMIT_DEFAULT, 3, 0));
    assert!(before[0] > 0);
    spool.record(1, 1, None, heartbeat(1));
    until("it is durable", || spool.is_written());
    assert_eq!((figures()[2], figures()[3]), (4, 0));
    assert!(figures()[0] > before[0]);
    let mut reader = spool.reader();
    while reader.next(1 << 20).unwrap().is_some() {}
    reader.acknowledger().ack(boot(7), 2).unwrap();
    assert_eq!(figures()[2], 2);
    reader.acknowledger().ack(boot(7), 3).unwrap();
    reader.acknowledger().ack(boot(8), 1).unwrap();
    assert_eq!(figures()[2], 0);
    spool.close();
}

#[test]
fn a_batch_stays_below_its_limit_and_always_makes_progress() {
    let directory = tempfile::tempdir().unwrap();
    write(&config(directory.path(), 7), 10);
    let spool = Spool::open(&config(directory.path(), 7)).unwrap();
    let mut reader = spool.reader();
    let one = reader.next(1).unwrap().unwrap().records[0].1.len();
    let batch = reader.next(3 * one).unwrap().unwrap();
    assert_eq!(batch.records.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [2, 3, 4]);
    spool.close();
}

#[tokio::test]
async fn a_reader_is_woken_by_what_becomes_durable() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::open(&config(directory.path(), 7)).unwrap();
    let mut reader = spool.reader();
    assert!(reader.next(100).unwrap().is_none());
    spool.record(1, 1, None, heartbeat(1));
    assert!(tokio::time::timeout(Duration::from_secs(20), reader.wait()).await.unwrap());
    assert_eq!(reader.next(100).unwrap().unwrap().records.len(), 1);
    spool.close();
}

#[test]
fn a_full_spool_says_so_and_then_says_what_was_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut small = config(directory.path(), 7);
    small.limit_bytes = 2000;
    let spool = Spool::open(&small).unwrap();
    let mut reader = spool.reader();
    let until = |what: &dyn Fn() -> bool| {
        let end = std::time::Instant::now() + Duration::from_secs(30);
        while !what() {
            assert!(std::time::Instant::now() < end);
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    while !spool.is_full() {
        spool.record(1, 1, None, heartbeat(1));
        std::thread::sleep(Duration::from_millis(2));
    }
    let kept = reader.next(1 << 20).unwrap().unwrap().records.len() as u64;
    assert!(kept > 1);
    // Nothing was acknowledged, so nothing may be deleted: it stays full.
    spool.shared.lost.store(5, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(50));
    assert!(spool.is_full());
    // Room comes only with a closed segment; here by a larger limit at the next start.
    spool.close();
    let spool = Spool::open(&config(directory.path(), 7)).unwrap();
    spool.shared.lost.store(5, Ordering::Relaxed);
    spool.record(1, 1, None, heartbeat(2));
    until(&|| *spool.durable.borrow() >= kept + 2);
    assert!(!spool.is_full());
    spool.close();
    let last = exported(directory.path()).pop().unwrap();
    assert_eq!(last.event, Event::Lost { counter: "spool_full".into(), count: 5 });
}

#[test]
fn room_is_made_from_acknowledged_segments_only_and_oldest_first() {
    let directory = tempfile::tempdir().unwrap();
    let per_record = 200;
    let config = SpoolConfig { limit_bytes: 10 << 20, ..config(directory.path(), 7) };
    write(&config, 9 * (1 << 20) / per_record);
    let mut disk = disk::Disk::open(directory.path(), boot(7)).unwrap();
    let before = disk.boots[&1].clone();
    assert!(before.segments.len() >= 2, "{:?}", before.segments);
    assert!(!disk.make_room(5 << 20, 10 << 20).unwrap());
    disk.ack(boot(7), before.segments[1].first - 1).unwrap();
    assert!(disk.make_room(4 << 20, 10 << 20).unwrap());
    assert_eq!(disk.boots[&1].segments, before.segments[1..]);
    assert_eq!(sequences(directory.path())[0], before.segments[1].first);
}

#[test]
fn a_record_that_the_log_would_not_take_leaves_a_word_and_no_gap() {
    let directory = tempfile::tempdir().unwrap();
    let spool = Spool::open(&config(directory.path(), 7)).unwrap();
    let stopped =
        |bytes: usize| Event::Stopped { component: "a".into(), reason: "x".repeat(bytes) };
    let session = Some(SessionId(Uuid::from_u128(3)));
    let empty = Entry::new(1, 1, session, &stopped(0)).to_json(HOST, boot(7), 1).len();
    for bytes in [PAYLOAD_BYTES_MAX - empty, PAYLOAD_BYTES_MAX - empty + 1] {
        spool.record(1, 1, session, stopped(bytes));
    }
    spool.record(1, 1, None, heartbeat(1));
    spool.close();
    let records = exported(directory.path());
    assert!(matches!(records[0].event, Event::Stopped { .. }));
    assert_eq!(serde_json::to_vec(&records[0]).unwrap().len(), PAYLOAD_BYTES_MAX);
    assert_eq!(records[1].event, Event::Lost { counter: "record_too_large".into(), count: 1 });
    assert_eq!((records[1].session, records[2].sequence), (session, 3));
}

#[test]
fn what_is_written_is_what_serde_makes_of_the_record() {
    for session in [None, Some(SessionId(Uuid::from_u128(3)))] {
        for event in [
            heartbeat(4),
            Event::SessionEnded {},
            Event::Forked { pid: 1, child_pid: 2, child_tid: 2 },
            Event::Executed { pid: 1, exe: guard_model::RawText::new(b"/a\xff\"\n".to_vec()) },
        ] {
            let (boottime_ns, unix_ms, sequence) = (u64::MAX, 7, 9);
            let json = Entry::new(boottime_ns, unix_ms, session, &event).to_json(HOST, boot(7), 9);
            let (host, boot) = (HOST, boot(7));
            let record = Record { host, boot, sequence, boottime_ns, unix_ms, session, event };
            assert_eq!(json, serde_json::to_vec(&record).unwrap());
        }
    }
}

#[test]
fn records_that_were_removed_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    write(&config(directory.path(), 7), 3);
    let mut disk = disk::Disk::open(directory.path(), boot(7)).unwrap();
    disk.ack(boot(7), 3).unwrap();
    std::fs::File::options()
        .write(true)
        .open(newest_segment(directory.path()))
        .unwrap()
        .set_len(0)
        .unwrap();
    let error = disk::Disk::open(directory.path(), boot(7)).unwrap_err();
    assert!(matches!(error, SpoolError::Missing { last: 0, acked: 3, .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_crash_at_any_byte_leaves_no_gap_and_no_double(cut in 0.0..1.0_f64, more in 0..4_u64) {
        let directory = tempfile::tempdir().unwrap();
        write(&config(directory.path(), 7), 5);
        let path = newest_segment(directory.path());
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len((length as f64 * cut) as u64).unwrap();
        drop(file);
        write(&config(directory.path(), 7), more);
        let sequences = sequences(directory.path());
        let expected: Vec<u64> = (1..=sequences.len() as u64).collect();
        prop_assert_eq!(sequences, expected);
    }
}

/// A file system of one megabyte, for the inner run; the outer one starts that and is done.
fn small_disk(test: &str) -> Option<PathBuf> {
    const MOUNTED: &str = "GUARD_TEST_MOUNTED";
    if let Some(dir) = std::env::var_os(MOUNTED) {
        return Some(dir.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=1m none "$1" && exec "$2" --exact "$3" --nocapture"#;
    // Whoever is not root is root in a user namespace.
    let done = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env(MOUNTED, dir.path())
        .output()
        .expect("util-linux's unshare is needed for this test");
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    None
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("never: {what}");
}

#[test]
fn a_disk_that_is_really_full_is_said_and_written_to_again_once_it_has_room() {
    let test =
        "spool::tests::a_disk_that_is_really_full_is_said_and_written_to_again_once_it_has_room";
    let Some(disk) = small_disk(test) else { return };
    let config = config(&disk.join("spool"), 7);
    let spool = Spool::open(&config).unwrap();
    let somebodys = disk.join("somebody's");
    std::fs::write(&somebodys, vec![1; 500_000]).unwrap();
    let mut count = 0;
    until("the disk is full", || {
        for _ in 0..500 {
            spool.record(1, 1, None, heartbeat(count));
            count += 1;
        }
        std::thread::sleep(Duration::from_millis(20));
        spool.is_full()
    });
    let durable = *spool.durable.borrow();
    assert!(durable > 0 && durable < count, "{durable} of {count}");
    std::fs::remove_file(&somebodys).unwrap();
    until("there is room", || !spool.is_full() && spool.is_written());
    spool.close();
    // What waited meanwhile is there, in order, once.
    assert_eq!(sequences(&config.root), (1..=count).collect::<Vec<_>>());
}

#[test]
fn a_read_only_disk_is_refused_by_name_and_nothing_is_lost() {
    let test = "spool::tests::a_read_only_disk_is_refused_by_name_and_nothing_is_lost";
    let Some(disk) = small_disk(test) else { return };
    let config = config(&disk.join("spool"), 7);
    write(&config, 3);
    let remount = |how: &str| {
        let mut mount = std::process::Command::new("mount");
        let options = format!("remount,{how}");
        assert!(mount.arg("-o").arg(options).arg(&disk).status().unwrap().success());
    };
    remount("ro");
    let error = anyhow::Error::new(Spool::open(&config).unwrap_err());
    let said = format!("{error:#}");
    assert!(said.contains("Read-only file system") && said.contains("spool"), "{said}");
    remount("rw");
    write(&config, 2);
    assert_eq!(sequences(&config.root), [1, 2, 3, 4, 5]);
}
