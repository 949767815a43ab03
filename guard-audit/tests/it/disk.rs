//! A disk that is really full and one that is really read-only: a file system of the test's own, in a
//! mount namespace of its own.

use crate::support::{all, commit, drafts, key};
use guard_audit::log::{Dir, Log, verify};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

/// Says to the inner run where the file system is.
const MOUNTED: &str = "GUARD_TEST_MOUNTED";

/// A file system of eight megabytes, for the inner run; the outer one starts that and is done.
fn small_disk(test: &str) -> Option<PathBuf> {
    if let Some(dir) = env::var_os(MOUNTED) {
        return Some(dir.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=8m none "$1" && exec "$2" --exact "$3" --nocapture"#;
    // Whoever is not root is root in a user namespace.
    let done = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(env::current_exe().unwrap())
        .arg(test)
        .env(MOUNTED, dir.path())
        .output()
        .expect("util-linux's unshare is needed for this test");
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
    None
}

fn remount(dir: &Path, how: &str) {
    let options = format!("remount,{how}");
    assert!(Command::new("mount").arg("-o").arg(options).arg(dir).status().unwrap().success());
}

fn chain(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", chain(cause)))
}

#[test]
fn a_full_disk_is_named_in_words_and_nothing_acknowledged_is_lost() {
    let test = "disk::a_full_disk_is_named_in_words_and_nothing_acknowledged_is_lost";
    let Some(disk) = small_disk(test) else { return };
    let (key, root) = (key(), disk.join("log"));
    let mut log = Log::create(Dir::new(&root), &key).unwrap();
    let mut head = log.head().text().to_owned();
    fs::write(disk.join("somebody's"), vec![1; 4_000_000]).unwrap();
    let mut acknowledged = 0;
    let error = loop {
        match commit(&mut log, &mut head, &drafts(acknowledged, 50)) {
            Ok(_) => acknowledged += 50,
            Err(error) => break chain(&error),
        }
    };
    assert!(error.contains("No space left on device"), "{error}");
    assert!(
        ["journal/", "tile", "payload", "checkpoint"].iter().any(|f| error.contains(f)),
        "{error}"
    );
    assert!(acknowledged > 100 && log.is_broken(), "{acknowledged}");
    drop(log);
    // Nothing is made worse by trying while it is full.
    let again = Log::open(Dir::new(&root), &key, head.as_bytes()).err().map(|e| chain(&e));
    assert!(again.is_none_or(|again| again.contains("No space left")));
    fs::remove_file(disk.join("somebody's")).unwrap();
    let mut log = Log::open(Dir::new(&root), &key, head.as_bytes()).unwrap();
    let size = log.head().head.size;
    assert!(size >= acknowledged, "{acknowledged} acknowledged, {size} left");
    assert_eq!(all(Arc::new(Dir::new(&root)), size).len() as u64, size);
    let report = verify(&Dir::new(&root), &[key.verifier().clone()], &[]);
    assert!(report.is_sound(), "{:?}", report.problems);
    commit(&mut log, &mut head, &drafts(size, 5)).unwrap();
}

#[test]
fn a_read_only_disk_is_named_in_words_and_the_log_can_still_be_verified() {
    let test = "disk::a_read_only_disk_is_named_in_words_and_the_log_can_still_be_verified";
    let Some(disk) = small_disk(test) else { return };
    let (key, root) = (key(), disk.join("log"));
    let (log, head) = crate::support::filled(Dir::new(&root), &key, 300);
    drop(log);
    remount(&disk, "ro");
    let Err(error) = Log::open(Dir::new(&root), &key, head.as_bytes()) else { panic!("opened") };
    let error = chain(&error);
    assert!(error.contains("Read-only file system") && error.contains("journal/"), "{error}");
    let report = verify(&Dir::new(&root), &[key.verifier().clone()], &[]);
    assert!(report.is_sound() && report.entries == 300, "{:?}", report.problems);
    remount(&disk, "rw");
    let mut log = Log::open(Dir::new(&root), &key, head.as_bytes()).unwrap();
    commit(&mut log, &mut head.clone(), &drafts(300, 1)).unwrap();
}
