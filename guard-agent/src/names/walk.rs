//! Hard links: which inodes stand under names that the policy forbids something under.
//!
//! An inode does not say what its names are, so the names that the policy speaks about are looked up: the exact ones
//! every second, and of directories every file with more than one name, in a walk.

use super::table::{Held, Table};
use guard_model::RawText;
use guard_policy::Literals;
use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Device and inode number, as the kernel has them.
pub(super) type Inode = (u64, u64);
/// Names by inode.
pub(super) type Links = HashMap<Inode, Vec<RawText>>;

/// File systems whose files have no hard links, or are made by the kernel as they are looked at.
const PSEUDO: [&str; 16] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "efivarfs",
    "fusectl",
    "mqueue",
    "proc",
    "pstore",
    "securityfs",
    "sysfs",
    "tracefs",
];
/// File systems that another machine or process answers for: to look into them may wait for ever.
const REMOTE: [&str; 9] = ["9p", "afs", "ceph", "cifs", "fuse", "nfs", "nfs4", "smb3", "virtiofs"];
/// File systems on which two files may have one inode number for the kernel's device (subvolumes, layers): there
/// a number counts only for a file that has more than one name.
const SHARED_NUMBERS: [&str; 3] = ["bcachefs", "btrfs", "overlay"];

/// How far a walk goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most entries of directories: a full desktop's `/usr` has half a million.
    pub(super) entries: usize,
    /// Deepest directory below the one that is named; deeper trees are made to be lost in.
    pub(super) depth: usize,
    /// Most inodes with names that are kept, some 10 MiB of them.
    pub(super) inodes: usize,
    /// Longest time: a disk that is slower than this has no cache for the rest of the host either.
    pub(super) time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 2_000_000, depth: 64, inodes: 65_536, time: Duration::from_secs(300) }
    }
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) links: Links,
    /// What was not looked at, and why.
    pub(super) left_out: BTreeSet<String>,
}

/// The inodes of exact names, except directories.
pub(super) fn exact(table: &Table, named: &Literals) -> Links {
    let mut links = Links::new();
    for path in named.paths() {
        let Some((name, real)) = place(path) else { continue };
        let Some(held) = table.holder(real.as_os_str().as_bytes()) else { continue };
        // Of what is remote nothing is asked every second.
        if is(&PSEUDO, held) || is(&REMOTE, held) {
            continue;
        }
        let Ok(metadata) = fs::symlink_metadata(&real) else { continue };
        let is_told = metadata.nlink() > 1 || !is(&SHARED_NUMBERS, held);
        if !metadata.is_dir() && !metadata.is_symlink() && is_told {
            add(&mut links, named, (held.dev, metadata.ino()), name);
        }
    }
    links
}

/// The files with more than one name in the directories that are named.
///
/// `/` itself is not walked: what is forbidden everywhere is forbidden under the name that was used.
pub(super) fn walk(table: &Table, named: &Literals, limits: Limits) -> Found {
    let mut walk = Walk {
        table,
        named,
        limits,
        found: Found::default(),
        seen: 0,
        end: Instant::now() + limits.time,
    };
    let mut deep: Vec<&str> = Vec::new();
    let mut starts: Vec<_> = named.directories().collect();
    // A directory before what is below it, and of one that stands there twice the deep one.
    starts.sort_by_key(|(path, is_deep)| (*path, !is_deep));
    for (path, is_deep) in starts {
        let is_done = deep.iter().any(|above| Path::new(path).starts_with(above));
        if is_done || (is_deep && path == "/") {
            continue;
        }
        if is_deep {
            deep.push(path);
        }
        walk.start(path, is_deep);
    }
    walk.found
}

struct Walk<'a> {
    table: &'a Table,
    named: &'a Literals,
    limits: Limits,
    found: Found,
    seen: usize,
    end: Instant,
}

struct Directory {
    /// Without symbolic links.
    real: PathBuf,
    /// As the policy names it.
    name: Vec<u8>,
    held: Held,
    depth: usize,
}

impl Walk<'_> {
    fn start(&mut self, path: &str, is_deep: bool) {
        let Some((name, real)) = place(path) else { return };
        let Some(held) = self.table.holder(real.as_os_str().as_bytes()).cloned() else { return };
        let name = if name.as_bytes() == b"/" { Vec::new() } else { name.as_bytes().to_vec() };
        let mut todo = Vec::new();
        self.enter(&mut todo, Directory { real, name, held, depth: 0 });
        while let Some(directory) = todo.pop() {
            if !self.look(&directory, is_deep, &mut todo) {
                return;
            }
        }
    }

    /// Puts a directory on the list, unless its file system is not looked into.
    fn enter(&mut self, todo: &mut Vec<Directory>, directory: Directory) {
        if is(&PSEUDO, &directory.held) {
            return;
        }
        if is(&REMOTE, &directory.held) {
            let (path, kind) = (directory.real.display(), &directory.held.kind);
            self.leave_out(format!("{path}: on {kind}"));
        } else if directory.depth > self.limits.depth {
            self.leave_out(format!("more than {} directories deep", self.limits.depth));
        } else if fs::symlink_metadata(&directory.real).is_ok_and(|metadata| metadata.is_dir()) {
            todo.push(directory);
        }
    }

    /// Whether to go on.
    fn look(&mut self, directory: &Directory, is_deep: bool, todo: &mut Vec<Directory>) -> bool {
        // What is gone or closed meanwhile has no names.
        let Ok(entries) = fs::read_dir(&directory.real) else { return true };
        for entry in entries.flatten() {
            self.seen += 1;
            if self.seen > self.limits.entries {
                self.leave_out(format!("more than {} files", self.limits.entries));
                return false;
            }
            if Instant::now() > self.end {
                self.leave_out(format!("more than {} s", self.limits.time.as_secs()));
                return false;
            }
            let Ok(kind) = entry.file_type() else { continue };
            let real = entry.path();
            let held = self.table.at(real.as_os_str().as_bytes()).unwrap_or(&directory.held);
            if kind.is_dir() && is_deep {
                let name = child(&directory.name, &entry.file_name());
                let (held, depth) = (held.clone(), directory.depth + 1);
                self.enter(todo, Directory { real, name, held, depth });
            } else if kind.is_file()
                && let Ok(metadata) = entry.metadata()
                && metadata.nlink() > 1
            {
                let inode = (held.dev, metadata.ino());
                if self.found.links.len() >= self.limits.inodes
                    && !self.found.links.contains_key(&inode)
                {
                    self.leave_out(format!("more than {} files with links", self.limits.inodes));
                    return false;
                }
                let name = RawText::new(child(&directory.name, &entry.file_name()));
                add(&mut self.found.links, self.named, inode, name);
            }
        }
        true
    }

    fn leave_out(&mut self, what: String) {
        self.found.left_out.insert(what);
    }
}

/// Adds a name that is named, if none of the others is the same to the policy.
pub(super) fn add(links: &mut Links, named: &Literals, inode: Inode, name: RawText) {
    let marks = named.marks(&name.to_exact());
    let names = links.entry(inode).or_default();
    if !marks.is_empty() && names.iter().all(|other| named.marks(&other.to_exact()) != marks) {
        names.push(name);
    }
    if names.is_empty() {
        links.remove(&inode);
    }
}

/// A path of a policy as bytes, and without symbolic links in the directories above its last component: that one is
/// itself what is named. `None`: it is not there, or is no path of this host.
fn place(path: &str) -> Option<(RawText, PathBuf)> {
    let name = RawText::from_exact(path).ok()?;
    let given = Path::new(OsStr::from_bytes(name.as_bytes()));
    let real = match (given.parent(), given.file_name()) {
        (Some(parent), Some(last)) => fs::canonicalize(parent).ok()?.join(last),
        _ => PathBuf::from("/"),
    };
    Some((name, real))
}

fn child(directory: &[u8], name: &OsStr) -> Vec<u8> {
    [directory, b"/", name.as_bytes()].concat()
}

fn is(kinds: &[&str], held: &Held) -> bool {
    // `fuse.sshfs` and the like.
    let kind = held.kind.split('.').next().unwrap_or_default();
    kinds.contains(&kind)
}
