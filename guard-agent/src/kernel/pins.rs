//! Where links and maps are pinned, and which of what is there counts.
//!
//! ```text
//! /sys/fs/bpf/guard/state-1/        what every version shares: labels, their second copies, counters, selectors
//!                  /2/maps/         the other maps of ABI 2
//!                  /2/links-9f…-1/  one generation: all links of one object, `absent/PROGRAM`, `complete`
//! ```
//! A generation is made beside the one in force and counts once `complete` is there; only then the former
//! ones go, those of other ABIs too (H9). So a start that is killed at any step leaves a whole generation,
//! or, if it was the first start, a part of one.

use guard_common::{ABI_VERSION, STATE_VERSION};
use sha2::{Digest as _, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Marks a whole generation; made last.
const COMPLETE: &str = "complete";
/// Holds one folder for each program that this kernel has no use for.
const ABSENT: &str = "absent";

/// The pin directory of one ABI.
#[must_use]
pub(super) fn abi_directory(root: &Path, abi: u32) -> PathBuf {
    root.join(abi.to_string())
}

/// The pin directory of what outlives a change of the ABI.
#[must_use]
pub(super) fn state_directory(root: &Path) -> PathBuf {
    root.join(format!("state-{STATE_VERSION}"))
}

/// Which ABI's directory a start uses: this version's, or the one that a test plays.
#[must_use]
pub(super) fn abi(danger_pin_version: Option<u32>) -> u32 {
    danger_pin_version.unwrap_or(ABI_VERSION)
}

/// The links of one object, as they were attached together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Generation(pub(super) PathBuf);

impl Generation {
    /// Folder names of this object's generations begin with it.
    fn prefix(object: &[u8]) -> String {
        let digest = hex::encode(Sha256::digest(object));
        format!("links-{}-", &digest[..16])
    }

    /// A new one, empty.
    pub(super) fn create(directory: &Path, object: &[u8]) -> io::Result<Self> {
        let prefix = Self::prefix(object);
        let mut number = 1_u32;
        loop {
            let path = directory.join(format!("{prefix}{number}"));
            match fs::create_dir(&path) {
                Ok(()) => {
                    fs::create_dir(path.join(ABSENT))?;
                    return Ok(Self(path));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Says that this kernel has no use for the program.
    pub(super) fn without(&self, program: &str) -> io::Result<()> {
        fs::create_dir(self.0.join(ABSENT).join(program))
    }

    /// From now on it counts.
    pub(super) fn complete(&self) -> io::Result<()> {
        fs::create_dir(self.0.join(COMPLETE))
    }

    pub(super) fn is_complete(&self) -> bool {
        self.0.join(COMPLETE).is_dir()
    }

    pub(super) fn link(&self, program: &str) -> PathBuf {
        self.0.join(program)
    }

    /// Whether the program is pinned here.
    pub(super) fn has(&self, program: &str) -> bool {
        self.link(program).exists()
    }

    /// Whether it is known to be absent.
    pub(super) fn lacks(&self, program: &str) -> bool {
        self.0.join(ABSENT).join(program).is_dir()
    }

    /// Links in it.
    fn size(&self) -> usize {
        fs::read_dir(&self.0).map_or(0, |entries| {
            entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()))
                .count()
        })
    }

    fn remove(&self) -> io::Result<()> {
        tracing::info!(pins = %self.0.display(), "dropping former programs");
        fs::remove_dir_all(&self.0)
    }

    /// All generations of one ABI.
    fn all(directory: &Path) -> io::Result<Vec<Self>> {
        let mut all = Vec::new();
        for path in entries(directory)? {
            if name(&path).starts_with("links-") {
                all.push(Self(path));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// A whole one of this object with every one of `programs` pinned or known to be absent: a pin that
    /// somebody removed makes it one that cannot be taken over.
    pub(super) fn find<'a>(
        directory: &Path,
        object: &[u8],
        programs: impl Iterator<Item = &'a str> + Clone,
    ) -> io::Result<Option<Self>> {
        let prefix = Self::prefix(object);
        Ok(Self::all(directory)?.into_iter().find(|one| {
            let whole = |program| one.has(program) || one.lacks(program);
            name(&one.0).starts_with(&prefix) && one.is_complete() && programs.clone().all(whole)
        }))
    }
}

/// Removes what starts that were killed half-way left. While no whole generation is there, the largest
/// part stays: it enforces something until a whole one is attached.
pub(super) fn drop_parts(root: &Path) -> io::Result<()> {
    let mut all = Vec::new();
    for (_, directory) in abi_directories(root)? {
        all.extend(Generation::all(&directory)?);
    }
    let is_any_whole = all.iter().any(Generation::is_complete);
    let mut parts: Vec<_> = all.into_iter().filter(|one| !one.is_complete()).collect();
    parts.sort_by_key(Generation::size);
    if !is_any_whole {
        parts.pop();
    }
    parts.iter().try_for_each(Generation::remove)
}

/// What [`drop_others`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Programs that enforced until now.
    pub(super) generations: usize,
    /// Programs and maps of another ABI: holds that this version cannot read.
    pub(super) other_abis: usize,
}

/// `current` is attached and whole: everything else goes, links before maps.
pub(super) fn drop_others(root: &Path, abi: u32, current: &Generation) -> io::Result<Dropped> {
    let mut dropped = Dropped::default();
    for (found, directory) in abi_directories(root)? {
        for generation in Generation::all(&directory)? {
            if generation != *current {
                dropped.generations += usize::from(generation.is_complete());
                generation.remove()?;
            }
        }
        if found != abi {
            fs::remove_dir_all(&directory)?;
            dropped.other_abis += 1;
        }
    }
    Ok(dropped)
}

/// A state directory of another version: its labels mean something else, and dropping it would free every
/// session that runs.
pub(super) fn foreign_state(root: &Path) -> io::Result<Option<PathBuf>> {
    let own = state_directory(root);
    Ok(entries(root)?.into_iter().find(|path| name(path).starts_with("state-") && *path != own))
}

/// Removes every pin: links first, so that no program meets a map that is gone; then enforcement has ended.
pub(super) fn remove_all(root: &Path) -> io::Result<()> {
    for (_, directory) in abi_directories(root)? {
        for generation in Generation::all(&directory)? {
            generation.remove()?;
        }
    }
    entries(root)?.into_iter().try_for_each(fs::remove_dir_all)
}

fn abi_directories(root: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let numbered = |path: PathBuf| Some((name(&path).parse().ok()?, path));
    Ok(entries(root)?.into_iter().filter_map(numbered).collect())
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &[u8] = b"object a";
    const B: &[u8] = b"object b";
    const PROGRAMS: [&str; 3] = ["task_alloc", "file_open", "new_hook"];

    /// A generation with two pins and one program that the kernel does not have. Plain files: directories
    /// are all that this module knows.
    fn generation(root: &Path, abi: u32, object: &[u8], whole: bool) -> Generation {
        let directory = abi_directory(root, abi);
        fs::create_dir_all(&directory).unwrap();
        let made = Generation::create(&directory, object).unwrap();
        fs::write(made.link("task_alloc"), "").unwrap();
        if whole {
            fs::write(made.link("file_open"), "").unwrap();
            made.without("new_hook").unwrap();
            made.complete().unwrap();
        }
        made
    }

    fn find(root: &Path, abi: u32, object: &[u8]) -> Option<Generation> {
        Generation::find(&abi_directory(root, abi), object, PROGRAMS.into_iter()).unwrap()
    }

    #[test]
    fn a_whole_generation_of_the_same_object_is_taken_over_and_no_other() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        assert_eq!(find(root, 2, A), None);
        let whole = generation(root, 2, A, true);
        assert_eq!(find(root, 2, A), Some(whole.clone()));
        assert_eq!(find(root, 2, B), None);
        assert_eq!(find(root, 3, A), None);
        // Somebody removed a pin: the next start attaches anew beside it.
        fs::remove_file(whole.link("file_open")).unwrap();
        assert_eq!(find(root, 2, A), None);
    }

    #[test]
    fn a_start_that_was_killed_half_way_is_never_taken_for_a_whole_one() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let part = generation(root, 2, A, false);
        assert_eq!(find(root, 2, A), None);
        let next = generation(root, 2, A, false);
        assert_ne!(part, next);
    }

    #[test]
    fn parts_go_while_a_whole_one_enforces_and_the_largest_stays_otherwise() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let small = generation(root, 2, A, false);
        let large = generation(root, 3, B, false);
        fs::write(large.link("file_open"), "").unwrap();
        drop_parts(root).unwrap();
        assert!(!small.0.exists());
        assert!(large.0.exists());
        let whole = generation(root, 2, A, true);
        drop_parts(root).unwrap();
        assert!(!large.0.exists());
        assert!(whole.0.exists());
    }

    #[test]
    fn a_new_version_drops_the_former_with_its_maps_and_keeps_the_labels() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let labels = state_directory(root).join("LABELS");
        fs::create_dir_all(state_directory(root)).unwrap();
        fs::write(&labels, "").unwrap();
        let former = generation(root, 2, A, true);
        fs::create_dir_all(abi_directory(root, 2).join("maps")).unwrap();
        let current = generation(root, 3, A, true);
        let dropped = drop_others(root, 3, &current).unwrap();
        assert_eq!(dropped, Dropped { generations: 1, other_abis: 1 });
        assert!(!former.0.exists() && !abi_directory(root, 2).exists());
        assert!(current.0.exists() && labels.exists());
        // And back: what is newer goes as well.
        let back = generation(root, 2, A, true);
        let dropped = drop_others(root, 2, &back).unwrap();
        assert_eq!(dropped, Dropped { generations: 1, other_abis: 1 });
        assert!(labels.exists());
    }

    #[test]
    fn labels_of_another_layout_are_seen_before_anything_is_touched() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(state_directory(root)).unwrap();
        assert_eq!(foreign_state(root).unwrap(), None);
        let foreign = root.join(format!("state-{}", STATE_VERSION + 1));
        fs::create_dir_all(&foreign).unwrap();
        assert_eq!(foreign_state(root).unwrap(), Some(foreign));
    }

    #[test]
    fn a_deliberate_end_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        generation(root, 2, A, true);
        fs::create_dir_all(state_directory(root)).unwrap();
        remove_all(root).unwrap();
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
        remove_all(root).unwrap();
        remove_all(&root.join("never-there")).unwrap();
    }
}
