//! Reads that a session can keep waiting, done by threads that may wait.
//!
//! A command line stands in its process's own memory, and that may be mapped from a file system that does not
//! answer, or locked by another thread. Whoever decides for the whole host waits for none of it: it waits a moment,
//! once in a while, and goes without.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Sender, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

/// Threads that may be waiting at one time; with all of them kept, nothing is read until one is let go.
const THREADS_MAX: usize = 4;
/// Longest wait for all reads of one caller. A read takes some 20 µs, and milliseconds on a machine that is emulated.
const PATIENCE: Duration = Duration::from_millis(500);
/// After a wait in vain nothing is read for so long, so that a session that does this all the time costs the
/// deciding thread a sixtieth of its time.
const REST: Duration = Duration::from_secs(30);

/// What is read, and where the bytes go.
struct Request {
    path: PathBuf,
    answer: SyncSender<Vec<u8>>,
    /// The way to this very thread, which is idle once it has read. It keeps none itself, so that it ends with
    /// [`Aside`].
    back: Sender<Request>,
}

/// The threads, made when they are needed.
pub(crate) struct Aside {
    read: fn(&std::path::Path) -> Vec<u8>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    idle: Vec<Sender<Request>>,
    made: usize,
    rests_until: Option<Instant>,
}

/// One caller's reads, and until when it waits for them.
pub(crate) struct Reading<'a> {
    aside: &'a Arc<Aside>,
    until: Instant,
}

impl std::fmt::Debug for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Aside")
    }
}

impl Aside {
    pub(crate) fn new(read: fn(&std::path::Path) -> Vec<u8>) -> Arc<Self> {
        Arc::new(Self { read, threads: Mutex::default() })
    }

    /// Begins the reads of one caller.
    pub(crate) fn begin(self: &Arc<Self>) -> Reading<'_> {
        Reading { aside: self, until: Instant::now() + PATIENCE }
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread that waits for nobody. `None`: there is none, or nothing is read for now.
    fn idle(self: &Arc<Self>) -> Option<Sender<Request>> {
        let mut threads = self.threads();
        if threads.rests_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        if let Some(idle) = threads.idle.pop() {
            return Some(idle);
        }
        if threads.made == THREADS_MAX {
            return None;
        }
        let made = self.spawn().inspect_err(|error| tracing::warn!(%error, "no thread for reads"));
        threads.made += usize::from(made.is_ok());
        made.ok()
    }

    fn spawn(self: &Arc<Self>) -> io::Result<Sender<Request>> {
        let (requests, incoming) = mpsc::channel::<Request>();
        let aside = Arc::downgrade(self);
        thread::Builder::new().name("guard-reads".to_owned()).spawn(move || {
            while let Ok(Request { path, answer, back }) = incoming.recv() {
                let Some(aside) = aside.upgrade() else { return };
                let bytes = (aside.read)(&path);
                // Idle before it is answered: the caller's next read finds it.
                aside.threads().idle.push(back);
                // Nobody waits any longer: then nobody is told.
                let _ = answer.send(bytes);
            }
        })?;
        Ok(requests)
    }
}

impl Reading<'_> {
    /// The bytes; none if they do not come in time.
    pub(crate) fn read(&self, path: PathBuf) -> Vec<u8> {
        let Some(thread) = self.aside.idle() else { return Vec::new() };
        let (answer, bytes) = mpsc::sync_channel(1);
        let back = thread.clone();
        if thread.send(Request { path, answer, back }).is_err() {
            return Vec::new();
        }
        let left = self.until.saturating_duration_since(Instant::now());
        bytes.recv_timeout(left).unwrap_or_else(|_| {
            tracing::warn!("a command line does not come: none is read for a while");
            self.aside.threads().rests_until = Some(Instant::now() + REST);
            Vec::new()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn aside() -> Arc<Aside> {
        Aside::new(|path| fs::read(path).unwrap_or_default())
    }

    /// A file that is not there to be read until somebody writes to it.
    fn kept(directory: &tempfile::TempDir, name: &str) -> PathBuf {
        let path = directory.path().join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        path
    }

    #[test]
    fn what_does_not_come_is_waited_for_once_and_then_not_for_a_while() {
        let directory = tempfile::tempdir().unwrap();
        let (there, kept) = (directory.path().join("there"), kept(&directory, "kept"));
        fs::write(&there, "x").unwrap();
        let aside = aside();
        assert_eq!(aside.begin().read(there.clone()), b"x");
        let began = Instant::now();
        assert!(aside.begin().read(kept.clone()).is_empty());
        assert!(began.elapsed() >= PATIENCE);
        let began = Instant::now();
        for _ in 0..100 {
            assert!(aside.begin().read(kept.clone()).is_empty());
            assert!(aside.begin().read(there.clone()).is_empty());
        }
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        aside.threads().rests_until = None;
        assert_eq!(aside.begin().read(there), b"x");
        fs::write(kept, "").unwrap();
    }

    #[test]
    fn no_more_threads_wait_than_may_and_one_that_is_let_go_reads_again() {
        let directory = tempfile::tempdir().unwrap();
        let kept: Vec<_> = (0..THREADS_MAX).map(|n| kept(&directory, &n.to_string())).collect();
        let there = directory.path().join("there");
        fs::write(&there, "x").unwrap();
        let aside = aside();
        for path in &kept {
            assert!(aside.begin().read(path.clone()).is_empty());
            aside.threads().rests_until = None;
        }
        assert!(aside.begin().read(there.clone()).is_empty());
        assert_eq!(aside.threads().made, THREADS_MAX);
        fs::write(&kept[0], "").unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while aside.begin().read(there.clone()) != b"x" {
            assert!(Instant::now() < until, "the thread that was let go does not read");
            thread::sleep(Duration::from_millis(5));
        }
        for path in &kept[1..] {
            fs::write(path, "").unwrap();
        }
    }
}
