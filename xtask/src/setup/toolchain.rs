//! rust-src and bpf-linker, of exactly the versions that the compiler needs.

use super::{Toolchain, debian};
use crate::{
    cache::once,
    run::{loudly, quietly},
};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The linker's version; its LLVM must be the compiler's own major.
const BPF_LINKER: &str = "0.13.0";
const LLVM_MAJOR: &str = "22";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

pub(crate) fn prepare(cache: &Path) -> Result<Toolchain> {
    let verbose = quietly(crate::run::at_root("rustc").arg("-vV"))?;
    let field = |name: &str| {
        let line = verbose.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(": ").nth(1)).unwrap_or_default().to_owned()
    };
    let (release, llvm) = (field("release"), field("LLVM version"));
    ensure!(
        llvm.starts_with(LLVM_MAJOR),
        "rustc {release} is built on LLVM {llvm}, bpf-linker here on {LLVM_MAJOR}: \
         use the toolchain that rust-toolchain.toml names"
    );
    rust_src(cache, &release)?;
    let root = cache.join(format!("bpf-linker-{BPF_LINKER}-llvm-{LLVM_MAJOR}"));
    once(&root, "building bpf-linker (some minutes, once)", |part| {
        let done = loudly(
            Command::new("cargo")
                .args(["install", "bpf-linker", "--locked", "--version", BPF_LINKER])
                .args(["--no-default-features", "--features", "llvm-22", "--root"])
                .arg(part)
                .env("LLVM_PREFIX", LLVM_PREFIX)
                .env("CARGO_TARGET_DIR", cache.join("bpf-linker-target")),
        )?;
        // Only the binary is worth keeping.
        let _ = fs::remove_dir_all(cache.join("bpf-linker-target"));
        if !done {
            bail!("cargo install bpf-linker failed");
        }
        Ok(())
    })?;
    Ok(Toolchain { bin: root.join("bin") })
}

/// `-Z build-std=core` wants the library's source in the sysroot. rustup's component is the same thing.
fn rust_src(cache: &Path, release: &str) -> Result<()> {
    let sysroot =
        PathBuf::from(quietly(crate::run::at_root("rustc").args(["--print", "sysroot"]))?.trim());
    let library = sysroot.join("lib/rustlib/src/rust/library");
    if library.join("core").is_dir() {
        return Ok(());
    }
    let tree = cache.join(format!("rust-src-{release}"));
    once(&tree, "fetching rust-src", |part| {
        let apt = debian::Apt::new(cache)?;
        let downloads = part.join("download");
        apt.with_lists(|apt| {
            let versions = apt.versions("rust-src")?;
            let found = versions.into_iter().find(|version| version.starts_with(release));
            let version = found.with_context(|| {
                format!("Debian has no rust-src {release}: `rustup component add rust-src`")
            })?;
            apt.download(&[format!("rust-src={version}")], &downloads)
        })?;
        for entry in fs::read_dir(&downloads)? {
            debian::unpack(&entry?.path(), part)?;
        }
        Ok(fs::remove_dir_all(&downloads)?)
    })?;
    let parent = library.parent().context("the sysroot has no parent")?;
    fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    let source = tree.join(format!("usr/src/rustc-{release}/library"));
    // A dangling link of a cache that is gone would be in the way.
    let _ = fs::remove_file(&library);
    std::os::unix::fs::symlink(&source, &library)
        .with_context(|| format!("link {} to {}", library.display(), source.display()))
}
