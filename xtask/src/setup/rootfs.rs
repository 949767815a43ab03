//! The VMs' root file system: a small Debian trixie, unpacked without running anything of it.

use super::{apt::Apt, fakeroot::AsRoot};
use crate::{
    cache::{Cache, digest},
    process,
};
use anyhow::{Context as _, Result};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

const SUITE: &str = "trixie";
/// What sessions find in the VM, with all that these depend on.
const PACKAGES: &[&str] = &[
    "base-files", "base-passwd", "bash", "busybox-static", "coreutils", "curl", "dash",
    "debianutils", "diffutils", "findutils", "git", "grep", "gzip", "hostname", "iproute2",
    "libc-bin", "login", "mawk", "mount", "netbase", "netcat-openbsd", "passwd", "procps",
    "python3", "sed", "strace", "tar", "util-linux",
];
/// Left out of the image: nobody reads them in a VM.
const LEFT_OUT: &[&str] = &["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info"];
/// Room for what a session writes, KiB; the image is sparse.
const SPARE_KIB: u64 = 512 * 1024;

/// The image and the static busybox in it.
pub(crate) struct Root {
    pub(crate) image: PathBuf,
    pub(crate) busybox: PathBuf,
}

/// The root file system in the cache.
pub(crate) fn ensure(cache: &Cache) -> Result<Root> {
    let recipe = digest(&[include_str!("rootfs.rs")]);
    let folder = cache.entry(&format!("root-{recipe}"), |part| {
        eprintln!("xtask: making the VMs' root file system (Debian {SUITE}, once)");
        fs::create_dir(part).with_context(|| format!("create {}", part.display()))?;
        let tree = part.join("tree");
        let root = AsRoot::new(&part.join("owners"));
        unpack(cache, &root, &tree)?;
        complete(&tree)?;
        own(&root, &tree)?;
        fs::copy(tree.join("usr/bin/busybox"), part.join("busybox")).context("no busybox")?;
        image(&root, &tree, &part.join("root.ext4"))?;
        process::output(root.command("rm").arg("-rf").arg(&tree)).map(drop)
    })?;
    Ok(Root { image: folder.join("root.ext4"), busybox: folder.join("busybox") })
}

fn unpack(cache: &Cache, root: &AsRoot, tree: &Path) -> Result<()> {
    fs::create_dir(tree)?;
    // As a Debian installation has them; packages expect to unpack through them.
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(tree.join("usr").join(name))?;
        symlink(format!("usr/{name}"), tree.join(name))?;
    }
    Apt::open(cache)?.unpack_tree(SUITE, PACKAGES, tree, root)?;
    for folder in LEFT_OUT {
        process::output(root.command("rm").arg("-rf").arg(tree.join(folder)))?;
    }
    Ok(())
}

/// What the packages' scripts would have done, and the user `dev` with things worth guarding.
fn complete(tree: &Path) -> Result<()> {
    for folder in [
        "dev", "proc", "sys", "run", "tmp", "root", "home/dev/.ssh", "home/dev/.aws",
        "home/dev/project", "var/tmp", "var/log",
    ] {
        let folder = tree.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    }
    for (link, to) in [
        ("usr/bin/awk", "mawk"),
        ("usr/bin/nc", "nc.openbsd"),
        ("usr/bin/which", "which.debianutils"),
        ("usr/bin/sh", "dash"),
    ] {
        let link = tree.join(link);
        if fs::symlink_metadata(&link).is_err() {
            symlink(to, &link).with_context(|| format!("link {}", link.display()))?;
        }
    }
    for (name, mode, text) in files(tree)? {
        let path = tree.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    for (folder, mode) in [("home/dev/.ssh", 0o700), ("tmp", 0o1777), ("var/tmp", 0o1777)] {
        fs::set_permissions(tree.join(folder), fs::Permissions::from_mode(mode))?;
    }
    let ldconfig = process::find("ldconfig").context("no ldconfig (package libc-bin)")?;
    process::output(std::process::Command::new(ldconfig).arg("-r").arg(tree)).map(drop)
}

/// Path, mode and text of every file that no package brings.
fn files(tree: &Path) -> Result<Vec<(&'static str, u32, String)>> {
    let master = |name: &str| {
        let path = tree.join("usr/share/base-passwd").join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let passwd = master("passwd.master")?.replace("root:*:", "root:x:");
    // Not a hash of anything: nobody can sign in with it.
    let shadow = "root:$6$guardtest$NotTheHashOfAnyPassword.DoNotSpendTimeOnIt:20000:0:99999:7:::\n\
                  dev:!:20000:0:99999:7:::\n";
    let text = |text: &str| text.to_owned();
    Ok(vec![
        ("etc/passwd", 0o644, passwd + "dev:x:1000:1000:developer:/home/dev:/bin/bash\n"),
        ("etc/group", 0o644, master("group.master")? + "dev:x:1000:\n"),
        ("etc/shadow", 0o640, text(shadow)),
        ("etc/hostname", 0o644, text("guard-vm\n")),
        ("etc/hosts", 0o644, text("127.0.0.1 localhost guard-vm\n::1 localhost\n")),
        ("etc/resolv.conf", 0o644, text("# no name service in the VM\n")),
        ("etc/nsswitch.conf", 0o644, text("passwd: files\ngroup: files\nhosts: files\n")),
        ("etc/fstab", 0o644, String::new()),
        ("home/dev/.ssh/id_ed25519", 0o600, text(SSH_KEY)),
        ("home/dev/.env", 0o600, text("PAYMENT_API_KEY=not-a-real-key-0123456789\n")),
        ("home/dev/.aws/credentials", 0o600, text(AWS)),
        ("home/dev/.gitconfig", 0o644, text(GITCONFIG)),
        ("home/dev/.bashrc", 0o644, text("# settings of dev\n")),
        ("home/dev/project/README.md", 0o644, text("# project\n\nAdds prices up.\n")),
        ("home/dev/project/app.py", 0o644, text(APP)),
        ("home/dev/project/test_app.py", 0o644, text(TEST)),
    ])
}

const SSH_KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n\
    this-is-a-secret-of-the-test-machine-and-opens-nothing\n\
    -----END OPENSSH PRIVATE KEY-----\n";
const AWS: &str = "[default]\naws_access_key_id = NOT-A-KEY\naws_secret_access_key = nor-this\n";
const GITCONFIG: &str =
    "[user]\n\tname = dev\n\temail = dev@guard-vm\n[init]\n\tdefaultBranch = main\n";
const APP: &str = "def total(prices):\n    return sum(prices)\n";
const TEST: &str = "import unittest\n\nfrom app import total\n\n\n\
    class Total(unittest.TestCase):\n    def test_adds_up(self):\n        \
    self.assertEqual(total([1, 2]), 3)\n";

fn own(root: &AsRoot, tree: &Path) -> Result<()> {
    let mut all = root.command("chown");
    process::output(all.args(["-R", "1000:1000"]).arg(tree.join("home/dev")))?;
    let mut shadow = root.command("chown");
    process::output(shadow.arg("0:42").arg(tree.join("etc/shadow"))).map(drop)
}

fn image(root: &AsRoot, tree: &Path, to: &Path) -> Result<()> {
    let used = process::output(process::command("du", ["-sk"]).arg(tree))?;
    let used: u64 = used.split_whitespace().next().unwrap_or_default().parse().context("du")?;
    make_ext4(root, tree, to, used + SPARE_KIB, "guard-root")
}

/// An ext4 image of a folder. No journal: the machine is thrown away, and it boots faster.
pub(crate) fn make_ext4(
    root: &AsRoot,
    folder: &Path,
    to: &Path,
    size_kib: u64,
    label: &str,
) -> Result<()> {
    let mke2fs = process::find("mke2fs").context("no mke2fs (package e2fsprogs)")?;
    let mut command = root.command(&mke2fs.to_string_lossy());
    command.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-L", label, "-d"]);
    command.arg(folder).arg(to).arg(format!("{size_kib}k"));
    process::output(&mut command).map(drop)
}
