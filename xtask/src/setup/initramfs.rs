//! The first file system: busybox, the few modules that find the disks, and a script.

use super::kernel::{Kernel, find};
use crate::{cache::once, run::quietly};
use anyhow::{Context as _, Result, bail};
use guard_vm_wire::{PAYLOAD_DIR, PAYLOAD_SERIAL, ROOT_SERIAL};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// In the order in which they are inserted: each after what it needs. One that a kernel's package
/// lacks is built in there.
const MODULES: [&str; 13] = [
    "virtio",
    "virtio_ring",
    "failover",
    "net_failover",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "mbcache",
    "jbd2",
    "ext4",
];

/// Bumped with [`init_script`] or [`MODULES`]: names the cached file.
const VERSION: u32 = 3;

pub(crate) fn prepare(cache: &Path, kernel: Kernel, tree: &Path) -> Result<PathBuf> {
    let path = cache.join("initramfs").join(format!("{kernel}-v{VERSION}.cpio.gz"));
    once(&path, &format!("packing the initramfs of {kernel}"), |part| {
        let root = tempfile::tempdir()?;
        fill(root.path(), tree)?;
        pack(root.path(), part)
    })?;
    Ok(path)
}

fn fill(root: &Path, tree: &Path) -> Result<()> {
    for directory in ["bin", "proc", "sys", "dev", "modules", "newroot"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let busybox = quietly(Command::new("sh").args(["-c", "command -v busybox"]))?;
    fs::copy(busybox.trim(), root.join("bin/busybox"))?;
    let mut names = Vec::new();
    for module in MODULES {
        let plain = format!("{module}.ko");
        let files = find(tree, &|name| {
            name == plain || name.strip_prefix(&plain).is_some_and(|rest| rest.starts_with('.'))
        });
        if let Some(file) = files.first() {
            let name = format!("{:02}-{plain}", names.len());
            fs::write(root.join("modules").join(&name), decompressed(file)?)?;
            names.push(name);
        }
    }
    let init = root.join("init");
    fs::write(&init, init_script())?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn decompressed(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return Ok(fs::read(file)?),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => bail!("{}: an unknown compression", file.display()),
    };
    let output = Command::new(program).arg("-dc").arg(file).output()?;
    if !output.status.success() {
        bail!("{program} cannot read {}", file.display());
    }
    Ok(output.stdout)
}

/// Mounts the disks by their serials and hands over to guard-guest.
fn init_script() -> String {
    format!(
        r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module || echo "insmod $module failed"; done
disk() {{
  for try in 1 2 3 4 5 6 7 8 9 10; do
    for block in /sys/block/vd*; do
      [ "$(cat $block/serial 2>/dev/null)" = "$1" ] && echo /dev/${{block##*/}} && return
    done
    sleep 0.2
  done
  echo "no disk $1" >&2; poweroff -f
}}
mount -t ext4 -o noatime $(disk {ROOT_SERIAL}) /newroot || poweroff -f
mount -t tmpfs -o mode=755 tmpfs /newroot/run
mkdir -p /newroot{PAYLOAD_DIR}
mount -t ext4 -o ro,noatime $(disk {PAYLOAD_SERIAL}) /newroot{PAYLOAD_DIR} || poweroff -f
mount --move /proc /newroot/proc; mount --move /sys /newroot/sys; mount --move /dev /newroot/dev
exec switch_root /newroot {PAYLOAD_DIR}/bin/guard-guest
"#
    )
}

fn pack(root: &Path, to: &Path) -> Result<()> {
    let script = "find . | cpio -o -H newc --quiet -R 0:0 | gzip -1";
    let status = Command::new("sh")
        .args(["-c", script])
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(fs::File::create(to)?)
        .status()
        .context("cpio")?;
    if !status.success() {
        bail!("`{script}` failed");
    }
    Ok(())
}
