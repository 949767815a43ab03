//! Real files, links and walks, and what a made-up pair of namespaces gives.

use super::{
    table::Held,
    walk::{exact, walk},
    *,
};
use crate::mounts::{kernel_dev, mounts, parse};
use guard_model::FileAccess;
use guard_policy::PolicySource;
use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

fn policy(condition: &str) -> Arc<Policy> {
    let text = format!(
        "permit (principal, action, resource);\n\
         forbid (principal, action == Guard::Action::\"open\", resource) when {{ {condition} }};"
    );
    Arc::new(Policy::load(&[PolicySource { file: "test.cedar".into(), text }]).unwrap())
}

fn below(directory: &Path) -> Arc<Policy> {
    policy(&format!("resource in Guard::Directory::\"{}\"", directory.display()))
}

fn own() -> Table {
    Table::new(mounts("/proc/self/mountinfo").unwrap())
}

fn inode(path: &Path) -> (u64, u64) {
    let real = fs::canonicalize(path).unwrap();
    let dev = own().holder(real.as_os_str().as_encoded_bytes()).unwrap().dev;
    (dev, fs::metadata(path).unwrap().ino())
}

fn open(path: &str, (dev, ino): (u64, u64)) -> Action {
    let file = FileRef {
        path: path.into(),
        path_error: None,
        dev,
        ino,
        generation: 5,
        owner_uid: 0,
        mode: 0o100_644,
    };
    Action::Open { file, access: FileAccess { read: true, ..FileAccess::default() } }
}

fn link(from: &str, to: &str, inode: (u64, u64)) -> Action {
    let Action::Open { file, .. } = open(from, inode) else { unreachable!("made above") };
    let second = FileRef { path: to.into(), ino: 0, ..file.clone() };
    let operation = ChangeOperation::Link;
    Action::Change { operation, file, to: Some(second), detail: RawText::default() }
}

fn this_process() -> ProcessContext {
    let pid = std::process::id();
    ProcessContext { pid, tid: pid, ..ProcessContext::default() }
}

fn limits() -> Limits {
    Limits::default()
}

#[test]
fn a_hard_link_to_a_file_in_a_directory_that_is_named_has_that_name() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secrets/deep/er");
    fs::create_dir_all(&secret).unwrap();
    fs::write(secret.join("key"), "").unwrap();
    fs::write(secret.join("single"), "").unwrap();
    fs::hard_link(secret.join("key"), folder.path().join("link")).unwrap();
    let policy = below(&folder.path().join("secrets"));
    let found = walk(&own(), policy.named(), limits());
    assert_eq!(found.left_out, BTreeSet::new());
    let name = RawText::from(secret.join("key").to_str().unwrap());
    assert_eq!(found.links, HashMap::from([(inode(&folder.path().join("link")), vec![name])]));
}

#[test]
fn an_exact_name_is_known_by_its_inode_and_a_symbolic_link_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("a"), "").unwrap();
    fs::create_dir(path("directory")).unwrap();
    std::os::unix::fs::symlink(path("a"), path("symlink")).unwrap();
    std::os::unix::fs::symlink(folder.path(), path("here")).unwrap();
    let named = |name: &str| {
        let policy = policy(&format!("resource.path == \"{}\"", path(name).display()));
        exact(&own(), policy.named()).into_keys().collect::<Vec<_>>()
    };
    // Where inode numbers are shared, a single name says nothing.
    let single = ["btrfs", "overlay"].contains(&kind_of(folder.path()).as_str());
    assert_eq!(named("a"), if single { vec![] } else { vec![inode(&path("a"))] });
    fs::hard_link(path("a"), path("b")).unwrap();
    assert_eq!(named("a"), [inode(&path("b"))]);
    assert_eq!(named("here/a"), [inode(&path("b"))]);
    assert_eq!(named("symlink"), []);
    assert_eq!(named("directory"), []);
    assert_eq!(named("nothing"), []);
}

fn kind_of(path: &Path) -> String {
    let real = fs::canonicalize(path).unwrap();
    own().holder(real.as_os_str().as_encoded_bytes()).unwrap().kind.clone()
}

#[test]
fn a_walk_ends_at_its_limits_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..3 {
        let deep = folder.path().join(format!("d{i}/e/f"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("a"), "").unwrap();
        fs::hard_link(deep.join("a"), deep.join("b")).unwrap();
    }
    let policy = below(folder.path());
    let left_out = |limits| {
        let found = walk(&own(), policy.named(), limits);
        (found.links.len(), found.left_out.into_iter().collect::<Vec<_>>())
    };
    assert_eq!(left_out(limits()), (3, vec![]));
    assert_eq!(left_out(Limits { entries: 15, ..limits() }), (3, vec![]));
    let (_, why) = left_out(Limits { entries: 14, ..limits() });
    assert_eq!(why, ["more than 14 files"]);
    assert_eq!(left_out(Limits { depth: 3, ..limits() }), (3, vec![]));
    let deep = vec!["more than 2 directories deep".to_owned()];
    assert_eq!(left_out(Limits { depth: 2, ..limits() }), (0, deep));
    assert_eq!(left_out(Limits { inodes: 3, ..limits() }), (3, vec![]));
    let many = vec!["more than 2 files with links".to_owned()];
    assert_eq!(left_out(Limits { inodes: 2, ..limits() }), (2, many));
    let late = vec!["more than 0 s".to_owned()];
    assert_eq!(left_out(Limits { time: Duration::ZERO, ..limits() }), (0, late));
}

#[test]
fn what_another_machine_answers_for_is_left_out_and_what_the_kernel_makes_is_not_missed() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("far")).unwrap();
    let at = fs::canonicalize(folder.path()).unwrap();
    let policy = below(&at);
    for (kind, left_out) in [("nfs4", 1), ("fuse.sshfs", 1), ("tracefs", 0), ("ext4", 0)] {
        let line = format!(
            "1 1 8:1 / / rw - ext4 x rw\n1 1 0:9 / {}/far rw - {kind} x rw\n",
            at.display()
        );
        let table = Table::new(parse(line.as_bytes()));
        let found = walk(&table, policy.named(), limits());
        assert_eq!(found.left_out.len(), left_out, "{kind}");
    }
}

#[test]
fn names_that_are_one_to_the_policy_are_kept_once() {
    let policy = below(Path::new("/etc"));
    let mut links = Links::new();
    for name in ["/etc/a", "/etc/b", "/usr/c"] {
        walk::add(&mut links, policy.named(), (1, 2), name.into());
    }
    assert_eq!(links, HashMap::from([((1, 2), vec!["/etc/a".into()])]));
    walk::add(&mut links, policy.named(), (1, 3), "/usr/c".into());
    assert!(!links.contains_key(&(1, 3)));
}

#[test]
fn a_file_of_a_running_process_has_its_names_and_an_unrelated_one_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("secrets")).unwrap();
    for name in ["secrets/key", "plain"] {
        fs::write(path(name), "").unwrap();
    }
    fs::hard_link(path("secrets/key"), path("link")).unwrap();
    let names = Names::start(below(&path("secrets"))).unwrap();
    names.wait();
    let of = |name: &str| {
        let action = open(path(name).to_str().unwrap(), inode(&path(name)));
        names.of(&this_process(), &action)
    };
    let key = RawText::from(path("secrets/key").to_str().unwrap());
    assert_eq!(of("link"), OtherNames { file: vec![key], ..OtherNames::default() });
    assert_eq!(of("plain"), OtherNames::default());
    assert_eq!(of("secrets/key"), OtherNames::default());
    // A process that is not there: what it sees cannot be told, what its inode is can.
    let gone = ProcessContext { pid: 1 << 30, tid: 1 << 30, ..ProcessContext::default() };
    let action = open(path("link").to_str().unwrap(), inode(&path("link")));
    let unknown = names.of(&gone, &action);
    assert!(unknown.unknown.is_some() && unknown.file.len() == 1, "{unknown:?}");
    // The policy says nothing about this one.
    let exec = link("/a", "/b", inode(&path("link")));
    assert_eq!(names.of(&gone, &exec), OtherNames::default());
}

#[test]
fn a_link_that_a_session_makes_is_known_before_the_next_walk() {
    let policy = policy("resource in Guard::Directory::\"/nowhere/secrets\"");
    let mut known = Known::default();
    let named = policy.named();
    let file = |path: &str, ino| {
        let Action::Open { file, .. } = open(path, (7, ino)) else { unreachable!("made above") };
        file
    };
    assert!(known.note(named, &file("/tmp/x", 3), &[]));
    assert!(known.noted.is_empty());
    assert!(known.note(named, &file("/nowhere/secrets/x", 4), &[]));
    assert!(known.note(named, &file("/mnt/x", 5), &["/nowhere/secrets/y".into()]));
    let names = |file: &FileRef| {
        let mut names = Vec::new();
        known.names(file, &mut Collector::new(named, &file.path, &mut names));
        names
    };
    assert_eq!(names(&file("/tmp/y", 4)), ["/nowhere/secrets/x".into()]);
    assert_eq!(names(&file("/tmp/y", 5)), ["/nowhere/secrets/y".into()]);
    // Another file that was given the number since.
    assert_eq!(names(&FileRef { generation: 6, ..file("/tmp/y", 4) }), [] as [RawText; 0]);
    for ino in 0..NOTED_MAX as u64 {
        known.note(named, &file("/nowhere/secrets/x", 100 + ino), &[]);
    }
    assert!(!known.note(named, &file("/nowhere/secrets/x", 99), &[]));
    assert!(known.note(named, &file("/nowhere/secrets/x", 100), &[]));
}

fn table(text: &str) -> Arc<Table> {
    Arc::new(Table::new(parse(text.as_bytes())))
}

const HOST: &str = "1 1 8:1 / / rw - ext4 x rw\n1 1 0:40 / /box/merged rw - overlay x rw\n";

/// The names, or why they are not known.
fn seen(lines: &str, root: &str, is_own: bool, file: (&str, u64)) -> Result<Vec<String>, String> {
    let policy = policy("resource in Guard::Directory::\"/etc\" || resource.path like \"/box/*\"");
    let seen = Seen { table: table(lines), root: root.into(), is_own };
    let Action::Open { file, .. } = open(file.0, (file.1, 2)) else { unreachable!("made above") };
    let mut names = Vec::new();
    let mut found = Collector::new(policy.named(), &file.path, &mut names);
    by_mounts(&seen, &table(HOST), &file, &mut found)?;
    Ok(names.iter().map(RawText::to_exact).collect())
}

#[test]
fn a_containers_view_is_translated_into_the_hosts() {
    let disk = kernel_dev(8, 1);
    let task = "1 1 0:40 / / rw - overlay x rw\n1 1 8:1 /etc /run/x rw - ext4 x rw\n";
    assert_eq!(seen(task, "/", false, ("/run/x/shadow", disk)).unwrap(), ["/etc/shadow"]);
    let own = seen(task, "/", false, ("/a", kernel_dev(0, 40))).unwrap();
    assert_eq!(own, ["/box/merged/a"]);
    // A file system that only the container has is none of the host's.
    assert_eq!(seen(task, "/", false, ("/a", kernel_dev(0, 41))).unwrap(), [""; 0]);
    // One that the host has and the process does not see was reached in a way that is not told.
    assert!(seen(task, "/", false, ("/etc/shadow", disk)).is_err());
}

#[test]
fn a_plain_chroot_is_translated_by_its_directory() {
    let disk = kernel_dev(8, 1);
    for is_own in [true, false] {
        let names = seen("", "/etc/jail", is_own, ("/x", disk)).unwrap();
        assert_eq!(names, ["/etc/jail/x"]);
    }
}

#[test]
fn more_names_than_are_kept_are_not_passed_over() {
    let literals: Vec<_> =
        (0..=NAMES_MAX).map(|i| format!("resource.path == \"/n/{i}\"")).collect();
    let policy = policy(&literals.join(" || "));
    let mut names = Vec::new();
    let own = RawText::from("/x");
    let mut found = Collector::new(policy.named(), &own, &mut names);
    for i in 0..NAMES_MAX {
        found.add(format!("/n/{i}").as_bytes());
        found.add(b"/n/0");
    }
    assert!(!found.is_full);
    found.add(format!("/n/{NAMES_MAX}").as_bytes());
    assert!(found.is_full);
    assert_eq!(names.len(), NAMES_MAX);
}

#[test]
fn a_mount_on_top_of_another_is_the_one_that_holds() {
    let lines = format!("{HOST}1 1 0:50 / /etc rw - tmpfs x rw\n1 1 0:51 / /etc rw - xfs x rw\n");
    let held = Held { dev: kernel_dev(0, 51), kind: "xfs".into() };
    assert_eq!(table(&lines).holder(b"/etc/x"), Some(&held));
}
