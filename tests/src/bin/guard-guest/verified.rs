//! What the verifier went through for each program that is attached: asked of the kernel by the pinned links.

use crate::{
    Trouble,
    bpf::{BPF_PROG_GET_FD_BY_ID, bpf_fd, info, instructions, pinned, word},
    guard::Guard,
    ports::Ports,
    stack,
};
use guard_vm_wire::{
    Report,
    budget::{STACK, VERIFIED_FILE, Verified},
};
use std::{collections::BTreeMap, fs, io, path::Path};

/// Where guard-agent pins its links, in a directory for each ABI and object.
pub(crate) const PINS: &str = "/sys/fs/bpf/guard";

/// `struct bpf_prog_info`, as far as it is looked at.
const PROGRAM_INFO_BYTES: usize = 232;
/// `verified_insns` in it.
const VERIFIED_INSNS: usize = 216;
/// `struct bpf_link_info` begins with type, id and program id.
const LINK_INFO_BYTES: usize = 12;

/// Starts Guard and tells.
pub(crate) fn run(ports: &mut Ports, kernel: &str) -> Result<(), Trouble> {
    let mut guard = Guard::start(false)?;
    ports.report(&Report::Ready { after_ms: crate::system::uptime_ms(), sign_in: None });
    let programs = programs();
    guard.stop();
    ports.send_json(VERIFIED_FILE, &Verified { kernel: kernel.to_owned(), programs: programs? });
    ports.report(&Report::Exit { status: 0, timed_out: false });
    Ok(())
}

/// Instructions and bytes of stack by program.
pub(crate) fn programs() -> Result<BTreeMap<String, u64>, Trouble> {
    let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let below = |path: &Path| -> Result<Vec<_>, Trouble> {
        let entries = fs::read_dir(path).map_err(|error| failed(path, error))?;
        Ok(entries.flatten().map(|entry| entry.path()).collect())
    };
    let mut programs = BTreeMap::new();
    for abi in below(Path::new(PINS))? {
        for directory in below(&abi)? {
            let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.starts_with("links-") {
                continue;
            }
            for link in below(&directory)?.iter().filter(|path| !path.is_dir()) {
                let name = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let (verified, stack) = costs(link).map_err(|error| failed(link, error))?;
                programs.insert(format!("{STACK}{name}"), stack);
                programs.insert(name, verified);
            }
        }
    }
    if programs.is_empty() { Err(format!("no links below {PINS}")) } else { Ok(programs) }
}

/// Instructions that the verifier went through, and bytes of stack.
fn costs(link: &Path) -> io::Result<(u64, u64)> {
    let link = pinned(link)?;
    let info_of_link = info::<LINK_INFO_BYTES>(&link)?;
    let program = bpf_fd(BPF_PROG_GET_FD_BY_ID, &[u64::from(word(&info_of_link, 8))])?;
    let verified = word(&info::<PROGRAM_INFO_BYTES>(&program)?, VERIFIED_INSNS).into();
    let stack = stack::depth(&instructions(&program)?);
    Ok((verified, stack.ok_or_else(|| io::Error::other("its instructions make no sense"))?))
}
