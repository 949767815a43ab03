//! Every write × {fails, fails but persisted, torn} × {killed, power lost}: nothing acknowledged is
//! ever lost, and the log always opens again.

use crate::support::{CRASHES, Crash, FAULTS, Fault, Memory, all, commit, drafts, key, record};
use guard_audit::log::{Chains, Dir, DirReader, Log, LogKey, verify};
use std::{
    fs,
    sync::{Arc, atomic::AtomicU64},
};

/// Sizes of commits: within a tile, over its edge, exactly to an edge, several tiles.
const COMMITS: [u64; 7] = [1, 254, 3, 254, 700, 1, 300];

/// After which commit the journal is retired.
const SETTLE_AFTER: usize = 3;

struct Run {
    /// The head, as the database has it.
    head: String,
    acknowledged: u64,
    /// Whether it went through without an error.
    whole: bool,
}

/// Logs until the first error.
fn run(memory: &Memory, key: &LogKey, head: String, from: u64, commits: &[u64]) -> Run {
    let mut done = Run { head, acknowledged: from, whole: false };
    let Ok(mut log) = Log::open(memory.clone(), key, done.head.as_bytes()) else { return done };
    for (at, count) in commits.iter().enumerate() {
        let batch = drafts(done.acknowledged, *count);
        let Ok(staged) = log.stage(&batch, 0) else { return done };
        done.head = staged.after.text().to_owned();
        if log.publish(staged).is_err() {
            // Committed, not acknowledged.
            assert!(log.is_broken());
            return done;
        }
        done.acknowledged += count;
        if at + 1 == SETTLE_AFTER && log.settle().is_err() {
            return done;
        }
    }
    done.whole = log.settle().is_ok();
    done
}

fn fresh(key: &LogKey) -> (Memory, String) {
    let memory = Memory::default();
    let log = Log::create(memory.clone(), key).unwrap();
    let head = log.head().text().to_owned();
    (memory, head)
}

fn check(memory: &Memory, key: &LogKey, run: &Run, what: &str) {
    let log = Log::open(memory.clone(), key, run.head.as_bytes())
        .unwrap_or_else(|error| panic!("{what}: does not open: {error}"));
    let size = log.head().head.size;
    assert!(size >= run.acknowledged, "{what}: {} acknowledged, {size} left", run.acknowledged);
    drop(log);
    let records = all(Arc::new(memory.clone()), size);
    let expected: Vec<_> = (1..=size).map(|n| record(1, n)).collect();
    assert_eq!(records, expected, "{what}");
    let report = verify(memory, &[key.verifier().clone()], &[]);
    assert!(report.problems.is_empty(), "{what}: {:?}", report.problems);
    // Goes on from where it is.
    let more = self::run(memory, key, run.head.clone(), size, &[2]);
    assert!(more.whole && more.acknowledged == size + 2, "{what}");
}

#[test]
fn any_write_may_fail_and_nothing_acknowledged_is_lost() {
    let key = key();
    let (memory, head) = fresh(&key);
    let before = memory.writes();
    assert!(run(&memory, &key, head, 0, &COMMITS).whole);
    let writes = memory.writes() - before;
    assert!(writes > 60, "{writes}");
    let mut cases = 0;
    for write in 1..=writes {
        for fault in FAULTS {
            let (memory, head) = fresh(&key);
            memory.fail_at(write, fault);
            let run = run(&memory, &key, head, 0, &COMMITS);
            assert!(memory.tripped(), "write {write} never came");
            for crash in CRASHES {
                let what = format!("write {write} {fault:?}, then {crash:?}");
                check(&memory.after(crash), &key, &run, &what);
                cases += 1;
            }
        }
    }
    assert!(cases > 500, "{cases}");
}

#[test]
fn commits_of_any_length_are_replayed_from_a_directorys_journal() {
    let dir = tempfile::tempdir().unwrap();
    let key = key();
    let mut log = Log::create(Dir::new(dir.path()), &key).unwrap();
    let mut head = log.head().text().to_owned();
    let mut size = 0;
    // Single ones into zeros that were written ahead, long ones over their end, and again.
    for count in [1, 1, 1000, 1, 1000, 1000, 1, 300, 1] {
        commit(&mut log, &mut head, &drafts(size, count)).unwrap();
        size += count;
    }
    drop(log);
    let journals: Vec<_> = fs::read_dir(dir.path().join("journal")).unwrap().collect();
    let journal = fs::read(journals[0].as_ref().unwrap().path()).unwrap();
    assert!(journal.ends_with(&[0; 1000]), "nothing was written ahead");
    let sound = || {
        let report = verify(&Dir::new(dir.path()), &[key.verifier().clone()], &[]);
        let torn = report.findings.lines.iter().any(|line| line.contains("journal"));
        assert!(report.problems.is_empty() && !torn, "{report:?}");
    };
    sound();
    // What only the journal has.
    for gone in ["tile", "payload"] {
        fs::remove_dir_all(dir.path().join(gone)).unwrap();
    }
    let log = Log::open(Dir::new(dir.path()), &key, head.as_bytes()).unwrap();
    assert_eq!(log.head().head.size, size);
    drop(log);
    assert_eq!(all(Arc::new(Dir::new(dir.path())), size).len() as u64, size);
    sound();
}

#[test]
fn a_crash_while_opening_can_be_opened_again() {
    let key = key();
    // Committed in the journal only: the open has everything to replay.
    let (memory, head) = fresh(&key);
    let mut log = Log::open(memory.clone(), &key, head.as_bytes()).unwrap();
    let mut head = head;
    for (from, count) in [(0, 200), (200, 300), (500, 20)] {
        commit(&mut log, &mut head, &drafts(from, count)).unwrap();
    }
    let killed = memory.after(Crash::Power);
    for write in 1.. {
        for fault in FAULTS {
            let memory = killed.after(Crash::Kill);
            memory.fail_at(write, fault);
            let opened = Log::open(memory.clone(), &key, head.as_bytes());
            if !memory.tripped() {
                assert!(write > 5 && opened.is_ok());
                return;
            }
            drop(opened);
            for crash in CRASHES {
                let run = Run { head: head.clone(), acknowledged: 520, whole: false };
                let what = format!("write {write} of an open {fault:?}, then {crash:?}");
                check(&memory.after(crash), &key, &run, &what);
            }
        }
    }
}

#[test]
fn what_was_staged_and_never_committed_is_left_out() {
    let key = key();
    let (memory, mut head) = fresh(&key);
    let mut log = Log::open(memory.clone(), &key, head.as_bytes()).unwrap();
    commit(&mut log, &mut head, &drafts(0, 5)).unwrap();
    let staged = log.stage(&drafts(5, 5), 0).unwrap();
    assert_eq!(staged.entries.len(), 5);
    drop(log);
    let run = Run { head, acknowledged: 5, whole: false };
    for crash in CRASHES {
        check(&memory.after(crash), &key, &run, "staged");
    }
}

#[test]
fn erasing_in_many_files_may_fail_at_any_write_and_is_done_again() {
    let key = key();
    let positions = [3, 255, 256, 300, 513];
    for fault in FAULTS {
        for write in 1..=8 {
            let (log, head) = crate::support::filled(Memory::default(), &key, 600);
            let disk = log.storage();
            drop(log);
            let mut log = Log::open((*disk).clone(), &key, head.as_bytes()).unwrap();
            disk.fail_at(write, fault);
            let erased = log.erase_all(&positions);
            assert_eq!(erased.is_err(), disk.tripped(), "{fault:?} {write}");
            drop(log);
            for crash in CRASHES {
                let left = disk.after(crash);
                let mut log = Log::open(left.clone(), &key, head.as_bytes()).unwrap();
                log.erase_all(&positions).unwrap();
                let reader = DirReader::new(log.storage(), Arc::new(AtomicU64::new(600)));
                for at in 0..600 {
                    let gone = reader.read_raw(at, 1).unwrap()[0].payload.is_none();
                    assert_eq!(gone, positions.contains(&at), "{fault:?} {write} {crash:?} {at}");
                }
            }
        }
    }
}

#[test]
fn an_erasure_that_fails_leaves_the_payload_or_takes_it() {
    let key = key();
    for fault in FAULTS {
        for write in 1..=5 {
            let (memory, head) = crate::support::filled(Memory::default(), &key, 300);
            let disk = memory.storage();
            drop(memory);
            let mut log = Log::open((*disk).clone(), &key, head.as_bytes()).unwrap();
            disk.fail_at(write, fault);
            let erased = log.erase(299);
            assert_eq!(erased.is_err(), disk.tripped(), "{fault:?} {write}");
            drop(log);
            for crash in CRASHES {
                let left = disk.after(crash);
                let mut log = Log::open(left.clone(), &key, head.as_bytes()).unwrap();
                log.erase(299).unwrap();
                *log.chains() = Chains::default();
                commit(&mut log, &mut head.clone(), &drafts(300, 1)).unwrap();
            }
        }
    }
    assert_eq!(Fault::Fails, FAULTS[0]);
}
