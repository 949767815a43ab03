//! The evidence log's files, bundles and proofs, as an auditor meets them: from anybody.

use crate::seeds::{self, LOG};
use guard_audit::log::{
    Checkpoint, CosignerKey, LogKey, Proof, Report, VerifierKey, verify, verify_bundle,
    verify_proof,
};
use std::sync::LazyLock;

/// Journals are not vouched for by the checkpoint: a torn end is a finding.
const UNVOUCHED: &str = "journal";

/// Keys, checkpoints and proofs: their texts.
pub(crate) fn proof(bytes: &[u8]) -> bool {
    let mut accepted = false;
    if let Ok(checkpoint) = Checkpoint::parse(bytes) {
        let again = Checkpoint::parse(checkpoint.text().as_bytes()).unwrap();
        assert_eq!(again.head, checkpoint.head, "written and read again");
        accepted = true;
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return accepted };
    for line in text.lines() {
        let _ = (LogKey::parse(line), VerifierKey::parse(line), CosignerKey::parse(line));
    }
    let Ok(proof) = Proof::parse(text) else { return accepted };
    assert_eq!(Proof::parse(&proof.to_text()).unwrap(), proof, "written and read again");
    only_the_genuine(&verify_proof(text, std::slice::from_ref(&LOG.key), &[]));
    true
}

/// Whatever verifies is of the one log that the key has signed.
fn only_the_genuine(report: &Report) {
    if report.is_sound() {
        assert_eq!((report.size, &*report.root), (LOG.size, &*LOG.root), "forged: {report:?}");
    }
}

/// The bundle that the committed one is of.
static BUNDLE: LazyLock<(VerifierKey, Report)> = LazyLock::new(|| {
    let key = VerifierKey::parse(seeds::BUNDLE_KEY.trim()).unwrap();
    let report = verify_bundle(seeds::BUNDLE, std::slice::from_ref(&key), &[]);
    assert!(report.is_sound(), "the committed bundle: {:?}", report.problems);
    (key, report)
});

pub(crate) fn bundle(bytes: &[u8]) -> bool {
    let (key, genuine) = &*BUNDLE;
    let report = verify_bundle(bytes, std::slice::from_ref(key), &[]);
    if report.is_sound() {
        let of = |report: &Report| (report.size, report.root.clone(), report.entries);
        assert_eq!(of(&report), of(genuine), "forged: {report:?}");
    }
    !guard_audit::log::bundle_keys(bytes).is_empty()
}

/// One file of a log, changed. The first byte chooses the file, the second how: its whole content is the
/// rest of the input, or the rest are changes of single bytes (two bytes of place, one to add to it).
pub(crate) fn directory(bytes: &[u8]) -> bool {
    let [which, how, rest @ ..] = bytes else { return false };
    let files = LOG.files.copy();
    let names = files.names();
    let name = &names[usize::from(*which) % names.len()];
    let before = files.bytes(name);
    let mut after = before.clone();
    if how % 2 == 0 {
        after = rest.to_vec();
    } else if !after.is_empty() {
        for change in rest.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % after.len();
            after[at] = after[at].wrapping_add(change[2]);
        }
    }
    files.put_bytes(name, after.clone());
    let report = verify(&files, std::slice::from_ref(&LOG.key), &[]);
    only_the_genuine(&report);
    let unchanged = before == after;
    // An emptied list of keys or a stale partial tile says nothing wrong; one that is changed does.
    let patched = how % 2 == 1;
    if unchanged || patched && !name.starts_with(UNVOUCHED) {
        assert_eq!(report.is_sound(), unchanged, "{name}: {:?}", report.problems);
    }
    true
}
