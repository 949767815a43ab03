//! The mounts that a task sees, read from `/proc` only when they changed.
//!
//! An open mountinfo tells by poll(2) that a mount came or went (`mounts_poll` in `fs/namespace.c`). It does not tell
//! that a directory above a mount was renamed; for that the file is read again once a second while it is needed.
//! It also keeps its namespace alive, and with it the container's file systems: so what was not needed for two
//! seconds is closed.

use super::table::Table;
use crate::mounts::{MOUNTS, parse};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _, Seek as _},
    os::{fd::AsFd as _, unix::ffi::OsStringExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// Longest time for which mounts are believed that no event has questioned.
const AGE_MAX: Duration = Duration::from_secs(1);
/// Longest time for which mounts stay open that nobody needs.
const IDLE_MAX: Duration = Duration::from_secs(2);
/// Most namespaces (and roots in them) whose mounts are kept; of more, the ones not needed for longest are read
/// again when they are needed. A host has one for each container that has a session.
const VIEWS_MAX: usize = 64;
/// Most bytes of one mountinfo: some 40,000 mounts (the kernel's own limit is 100,000), so that nobody keeps the
/// deciding thread busy by mounting. A host with hundreds of containers has some thousand.
const READ_MAX: u64 = 8 << 20;

/// What a task sees.
#[derive(Debug)]
pub(super) struct Seen {
    /// Its mounts, from its root.
    pub(super) table: Arc<Table>,
    /// Its root as guard-agent would name it.
    pub(super) root: Vec<u8>,
    /// It is in guard-agent's own mount namespace.
    pub(super) is_own: bool,
}

impl Seen {
    /// It sees what guard-agent sees.
    pub(super) fn is_the_same(&self) -> bool {
        self.is_own && self.root == b"/"
    }
}

#[derive(Debug)]
struct View {
    namespace: OsString,
    root: OsString,
    file: File,
    table: Arc<Table>,
    read_at: Instant,
    used_at: Instant,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Views {
    proc: PathBuf,
    own: View,
    others: Vec<View>,
}

impl Views {
    /// Reads guard-agent's own mounts.
    ///
    /// # Errors
    /// They cannot be read, or are too many.
    pub(super) fn new() -> io::Result<Self> {
        let namespace = fs::read_link("/proc/self/ns/mnt")?.into_os_string();
        let own = View::open(Path::new(MOUNTS), namespace, "/".into())?;
        Ok(Self { proc: "/proc".into(), own, others: Vec::new() })
    }

    /// guard-agent's own mounts as they are now.
    ///
    /// # Errors
    /// They cannot be read, or are too many.
    pub(super) fn own(&mut self) -> io::Result<Arc<Table>> {
        self.own.now()
    }

    /// What a thread sees now.
    ///
    /// # Errors
    /// It is gone, or its mounts cannot be read or are too many.
    pub(super) fn of(&mut self, pid: u32, tid: u32) -> io::Result<Seen> {
        // Threads of one process may be in different namespaces.
        let task = self.proc.join(format!("{pid}/task/{tid}"));
        let namespace = fs::read_link(task.join("ns/mnt"))?.into_os_string();
        let root = fs::read_link(task.join("root"))?.into_os_string();
        let is_own = namespace == self.own.namespace;
        let bytes = root.clone().into_vec();
        if is_own && bytes == b"/" {
            return Ok(Seen { table: self.own.now()?, root: bytes, is_own });
        }
        let is_it = |view: &View| view.namespace == namespace && view.root == root;
        let at = match self.others.iter().position(is_it) {
            Some(at) => at,
            None => {
                self.make_room();
                self.others.push(View::open(&task.join("mountinfo"), namespace, root)?);
                self.others.len() - 1
            }
        };
        let table = self.others[at].now().inspect_err(|_| {
            self.others.swap_remove(at);
        })?;
        Ok(Seen { table, root: bytes, is_own })
    }

    fn make_room(&mut self) {
        while self.others.len() >= VIEWS_MAX {
            let oldest = self.others.iter().enumerate().min_by_key(|(_, view)| view.used_at);
            let Some((at, _)) = oldest else { return };
            self.others.swap_remove(at);
        }
    }

    /// Lets namespaces go that nobody needs any more.
    pub(super) fn close_idle(&mut self) {
        self.others.retain(|view| view.used_at.elapsed() < IDLE_MAX);
    }
}

impl View {
    fn open(path: &Path, namespace: OsString, root: OsString) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let (table, read_at) = (Arc::new(read(&mut file)?), Instant::now());
        Ok(Self { namespace, root, file, table, read_at, used_at: read_at })
    }

    fn now(&mut self) -> io::Result<Arc<Table>> {
        self.used_at = Instant::now();
        if self.has_changed()? || self.read_at.elapsed() > AGE_MAX {
            // What changes while it is read is an event of its own.
            self.table = Arc::new(read(&mut self.file)?);
            self.read_at = Instant::now();
        }
        Ok(self.table.clone())
    }

    fn has_changed(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLPRI)];
        poll(&mut fds, PollTimeout::ZERO)?;
        let told = PollFlags::POLLPRI | PollFlags::POLLERR;
        Ok(fds[0].revents().is_none_or(|events| events.intersects(told)))
    }
}

fn read(file: &mut File) -> io::Result<Table> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(READ_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > READ_MAX {
        return Err(io::Error::other(format!("more than {READ_MAX} bytes of mounts")));
    }
    Ok(Table::new(parse(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
        unistd::gettid,
    };
    use std::{sync::mpsc, thread};

    #[test]
    fn this_process_sees_what_it_sees() {
        let pid = std::process::id();
        let seen = Views::new().unwrap().of(pid, pid).unwrap();
        assert!(seen.is_the_same());
        assert!(seen.table.holder(b"/proc/self").is_some_and(|held| held.kind == "proc"));
    }

    #[test]
    fn a_thread_that_is_gone_is_an_error() {
        let mut views = Views::new().unwrap();
        assert!(views.of(std::process::id(), u32::MAX).is_err());
        assert!(views.others.is_empty());
    }

    #[test]
    fn more_bytes_than_are_read_are_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(READ_MAX).unwrap();
        assert!(read(&mut file).is_ok());
        file.set_len(READ_MAX + 1).unwrap();
        assert!(read(&mut file).is_err());
    }

    /// Needs root, as the tests in the VMs and in CI have it; without it there is nothing to see.
    #[test]
    fn a_mount_in_another_namespace_is_seen_at_once_and_the_namespace_let_go_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let (say, hear) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let flags = CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS;
            let unshared = unshare(flags).and_then(|()| {
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
            });
            say.send(unshared.is_ok().then(gettid)).unwrap();
            if unshared.is_ok() {
                wait.recv().unwrap();
                mount(Some("/proc"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
                say.send(None).unwrap();
                wait.recv().unwrap();
            }
        });
        let Some(tid) = hear.recv().unwrap() else { return };
        let tid = u32::try_from(tid.as_raw()).unwrap();
        let mut views = Views::new().unwrap();
        let at = folder.path().as_os_str().as_encoded_bytes().to_vec();
        let mut held = || {
            let seen = views.of(std::process::id(), tid).unwrap();
            assert!(!seen.is_own && !seen.is_the_same());
            seen.table.at(&at).cloned()
        };
        assert_eq!(held(), None);
        go.send(()).unwrap();
        hear.recv().unwrap();
        assert_eq!(held().unwrap().kind, "proc");
        assert_eq!(views.own().unwrap().at(&at), None);
        views.close_idle();
        assert_eq!(views.others.len(), 1);
        views.others[0].used_at -= IDLE_MAX;
        views.close_idle();
        assert!(views.others.is_empty());
        go.send(()).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn no_more_namespaces_are_kept_than_there_is_room_for() {
        let mut views = Views::new().unwrap();
        let open = |name: usize| {
            View::open(Path::new(MOUNTS), name.to_string().into(), "/".into()).unwrap()
        };
        for name in 0..VIEWS_MAX {
            views.make_room();
            views.others.push(open(name));
        }
        assert_eq!(views.others.len(), VIEWS_MAX);
        views.make_room();
        assert_eq!(views.others.len(), VIEWS_MAX - 1);
        assert!(views.others.iter().all(|view| view.namespace != "0"));
    }
}
