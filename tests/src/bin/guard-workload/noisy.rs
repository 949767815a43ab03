//! Actions by the thousand in many threads and processes of a session, while `noise` outside of it signals,
//! kills and traces them. Every one is accounted for in memory that all of them share, so that what a killed
//! process had begun is known.

use guard_vm_wire::noise::Attempts;
use std::{
    collections::{HashMap, HashSet},
    ffi::CString,
    ptr::null,
    sync::atomic::{AtomicI32, AtomicU64, Ordering::SeqCst},
    thread,
    time::Duration,
};

use crate::{many::monotonic_ns, one::told};

/// Name of the processes that the noise may hit.
pub(crate) const WORKER: &str = "noise-worker";
/// Made by the session when all has been begun; the noise ends then.
pub(crate) const QUIET: &str = "quiet";
/// Processes at a time, and threads of each.
const PROCESSES: usize = 8;
const THREADS: usize = 3;
/// Attempts of a thread before it ends and another takes its place.
const TURNS: u64 = 6;
/// Most attempts to start a process.
const FORKS_MAX: u32 = 100;
/// Pause between two looks for processes that have ended.
const PAUSE: Duration = Duration::from_millis(5);
/// [`Attempt::outcome`] until there is one, and of one whose child was killed.
const NONE: i32 = -1;
const KILLED: i32 = -2;

/// One attempt, in memory that is shared by all processes.
struct Attempt {
    start_ns: AtomicU64,
    end_ns: AtomicU64,
    /// The process that makes it.
    pid: AtomicI32,
    /// 0 or errno.
    outcome: AtomicI32,
}

/// All attempts.
struct Board {
    next: &'static AtomicU64,
    /// Forks that ended with `EPERM`, and otherwise.
    refused: &'static AtomicU64,
    failed: &'static AtomicU64,
    attempts: &'static [Attempt],
    dir: String,
    seed: u64,
}

/// What is attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Create,
    MakeDirectory,
    OpenDenied,
    CreateDenied,
    Exec,
    ExecDenied,
}

impl Kind {
    fn of(i: u64, seed: u64) -> Self {
        match mix(i, seed) % 16 {
            0..=5 => Self::Create,
            6..=8 => Self::MakeDirectory,
            9..=11 => Self::OpenDenied,
            12..=13 => Self::CreateDenied,
            14 => Self::Exec,
            _ => Self::ExecDenied,
        }
    }

    fn is_denied(self) -> bool {
        matches!(self, Self::OpenDenied | Self::CreateDenied | Self::ExecDenied)
    }
}

/// A number that looks random and is the same for the same two.
pub(crate) fn mix(i: u64, seed: u64) -> u64 {
    let mut x = i.wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(1);
    for factor in [0xbf58_476d_1ce4_e5b9_u64, 0x94d0_49bb_1331_11eb] {
        x = (x ^ (x >> 30)).wrapping_mul(factor);
    }
    x ^ (x >> 31)
}

/// Makes `n` attempts below `dir`; their account as JSON.
pub(crate) fn run(n: usize, dir: &str, seed: usize) -> Result<String, String> {
    let board = Board::new(n, dir, seed as u64)?;
    // SAFETY: no pointers. Whose parent was killed is this process's child.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let mut seen = Attempts::default();
    let mut ended = HashMap::new();
    let mut workers = HashSet::new();
    for _ in 0..PROCESSES {
        workers.insert(worker(&board)?);
    }
    seen.processes = PROCESSES as u64;
    let mut quiet = false;
    loop {
        let mut status = 0;
        // SAFETY: `status` is writable.
        match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
            0 => thread::sleep(PAUSE),
            pid if pid > 0 => {
                ended.insert(pid, status);
                if workers.remove(&pid) && board.has_more() {
                    workers.insert(worker(&board)?);
                    seen.processes += 1;
                }
            }
            _ if std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            _ => break,
        }
        if !quiet && !board.has_more() {
            quiet = true;
            make_directory(&format!("{dir}/{QUIET}"))?;
        }
    }
    board.account(&ended, &mut seen);
    serde_json::to_string(&seen).map_err(|error| error.to_string())
}

fn make_directory(path: &str) -> Result<(), String> {
    std::fs::create_dir(path).map_err(|error| format!("{path}: {}", told(&error)))
}

/// Starts a process that attempts until there is nothing left.
fn worker(board: &Board) -> Result<libc::pid_t, String> {
    // SAFETY: this process has one thread.
    let fork = || unsafe { libc::fork() };
    let mut pid = fork();
    for _ in 0..FORKS_MAX {
        if pid >= 0 {
            break;
        }
        board.not_forked(std::io::Error::last_os_error().raw_os_error());
        thread::sleep(PAUSE);
        pid = fork();
    }
    match pid {
        0 => {
            // SAFETY: a NUL-terminated text of less than 16 bytes.
            unsafe { libc::prctl(libc::PR_SET_NAME, c"noise-worker".as_ptr()) };
            while board.has_more() {
                thread::scope(|scope| {
                    for _ in 0..THREADS {
                        let turns = || (0..TURNS).for_each(|_| board.turn());
                        if let Err(error) = thread::Builder::new().spawn_scoped(scope, turns) {
                            board.not_forked(error.raw_os_error());
                        }
                    }
                });
            }
            // SAFETY: no pointers.
            unsafe { libc::_exit(0) }
        }
        pid if pid > 0 => Ok(pid),
        _ => Err(format!("fork: {}", told(&std::io::Error::last_os_error()))),
    }
}

impl Board {
    fn new(n: usize, dir: &str, seed: u64) -> Result<Self, String> {
        let bytes = 3 * size_of::<AtomicU64>() + n * size_of::<Attempt>();
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at a place of the kernel's choice.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0) };
        if at == libc::MAP_FAILED {
            return Err(told(&std::io::Error::last_os_error()));
        }
        // SAFETY: zeroed, never unmapped, aligned to a page, and large enough; atomics may be shared.
        let ([next, refused, failed], attempts) = unsafe {
            let counters: &[AtomicU64; 3] = &*at.cast();
            let first = at.cast::<u8>().add(size_of_val(counters)).cast::<Attempt>();
            (counters, std::slice::from_raw_parts(first, n))
        };
        for attempt in attempts {
            attempt.outcome.store(NONE, SeqCst);
        }
        Ok(Self { next, refused, failed, attempts, dir: dir.to_owned(), seed })
    }

    fn has_more(&self) -> bool {
        self.next.load(SeqCst) < self.attempts.len() as u64
    }

    /// Counts a thread or process that was not made.
    fn not_forked(&self, errno: Option<i32>) {
        let counter = if errno == Some(libc::EPERM) { self.refused } else { self.failed };
        counter.fetch_add(1, SeqCst);
    }

    /// One attempt by this thread, or by a child of it.
    fn turn(&self) {
        let i = self.next.fetch_add(1, SeqCst);
        let Some(attempt) = usize::try_from(i).ok().and_then(|i| self.attempts.get(i)) else {
            return;
        };
        let kind = Kind::of(i, self.seed);
        let Some(act) = Act::new(kind, i, &self.dir) else { return };
        let is_exec = matches!(kind, Kind::Exec | Kind::ExecDenied);
        if is_exec || mix(i, !self.seed).is_multiple_of(8) {
            return self.in_a_child(attempt, &act);
        }
        // SAFETY: no pointers.
        attempt.begin(unsafe { libc::getpid() });
        attempt.finish(act.attempt());
    }

    /// Forks; the child attempts, and this thread waits for it.
    fn in_a_child(&self, attempt: &Attempt, act: &Act) {
        // SAFETY: the child makes system calls and stores, and leaves; it takes no lock and no memory.
        match unsafe { libc::fork() } {
            0 => {
                // SAFETY: no pointers.
                attempt.begin(unsafe { libc::getpid() });
                // An exec that is done never comes back.
                attempt.finish(act.attempt());
                // SAFETY: no pointers.
                unsafe { libc::_exit(0) }
            }
            pid if pid > 0 => {
                let Some(status) = has_ended(pid) else { return };
                if attempt.outcome.load(SeqCst) == NONE && attempt.start_ns.load(SeqCst) != 0 {
                    match status {
                        Status::Exited(0) => attempt.finish(0),
                        Status::Killed => attempt.finish(KILLED),
                        Status::Exited(_) => {}
                    }
                }
                // SAFETY: null: how it ended is known.
                unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            }
            // Nothing was begun.
            _ => self.not_forked(std::io::Error::last_os_error().raw_os_error()),
        }
    }

    /// Who came back, who was killed, and who is missing.
    fn account(&self, ended: &HashMap<libc::pid_t, i32>, seen: &mut Attempts) {
        // An exec under a tracer of the old kind raises SIGTRAP, which ends whom his tracer leaves before that.
        let by_noise = [libc::SIGKILL, libc::SIGTRAP];
        let is_killed = |status: &i32| {
            libc::WIFSIGNALED(*status) && by_noise.contains(&libc::WTERMSIG(*status))
        };
        seen.forks_refused = self.refused.load(SeqCst);
        let failed = self.failed.load(SeqCst);
        if failed > 0 {
            (seen.wrong, seen.begun) = (seen.wrong + failed, seen.begun + failed);
            seen.example(|| format!("{failed} forks failed otherwise than with EPERM"));
        }
        seen.processes_killed = ended.values().filter(|status| is_killed(status)).count() as u64;
        for (pid, status) in ended {
            if !is_killed(status) && *status != 0 {
                seen.wrong += 1;
                seen.begun += 1;
                seen.example(|| format!("process {pid} ended with wait status {status}"));
            }
        }
        for (i, attempt) in self.attempts.iter().enumerate() {
            let start_ns = attempt.start_ns.load(SeqCst);
            if start_ns == 0 {
                // Taken by a thread that was killed before it could begin.
                continue;
            }
            seen.begun += 1;
            let kind = Kind::of(i as u64, self.seed);
            let pid = attempt.pid.load(SeqCst);
            let mut outcome = attempt.outcome.load(SeqCst);
            let status = ended.get(&pid);
            if outcome == NONE && kind == Kind::Exec && status == Some(&0) {
                // Its parent was killed: nobody else has waited for the program.
                outcome = 0;
            }
            let end_ns = attempt.end_ns.load(SeqCst);
            seen.slowest_ms = seen.slowest_ms.max(end_ns.saturating_sub(start_ns) / 1_000_000);
            match outcome {
                KILLED => seen.killed += 1,
                NONE if status.is_some_and(is_killed) => seen.killed += 1,
                NONE => {
                    seen.lost += 1;
                    seen.example(|| format!("attempt {i} ({kind:?}, pid {pid}) never came back"));
                }
                0 if !kind.is_denied() => seen.allowed += 1,
                libc::EPERM if kind.is_denied() => seen.denied += 1,
                errno => {
                    seen.wrong += 1;
                    seen.seen_513 += u64::from(errno == 513);
                    let restarts = errno == libc::EINTR || (512..=516).contains(&errno);
                    seen.interrupted += u64::from(restarts);
                    seen.example(|| format!("attempt {i} ({kind:?}, pid {pid}): errno {errno}"));
                }
            }
        }
    }
}

impl Attempt {
    fn begin(&self, pid: libc::pid_t) {
        self.pid.store(pid, SeqCst);
        self.start_ns.store(monotonic_ns(), SeqCst);
    }

    fn finish(&self, outcome: i32) {
        self.end_ns.store(monotonic_ns(), SeqCst);
        self.outcome.store(outcome, SeqCst);
    }
}

/// How a child ended.
enum Status {
    Exited(i32),
    Killed,
}

/// Waits for a child's end and leaves it there: if this thread is killed before it could write down what it saw,
/// the next one who waits still finds it.
fn has_ended(pid: libc::pid_t) -> Option<Status> {
    loop {
        // SAFETY: zeroed is a valid `siginfo_t`.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let id = pid.cast_unsigned();
        // SAFETY: `info` is writable.
        let result =
            unsafe { libc::waitid(libc::P_PID, id, &raw mut info, libc::WEXITED | libc::WNOWAIT) };
        if result == 0 {
            // SAFETY: it tells of a child, by the call above.
            let status = unsafe { info.si_status() };
            let exited = info.si_code == libc::CLD_EXITED;
            return Some(if exited { Status::Exited(status) } else { Status::Killed });
        }
        if std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return None;
        }
    }
}

/// An attempt with all that it needs: nothing is allocated any more.
struct Act {
    kind: Kind,
    path: CString,
    argument: CString,
}

impl Act {
    fn new(kind: Kind, i: u64, dir: &str) -> Option<Self> {
        let (path, argument) = match kind {
            Kind::Create => (format!("{dir}/plain/{i}"), String::new()),
            Kind::MakeDirectory => (format!("{dir}/plain/directory-{i}"), String::new()),
            Kind::OpenDenied => (format!("{dir}/denied/secret"), String::new()),
            Kind::CreateDenied => (format!("{dir}/denied/made-{i}"), String::new()),
            Kind::Exec => ("/bin/true".to_owned(), format!("{i}")),
            Kind::ExecDenied => ("/bin/true".to_owned(), format!("noise-denied-{i}")),
        };
        Some(Self { kind, path: CString::new(path).ok()?, argument: CString::new(argument).ok()? })
    }

    /// 0 or errno.
    fn attempt(&self) -> i32 {
        let path = self.path.as_ptr();
        let new = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
        // SAFETY: NUL-terminated texts and arrays that end with null.
        let result = unsafe {
            match self.kind {
                Kind::Create | Kind::CreateDenied => closed(libc::open(path, new, 0o600)),
                Kind::OpenDenied => closed(libc::open(path, libc::O_RDONLY | libc::O_CLOEXEC)),
                Kind::MakeDirectory => libc::mkdir(path, 0o700),
                Kind::Exec | Kind::ExecDenied => {
                    let argv = [c"true".as_ptr(), self.argument.as_ptr(), null()];
                    libc::execve(path, argv.as_ptr(), [null()].as_ptr())
                }
            }
        };
        if result >= 0 {
            return 0;
        }
        // SAFETY: always readable.
        unsafe { *libc::__errno_location() }
    }
}

/// Closes what was opened, without touching errno.
fn closed(fd: i32) -> i32 {
    if fd >= 0 {
        // SAFETY: no pointers, and nobody else knows this descriptor.
        unsafe { libc::close(fd) };
    }
    fd
}
