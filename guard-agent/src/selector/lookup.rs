//! What the kernel compares: a program's device and inode, a cgroup's id.

use super::{Selector, SelectorError};
use crate::mounts::{MOUNTS, Mount, mounts};
use guard_common::label::{SELECT_CGROUP, SELECT_PROGRAM, SelectorKey};
use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::Path,
};

/// The root of the cgroup tree: whoever is in no other.
const ROOT_CGROUP: &str = "/";

pub(super) fn program(selector: &Selector, path: &Path) -> Result<SelectorKey, SelectorError> {
    let advice = "install it first, or correct the path";
    let failed = |source| selector.missing(path, source, advice);
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(selector.unfit(format!("{} is not a file", path.display())));
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        let problem = format!("{} is not executable: chmod +x, or correct it", path.display());
        return Err(selector.unfit(problem));
    }
    // From here on by descriptor: the name may become another file's.
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let own = fs::metadata("/proc/self/exe").map_err(failed)?;
    if (own.dev(), own.ino()) == (metadata.dev(), metadata.ino()) {
        let problem = "this is guard-agent's own program, which must be no session: select another";
        return Err(selector.unfit(problem));
    }
    let mut magic = [0; 4];
    let read = (&file).read(&mut magic).map_err(failed)?;
    let start = magic.get(..read).unwrap_or_default();
    if start != b"\x7fELF" {
        let is = if start.starts_with(b"#!") { "is a script" } else { "is no ELF program" };
        return Err(selector.unfit(format!(
            "{} {is}, so that the kernel runs its interpreter in its place: select by uid or cgroup, or \
             start it with `guard run`",
            path.display()
        )));
    }
    let mount = mount_of(&file).map_err(failed)?;
    if mount.kind == "overlay" {
        return Err(selector.unfit(format!(
            "{} is on an overlay file system, whose inode numbers are not those that the kernel \
             compares: select by uid or cgroup",
            path.display()
        )));
    }
    Ok(SelectorKey { kind: SELECT_PROGRAM, _pad: 0, dev: mount.dev, id: metadata.ino() })
}

/// The mount on which a file was opened.
fn mount_of(file: &File) -> io::Result<Mount> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let id: Option<u64> = id.and_then(|id| id.trim().parse().ok());
    let mount = mounts(MOUNTS)?.into_iter().find(|mount| Some(mount.id) == id);
    mount.ok_or_else(|| io::Error::other(format!("its mount {id:?} is not in {MOUNTS}")))
}

/// `path` is as in `/proc/PID/cgroup`, or below the directory where cgroup v2 is mounted.
pub(super) fn cgroup(selector: &Selector, path: &Path) -> Result<SelectorKey, SelectorError> {
    let advice = "a cgroup must exist: start its unit first, or select by uid";
    let found =
        mounts(MOUNTS).map_err(|source| selector.missing(Path::new(MOUNTS), source, advice))?;
    let tree =
        found.into_iter().find(|mount| mount.kind == "cgroup2" && mount.root == Path::new("/"));
    let Some(tree) = tree else {
        let problem =
            format!("no cgroup v2 is mounted, so {} is none: mount -t cgroup2", path.display());
        return Err(selector.unfit(problem));
    };
    let inside = path.strip_prefix(&tree.at).or(path.strip_prefix("/")).unwrap_or(path);
    let directory = tree.at.join(inside);
    if inside.as_os_str().is_empty() || is_own(inside) {
        return Err(selector.unfit(format!(
            "{} is the cgroup of guard-agent itself, or of the whole system: give agents one of their \
             own, such as a slice",
            directory.display()
        )));
    }
    let failed = |source| selector.missing(&directory, source, advice);
    let metadata = fs::metadata(&directory).map_err(failed)?;
    // Only in a cgroup: a file system mounted on the tree has none.
    fs::metadata(directory.join("cgroup.procs")).map_err(failed)?;
    // kernfs: the inode number is the cgroup's id, on every 64-bit kernel since 5.5.
    Ok(SelectorKey { kind: SELECT_CGROUP, _pad: 0, dev: 0, id: metadata.ino() })
}

/// Whether this process is in that cgroup: whoever restarts it would be a session.
fn is_own(inside: &Path) -> bool {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or(ROOT_CGROUP);
    Path::new(own).strip_prefix("/").is_ok_and(|own| own == inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_on_its_mount() {
        let file = File::open("/proc/self/status").unwrap();
        assert_eq!(mount_of(&file).unwrap().kind, "proc");
    }
}
