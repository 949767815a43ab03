//! Other names of what an action is on: what the policy forbids under one of them is forbidden under all.
//!
//! The kernel tells the one path that was used, as the task sees it. Mounts, here or in another namespace, and hard
//! links give the same object others, as the host sees it. They are found by text and by inode number, without opening
//! anything that a session could keep waiting, and only if a statement that forbids names files at all.
//!
//! Architecture invariant: a name that is found wrongly can only forbid; what could not be found out is held.

mod table;
#[cfg(test)]
mod tests;
mod views;
mod walk;

use guard_model::{Action, ChangeOperation, FileRef, ProcessContext, RawText};
use guard_policy::{Literals, Mark, OtherNames, Policy};
use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};
use table::{Table, seen_from_outside};
use views::{Seen, Views};
use walk::{Limits, Links};

/// How often exact names are looked up.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between two walks.
const WALK_INTERVAL: Duration = Duration::from_mins(1);
/// A walk is followed by so many times its own length without one, so that it takes a hundredth of one CPU.
const WALK_REST: u32 = 100;
/// Longest wait at the start for the first look and walk: some hundred thousand files from a disk. What a session
/// begins to do meanwhile is held by the kernel until then.
const FIRST_MAX: Duration = Duration::from_secs(10);
/// Most names of one object that differ to the policy: more than it has statements about one file.
const NAMES_MAX: usize = 64;
/// Most files for which a link of a session's is remembered.
const NOTED_MAX: usize = 4096;

/// Finds other names.
#[derive(Debug)]
pub struct Names {
    inner: Arc<Inner>,
    first: Mutex<Receiver<()>>,
    threads: usize,
}

#[derive(Debug)]
struct Inner {
    policy: Arc<Policy>,
    views: Mutex<Views>,
    links: Mutex<Known>,
}

/// Which inodes have names that the policy names.
#[derive(Debug, Default)]
struct Known {
    exact: Links,
    walked: Links,
    /// By sessions' own links, until the next look would find them; with the inode's generation, as the number may be
    /// another file's later.
    noted: HashMap<(u64, u64, u64), Vec<RawText>>,
}

impl Names {
    /// Begins to look for the names that a policy speaks about, beside the caller.
    ///
    /// # Errors
    /// This host's mounts cannot be read, or no thread can be started.
    pub fn start(policy: Arc<Policy>) -> io::Result<Self> {
        let is_needed = policy.named().paths().next().is_some()
            || policy.named().directories().next().is_some();
        let inner =
            Arc::new(Inner { policy, views: Mutex::new(Views::new()?), links: Mutex::default() });
        let (say, first) = mpsc::sync_channel(2);
        let mut threads = 1;
        let (weak, said) = (Arc::downgrade(&inner), say.clone());
        let look = thread::Builder::new().name("guard-names".to_owned());
        look.spawn(move || {
            repeat(&weak, said, |inner| {
                inner.look();
                LOOK_INTERVAL
            })
        })?;
        if is_needed {
            threads += 1;
            let weak = Arc::downgrade(&inner);
            let walk = thread::Builder::new().name("guard-walk".to_owned());
            let mut left_out = BTreeSet::new();
            let work = move |inner: &Inner| {
                let pause = inner.walk(&mut left_out);
                // Not before: sessions wait for the first one.
                if let Err(error) = crate::kernel::give_way() {
                    tracing::debug!(%error, "walks have the priority of everything else");
                }
                pause
            };
            walk.spawn(move || repeat(&weak, say, work))?;
        }
        Ok(Self { inner, first: Mutex::new(first), threads })
    }

    /// Waits until the names have been looked for once, for a while at most.
    pub fn wait(&self) {
        let end = Instant::now() + FIRST_MAX;
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..self.threads {
            if first.recv_timeout(end.saturating_duration_since(Instant::now())).is_err() {
                tracing::warn!(
                    "the first walk through the directories that the policy forbids something in takes longer than \
                     {} s: until it has ended, hard links to files in them are not known",
                    FIRST_MAX.as_secs()
                );
                return;
            }
        }
    }

    /// The other names of the objects of an action of this task's, as far as the policy tells them from those used.
    #[must_use]
    pub fn of(&self, process: &ProcessContext, action: &Action) -> OtherNames {
        let Some((file, to, is_there)) = objects(action) else { return OtherNames::default() };
        if !self.inner.policy.follows(action) {
            return OtherNames::default();
        }
        let mut others = OtherNames::default();
        let mut views = lock(&self.inner.views);
        let seen = views.of(process.pid, process.tid).and_then(|seen| Ok((seen, views.own()?)));
        drop(views);
        let named = self.inner.policy.named();
        let mut add = |names: &mut Vec<RawText>, file: &FileRef, is_there: bool| {
            let mut found = Collector::new(named, &file.path, names);
            let by_mounts = match &seen {
                Ok((seen, host)) => by_mounts(seen, host, file, &mut found),
                Err(error) => Err(format!("the mounts that the process sees: {error}")),
            };
            if is_there {
                lock(&self.inner.links).names(file, &mut found);
            }
            let is_full = found.is_full.then(|| format!("a file with more than {NAMES_MAX} names"));
            if let Some(why) = by_mounts.err().or(is_full) {
                others.unknown = Some(format!("what else the file is called is not known: {why}"));
            }
        };
        add(&mut others.file, file, is_there);
        if let Some(to) = to {
            add(&mut others.to, to, false);
        }
        if let Action::Change { operation: ChangeOperation::Link, .. } = action {
            let is_noted = lock(&self.inner.links).note(named, file, &others.file);
            if !is_noted {
                let why = format!("more than {NOTED_MAX} files have been given other names");
                others.unknown.get_or_insert(why);
            }
        }
        others
    }
}

/// The files that an action is on, and whether the first of them is there already.
fn objects(action: &Action) -> Option<(&FileRef, Option<&FileRef>, bool)> {
    match action {
        Action::Exec { program, .. } | Action::Map { program, .. } => {
            Some((&program.file, None, true))
        }
        Action::Open { file, access } | Action::Receive { file, access } => {
            Some((file, None, !access.create && !access.tmpfile))
        }
        Action::Change { operation, file, to, .. } => {
            let makes = matches!(
                operation,
                ChangeOperation::Mkdir | ChangeOperation::Mknod | ChangeOperation::Symlink
            );
            Some((file, to.as_ref(), !makes))
        }
        _ => None,
    }
}

/// Names that the policy tells from each other and from the one that was used.
struct Collector<'a> {
    named: &'a Literals,
    names: &'a mut Vec<RawText>,
    /// The name that was used. An unknown one is named by nothing.
    own: &'a RawText,
    /// By what it is named, once somebody needs it: most files have no other name to compare with.
    own_marks: Option<Vec<Mark<'a>>>,
    is_full: bool,
}

impl<'a> Collector<'a> {
    const fn new(named: &'a Literals, own: &'a RawText, names: &'a mut Vec<RawText>) -> Self {
        Self { named, names, own, own_marks: None, is_full: false }
    }

    fn add(&mut self, name: &[u8]) {
        if name == self.own.as_bytes() {
            return;
        }
        let (named, name) = (self.named, RawText::new(name));
        let marks = named.marks(&name.to_exact());
        let own = self.own_marks.get_or_insert_with(|| named.marks(&self.own.to_exact()));
        let is_known = |other: &RawText| named.marks(&other.to_exact()) == marks;
        if marks.is_empty() || marks == *own || self.names.iter().any(is_known) {
            return;
        }
        if self.names.len() < NAMES_MAX {
            self.names.push(name);
        } else {
            self.is_full = true;
        }
    }
}

/// Names by mounts, or why they cannot be told.
fn by_mounts(
    seen: &Seen,
    host: &Table,
    file: &FileRef,
    found: &mut Collector<'_>,
) -> Result<(), String> {
    let path = file.path.as_bytes();
    // Without a path it is held for that; what is mounted nowhere on this host has no names here.
    if file.path_error.is_some() || !path.starts_with(b"/") || !host.has(file.dev) {
        return Ok(());
    }
    let mut is_placed = false;
    let mut place = |table: &Table, path: &[u8]| {
        for inside in table.inside(file.dev, path) {
            is_placed = true;
            host.paths(file.dev, &inside).for_each(|name| found.add(&name));
        }
    };
    place(&seen.table, path);
    if !seen.is_the_same() {
        // In a plain chroot the mount that its directory is on is not among those that the task sees, and changes are
        // told by their path from outside of it.
        if seen.root != b"/" {
            place(host, &seen_from_outside(&seen.root, path));
        }
        if seen.is_own {
            place(host, path);
        }
    }
    if is_placed { Ok(()) } else { Err("it is on no mount that the process sees".to_owned()) }
}

impl Known {
    fn names(&self, file: &FileRef, found: &mut Collector<'_>) {
        let inode = (file.dev, file.ino);
        let noted = self.noted.get(&(file.dev, file.ino, file.generation));
        let looked = [self.exact.get(&inode), self.walked.get(&inode), noted];
        looked.into_iter().flatten().flatten().for_each(|name| found.add(name.as_bytes()));
    }

    /// Remembers what a file is called that is being given one more name. Whether there was room.
    fn note(&mut self, named: &Literals, file: &FileRef, others: &[RawText]) -> bool {
        let own = std::iter::once(&file.path);
        let is_named = |name: &&RawText| !named.marks(&name.to_exact()).is_empty();
        let names: Vec<_> = own.chain(others).filter(is_named).cloned().collect();
        let inode = (file.dev, file.ino, file.generation);
        if names.is_empty() {
            return true;
        }
        if self.noted.len() >= NOTED_MAX && !self.noted.contains_key(&inode) {
            return false;
        }
        let noted = self.noted.entry(inode).or_default();
        // As many as are given of one object.
        for name in names.into_iter().take(NAMES_MAX) {
            if !noted.contains(&name) && noted.len() < NAMES_MAX {
                noted.push(name);
            }
        }
        true
    }
}

impl Inner {
    fn look(&self) {
        let own = {
            let mut views = lock(&self.views);
            views.close_idle();
            views.own()
        };
        match own {
            Ok(table) => {
                let exact = walk::exact(&table, self.policy.named());
                lock(&self.links).exact = exact;
            }
            Err(error) => tracing::error!(%error, "the host's mounts cannot be read"),
        }
    }

    /// How long to wait for the next one. `left_out`: by the last one.
    fn walk(&self, left_out: &mut BTreeSet<String>) -> Duration {
        let began = Instant::now();
        let Ok(table) = lock(&self.views).own() else { return LOOK_INTERVAL };
        let found = walk::walk(&table, self.policy.named(), Limits::default());
        let took = began.elapsed();
        let (files, took_ms) = (found.links.len(), took.as_millis());
        if took > FIRST_MAX {
            tracing::info!(files, took_ms, "looked for hard links");
        } else {
            tracing::debug!(files, took_ms, "looked for hard links");
        }
        lock(&self.links).walked = found.links;
        for what in found.left_out.difference(left_out) {
            tracing::error!(
                "not all hard links to files that the policy forbids something on are known: {what}"
            );
        }
        *left_out = found.left_out;
        WALK_INTERVAL.max(took * WALK_REST)
    }
}

/// Until the owner is gone. It is heard of within a second. `first` is told once.
fn repeat(
    inner: &Weak<Inner>,
    first: mpsc::SyncSender<()>,
    mut work: impl FnMut(&Inner) -> Duration,
) {
    let (mut next, mut first) = (Instant::now(), Some(first));
    loop {
        let Some(inner) = inner.upgrade() else { return };
        if Instant::now() >= next {
            let pause = work(&inner);
            next = Instant::now() + pause;
            if let Some(first) = first.take() {
                // Nobody waits any longer: then nobody is told.
                let _ = first.try_send(());
            }
        }
        drop(inner);
        thread::sleep(LOOK_INTERVAL);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
