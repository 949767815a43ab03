//! What this machine says of itself, gathered once; the checks judge it.

use super::{bpf, kconfig::KernelConfig};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Everything that the checks look at.
#[derive(Debug)]
pub(crate) struct Facts {
    /// `x86_64` …
    pub(crate) machine: String,
    /// `uname -r`.
    pub(crate) release: String,
    /// Where the kernel's configuration was found, and what it says.
    pub(crate) config: Option<(PathBuf, KernelConfig)>,
    /// `/sys/kernel/security/lsm`.
    pub(crate) lsm: io::Result<String>,
    /// `/proc/cmdline`.
    pub(crate) cmdline: String,
    /// `/sys/kernel/security/lockdown`, if there is one.
    pub(crate) lockdown: Option<String>,
    /// Size of `/sys/kernel/btf/vmlinux`, bytes.
    pub(crate) btf: io::Result<u64>,
    /// `/proc/mounts`.
    pub(crate) mounts: String,
    /// Effective capabilities.
    pub(crate) capabilities: u64,
    /// Effective user id.
    pub(crate) uid: u32,
    /// What bpf(2) answered to a program that does nothing.
    pub(crate) bpf: io::Result<()>,
    /// The compiled programs: where, and how many bytes.
    pub(crate) object: (PathBuf, io::Result<u64>),
}

impl Facts {
    pub(crate) fn of_this_machine(ebpf_object: &Path) -> Self {
        let release = first_line("/proc/sys/kernel/osrelease").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            machine: std::env::consts::ARCH.to_owned(),
            config: KernelConfig::find(&release),
            release,
            lsm: first_line("/sys/kernel/security/lsm"),
            cmdline: first_line("/proc/cmdline").unwrap_or_default(),
            lockdown: first_line("/sys/kernel/security/lockdown").ok(),
            btf: size("/sys/kernel/btf/vmlinux".as_ref()),
            mounts: fs::read_to_string("/proc/mounts").unwrap_or_default(),
            capabilities: effective_capabilities(&status),
            uid: nix::unistd::geteuid().as_raw(),
            bpf: bpf::try_harmless_program(),
            object: (ebpf_object.to_owned(), size(ebpf_object)),
        }
    }
}

fn first_line(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.lines().next().unwrap_or_default().trim().to_owned())
}

fn size(path: &Path) -> io::Result<u64> {
    Ok(fs::metadata(path)?.len())
}

/// `CapEff` of `/proc/PID/status`; none if it is not there.
fn effective_capabilities(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_proc_status() {
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t00000000a80425fb\n"), 0xa804_25fb);
        assert_eq!(effective_capabilities("nothing"), 0);
    }
}
