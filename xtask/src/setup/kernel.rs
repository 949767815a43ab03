//! Debian's cloud kernels, unpacked into the cache and never installed.

use super::apt::Apt;
use crate::cache::Cache;
use anyhow::{Context as _, Result};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A kernel series of the VM matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// What `--kernel` takes.
    pub(crate) name: &'static str,
    /// QEMU's processor under emulation.
    pub(crate) cpu: &'static str,
}

/// The matrix, oldest first. 6.12 panics under emulation with `-cpu max`.
pub(crate) const KERNELS: &[Kernel] = &[
    Kernel { name: "6.1", cpu: "max" },
    Kernel { name: "6.12", cpu: "Haswell-v4" },
    Kernel { name: "7.3", cpu: "max" },
];

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl FromStr for Kernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || KERNELS.iter().map(|kernel| kernel.name).collect::<Vec<_>>().join(", ");
        KERNELS
            .iter()
            .find(|kernel| kernel.name == text)
            .copied()
            .ok_or_else(|| format!("unknown kernel; the VMs can run {}", known()))
    }
}

/// An unpacked kernel.
pub(crate) struct Tree {
    /// As `uname -r` will say.
    pub(crate) release: String,
    pub(crate) vmlinuz: PathBuf,
    /// `lib/modules/<release>`.
    pub(crate) modules: PathBuf,
}

/// The newest kernel of the series that the archive had when it was fetched.
pub(crate) fn ensure(cache: &Cache, kernel: &Kernel) -> Result<Tree> {
    let folder = cache.entry(&format!("kernels/{kernel}"), |part| {
        let apt = Apt::open(cache)?;
        let series = kernel.name.replace('.', "\\.");
        let images = apt.search(&format!("^linux-image-{series}\\.[0-9].*-cloud-amd64$"))?;
        let image = images.last().with_context(|| format!("no cloud kernel {kernel} in Debian"))?;
        let mut packages = vec![image.clone()];
        // Split packages from 7.x on.
        for kind in ["linux-binary", "linux-modules"] {
            let name = image.replacen("linux-image", kind, 1);
            packages.extend(apt.search(&format!("^{}$", name.replace('+', "\\+")))?);
        }
        eprintln!("xtask: fetching kernel {kernel}: {}", packages.join(" "));
        apt.unpack(&packages, part)?;
        read(part).map(drop)
    })?;
    read(&folder)
}

fn read(folder: &Path) -> Result<Tree> {
    let vmlinuz = fs::read_dir(folder.join("boot"))
        .with_context(|| format!("read {}/boot", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz-")))
        .with_context(|| format!("no vmlinuz in {}/boot", folder.display()))?;
    let name = vmlinuz.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let release = name.trim_start_matches("vmlinuz-").to_owned();
    let places = ["usr/lib/modules", "lib/modules"];
    let modules = places
        .iter()
        .map(|place| folder.join(place).join(&release))
        .find(|path| path.is_dir())
        .with_context(|| format!("no modules of {release} in {}", folder.display()))?;
    Ok(Tree { release, vmlinuz, modules })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_kernel_is_told_which_there_are() {
        let error = "5.15".parse::<Kernel>().expect_err("not in the matrix");
        assert!(error.contains("6.1, 6.12, 7.3"), "{error}");
    }
}
