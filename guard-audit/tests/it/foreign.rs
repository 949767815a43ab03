//! An implementation that is not ours, written after docs/evidence.md, accepts what is good and
//! refuses every kind of tampering; so does ours.

use crate::support::{drafts, filled, key, record};
use guard_audit::{
    Event, Record,
    log::{Dir, Draft, Log, LogKey, VerifierKey, verify, verify_bundle, write_bundle},
};
use std::{path::Path, process::Command};

/// What the foreign verifier says of a bundle or a directory.
fn foreign(path: &Path, key: &VerifierKey) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/verify.py");
    let done = Command::new("python3").arg(script).arg(path).arg(key.as_str()).output();
    let done = done.expect("python3 is needed for this test: install it");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    (done.status.success(), said)
}

fn said(sequence: u64, event: Event) -> Draft {
    Draft::new(Record { sequence, event, ..record(1, sequence) }).unwrap()
}

/// A log on disk: 600 entries, a new key, 300 more, one of them erased.
fn log(dir: &Path, first: &LogKey) -> (Log<Dir>, LogKey) {
    let (mut log, _) = filled(Dir::new(dir), first, 600);
    let second = LogKey::generate(first.origin()).unwrap();
    let event = Event::LogKeyRotated {
        old: first.verifier().as_str().into(),
        new: second.verifier().as_str().into(),
        by: "ann".into(),
    };
    let staged = log.stage_rotation(&said(601, event), &second, 0).unwrap();
    let mut head = staged.after.text().to_owned();
    log.publish(staged).unwrap();
    crate::support::commit(&mut log, &mut head, &drafts(601, 299)).unwrap();
    let event = Event::PayloadErased {
        index: 700,
        leaf_hash: String::new(),
        reason: "asked for".into(),
        by: "ann".into(),
    };
    crate::support::commit(&mut log, &mut head, &[said(901, event)]).unwrap();
    log.erase(700).unwrap();
    (log, second)
}

#[test]
fn both_verifiers_accept_the_same_log_and_its_bundles_with_the_first_key_and_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let first = key();
    let (log, second) = log(&dir.path().join("log"), &first);
    let storage = log.storage();
    let report = verify(&*storage, &[first.verifier().clone()], &[]);
    assert_eq!(report.problems.lines, [""; 0]);
    let (good, said) = foreign(&dir.path().join("log"), second.verifier());
    assert!(good && said.contains("901 entries, 1 erased"), "{said}");
    let path = dir.path().join("bundle.tar");
    for (from, to) in [(0, 901), (0, 1), (255, 257), (256, 512), (599, 602), (690, 901), (900, 901)]
    {
        write_bundle(&storage, (from, to), std::fs::File::create(&path).unwrap()).unwrap();
        for key in [first.verifier(), second.verifier()] {
            let bytes = std::fs::read(&path).unwrap();
            let report = verify_bundle(&bytes[..], std::slice::from_ref(key), &[]);
            assert_eq!(report.problems.lines, [""; 0], "{from} to {to}");
            assert_eq!(report.entries, to - from);
            let (good, said) = foreign(&path, key);
            assert!(good && said.contains(&format!("{} entries", to - from)), "{said}");
        }
    }
    let stranger = key();
    assert!(!foreign(&path, stranger.verifier()).0);
    assert!(!foreign(&dir.path().join("log"), stranger.verifier()).0);
    let out_of_range = write_bundle(&storage, (0, 902), Vec::new()).unwrap_err();
    assert!(out_of_range.to_string().contains("902"), "{out_of_range}");
}

/// The members of an archive.
fn members(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(bytes);
    let read = |member: Result<tar::Entry<'_, &[u8]>, std::io::Error>| {
        let mut member = member.unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut member, &mut content).unwrap();
        (member.path().unwrap().display().to_string(), content)
    };
    archive.entries().unwrap().map(read).collect()
}

fn packed(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &content[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn both_verifiers_refuse_every_kind_of_tampering_with_a_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let first = key();
    let (log, _) = log(&dir.path().join("log"), &first);
    let mut bytes = Vec::new();
    write_bundle(&log.storage(), (590, 800), &mut bytes).unwrap();
    let good = members(&bytes);
    let path = dir.path().join("bundle.tar");
    let refused = |what: &str, members: &[(String, Vec<u8>)]| {
        let bytes = packed(members);
        let report = verify_bundle(&bytes[..], &[first.verifier().clone()], &[]);
        assert!(!report.is_sound(), "{what}: ours accepts");
        std::fs::write(&path, bytes).unwrap();
        let (accepted, said) = foreign(&path, first.verifier());
        assert!(!accepted, "{what}: theirs accepts: {said}");
    };
    for (at, (name, content)) in good.iter().enumerate() {
        // A rendering, and a list for information: neither is evidence.
        if name == "report.html" || name == "keys" {
            continue;
        }
        for byte in [0, content.len() / 2, content.len() - 1] {
            let mut broken = good.clone();
            broken[at].1[byte] ^= 1;
            refused(&format!("{name}, byte {byte}"), &broken);
        }
        let mut broken = good.clone();
        broken.remove(at);
        refused(&format!("{name} left out"), &broken);
        let mut broken = good.clone();
        broken[at].1.truncate(content.len() / 2);
        refused(&format!("{name} cut"), &broken);
    }
    let mut swapped = good.clone();
    let entries: Vec<_> =
        (0..good.len()).filter(|at| good[*at].0.starts_with("entries/")).collect();
    let (a, b) = (good[entries[0]].1.clone(), good[entries[1]].1.clone());
    (swapped[entries[0]].1, swapped[entries[1]].1) = (b, a);
    refused("entries swapped", &swapped);
    let mut shifted = good;
    shifted[0].1 = b"guard-bundle@v1\nfrom 591\nto 801\n".to_vec();
    refused("the range moved", &shifted);
}

#[test]
fn a_report_that_was_changed_is_pointed_out_and_the_entries_still_hold() {
    let dir = tempfile::tempdir().unwrap();
    let first = key();
    let (log, _) = log(&dir.path().join("log"), &first);
    for range in [(0, 901), (590, 800)] {
        let mut bytes = Vec::new();
        write_bundle(&log.storage(), range, &mut bytes).unwrap();
        let pointed_out = |bytes: &[u8]| {
            let report = verify_bundle(bytes, &[first.verifier().clone()], &[]);
            assert!(report.is_sound(), "{:?}", report.problems);
            report.findings.lines.iter().any(|line| line.starts_with("report.html: not the page"))
        };
        assert!(!pointed_out(&bytes));
        let mut changed = members(&bytes);
        let (_, page) = changed.iter_mut().find(|(name, _)| name == "report.html").unwrap();
        *page = String::from_utf8(page.clone()).unwrap().replace("Erasures: ", "None: ").into();
        assert!(pointed_out(&packed(&changed)));
        // Who takes it out has nothing that could be believed.
        changed.retain(|(name, _)| name != "report.html");
        assert!(!pointed_out(&packed(&changed)));
    }
}
