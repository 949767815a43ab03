//! Everything that building and testing need: fetched once, kept in the cache.

mod debian;
mod initramfs;
mod kernel;
mod modules;
mod packages;
mod receivers;
mod root;
mod toolchain;

use crate::cache;
use anyhow::Result;
use std::path::PathBuf;

pub(crate) use kernel::Kernel;

/// What the eBPF build needs.
pub(crate) struct Toolchain {
    /// Directory of bpf-linker.
    pub bin: PathBuf,
}

/// What a VM is booted from.
pub(crate) struct Boot {
    /// The kernel image.
    pub vmlinuz: PathBuf,
    /// Modules, busybox and the first script.
    pub initramfs: PathBuf,
    /// The root file system; never written to.
    pub root: PathBuf,
}

/// For `cargo xtask build`.
pub(crate) fn for_build() -> Result<Toolchain> {
    packages::install(packages::BUILD)?;
    let cache = cache::directory()?;
    let _lock = cache::lock()?;
    toolchain::prepare(&cache)
}

/// For a VM with `kernel`.
pub(crate) fn for_vm(kernel: Kernel) -> Result<Boot> {
    packages::install(packages::VM)?;
    let cache = cache::directory()?;
    let _lock = cache::lock()?;
    let tree = kernel::prepare(&cache, kernel)?;
    Ok(Boot {
        vmlinuz: kernel::image(&tree)?,
        initramfs: initramfs::prepare(&cache, kernel, &tree)?,
        root: root::prepare(&cache)?,
    })
}

/// For the unit and integration tests.
pub(crate) fn for_unit() -> Result<()> {
    packages::install(packages::UNIT)?;
    let cache = cache::directory()?;
    let _lock = cache::lock()?;
    receivers::prepare(&cache)
}

/// For the fuzz targets: the library of libFuzzer.
pub(crate) fn for_fuzz() -> Result<PathBuf> {
    packages::install(packages::FUZZ)?;
    Ok(packages::LIBFUZZER.into())
}

/// For the browser tests.
pub(crate) fn for_browser() -> Result<()> {
    packages::install(packages::BROWSER)
}

/// `cargo xtask setup`.
pub(crate) fn everything() -> Result<()> {
    for_build()?;
    for_fuzz()?;
    for kernel in Kernel::ALL {
        for_vm(kernel)?;
    }
    for_unit()?;
    for_browser()?;
    crate::run::say(
        "set up: toolchain, kernels 6.1, 6.12, 6.18 and 7.3, root tree, receivers, browser",
    );
    Ok(())
}
