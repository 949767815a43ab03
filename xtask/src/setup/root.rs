//! The VM's root file system: a small real Debian 13, unpacked without running anything of it.

use super::debian::{Apt, unpack};
use crate::{
    cache::{once, recipe},
    run::{is_root, locate, quietly, tool},
};
use anyhow::{Context as _, Result};
use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

/// What a session finds there.
const PACKAGES: [&str; 26] = [
    "base-files",
    "bash",
    "coreutils",
    "curl",
    "dash",
    "diffutils",
    "findutils",
    "git",
    "grep",
    "gzip",
    "hostname",
    "iproute2",
    "libc-bin",
    "login",
    "mawk",
    "mount",
    "netbase",
    "netcat-openbsd",
    "openssh-client",
    "procps",
    "python3",
    "sed",
    "strace",
    "tar",
    "util-linux",
    "busybox-static",
];

/// Room for the tree and for what sessions write; the image is sparse.
const SIZE: &str = "2G";

pub(crate) fn prepare(cache: &Path) -> Result<PathBuf> {
    let path = cache.join(format!("root-{}.ext4", recipe(&[include_str!("root.rs")])));
    once(
        &path,
        "making the VM's root tree (Debian 13: bash, coreutils, curl, git, python3)",
        |part| {
            let apt = Apt::new(cache)?;
            let debs = apt.with_lists(|apt| apt.download_with_dependencies(&PACKAGES))?;
            let tree = tempfile::tempdir_in(cache)?;
            unpack_all(&debs, tree.path())?;
            finish(tree.path()).context("the root tree")?;
            image(tree.path(), part)
        },
    )?;
    Ok(path)
}

/// Owners and image in one go, so that fakeroot can stand in for root.
fn image(tree: &Path, to: &Path) -> Result<()> {
    // No journal: the machine is thrown away. No features that the oldest kernel cannot mount.
    let script = r#"set -e
        chown -R 0:0 "$1"
        chown -R 1000:1000 "$1/home/dev"
        "$3" -q -F -t ext4 -O ^has_journal,^metadata_csum_seed -m 0 -d "$1" "$2" "$4""#;
    let mut shell = Command::new(if is_root() { "sh" } else { "fakeroot" });
    if !is_root() {
        shell.arg("sh");
    }
    let mke2fs = locate("mke2fs").context("no mke2fs (package e2fsprogs)")?;
    shell.args(["-c", script, "sh"]).arg(tree).arg(to).arg(mke2fs).arg(SIZE);
    quietly(&mut shell).map(drop)
}

/// base-files first: it makes /bin, /lib and /sbin links into /usr.
fn unpack_all(debs: &[PathBuf], tree: &Path) -> Result<()> {
    let is_base = |path: &&PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("base-files_"))
    };
    let (base, rest): (Vec<_>, Vec<_>) = debs.iter().partition(|path| is_base(path));
    for deb in base.into_iter().chain(rest) {
        unpack(deb, tree)?;
    }
    Ok(())
}

/// What maintainer scripts would have done, as far as it matters here.
fn finish(tree: &Path) -> Result<()> {
    let etc = [
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\ndev:x:1000:1000:Developer:/home/dev:/bin/bash\n",
        ),
        ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\ndev:x:1000:\n"),
        (
            "etc/shadow",
            "root:$y$j9T$guard.vm.not.a.real.hash:20000:0:99999:7:::\ndev:!:20000:0:99999:7:::\n",
        ),
        (
            "etc/hosts",
            "127.0.0.1 localhost guard-vm\n::1 localhost\n198.51.100.10 listed.example\n198.51.100.7 unlisted.example\n",
        ),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files\n"),
        ("etc/resolv.conf", ""),
        ("etc/hostname", "guard-vm\n"),
    ];
    for (path, text) in etc {
        fs::write(tree.join(path), text).with_context(|| path.to_owned())?;
    }
    fs::set_permissions(tree.join("etc/shadow"), fs::Permissions::from_mode(0o640))?;
    for directory in ["proc", "sys", "dev", "run", "tmp", "root", "home", "mnt", "usr/local/bin"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    fs::set_permissions(tree.join("root"), fs::Permissions::from_mode(0o700))?;
    for (to, link) in
        [("mawk", "usr/bin/awk"), ("dash", "usr/bin/sh"), ("nc.openbsd", "usr/bin/nc")]
    {
        let _ = fs::remove_file(tree.join(link));
        symlink(to, tree.join(link)).with_context(|| link.to_owned())?;
    }
    quietly(tool("ldconfig").arg("-r").arg(tree))?;
    home(tree)
}

/// The developer's home: things that an agent should not read, and a shell's start files.
fn home(tree: &Path) -> Result<()> {
    let home = tree.join("home/dev");
    fs::create_dir_all(home.join(".ssh"))?;
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nnot a real key: Guard's test VM\n-----END OPENSSH PRIVATE KEY-----\n";
    for (path, text, mode) in [
        (".bashrc", "", 0o644),
        (".profile", "", 0o644),
        (".env", "API_TOKEN=not-a-real-token\n", 0o600),
        (".ssh/id_ed25519", key, 0o600),
        (
            ".gitconfig",
            "[user]\n\tname = Dev\n\temail = dev@guard-vm\n[init]\n\tdefaultBranch = main\n",
            0o644,
        ),
    ] {
        let path = home.join(path);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    fs::set_permissions(home.join(".ssh"), fs::Permissions::from_mode(0o700))?;
    Ok(())
}
