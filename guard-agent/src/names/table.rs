//! The mounts of one namespace, and which names they give: from a path to the place inside of a file system, and
//! from there to every path. By text alone.

use crate::mounts::Mount;
use std::{collections::HashMap, os::unix::ffi::OsStringExt as _};

/// Where one directory or file of a file system is mounted.
#[derive(Debug)]
struct Place {
    root: Vec<u8>,
    at: Vec<u8>,
}

/// Device and type of what is mounted somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) dev: u64,
    pub(super) kind: String,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Table {
    by_dev: HashMap<u64, Vec<Place>>,
    points: HashMap<Vec<u8>, Held>,
}

impl Table {
    /// In the order of mountinfo.
    pub(super) fn new(mounts: Vec<Mount>) -> Self {
        let mut table = Self::default();
        for Mount { dev, root, at, kind, .. } in mounts {
            let (root, at) = (root.into_os_string().into_vec(), at.into_os_string().into_vec());
            // The last one is on top.
            table.points.insert(at.clone(), Held { dev, kind });
            table.by_dev.entry(dev).or_default().push(Place { root, at });
        }
        table
    }

    /// Whether the file system of this device is mounted here.
    pub(super) fn has(&self, dev: u64) -> bool {
        self.by_dev.contains_key(&dev)
    }

    /// Where in the file system of `dev` an object is that was reached as `path`: under every mount of it that the
    /// path is below. Which of them it was the path does not tell (a mount may have been covered since), so each
    /// counts; a wrong one gives a name more, which can only forbid.
    pub(super) fn inside(&self, dev: u64, path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        let places = self.by_dev.get(&dev).into_iter().flatten();
        places.filter_map(|place| Some(join(&place.root, below(path, &place.at)?)))
    }

    /// Every path of what is at `inside` of the file system of `dev`.
    pub(super) fn paths(&self, dev: u64, inside: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        let places = self.by_dev.get(&dev).into_iter().flatten();
        places.filter_map(|place| Some(join(&place.at, below(inside, &place.root)?)))
    }

    /// What is mounted exactly there.
    pub(super) fn at(&self, path: &[u8]) -> Option<&Held> {
        self.points.get(path)
    }

    /// The mount that a path without symbolic links is on.
    pub(super) fn holder(&self, path: &[u8]) -> Option<&Held> {
        let mut rest = path;
        loop {
            if let Some(held) = self.points.get(rest) {
                return Some(held);
            }
            rest = match rest.iter().rposition(|byte| *byte == b'/')? {
                0 if rest.len() > 1 => b"/",
                0 => return None,
                at => &rest[..at],
            };
        }
    }
}

/// What follows `directory` in `path`, empty or with its slash. `None`: the path is not below it.
fn below<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    if directory == b"/" {
        return path.starts_with(b"/").then_some(if path == b"/" { b"" } else { path });
    }
    path.strip_prefix(directory).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn join(directory: &[u8], rest: &[u8]) -> Vec<u8> {
    match (directory, rest) {
        (b"/", b"") => b"/".to_vec(),
        (b"/", rest) => rest.to_vec(),
        (directory, rest) => [directory, rest].concat(),
    }
}

/// The path of what a process whose root is `root` calls `path`.
pub(super) fn seen_from_outside(root: &[u8], path: &[u8]) -> Vec<u8> {
    join(root, if path == b"/" { b"" } else { path })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::{kernel_dev, parse};

    const DISK: u64 = kernel_dev(8, 1);

    fn table(lines: &[&str]) -> Table {
        let mut text = String::new();
        for line in lines {
            let (what, at) = line.split_once(" at ").unwrap();
            let (dev, root) = what.split_once(' ').unwrap();
            text.push_str(&format!("1 1 {dev} {root} {at} rw - ext4 /dev/x rw\n"));
        }
        Table::new(parse(text.as_bytes()))
    }

    /// The names of what `task` reaches as `path`, for `host`.
    fn names(task: &Table, host: &Table, dev: u64, path: &str) -> Vec<String> {
        let inside = task.inside(dev, path.as_bytes());
        let names = inside.flat_map(|inside| host.paths(dev, &inside).collect::<Vec<_>>());
        let mut names: Vec<_> = names.map(|name| String::from_utf8(name).unwrap()).collect();
        names.sort();
        names.dedup();
        names
    }

    #[test]
    fn a_bound_directory_and_a_bound_file_have_both_names() {
        let host = table(&["8:1 / at /", "8:1 /etc/ssl at /srv/ssl", "8:1 /etc/shadow at /tmp/x"]);
        let names = |path| names(&host, &host, DISK, path);
        assert_eq!(names("/srv/ssl/a/b"), ["/etc/ssl/a/b", "/srv/ssl/a/b"]);
        assert_eq!(names("/etc/ssl/a/b"), ["/etc/ssl/a/b", "/srv/ssl/a/b"]);
        assert_eq!(names("/srv/ssl"), ["/etc/ssl", "/srv/ssl"]);
        assert_eq!(names("/tmp/x"), ["/etc/shadow", "/tmp/x"]);
        // Whole components.
        assert_eq!(names("/srv/ssl2/a"), ["/srv/ssl2/a"]);
        assert_eq!(names("/etc/shadow-"), ["/etc/shadow-"]);
        assert_eq!(names("/"), ["/"]);
    }

    #[test]
    fn a_directory_above_that_is_bound_gives_its_names_too() {
        let host = table(&["8:1 / at /", "8:1 / at /mnt/all", "8:1 /etc at /a/etc"]);
        let all = ["/a/etc/ssl/k", "/etc/ssl/k", "/mnt/all/etc/ssl/k"];
        for path in all {
            assert!(
                all.iter().all(|name| names(&host, &host, DISK, path).contains(&(*name).into()))
            );
        }
    }

    #[test]
    fn mounts_in_mounts_are_told_apart_by_their_device() {
        let host = table(&[
            "8:1 / at /",
            "8:2 / at /home",
            "8:2 /dev at /home/dev/again",
            "0:5 / at /home/dev/t",
        ]);
        let names = |dev, path| names(&host, &host, dev, path);
        assert_eq!(
            names(kernel_dev(8, 2), "/home/dev/again/k"),
            ["/home/dev/again/again/k", "/home/dev/again/k", "/home/dev/k"]
        );
        assert_eq!(names(kernel_dev(0, 5), "/home/dev/t/k"), ["/home/dev/t/k"]);
        assert_eq!(names(kernel_dev(0, 6), "/home/dev/t/k"), [""; 0]);
        assert_eq!(host.holder(b"/home/dev/t/k").unwrap().dev, kernel_dev(0, 5));
        assert_eq!(host.holder(b"/etc/k").unwrap().dev, DISK);
        assert_eq!(host.holder(b"/").unwrap().dev, DISK);
        assert_eq!(host.holder(b"k"), None);
    }

    #[test]
    fn another_namespace_is_translated_into_the_hosts_names() {
        let host = table(&["8:1 / at /", "0:40 / at /var/lib/box/merged"]);
        let task = table(&["0:40 / at /", "8:1 /etc/ssl at /run/secrets", "8:1 / at /host"]);
        assert_eq!(names(&task, &host, DISK, "/run/secrets/k"), ["/etc/ssl/k"]);
        assert_eq!(names(&task, &host, DISK, "/host/etc/shadow"), ["/etc/shadow"]);
        let merged = ["/var/lib/box/merged/etc/shadow"];
        assert_eq!(names(&task, &host, kernel_dev(0, 40), "/etc/shadow"), merged);
    }

    /// As the kernel writes it: what stood in a directory that is forbidden is still what it was.
    #[test]
    fn what_was_deleted_after_it_was_bound_is_named_where_it_stood() {
        let host = table(&["8:1 / at /", "8:1 /a//deleted at /b"]);
        assert_eq!(names(&host, &host, DISK, "/b/k"), ["/a//deleted/k", "/b/k"]);
    }

    #[test]
    fn a_root_is_put_before_the_path() {
        assert_eq!(seen_from_outside(b"/jail", b"/etc/shadow"), b"/jail/etc/shadow");
        assert_eq!(seen_from_outside(b"/jail", b"/"), b"/jail");
    }
}
