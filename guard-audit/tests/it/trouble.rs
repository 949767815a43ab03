//! Tampering, bit rot, a second writer, a restored backup, wrong keys, limits: refused, with where.

use crate::support::{Memory, all, boot, commit, drafts, filled, host, key, record};
use guard_audit::{
    Event, HoldScope, LogReader as _, Record,
    log::{
        BATCH_MAX, CLOCK_JUMP_MS, DirReader, Draft, Log, LogError, LogKey, PAYLOAD_BYTES_MAX,
        Proof, SILENCE_MS, TileHashes, check_consistency, verify,
    },
};
use std::sync::{Arc, atomic::AtomicU64};

/// Not a multiple of a tile; two complete bundles.
const SIZE: u64 = 600;

fn sound(memory: &Memory, key: &LogKey) -> Vec<String> {
    verify(memory, &[key.verifier().clone()], &[]).problems.lines
}

#[test]
fn one_flipped_bit_in_any_file_is_found_and_named() {
    let key = key();
    let (log, _) = filled(Memory::default(), &key, SIZE);
    let memory = (*log.storage()).clone();
    drop(log);
    assert_eq!(sound(&memory, &key), [""; 0]);
    let mut files = 0;
    for name in memory.names() {
        // What is in a journal is not part of the published log; its own checksum guards it.
        if name.starts_with("journal/") {
            continue;
        }
        files += 1;
        let length = memory.len(&name);
        for at in (0..length).step_by((length / 50).max(1)) {
            let broken = memory.copy();
            broken.change(&name, |bytes| bytes[at] ^= 1 << (at % 8));
            let problems = sound(&broken, &key);
            assert!(!problems.is_empty(), "{name}, byte {at}");
            let index_of_a_payload = name.starts_with("payload/");
            let named = problems.iter().any(|problem| problem.contains(&name));
            let named = named || index_of_a_payload && problems[0].contains("entry");
            assert!(named, "{name}, byte {at}: {problems:?}");
        }
        let broken = memory.copy();
        broken.change(&name, |bytes| bytes.truncate(bytes.len() / 2));
        assert!(!sound(&broken, &key).is_empty(), "{name}, cut");
    }
    assert!(files >= 12, "{files}");
}

#[test]
fn a_leaf_that_is_removed_replaced_or_moved_is_found() {
    let key = key();
    let (log, _) = filled(Memory::default(), &key, SIZE);
    let memory = (*log.storage()).clone();
    // A forger who also recomputes the tile still lacks the signature.
    let (forged, _) = filled(Memory::default(), &key, 1);
    let other = (*forged.storage()).clone();
    for name in ["tile/entries/000", "tile/0/000"] {
        let broken = memory.copy();
        broken.change(name, |bytes| bytes.rotate_left(32));
        assert!(!sound(&broken, &key).is_empty(), "{name}");
    }
    let broken = memory.copy();
    broken.change("checkpoint", |bytes| *bytes = other.bytes("checkpoint"));
    assert!(!sound(&broken, &key).is_empty());
    let stranger = crate::support::key();
    let problems = verify(&memory, &[stranger.verifier().clone()], &[]).problems.lines;
    assert!(problems[0].contains("no given key has signed it"), "{problems:?}");
}

#[test]
fn every_entry_is_proven_and_no_other() {
    let key = key();
    let (log, _) = filled(Memory::default(), &key, SIZE);
    let storage = log.storage();
    let reader = DirReader::new(Arc::clone(&storage), Arc::new(AtomicU64::new(SIZE)));
    for index in [0, 1, 255, 256, 257, 511, 512, 598, 599] {
        let leaf = reader.read_raw(index, 1).unwrap().remove(0).leaf;
        let proof = Proof::make(&*storage, log.head(), index).unwrap();
        let again = Proof::parse(&proof.to_text()).unwrap();
        assert_eq!(again, proof);
        again.verify(&leaf).unwrap();
        let other = reader.read_raw((index + 1) % SIZE, 1).unwrap().remove(0).leaf;
        again.verify(&other).unwrap_err();
    }
    let none = Proof::make(&*storage, log.head(), SIZE).unwrap_err();
    assert!(matches!(none, LogError::NoEntry { index: SIZE, size: SIZE }));
    for old in [1, 255, 256, 300, 599, 600] {
        let hashes = TileHashes::new(&*storage, SIZE);
        let (before, head) = (hashes.head(old).unwrap(), log.head().head);
        let proof = hashes.consistency(old).unwrap();
        check_consistency(&proof, (old, before.root), (SIZE, head.root)).unwrap();
        let other = [7; 32];
        check_consistency(&proof, (old, other), (SIZE, head.root)).unwrap_err();
    }
}

#[test]
fn a_second_writer_stops_and_changes_nothing() {
    let key = key();
    let memory = Memory::default();
    let (mut first, mut head) = filled(memory.clone(), &key, 10);
    let mut second = Log::open(memory.clone(), &key, head.as_bytes()).unwrap();
    *second.chains() = first.chains().clone();
    let mut seconds_head = head.clone();
    commit(&mut second, &mut seconds_head, &drafts(10, 5)).unwrap();
    // The database would already refuse its swap; the files refuse as well.
    let refused = commit(&mut first, &mut head, &drafts(10, 3)).unwrap_err();
    assert!(matches!(refused, LogError::OtherWriter | LogError::File { .. }), "{refused}");
    assert!(first.is_broken());
    drop((first, second));
    Log::open(memory.clone(), &key, seconds_head.as_bytes()).unwrap();
    assert_eq!(all(Arc::new(memory.clone()), 15).len(), 15);
    assert_eq!(sound(&memory, &key), [""; 0]);
}

#[test]
fn a_database_older_than_the_files_is_refused() {
    let key = key();
    let memory = Memory::default();
    let (mut log, old) = filled(memory.clone(), &key, 10);
    commit(&mut log, &mut old.clone(), &drafts(10, 1)).unwrap();
    drop(log);
    let Err(refused) = Log::open(memory, &key, old.as_bytes()) else { panic!("opened") };
    assert!(matches!(refused, LogError::HeadDiffers { files: 11, head: 10 }), "{refused}");
}

#[test]
fn what_is_missing_or_damaged_is_never_made_up() {
    let key = key();
    let (log, head) = filled(Memory::default(), &key, SIZE);
    let memory = (*log.storage()).clone();
    drop(log);
    let journal = memory.names().into_iter().find(|name| name.starts_with("journal/")).unwrap();
    for name in ["checkpoint", "tile/0/002.p/88", "tile/entries/002.p/88", "payload/002", &journal]
    {
        let broken = memory.copy();
        broken.forget(name);
        let Err(refused) = Log::open(broken, &key, head.as_bytes()) else { panic!("{name}") };
        assert!(matches!(refused, LogError::Missing { .. }), "{name}: {refused}");
    }
    let Err(refused) = Log::open(memory.copy(), &crate::support::key(), head.as_bytes()) else {
        panic!("opened with another key")
    };
    assert!(refused.to_string().contains("the head"), "{refused}");
    assert!(matches!(Log::create(memory, &key).err(), Some(LogError::Exists)));
}

#[test]
fn limits_are_kept_and_change_nothing() {
    let key = key();
    let memory = Memory::default();
    let (mut log, mut head) = filled(memory.clone(), &key, 3);
    assert!(matches!(log.stage(&[], 0).unwrap_err(), LogError::BatchTooLong(0)));
    let long = drafts(3, BATCH_MAX as u64 + 1);
    assert!(matches!(log.stage(&long, 0).unwrap_err(), LogError::BatchTooLong(_)));
    let sized = |bytes: usize| Draft { record: record(1, 4), json: "x".repeat(bytes) };
    let refused = log.stage(&[sized(PAYLOAD_BYTES_MAX + 1)], 0).unwrap_err();
    assert!(matches!(refused, LogError::TooLarge { what: "a record", .. }));
    let many = vec![sized(PAYLOAD_BYTES_MAX); 60];
    let refused = log.stage(&many, 0).unwrap_err();
    assert!(matches!(refused, LogError::TooLarge { what: "a batch", .. }));
    assert!(!log.is_broken());
    commit(&mut log, &mut head, &drafts(3, BATCH_MAX as u64)).unwrap();
    assert_eq!(sound(&memory, &key), [""; 0]);
}

fn said(sequence: u64, event: Event) -> Draft {
    let record = Record { sequence, event, ..record(1, sequence) };
    Draft::new(record).unwrap()
}

#[test]
fn an_erased_payload_is_gone_everywhere_and_every_proof_stays() {
    let key = key();
    let memory = Memory::default();
    let (mut log, mut head) = filled(memory.clone(), &key, 300);
    let secret = drafts(300, 1).remove(0).json;
    commit(&mut log, &mut head, &drafts(300, 1)).unwrap();
    let find = |memory: &Memory| {
        let holds = |name: &String| {
            memory.bytes(name).windows(secret.len()).any(|w| w == secret.as_bytes())
        };
        memory.names().iter().filter(|name| holds(name)).count()
    };
    assert!(find(&memory) >= 1);
    let event = Event::PayloadErased {
        index: 300,
        leaf_hash: String::new(),
        reason: "asked for".into(),
        by: "admin".into(),
    };
    commit(&mut log, &mut head, &[said(302, event)]).unwrap();
    log.erase(300).unwrap();
    assert_eq!(find(&memory), 0);
    assert_eq!(sound(&memory, &key), [""; 0]);
    let reader = DirReader::new(log.storage(), Arc::new(AtomicU64::new(302)));
    assert_eq!(reader.read(300, 1).unwrap()[0].record, None);
    let leaf = reader.read_raw(300, 1).unwrap().remove(0).leaf;
    Proof::make(&memory, log.head(), 300).unwrap().verify(&leaf).unwrap();
    commit(&mut log, &mut head, &drafts(302, 300)).unwrap();
    assert_eq!(sound(&memory, &key), [""; 0]);
    // Nobody said why this one is gone.
    log.erase(7).unwrap();
    assert!(sound(&memory, &key)[0].contains("entry 7"), "{:?}", sound(&memory, &key));
}

fn expired(sequence: u64, of: &str, before_unix_ms: u64, entries: &[(u64, u64)]) -> Draft {
    let count = entries.iter().map(|(_, count)| count).sum();
    let (of, entries) = (of.to_owned(), entries.to_vec());
    said(sequence, Event::PayloadsExpired { of, days: 30, before_unix_ms, count, kept: 0, entries })
}

#[test]
fn what_a_rule_erased_is_explained_by_it_and_by_no_other() {
    let key = key();
    // Entries are logged at this time by the tests' clock.
    let (logged, later) = (1_700_000_000_000, 1_700_000_000_001);
    for (rule, problem) in [
        (expired(301, "lost", later, &[(7, 3), (290, 1)]), None),
        (expired(301, "held", later, &[(7, 3), (290, 1)]), Some("was not for it")),
        (expired(301, "lost", logged, &[(7, 3), (290, 1)]), Some("was not for it")),
        (expired(301, "lost", later, &[(7, 2), (290, 1)]), Some("entry 9: its payload is gone")),
        (expired(301, "lost", later, &[(7, 3)]), Some("entry 290: its payload is gone")),
    ] {
        let memory = Memory::default();
        let (mut log, mut head) = filled(memory.clone(), &key, 300);
        commit(&mut log, &mut head, &[rule]).unwrap();
        log.erase_all(&[7, 8, 9, 290]).unwrap();
        let found = sound(&memory, &key);
        match problem {
            None => assert_eq!(found, [""; 0]),
            Some(problem) => assert!(found[0].contains(problem), "{problem}: {found:?}"),
        }
        let leaf = DirReader::new(log.storage(), Arc::new(AtomicU64::new(301)));
        let leaf = leaf.read_raw(8, 1).unwrap().remove(0).leaf;
        Proof::make(&memory, log.head(), 8).unwrap().verify(&leaf).unwrap();
    }
}

#[test]
fn what_was_erased_while_a_legal_hold_kept_it_is_a_problem() {
    let key = key();
    let hold = uuid::Uuid::from_u128(1);
    let set = |sequence, class: &str| {
        let scope = HoldScope { class: Some(class.into()), ..HoldScope::default() };
        let (reason, by) = ("matter".to_owned(), "ann".to_owned());
        said(sequence, Event::LegalHoldSet { legal_hold: hold, scope, reason, by })
    };
    let lifted = |sequence| {
        let (reason, by) = ("settled".to_owned(), "ann".to_owned());
        said(sequence, Event::LegalHoldLifted { legal_hold: hold, reason, by })
    };
    let run = |sequence| expired(sequence, "lost", u64::MAX, &[(7, 1)]);
    for (entries, held) in [
        (vec![set(11, "lost"), run(12)], true),
        (vec![set(11, "held"), run(12)], false),
        (vec![set(11, "lost"), lifted(12), run(13)], false),
        (vec![run(11), set(12, "lost")], false),
    ] {
        let memory = Memory::default();
        let (mut log, mut head) = filled(memory.clone(), &key, 10);
        commit(&mut log, &mut head, &entries).unwrap();
        log.erase(7).unwrap();
        let found = sound(&memory, &key);
        assert_eq!(found.iter().any(|line| line.contains("while legal hold")), held, "{found:?}");
        assert_eq!(found.is_empty(), !held, "{found:?}");
    }
}

#[test]
fn a_new_key_is_believed_by_those_who_know_only_the_first() {
    let first = key();
    let memory = Memory::default();
    let (mut log, mut head) = filled(memory.clone(), &first, 300);
    let mut old = first.clone();
    for (n, sequence) in [(1, 301), (2, 312)] {
        let new = LogKey::generate(first.origin()).unwrap();
        let event = Event::LogKeyRotated {
            old: old.verifier().as_str().into(),
            new: new.verifier().as_str().into(),
            by: "admin".into(),
        };
        let draft = said(sequence, event);
        assert!(matches!(
            log.stage(std::slice::from_ref(&draft), 0).unwrap_err(),
            LogError::NotARotation
        ));
        let staged = log.stage_rotation(&draft, &new, 0).unwrap();
        head = staged.after.text().to_owned();
        log.publish(staged).unwrap();
        commit(&mut log, &mut head, &drafts(sequence, 10)).unwrap();
        assert_eq!(sound(&memory, &first), [""; 0], "rotation {n}");
        assert_eq!(sound(&memory, &new), [""; 0], "rotation {n}");
        // The old key could sign a fork: it counts no more for what came after.
        let forged = guard_audit::log::Checkpoint::sign(&[&old], log.head().head).unwrap();
        let broken = memory.copy();
        broken.change("checkpoint", |bytes| *bytes = forged.text().as_bytes().to_vec());
        assert!(sound(&broken, &first)[0].contains("no given key"), "rotation {n}");
        old = new;
    }
    assert_eq!(guard_audit::log::own_keys(&memory).unwrap().len(), 3);
    drop(log);
    Log::open(memory.clone(), &old, head.as_bytes()).unwrap();
    Log::open(memory, &first, head.as_bytes()).err().unwrap();
}

#[test]
fn what_a_host_leaves_out_or_repeats_is_a_problem_and_what_it_lost_a_finding() {
    let key = key();
    let mut log = Log::create(Memory::default(), &key).unwrap();
    let mut head = log.head().text().to_owned();
    let mut batch = drafts(0, 3);
    batch.extend(drafts(4, 1));
    let anew = Record { boot: boot(9), sequence: 1, ..record(1, 1) };
    batch.push(Draft::new(anew).unwrap());
    batch.push(Draft::new(record(2, 1)).unwrap());
    commit(&mut log, &mut head, &batch).unwrap();
    let report = verify(&*log.storage(), &[key.verifier().clone()], &[]);
    assert_eq!(report.problems.count, 1, "{report:?}");
    assert!(report.problems.lines[0].contains("sequence 5 where 4 is due"));
    let findings = report.findings.lines.join("\n");
    for expected in ["started anew at entry 4, without a word", "lost 12 × x"] {
        assert!(findings.contains(expected), "{expected}: {findings}");
    }
    assert_eq!(report.hosts[&host(1)].boots, 2);
}

#[test]
fn a_silence_and_a_clock_that_was_set_are_findings_and_a_stop_in_order_is_neither() {
    let key = key();
    let run = |stopped: bool, silent_ms: u64, moved_ms: u64| {
        let mut log = Log::create(Memory::default(), &key).unwrap();
        let at = 1_700_000_000_000;
        let mut entry = |sequence: u64, logged: u64, event: Event| {
            let (boottime_ns, wall) =
                ((logged - at) * 1_000_000, logged + moved_ms * (sequence - 1));
            let record = Record { boottime_ns, unix_ms: wall, event, ..record(1, sequence) };
            let staged = log.stage(&[Draft::new(record).unwrap()], logged).unwrap();
            log.publish(staged).unwrap();
        };
        let lost = Event::Lost { counter: "x".into(), count: 1 };
        let stop = Event::Stopped { component: "guard-agent".into(), reason: "asked".into() };
        entry(1, at, if stopped { stop } else { lost.clone() });
        entry(2, at + silent_ms, lost);
        drop(log.settle());
        let report = verify(&*log.storage(), &[key.verifier().clone()], &[]);
        assert!(report.problems.is_empty(), "{report:?}");
        report.findings.lines.join("\n")
    };
    for (stopped, silent_ms, moved_ms, silence, clock) in [
        (false, SILENCE_MS, CLOCK_JUMP_MS.unsigned_abs(), false, false),
        (false, SILENCE_MS + 1, 0, true, false),
        (true, SILENCE_MS + 1, 0, false, false),
        (false, 10, CLOCK_JUMP_MS.unsigned_abs() + 1, false, true),
    ] {
        let found = run(stopped, silent_ms, moved_ms);
        assert_eq!(found.contains("silent for 60 s"), silence, "{found}");
        assert_eq!(found.contains("wall clock was moved by 2001 ms"), clock, "{found}");
    }
}

#[test]
fn a_host_that_falls_silent_for_good_is_a_finding_and_the_logs_own_quiet_is_not() {
    let at = 1_700_000_000_000;
    let found = |keeper: u8, quiet_ms: u64, stopped: bool| {
        let key = LogKey::generate(&format!("guard/log/{}", host(keeper))).unwrap();
        let mut log = Log::create(Memory::default(), &key).unwrap();
        let stop = Event::Stopped { component: "guard-agent".into(), reason: "asked".into() };
        let first = Record { event: stop, ..record(1, 1) };
        let first = if stopped { first } else { record(1, 1) };
        for (logged, record) in [(at, first), (at, record(2, 1)), (at + quiet_ms, record(2, 2))] {
            let staged = log.stage(&[Draft::new(record).unwrap()], logged).unwrap();
            log.publish(staged).unwrap();
        }
        log.settle().unwrap();
        let report = verify(&*log.storage(), &[key.verifier().clone()], &[]);
        assert!(report.problems.is_empty(), "{report:?}");
        let mut bundle = Vec::new();
        guard_audit::log::write_bundle(&log.storage(), (0, 3), &mut bundle).unwrap();
        let keys = [key.verifier().clone()];
        let of_bundle = guard_audit::log::verify_bundle(&bundle[..], &keys, &[]);
        assert_eq!(of_bundle.findings, report.findings);
        let of = |number, words: &str| {
            let line = format!("host {}: {words}", host(number));
            report.findings.lines.iter().any(|found| found.starts_with(&line))
        };
        (of(1, "silent for the last 60 s"), of(2, "silent for 60 s before entry 2"))
    };
    assert_eq!(found(9, SILENCE_MS + 1, false), (true, true));
    assert_eq!(found(9, SILENCE_MS, false), (false, false));
    assert_eq!(found(9, SILENCE_MS + 1, true), (false, true));
    // The controller has nothing to say for a minute.
    assert_eq!(found(2, SILENCE_MS + 1, false), (true, false));
}
