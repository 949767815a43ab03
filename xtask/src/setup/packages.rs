//! Programs from the machine's own distribution.

use crate::run::{have, is_root, quietly, say};
use anyhow::{Result, bail};
use std::{path::Path, process::Command};

/// A program (or a command that succeeds if it is there), and the Debian package that brings it.
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
    ("zstd", "zstd"),
    ("dpkg-deb", "dpkg"),
    ("strip", "binutils"),
];
/// For the tests of sinks: Debian's `python3` alone cannot make a virtual environment with pip.
pub(crate) const UNIT: &[Need] =
    &[("python3 -m ensurepip --version", "python3-venv"), ("dpkg-deb", "dpkg")];
/// For the browser tests.
pub(crate) const BROWSER: &[Need] =
    &[("chromium", "chromium"), ("chromedriver", "chromium-driver")];

/// libFuzzer, of the LLVM that the compiler has: its coverage counters are read by this very version.
pub(crate) const LIBFUZZER: &str =
    "/usr/lib/llvm-22/lib/clang/22/lib/linux/libclang_rt.fuzzer_no_main-x86_64.a";
/// For the fuzz targets; libFuzzer needs the C++ library.
pub(crate) const FUZZ: &[Need] = &[(LIBFUZZER, "libclang-rt-22-dev"), ("clang-22", "clang-22")];

/// Only who is not root needs it: for the owners in the VM's root tree.
const FAKEROOT: Need = ("fakeroot", "fakeroot");

/// Installs what is missing, or says what to install.
pub(crate) fn install(needs: &[Need]) -> Result<()> {
    let fakeroot = (!is_root()).then_some(&FAKEROOT);
    let missing: Vec<&Need> =
        needs.iter().chain(fakeroot).filter(|(program, _)| !is_there(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    let list = packages.join(" ");
    if !Path::new("/etc/debian_version").exists() || !have("apt-get") {
        bail!(elsewhere(&missing));
    }
    if !is_root() && !have("sudo") {
        bail!("missing: {list}: install them as root with `apt-get install {list}`");
    }
    say(format!("installing {list}"));
    let apt = |args: &[&str]| {
        let mut command = Command::new(if is_root() { "env" } else { "sudo" });
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]);
        quietly(command.args(args))
    };
    let install = [&["install", "--no-install-recommends"], &packages[..]].concat();
    // The lists may be there already; only if not is the network asked for them.
    if apt(&install).is_err() {
        apt(&["update"])?;
        apt(&install)?;
    }
    match needs.iter().find(|(program, _)| !is_there(program)) {
        Some((program, package)) => bail!("{package} is installed, but {program} is not there"),
        None => Ok(()),
    }
}

fn is_there(program: &str) -> bool {
    match program.split_once(' ') {
        None => have(program),
        Some((program, arguments)) => {
            let ended = Command::new(program).args(arguments.split(' ')).output();
            ended.is_ok_and(|ended| ended.status.success())
        }
    }
}

/// What a machine that is not Debian lacks.
fn elsewhere(missing: &[&Need]) -> String {
    let mut text =
        "this machine is not Debian, so install these yourself and try again:".to_owned();
    for (program, package) in missing {
        text += &format!("\n  {program} (in Debian: package {package})");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{BUILD, elsewhere};

    #[test]
    fn another_system_is_told_each_program_and_where_debian_has_it() {
        let text = elsewhere(&BUILD.iter().collect::<Vec<_>>());
        assert!(text.contains("clang-22 (in Debian: package clang-22)"), "{text}");
        assert!(text.contains("llvm-config-22 (in Debian: package llvm-22-dev)"), "{text}");
    }
}
