//! Every target over its corpus, and over valid inputs, as ordinary tests.

#![expect(clippy::unwrap_used, reason = "tests")]

use guard_fuzz::{TARGETS, find, seeds};
use std::{fs, path::Path};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
/// A corpus is to be small: it is read by every run of the tests and stands in the repository.
const FILES_MAX: usize = 160;
const BYTES_MAX: u64 = 600 << 10;

#[test]
fn every_target_takes_its_corpus() {
    for target in TARGETS {
        let directory = Path::new(CORPUS).join(target.name);
        let files: Vec<_> = fs::read_dir(&directory).unwrap().map(|file| file.unwrap()).collect();
        assert!(!files.is_empty() && files.len() <= FILES_MAX, "{}: {}", target.name, files.len());
        let sizes = files.iter().map(|file| file.metadata().unwrap().len());
        assert!(sizes.sum::<u64>() <= BYTES_MAX, "{}: too large", target.name);
        for file in files {
            (target.run)(&fs::read(file.path()).unwrap());
        }
    }
}

#[test]
fn every_target_accepts_what_is_valid() {
    for target in TARGETS {
        let valid = seeds::of(target.name);
        assert!(!valid.is_empty(), "{} has no valid input", target.name);
        for (name, bytes) in valid {
            assert!((target.run)(&bytes), "{} refuses {name}", target.name);
            assert!(
                bytes.len() <= target.max_len,
                "{} is never made as long as {name}",
                target.name
            );
        }
    }
}

#[test]
fn a_corpus_without_a_target_is_none() {
    for directory in fs::read_dir(CORPUS).unwrap() {
        let name = directory.unwrap().file_name().into_string().unwrap();
        assert!(find(&name).is_some(), "no target has the corpus {name}");
    }
}

#[test]
fn an_empty_input_is_refused() {
    for target in TARGETS {
        // An empty policy is one: it permits nothing.
        assert_eq!((target.run)(&[]), target.name == "policy", "{}", target.name);
    }
}
