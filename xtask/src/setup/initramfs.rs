//! The first file system: busybox, the few modules that find the disks, and a script.

use super::{
    kernel::{self, Kernel},
    modules,
};
use crate::{
    cache::{once, recipe},
    run::quietly,
};
use anyhow::{Context as _, Result, bail};
use guard_vm_wire::{PAYLOAD_DIR, PAYLOAD_SERIAL, ROOT_SERIAL};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What reaches the disks, the network and the ports; what these need comes along.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "ext4"];

pub(crate) fn prepare(cache: &Path, kernel: Kernel, tree: &Path) -> Result<PathBuf> {
    let image = kernel::image(tree)?;
    let parts = [include_str!("initramfs.rs"), &image.to_string_lossy()];
    let path = cache.join("initramfs").join(format!("{kernel}-{}.cpio.gz", recipe(&parts)));
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
    let modules = kernel::find(tree, &|name| name.contains(".ko"));
    let is_kernel = |path: &&Path| path.file_name().is_some_and(|name| name == "kernel");
    let folder = modules.first().and_then(|path| path.ancestors().find(is_kernel));
    let folder = folder.and_then(Path::parent).context("the kernel's package has no modules")?;
    for (number, module) in modules::load_order(folder, &MODULES)?.into_iter().enumerate() {
        let name = format!("{number:02}-{}.ko", module.name);
        fs::write(root.join("modules").join(name), module.image)?;
    }
    let init = root.join("init");
    fs::write(&init, init_script())?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    Ok(())
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
