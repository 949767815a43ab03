//! The descriptors of everything that is pinned: what is missing in the bpf file system is put back.
//!
//! A pin keeps its object alive after guard-agent; a descriptor keeps it alive while guard-agent runs. So
//! who removes the pins, or covers the file system that holds them, ends nothing as long as guard-agent
//! runs, and finds them back at its next look.

use super::{
    pins::{self, Generation},
    sys::{
        link_ids, map_by_id, map_id_and_name, mount_bpffs, obj_get, obj_pin, program_by_id,
        program_maps, program_misses,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
pub(super) const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// Most pins that one finding names.
const NAMED_MAX: usize = 8;

/// A link or a map, as the kernel numbers it: the same number before and after a restart is the same
/// object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelObject {
    /// `link` or `map`.
    pub kind: String,
    /// The program that the link attaches, or the map's name.
    pub name: String,
    /// The kernel's id, as in `bpftool link` or `bpftool map`.
    pub id: u32,
    /// The id of a link's program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_id: Option<u32>,
}

/// Something that was not as guard-agent had left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tampering {
    /// What, in words.
    pub what: String,
    /// Whether it is as it was again.
    pub mended: bool,
}

/// One pinned object.
struct Kept {
    object: KernelObject,
    path: PathBuf,
    fd: OwnedFd,
    /// Device and inode of the pin: another pin at the same path is not ours.
    place: (u64, u64),
}

/// See the module's documentation.
pub(super) struct Keeper {
    root: PathBuf,
    generation: Generation,
    absent: Vec<&'static str>,
    kept: Vec<Kept>,
}

impl Keeper {
    /// Opens every pin.
    pub(super) fn open(
        root: &Path,
        generation: Generation,
        maps: &[(&'static str, PathBuf)],
        programs: impl Iterator<Item = &'static str>,
    ) -> io::Result<Self> {
        let (present, absent): (Vec<_>, Vec<_>) = programs.partition(|name| generation.has(name));
        let mut kept = Vec::new();
        for name in present {
            let path = generation.link(name);
            let fd = obj_get(&path)?;
            let (id, program) = link_ids(fd.as_fd())?;
            kept.push(Kept::new("link", name, (id, Some(program)), path, fd)?);
        }
        for (name, path) in maps {
            let fd = obj_get(path)?;
            let (id, _) = map_id_and_name(fd.as_fd())?;
            kept.push(Kept::new("map", name, (id, None), path.clone(), fd)?);
        }
        Ok(Self { root: root.to_owned(), generation, absent, kept })
    }

    /// What is kept.
    pub(super) fn objects(&self) -> Vec<KernelObject> {
        self.kept.iter().map(|kept| kept.object.clone()).collect()
    }

    /// How often the kernel did not run a program whose hook it met. A program that cannot be asked is left out.
    pub(super) fn skipped(&self) -> u64 {
        let programs = self.kept.iter().filter_map(|kept| kept.object.program_id);
        programs.filter_map(|id| program_misses(program_by_id(id).ok()?.as_fd()).ok()).sum()
    }

    /// Looks at every pin and puts back what is missing.
    pub(super) fn mend(&mut self) -> Vec<Tampering> {
        let mut found = Vec::new();
        if let Some(covered) = uncover(&self.root) {
            found.push(covered);
        }
        let gone: Vec<_> = self.kept.iter_mut().filter(|kept| !kept.is_in_place()).collect();
        if gone.is_empty() && self.generation.is_complete() {
            return found;
        }
        let names: Vec<_> = gone.iter().map(|kept| kept.object.name.clone()).collect();
        let mended = gone.into_iter().try_for_each(Kept::put_back).and_then(|()| self.mark());
        let what = removed(&names, mended.as_ref().err());
        found.push(Tampering { what, mended: mended.is_ok() });
        found
    }

    /// Removes every pin and closes every descriptor: programs are detached, links before maps.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.kept.retain(|kept| kept.object.kind != "link");
        pins::remove_all(&self.root)?;
        self.kept.clear();
        Ok(())
    }

    /// The folders that say which programs are not there, and that the rest is whole.
    fn mark(&self) -> io::Result<()> {
        if self.generation.is_complete() {
            return Ok(());
        }
        fs::create_dir_all(self.generation.link("absent"))?;
        for program in &self.absent {
            if !self.generation.lacks(program) {
                self.generation.without(program)?;
            }
        }
        self.generation.complete()
    }
}

impl Kept {
    fn new(
        kind: &str,
        name: &str,
        (id, program_id): (u32, Option<u32>),
        path: PathBuf,
        fd: OwnedFd,
    ) -> io::Result<Self> {
        let object = KernelObject { kind: kind.into(), name: name.into(), id, program_id };
        let place = place(&path)?;
        Ok(Self { object, path, fd, place })
    }

    fn is_in_place(&self) -> bool {
        place(&self.path).is_ok_and(|found| found == self.place)
    }

    fn put_back(&mut self) -> io::Result<()> {
        if let Some(parent) = self.path.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        obj_pin(self.fd.as_fd(), &self.path)?;
        self.place = place(&self.path)?;
        Ok(())
    }
}

fn place(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Makes sure that a bpf file system is where the pins belong.
fn uncover(root: &Path) -> Option<Tampering> {
    let at = if root.exists() { root } else { root.parent()? };
    if is_bpffs(at) {
        return None;
    }
    let what = format!("the bpf file system at {} was unmounted or covered", at.display());
    Some(match mount_bpffs(at) {
        Ok(()) => Tampering { what, mended: true },
        Err(error) => Tampering {
            what: format!("{what}, and cannot be mounted again: {error}"),
            mended: false,
        },
    })
}

pub(super) fn is_bpffs(at: &Path) -> bool {
    nix::sys::statfs::statfs(at).is_ok_and(|found| found.filesystem_type().0 == BPF_FS_MAGIC)
}

/// What was removed, in words.
fn removed(names: &[String], error: Option<&io::Error>) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    let mut what = match names.len() {
        0 => "the mark of a whole set of pins was removed".to_owned(),
        n => format!("{n} pins were removed or replaced: "),
    };
    what += &names.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        what += &format!(" and {more} more");
    }
    if let Some(error) = error {
        what += &format!("; not all could be put back: {error}");
    }
    what
}

/// Pins the maps that are missing in `maps` again, from the programs whose links are pinned below
/// `links`: a start after pins were removed goes on with the maps that enforce, not with empty ones.
pub(super) fn recover(links: &Path, maps: &Path, names: &[&str]) -> io::Result<()> {
    let missing: Vec<_> = names.iter().filter(|name| !maps.join(name).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for map in maps_below(links) {
        let (_, found) = map_id_and_name(map.as_fd())?;
        let path = maps.join(&found);
        if missing.iter().any(|name| ***name == *found) && !path.exists() {
            tracing::warn!(map = found, "its pin was gone; pinned again");
            obj_pin(map.as_fd(), &path)?;
        }
    }
    Ok(())
}

/// The maps of all programs with a link below the directory. What cannot be read is none of ours.
fn maps_below(directory: &Path) -> Vec<OwnedFd> {
    let mut maps = Vec::new();
    let mut ids = std::collections::BTreeSet::new();
    for path in links_below(directory) {
        let of_link = || -> io::Result<Vec<u32>> {
            let (_, program) = link_ids(obj_get(&path)?.as_fd())?;
            program_maps(program_by_id(program)?.as_fd())
        };
        for id in of_link().unwrap_or_default() {
            if ids.insert(id)
                && let Ok(map) = map_by_id(id)
            {
                maps.push(map);
            }
        }
    }
    maps
}

/// Pins in folders of links, at any depth that we make.
fn links_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_links = |path: &Path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("links-"))
        };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(links_below(&path));
        } else if path.parent().is_some_and(is_links) {
            found.push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_some_and_counts_all() {
        let names: Vec<_> = (0..NAMED_MAX + 2).map(|n| format!("p{n}")).collect();
        let what = removed(&names, None);
        assert_eq!(
            what,
            "10 pins were removed or replaced: p0, p1, p2, p3, p4, p5, p6, p7 and 2 more"
        );
        let error = io::Error::from_raw_os_error(libc::EPERM);
        let what = removed(&names[..1], Some(&error));
        assert!(what.starts_with("1 pins were removed or replaced: p0; not all"), "{what}");
        assert!(removed(&[], None).contains("mark"));
    }

    #[test]
    fn only_pins_in_folders_of_links_are_taken_for_links() {
        let root = tempfile::tempdir().unwrap();
        let links = root.path().join("2/links-ab-1");
        fs::create_dir_all(&links).unwrap();
        fs::create_dir_all(root.path().join("2/maps")).unwrap();
        fs::write(links.join("file_open"), "").unwrap();
        fs::write(root.path().join("2/maps/HOLDS"), "").unwrap();
        assert_eq!(links_below(root.path()), [links.join("file_open")]);
    }
}
