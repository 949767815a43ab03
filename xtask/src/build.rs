//! The eBPF programs and the binaries.

use crate::{
    cache::{repository, target},
    run::{at_root, quietly, say},
    setup::Toolchain,
};
use anyhow::{Context as _, Result, bail};
use std::{ffi::OsString, fs, path::PathBuf, process::Command};

/// What was built.
pub(crate) struct Built {
    /// The eBPF programs.
    pub object: PathBuf,
    /// Directory of the binaries.
    pub bin: PathBuf,
}

/// Binaries that go into a VM.
pub(crate) const PROGRAMS: [&str; 5] =
    ["guard", "guard-agent", "guard-controller", "guard-guest", "guard-workload"];

/// Which packages every build here is about, and with whose features: all, the tests' included. What
/// cargo is asked for decides the features of shared dependencies, and each other choice would build
/// most of the tree once more.
pub(crate) const SELECTION: [&str; 2] = ["--locked", "--workspace"];
/// A build takes the tests' features only if a test is among what it builds.
const WITH_TEST_FEATURES: [&str; 2] = ["--test", "vm_page"];

/// The programs that measure the evidence log. A release is built with them, so that there is one set of
/// features for all of it, as there is for what the tests build.
pub(crate) const MEASURING: [&str; 4] = ["--example", "figures", "--example", "spool"];

/// Builds everything, as the tests use it.
pub(crate) fn everything(toolchain: Toolchain) -> Result<Built> {
    programs(toolchain, &WITH_TEST_FEATURES, "debug")
}

/// Builds everything as people run it: for figures only, as it takes minutes.
pub(crate) fn released(toolchain: Toolchain) -> Result<Built> {
    let release: Vec<&str> = ["--release"].into_iter().chain(MEASURING).collect();
    programs(toolchain, &release, "release")
}

fn programs(toolchain: Toolchain, arguments: &[&str], directory: &str) -> Result<Built> {
    let object = ebpf(&toolchain)?;
    say("building guard, guard-agent, guard-controller and the VM's programs");
    let mut cargo = at_root("cargo");
    cargo.args(["build", "--quiet"]).args(SELECTION).args(arguments);
    for program in PROGRAMS {
        cargo.args(["--bin", program]);
    }
    if !crate::run::loudly(&mut cargo)? {
        bail!("the build failed");
    }
    Ok(Built { object, bin: target().join(directory) })
}

/// `target/guard-ebpf.o`.
pub(crate) fn ebpf(toolchain: &Toolchain) -> Result<PathBuf> {
    say("building the eBPF programs");
    let source = repository().join("guard-ebpf");
    let directory = target().join("ebpf");
    fs::create_dir_all(&directory)?;
    let bitcode = directory.join("core.bc");
    quietly(
        Command::new("clang-22")
            .args([
                "-target",
                "bpf",
                "-mcpu=v3",
                "-O2",
                "-g",
                "-Wall",
                "-Werror",
                "-emit-llvm",
                "-c",
            ])
            .arg(source.join("c/core.c"))
            .arg("-o")
            .arg(&bitcode),
    )?;
    let mut path = OsString::from(&toolchain.bin);
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    // v3 has the atomic additions that return the old value.
    let flags = format!(
        "-C debuginfo=2 -C target-cpu=v3 -C link-arg=--btf -C link-arg={} \
         --cfg=bpf_target_arch=\"x86_64\"",
        bitcode.display()
    );
    quietly(
        Command::new("cargo")
            .current_dir(&source)
            .args(["build", "--release", "--locked", "-Z", "build-std=core"])
            .args(["--target", "bpfel-unknown-none"])
            .env("PATH", path)
            // build-std is unstable; the compiler is the pinned stable one all the same.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", flags)
            .env("CARGO_TARGET_DIR", &directory),
    )?;
    let object = target().join("guard-ebpf.o");
    fs::copy(directory.join("bpfel-unknown-none/release/guard-ebpf"), &object)
        .with_context(|| object.display().to_string())?;
    Ok(object)
}
