//! Kernels for the VMs, from Debian, unpacked and never installed.

use super::debian::{Apt, unpack};
use crate::cache::once;
use anyhow::{Context as _, Result};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A kernel that a VM can boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// Debian 12.
    V6_1,
    /// Debian 13.
    V6_12,
    /// Debian 13's backports.
    V6_18,
    /// Debian 13's backports.
    V7_3,
}

impl Kernel {
    /// The matrix: what every full run tests.
    pub(crate) const ALL: [Self; 4] = [Self::V6_1, Self::V6_12, Self::V6_18, Self::V7_3];

    /// As in `--kernel`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V6_18 => "6.18",
            Self::V7_3 => "7.3",
        }
    }

    /// QEMU's CPU model: 6.12 panics under emulation with `max`.
    pub(crate) const fn cpu(self) -> &'static str {
        match self {
            Self::V6_12 => "Haswell-v4",
            Self::V6_1 | Self::V6_18 | Self::V7_3 => "max",
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kernel| kernel.name() == text);
        found.ok_or_else(|| format!("no kernel `{text}`; there are 6.1, 6.12, 6.18 and 7.3"))
    }
}

/// The unpacked packages of `kernel`.
pub(crate) fn prepare(cache: &Path, kernel: Kernel) -> Result<PathBuf> {
    let tree = cache.join("kernels").join(kernel.name());
    once(&tree, &format!("fetching kernel {kernel}"), |part| {
        let apt = Apt::new(cache)?;
        let downloads = part.join("download");
        // The archive forgets old packages: lists that are older than it name files that are gone.
        apt.with_lists(|apt| apt.download(&packages(apt, kernel)?, &downloads))?;
        for entry in fs::read_dir(&downloads)? {
            unpack(&entry?.path(), part)?;
        }
        image(part)?;
        Ok(fs::remove_dir_all(&downloads)?)
    })?;
    Ok(tree)
}

/// The newest image; from 7.x on it is a shell around two packages that hold the files.
fn packages(apt: &Apt, kernel: Kernel) -> Result<Vec<String>> {
    let image = newest(apt, kernel)?;
    let split = ["binary", "modules"].map(|part| image.replacen("image", part, 1));
    let is_there = |name: &String| apt.versions(name).is_ok_and(|versions| !versions.is_empty());
    let mut packages: Vec<String> = split.into_iter().filter(is_there).collect();
    packages.push(image);
    Ok(packages)
}

fn newest(apt: &Apt, kernel: Kernel) -> Result<String> {
    let version = kernel.name().replace('.', "\\.");
    let mut names = apt.search(&format!("^linux-image-{version}\\.[0-9].*cloud-amd64$"))?;
    names.retain(|name| !name.contains("dbg") && !name.contains("unsigned"));
    names.sort_by_key(|name| numbers(name));
    names.pop().with_context(|| format!("Debian has no cloud kernel {kernel} any more"))
}

/// `linux-image-6.12.117+deb13-cloud-amd64` → [6, 12, 117, 13]: versions sort as numbers.
fn numbers(name: &str) -> Vec<u64> {
    let rest = name.trim_start_matches("linux-image-").trim_end_matches("-cloud-amd64");
    rest.split(|char: char| !char.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// The kernel image in an unpacked tree.
pub(crate) fn image(tree: &Path) -> Result<PathBuf> {
    let found = find(tree, &|name| name.starts_with("vmlinuz"));
    found.into_iter().next().with_context(|| format!("no vmlinuz in {}", tree.display()))
}

/// Plain files below `tree` whose names `wanted` accepts, sorted.
pub(crate) fn find(tree: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest = vec![tree.to_owned()];
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => rest.push(path),
                Ok(kind) if kind.is_file() && wanted(&entry.file_name().to_string_lossy()) => {
                    found.push(path);
                }
                _ => {}
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::{Kernel, numbers};

    #[test]
    fn kernel_versions_sort_as_numbers() {
        let (older, newer) =
            ("linux-image-6.12.9+deb13-cloud-amd64", "linux-image-6.12.117+deb13-cloud-amd64");
        assert!(numbers(older) < numbers(newer));
    }

    #[test]
    fn an_unknown_kernel_is_refused_with_those_that_there_are() {
        assert_eq!("6.12".parse(), Ok(Kernel::V6_12));
        assert_eq!("6.18".parse(), Ok(Kernel::V6_18));
        let error = "5.10".parse::<Kernel>().expect_err("there is no such kernel");
        assert!(error.contains("6.1, 6.12, 6.18 and 7.3"), "{error}");
    }
}
