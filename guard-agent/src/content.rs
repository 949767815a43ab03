//! The SHA-256 of what is executed, where the kernel does not make it: its IMA is not there, or hashes otherwise
//! (`ima_hash=`, which is SHA-1 by default in some distributions).
//!
//! Made from the file that has the path which the kernel told, if it is the inode which the kernel told. What makes the
//! answer safe is the kernel's key of the exec: it has the time of the file's last change and a number that each
//! opening for writing by a session changes. So a decision on a content that was hashed before or after another one was
//! written is worth nothing: the next attempt has another key. That holds where a file is its own inode, so on the file
//! systems that are known to have no others below them. The kernel's own hash, which is part of the key and made while
//! nobody can write, tells of more: what a process outside of sessions writes within one tick of the clock.
//!
//! Nothing is remembered: a file in memory can be changed without a trace that its `stat` would show.
//!
//! Architecture invariant: nobody waits for a read, for a session can keep it waiting (FUSE). Threads of their own
//! read; who has asked is told, or gives up.

use crate::{context::Proc, mounts::kernel_dev};
use guard_common::event::{CONTENT_MAX, Header};
use guard_model::{Action, FileRef};
use nix::{
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    sys::{
        stat::{SFlag, fstat},
        statfs::{
            EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, FsType, TMPFS_MAGIC, XFS_SUPER_MAGIC, fstatfs,
        },
    },
};
use sha2::{Digest as _, Sha256};
use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};
use tokio::sync::mpsc;

/// Files that are hashed at one time: the machine belongs to the sessions.
const THREADS: usize = 2;
/// Most files that wait to be hashed. A session that fills it has its own execs, and those of others, wait for a
/// person: their content is not known.
pub const QUEUE_MAX: usize = 256;
/// File systems whose files are their own. Not overlayfs, where who writes to the file below changes neither the time nor
/// the number of the one above; not FUSE, whose server can give another content at each look; not what servers or other
/// hosts write to.
const OWN: [FsType; 4] = [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, F2FS_SUPER_MAGIC, TMPFS_MAGIC];

/// A program whose content is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The hold that waits for it.
    pub hold: u64,
    /// Its file's path is seen from this directory: the task's root.
    root: PathBuf,
    file: FileRef,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// For which hold.
    pub hold: u64,
    /// In hexadecimal. `None`: it is not known.
    pub sha256: Option<String>,
}

/// The threads that hash.
#[derive(Debug)]
pub struct Contents {
    wanted: SyncSender<Wanted>,
}

impl Wanted {
    /// What `action` of the task in `header` executes, if its content is not known and could be.
    #[must_use]
    pub fn of(proc: &Proc, header: &Header, action: &Action) -> Option<Self> {
        let Action::Exec { program, unnamed: false, loader: false, .. } = action else {
            return None;
        };
        if program.sha256.is_some() || program.file.path_error.is_some() {
            return None;
        }
        let root = proc.task(header).join("root");
        Some(Self { hold: header.hold_id, root, file: program.file.clone() })
    }
}

impl Contents {
    /// Starts the threads, and where their answers arrive. They end when this is dropped.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start() -> io::Result<(Self, mpsc::Receiver<Hashed>)> {
        let (wanted, requests) = sync_channel(QUEUE_MAX);
        let requests = Arc::new(Mutex::new(requests));
        let (answers, hashed) = mpsc::channel(QUEUE_MAX);
        for _ in 0..THREADS {
            let (requests, answers) = (requests.clone(), answers.clone());
            let thread = thread::Builder::new().name("guard-content".to_owned());
            thread.spawn(move || serve(&requests, &answers))?;
        }
        Ok((Self { wanted }, hashed))
    }

    /// Asks for a content. False: too many wait already, and it stays unknown.
    #[must_use]
    pub fn ask(&self, wanted: Wanted) -> bool {
        self.wanted.try_send(wanted).is_ok()
    }
}

fn serve(requests: &Mutex<Receiver<Wanted>>, answers: &mpsc::Sender<Hashed>) {
    loop {
        let next = requests.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Wanted { hold, root, file }) = next else { return };
        let sha256 = match sha256(&root, &file) {
            Ok(sha256) => Some(sha256),
            Err(why) => {
                tracing::debug!(hold, path = %file.path, "content not known: {why}");
                None
            }
        };
        if answers.blocking_send(Hashed { hold, sha256 }).is_err() {
            return;
        }
    }
}

/// The SHA-256 of `file`, whose path is seen from `root`.
fn sha256(root: &Path, file: &FileRef) -> Result<String, String> {
    // It may grow meanwhile.
    let mut content = open(root, file)?.take(CONTENT_MAX + 1);
    let mut hash = Sha256::new();
    match io::copy(&mut content, &mut hash) {
        Ok(bytes) if bytes > CONTENT_MAX => Err(too_long()),
        Ok(_) => Ok(hex::encode(hash.finalize())),
        Err(error) => Err(error.to_string()),
    }
}

/// Opens the regular file, and no other: what a session has put in its place is not even looked into.
fn open(root: &Path, file: &FileRef) -> Result<File, String> {
    let say = |errno: nix::Error| errno.to_string();
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC);
    let root = openat2(AT_FDCWD, root, how).map_err(say)?;
    let how = how.resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let path = OsStr::from_bytes(file.path.as_bytes());
    let found: OwnedFd = openat2(&root, path, how).map_err(say)?;
    let stat = fstat(&found).map_err(say)?;
    let dev = kernel_dev(libc::major(stat.st_dev), libc::minor(stat.st_dev));
    if (dev, stat.st_ino) != (file.dev, file.ino) {
        return Err(
            "another file has its path, or a file system that numbers files otherwise".into()
        );
    }
    if stat.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return Err("not a regular file".to_owned());
    }
    if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > CONTENT_MAX {
        return Err(too_long());
    }
    if !OWN.contains(&fstatfs(&found).map_err(say)?.filesystem_type()) {
        return Err("on a file system whose files can change unseen".to_owned());
    }
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(|error| error.to_string())
}

fn too_long() -> String {
    format!("more than {} MiB", CONTENT_MAX >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, symlink},
        time::Duration,
    };

    /// `printf program | sha256sum`
    const PROGRAM: &str = "1310ca2c8932dbd118668bd97442558a3e1f546b5e15c69699dfbd6024f548d8";

    /// On a file system whose files are hashed, wherever the tests run.
    fn directory() -> tempfile::TempDir {
        tempfile::tempdir_in("/dev/shm").unwrap()
    }

    fn reference(path: &Path, seen_as: &str) -> FileRef {
        let meta = fs::symlink_metadata(path).unwrap();
        FileRef {
            path: seen_as.into(),
            path_error: None,
            dev: kernel_dev(libc::major(meta.dev()), libc::minor(meta.dev())),
            ino: meta.ino(),
            generation: 0,
            owner_uid: 0,
            mode: 0o100_755,
        }
    }

    #[test]
    fn the_file_that_the_kernel_told_is_hashed_and_no_other() {
        let root = directory();
        let at = |name: &str| root.path().join(name);
        fs::write(at("program"), "program").unwrap();
        let program = reference(&at("program"), "/program");
        assert_eq!(sha256(root.path(), &program).unwrap(), PROGRAM);
        // Its path is the task's, whose root is not ours.
        symlink("/program", at("link")).unwrap();
        let by_link = FileRef { path: "/link".into(), ..program.clone() };
        assert_eq!(sha256(root.path(), &by_link).unwrap(), PROGRAM);
        let outside = FileRef { path: "/../../program".into(), ..program.clone() };
        assert_eq!(sha256(root.path(), &outside).unwrap(), PROGRAM);
        // Another file in its place.
        fs::rename(at("program"), at("moved")).unwrap();
        fs::write(at("program"), "program").unwrap();
        assert!(sha256(root.path(), &program).unwrap_err().starts_with("another file"));
        fs::remove_file(at("program")).unwrap();
        assert!(sha256(root.path(), &program).is_err());
        let elsewhere = FileRef { dev: program.dev + 1, path: "/moved".into(), ..program };
        assert!(sha256(root.path(), &elsewhere).is_err());
    }

    #[test]
    fn what_is_no_file_or_too_long_is_not_read() {
        let root = directory();
        let at = |name: &str| root.path().join(name);
        // Opening it would wait for a writer.
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(at("directory")).unwrap();
        for name in ["fifo", "directory"] {
            let refused = sha256(root.path(), &reference(&at(name), name)).unwrap_err();
            assert_eq!(refused, "not a regular file", "{name}");
        }
        let long = File::create(at("long")).unwrap();
        long.set_len(CONTENT_MAX + 1).unwrap();
        assert_eq!(sha256(root.path(), &reference(&at("long"), "long")), Err(too_long()));
        let other = reference(Path::new("/proc/version"), "/proc/version");
        let refused = sha256(Path::new("/"), &other).unwrap_err();
        assert_eq!(refused, "on a file system whose files can change unseen");
    }

    #[test]
    fn what_is_asked_for_is_answered_and_too_much_of_it_is_not_taken() {
        let root = directory();
        let path = root.path().join("program");
        fs::write(&path, "program").unwrap();
        let wanted = |hold| Wanted {
            hold,
            root: root.path().to_owned(),
            file: reference(&path, "/program"),
        };
        let (contents, mut hashed) = Contents::start().unwrap();
        assert!(contents.ask(wanted(7)));
        let answer = hashed.blocking_recv().unwrap();
        assert_eq!(answer, Hashed { hold: 7, sha256: Some(PROGRAM.to_owned()) });
        // Nobody takes the answers: those, what the threads have in hand, and a queue.
        let mut taken = 0;
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while contents.ask(wanted(taken)) {
            taken += 1;
            assert!(std::time::Instant::now() < end);
        }
        assert!(taken as usize >= QUEUE_MAX && taken as usize <= 2 * QUEUE_MAX + THREADS);
        drop(contents);
        for hold in 0..taken {
            assert!(hashed.blocking_recv().unwrap().hold <= taken, "{hold}");
        }
        assert_eq!(hashed.blocking_recv(), None);
    }
}
