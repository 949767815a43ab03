//! Which files a process has open from before it was in a session, as `/proc/PID/fd` tells.
//!
//! Asked of a process that stands still or waits for the answer. What closes at the next exec is left out, and so is
//! what leads to no file: pipes and sockets are a conversation with whoever started the process, terminals and
//! `/dev/null` as well, and a file without a name was made by them.

use crate::{
    context::{ContextError, Proc, field, numbered, read},
    kernel::statx_at_once,
    mounts::{Mount, kernel_dev, parse},
};
use guard_model::{FileAccess, FileRef, RawText};
use std::{cell::LazyCell, fs, io, os::unix::ffi::OsStrExt as _, path::Path};

/// Most descriptors of one process that are looked at: four times what a process may have by default. One with more
/// is started by nobody who cares what they hand over.
pub const DESCRIPTORS_MAX: usize = 4096;

// include/uapi/linux/major.h, and Documentation/admin-guide/devices.txt.
const MEM_MAJOR: u32 = 1;
/// `null`, `zero`, `full`, `random`, `urandom`.
const HARMLESS_MEM: [u32; 5] = [3, 5, 7, 8, 9];
/// Consoles, serial lines and `/dev/tty`; those of boards and by USB; those of virtual machines.
const TTY_MAJORS: [u32; 5] = [4, 5, 188, 204, 229];
const PTY_MAJORS: std::ops::RangeInclusive<u32> = 128..=143;

/// A file that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Its number.
    pub number: u32,
    /// Which file.
    pub file: FileRef,
    /// How it may be used.
    pub access: FileAccess,
}

/// Why it is not known what a process has open.
#[derive(Debug, thiserror::Error)]
pub enum Unlisted {
    /// It is gone, or `/proc` cannot be read.
    #[error(transparent)]
    Proc(#[from] ContextError),
    /// More than anybody looks at.
    #[error("it has more than {DESCRIPTORS_MAX} descriptors open")]
    TooMany,
}

impl Unlisted {
    /// Whether there is no such process any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Proc(error) if error.is_gone())
    }
}

/// The files that a process would take along over an exec, by their numbers.
///
/// # Errors
/// [`Unlisted`].
pub fn descriptors(proc: &Proc, pid: u32) -> Result<Vec<Descriptor>, Unlisted> {
    let process = proc.process(pid);
    let directory = process.join("fd");
    let failed = |source| ContextError { path: directory.clone(), source };
    let mut numbers = numbered(&directory).map_err(failed)?;
    if numbers.len() > DESCRIPTORS_MAX {
        return Err(Unlisted::TooMany);
    }
    numbers.sort_unstable();
    // Most processes have no file open that is asked about.
    let mounts = LazyCell::new(|| {
        fs::read(process.join("mountinfo")).map(|bytes| parse(&bytes)).unwrap_or_default()
    });
    let mut found = Vec::new();
    for number in numbers {
        match descriptor(&process, number, || &mounts) {
            Ok(descriptor) => found.extend(descriptor),
            // Closed since it was listed, unless all of the process is gone.
            Err(error) if error.is_gone() && directory.exists() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn descriptor<'a>(
    process: &Path,
    number: u32,
    mounts: impl FnOnce() -> &'a [Mount],
) -> Result<Option<Descriptor>, ContextError> {
    let info = read(&process.join("fdinfo").join(number.to_string()))?;
    let Some(access) = access(&info) else { return Ok(None) };
    let link = process.join("fd").join(number.to_string());
    let stat =
        statx_at_once(&link).map_err(|source| ContextError { path: link.clone(), source })?;
    if !is_asked_about(&stat) {
        return Ok(None);
    }
    let (path, path_error) = match fs::read_link(&link) {
        Ok(path) => (RawText::new(path.as_os_str().as_bytes()), None),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            return Err(ContextError { path: link, source });
        }
        Err(error) => (RawText::default(), Some(error.to_string())),
    };
    let file = FileRef {
        path,
        path_error,
        dev: device(&info, mounts())
            .unwrap_or_else(|| kernel_dev(stat.stx_dev_major, stat.stx_dev_minor)),
        ino: stat.stx_ino,
        generation: 0,
        owner_uid: stat.stx_uid,
        mode: stat.stx_mode.into(),
    };
    Ok(Some(Descriptor { number, file, access }))
}

/// The kernel's own number of the file system: some (btrfs, overlayfs) tell another one of each file.
fn device(info: &[u8], mounts: &[Mount]) -> Option<u64> {
    let id: u64 = field(info, "mnt_id:")?.parse().ok()?;
    mounts.iter().find(|mount| mount.id == id).map(|mount| mount.dev)
}

/// How a descriptor may be used, by the flags in its `fdinfo`. `None`: it is closed by an exec, or names a file
/// without opening it. One whose flags are not told may do all.
fn access(info: &[u8]) -> Option<FileAccess> {
    let all = FileAccess { read: true, write: true, ..FileAccess::default() };
    let flags = field(info, "flags:").and_then(|flags| i32::from_str_radix(flags, 8).ok());
    let Some(flags) = flags else { return Some(all) };
    if flags & (libc::O_CLOEXEC | libc::O_PATH) != 0 {
        return None;
    }
    let mode = flags & libc::O_ACCMODE;
    Some(FileAccess {
        read: mode != libc::O_WRONLY,
        write: mode != libc::O_RDONLY,
        append: flags & libc::O_APPEND != 0,
        ..FileAccess::default()
    })
}

/// Whether it is a file, directory or device that has a name somewhere, as for a descriptor that is received.
fn is_asked_about(stat: &libc::statx) -> bool {
    match u32::from(stat.stx_mode) & libc::S_IFMT {
        libc::S_IFREG | libc::S_IFDIR => stat.stx_nlink != 0,
        libc::S_IFBLK => true,
        libc::S_IFCHR => match stat.stx_rdev_major {
            MEM_MAJOR => !HARMLESS_MEM.contains(&stat.stx_rdev_minor),
            major => !TTY_MAJORS.contains(&major) && !PTY_MAJORS.contains(&major),
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::File,
        os::fd::AsFd as _,
        process::{Child, Command, Stdio},
    };

    /// A process that waits, with these streams.
    fn child(stdin: impl Into<Stdio>, stdout: impl Into<Stdio>) -> Child {
        let mut command = Command::new("sleep");
        command.arg("1000").stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn of(mut child: Child) -> Vec<Descriptor> {
        let found = descriptors(&Proc::default(), child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        found.unwrap()
    }

    #[test]
    fn a_file_is_told_with_its_path_and_how_it_may_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in");
        fs::write(&path, "x").unwrap();
        let log = folder.path().join("log");
        let appended = File::options().append(true).create(true).open(&log).unwrap();
        let found = of(child(File::open(&path).unwrap(), appended));
        assert_eq!(found.iter().map(|one| one.number).collect::<Vec<_>>(), [0, 1]);
        let path = fs::canonicalize(&path).unwrap();
        assert_eq!(found[0].file.path.as_bytes(), path.as_os_str().as_bytes());
        let mounts = crate::mounts::mounts(crate::mounts::MOUNTS).unwrap();
        assert!(mounts.iter().any(|mount| mount.dev == found[0].file.dev));
        let FileAccess { read, write, append, .. } = found[0].access;
        assert_eq!((read, write, append), (true, false, false));
        let FileAccess { read, write, append, .. } = found[1].access;
        assert_eq!((read, write, append), (false, true, true));
    }

    #[test]
    fn what_is_no_file_has_no_name_or_closes_by_itself_is_left_out() {
        let unnamed = tempfile::tempfile().unwrap();
        let kept = unnamed.as_fd().try_clone_to_owned().unwrap();
        assert_eq!(of(child(Stdio::null(), kept)), []);
        assert_eq!(of(child(Stdio::piped(), File::open("/dev/urandom").unwrap())), []);
        // All that this process has open beyond its streams closes at an exec.
        let own = descriptors(&Proc::default(), std::process::id()).unwrap();
        assert!(own.iter().all(|one| one.number < 3), "{own:?}");
    }

    #[test]
    fn a_process_with_too_many_is_not_listed_and_one_that_is_gone_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("5/fd");
        fs::create_dir_all(&directory).unwrap();
        for number in 0..=DESCRIPTORS_MAX {
            File::create(directory.join(number.to_string())).unwrap();
        }
        let proc = Proc::new(folder.path());
        assert!(matches!(descriptors(&proc, 5), Err(Unlisted::TooMany)));
        assert!(descriptors(&proc, 6).unwrap_err().is_gone());
    }

    #[test]
    fn the_device_is_that_of_the_mount_it_was_opened_by() {
        let mounts = parse(b"36 35 98:1 / / rw - ext4 x rw\n37 36 0:44 /s /b rw - btrfs y rw\n");
        assert_eq!(device(b"flags:\t0\nmnt_id:\t37\n", &mounts), Some(44));
        assert_eq!(device(b"flags:\t0\nmnt_id:\t38\n", &mounts), None);
    }

    #[test]
    fn a_descriptor_whose_flags_are_not_told_may_do_all() {
        let all = access(b"pos:\t0\n").unwrap();
        assert!(all.read && all.write);
        assert_eq!(access(b"pos:\t0\nflags:\t02100000\n"), None);
        assert_eq!(access(b"flags:\t010000000\n"), None);
    }
}
