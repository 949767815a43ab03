//! The payload disk: Guard as just built, the job, the policy, the user's files.

use super::Request;
use crate::{
    build::Built,
    run::{quietly, tool},
};
use anyhow::{Context as _, Result};
use guard_vm_wire::JOB_FILE;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Room beyond the files, KiB: file system overhead.
const SLACK_KIB: u64 = 16 << 10;

/// Makes the disk image.
pub(crate) fn make(scratch: &Path, built: &Built, request: &Request) -> Result<PathBuf> {
    let tree = scratch.join("payload");
    let bin = tree.join("bin");
    fs::create_dir_all(&bin)?;
    for name in crate::build::PROGRAMS {
        let (from, to) = (built.bin.join(name), bin.join(name));
        // Debug information is most of a binary, and nobody reads it in there.
        quietly(Command::new("strip").arg("-o").arg(&to).arg(&from))
            .with_context(|| format!("{} for the VM", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    copy(&built.object, &tree.join("guard-ebpf.o"), 0o644)?;
    fs::write(tree.join(JOB_FILE), serde_json::to_vec(&request.job)?)?;
    if let Some(policy) = &request.policy {
        copy(policy, &tree.join("policy.cedar"), 0o644)?;
    }
    if let Some(beside) = &request.beside {
        copy(beside, &tree.join("beside"), 0o755)?;
    }
    if let Some(files) = &request.files {
        let from = format!("{}/.", files.display());
        fs::create_dir_all(tree.join("files"))?;
        quietly(Command::new("cp").args(["-a", &from]).arg(tree.join("files")))?;
    }
    let used = quietly(Command::new("du").args(["-sk"]).arg(&tree))?;
    let used: u64 = used.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let image = scratch.join("payload.ext4");
    let size = format!("{}k", used + used / 8 + SLACK_KIB);
    let mut mke2fs = tool("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d"]);
    quietly(mke2fs.arg(&tree).arg(&image).arg(size))?;
    Ok(image)
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(fs::set_permissions(to, fs::Permissions::from_mode(mode))?)
}
