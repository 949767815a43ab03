//! A kernel's initramfs: busybox, the modules that the root disk needs, and `init.sh`.

use super::{
    kernel::{Kernel, Tree},
    modules,
};
use crate::cache::{Cache, digest};
use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What reaches the disks, the ports and the network; ext4's checksums too.
const MODULES: &[&str] =
    &["virtio_pci", "virtio_blk", "ext4", "virtio_console", "virtio_net", "overlay"];
const INIT: &str = include_str!("init.sh");
const APPLETS: &[&str] =
    &["cat", "echo", "insmod", "mkdir", "mount", "poweroff", "sh", "sleep", "switch_root"];

/// The archive for that kernel.
pub(crate) fn ensure(
    cache: &Cache,
    kernel: &Kernel,
    tree: &Tree,
    busybox: &Path,
) -> Result<PathBuf> {
    let recipe = digest(&[INIT, &MODULES.join(" "), &tree.release, include_str!("initramfs.rs")]);
    cache.entry(&format!("initramfs/{kernel}-{recipe}.cpio"), |part| {
        eprintln!("xtask: packing the initramfs of {}", tree.release);
        let busybox =
            fs::read(busybox).with_context(|| format!("read {}", busybox.display()))?;
        let mut archive = Archive::default();
        for folder in ["bin", "modules", "root"] {
            archive.add(folder, 0o040_755, b"");
        }
        archive.add("bin/busybox", 0o100_755, &busybox);
        for applet in APPLETS {
            archive.add(&format!("bin/{applet}"), 0o120_777, b"busybox");
        }
        archive.add("init", 0o100_755, INIT.as_bytes());
        let mut order = String::new();
        for module in modules::load_order(&tree.modules, MODULES)? {
            let name = format!("{}.ko", module.name);
            archive.add(&format!("modules/{name}"), 0o100_644, &module.image);
            order += &name;
            order.push('\n');
        }
        archive.add("modules/order", 0o100_644, order.as_bytes());
        fs::write(part, archive.finish()).with_context(|| format!("write {}", part.display()))
    })
}

/// A cpio archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.inode += 1;
        let links = if mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        let fields = [
            self.inode,
            mode,
            0,
            0,
            links,
            0,
            u32::try_from(data.len()).unwrap_or(u32::MAX),
            0,
            0,
            0,
            0,
            u32::try_from(name.len()).unwrap_or(u32::MAX) + 1,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.add("TRAILER!!!", 0, b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_aligned_and_ends_with_the_trailer() {
        let mut archive = Archive::default();
        archive.add("init", 0o100_755, b"abc");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        // 110 bytes of header, the name with its NUL, padded to 4, then the data.
        assert_eq!(&bytes[116..119], b"abc");
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
