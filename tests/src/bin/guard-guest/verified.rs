//! What the verifier went through for each program that is attached: asked of the kernel by the pinned links.

use crate::{Trouble, guard::Guard, ports::Ports};
use guard_vm_wire::{
    Report,
    budget::{VERIFIED_FILE, Verified},
};
use std::{
    collections::BTreeMap,
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

/// Where guard-agent pins its links, in a directory for each ABI and object.
const PINS: &str = "/sys/fs/bpf/guard";

// include/uapi/linux/bpf.h; the same from 6.1 to 7.3.
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
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

/// Instructions by program.
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
                programs.insert(name, verified(link).map_err(|error| failed(link, error))?);
            }
        }
    }
    if programs.is_empty() { Err(format!("no links below {PINS}")) } else { Ok(programs) }
}

fn verified(link: &Path) -> io::Result<u64> {
    let path = CString::new(link.as_os_str().as_encoded_bytes()).map_err(io::Error::other)?;
    let link = bpf_fd(BPF_OBJ_GET, &[path.as_ptr() as u64])?;
    let info = info::<LINK_INFO_BYTES>(&link)?;
    let program = bpf_fd(BPF_PROG_GET_FD_BY_ID, &[u64::from(word(&info, 8))])?;
    Ok(word(&info_of_program(&program)?, VERIFIED_INSNS).into())
}

fn info_of_program(program: &OwnedFd) -> io::Result<[u8; PROGRAM_INFO_BYTES]> {
    info(program)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_ne_bytes)
}

fn info<const N: usize>(fd: &OwnedFd) -> io::Result<[u8; N]> {
    let mut info = [0; N];
    let sizes = u64::from(fd.as_raw_fd().cast_unsigned()) | (N as u64) << 32;
    bpf(BPF_OBJ_GET_INFO_BY_FD, &[sizes, info.as_mut_ptr() as u64])?;
    Ok(info)
}

fn bpf_fd(command: libc::c_int, attributes: &[u64]) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `bpf(2)` with a union whose rest is zero.
fn bpf(command: libc::c_int, attributes: &[u64]) -> io::Result<libc::c_int> {
    let mut attr = [0_u64; 8];
    for (to, from) in attr.iter_mut().zip(attributes) {
        *to = *from;
    }
    // SAFETY: a whole union of the size given; what it points to is the caller's, and lives.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), size_of_val(&attr)) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}
