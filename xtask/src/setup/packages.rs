//! Programs from the machine's own distribution.

use crate::run::{have, quietly, say};
use anyhow::{Result, bail};
use std::process::Command;

/// A program, and the Debian package that brings it.
type Need = (&'static str, &'static str);

/// For the eBPF programs.
pub(crate) const BUILD: &[Need] =
    &[("clang-22", "clang-22"), ("llvm-config-22", "llvm-22-dev"), ("cc", "gcc")];
/// For the VMs.
pub(crate) const VM: &[Need] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("cpio", "cpio"),
    ("busybox", "busybox-static"),
    ("mke2fs", "e2fsprogs"),
    ("xz", "xz-utils"),
    ("dpkg-deb", "dpkg"),
    ("strip", "binutils"),
];
/// For the browser tests.
pub(crate) const BROWSER: &[Need] =
    &[("chromium", "chromium"), ("chromedriver", "chromium-driver")];

/// Installs what is missing.
pub(crate) fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> =
        needs.iter().filter(|(program, _)| !have(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !have("apt-get") {
        bail!("missing: {list} (names of Debian packages): install them, then try again");
    }
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        bail!("missing: {list}: install them as root with `apt-get install {list}`");
    }
    say(format!("installing {list}"));
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-q", "-y"]);
        command
    };
    let install = |command: &mut Command| {
        quietly(command.args(["install", "--no-install-recommends"]).args(&missing))
    };
    // The lists may be there already; only if not is the network asked for them.
    if install(&mut apt()).is_err() {
        quietly(apt().arg("update"))?;
        install(&mut apt())?;
    }
    Ok(())
}
