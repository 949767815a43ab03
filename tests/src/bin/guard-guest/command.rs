//! Running one command: as which user, where, with which streams, for how long.

use crate::{
    Trouble,
    ports::Ports,
    system::{self, PATH},
};
use guard_vm_wire::{Job, PAYLOAD_DIR, TIMED_OUT};
use std::{
    fs, io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The unprivileged user of the VM.
pub(crate) const DEV_UID: u32 = 1000;
/// Pause between two looks at a running command.
const PAUSE: Duration = Duration::from_millis(10);

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) status: u8,
    pub(crate) signal: Option<i32>,
    pub(crate) timed_out: bool,
    pub(crate) took: Duration,
}

/// The session's user.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    Dev,
    Root,
}

impl User {
    pub(crate) const fn home(self) -> &'static str {
        match self {
            Self::Dev => "/home/dev",
            Self::Root => "/root",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Root => "root",
        }
    }

    const fn uid(self) -> u32 {
        match self {
            Self::Dev => DEV_UID,
            Self::Root => 0,
        }
    }
}

/// A command of `user`, in a session called `session` if one is named.
pub(crate) fn as_user(user: User, session: Option<&str>, argv: &[String], cwd: &Path) -> Command {
    let mut words: Vec<&str> = Vec::new();
    if let Some(name) = session {
        words.extend(["/usr/local/bin/guard", "run", "--as", name, "--"]);
    }
    words.extend(argv.iter().map(String::as_str));
    let (program, args) = words.split_first().unwrap_or((&"true", &[]));
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(cwd)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", user.home())
        .env("USER", user.name())
        .env("LOGNAME", user.name())
        .env("SHELL", "/bin/bash")
        .env("LANG", "C.UTF-8")
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .uid(user.uid())
        .gid(user.uid())
        // A group of its own, so that a timeout can end all of it.
        .process_group(0);
    command
}

/// Runs the job's command with its streams on the ports; in a session, if one is named.
pub(crate) fn run(
    ports: &mut Ports,
    job: &Job,
    argv: &[String],
    session: Option<&str>,
) -> Result<Ended, Trouble> {
    let user = if job.root { User::Root } else { User::Dev };
    let cwd = work_dir(user)?;
    let failed = |error: io::Error| format!("run `{}`: {error}", argv.join(" "));
    let mut command = as_user(user, session, argv, &cwd);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().map_err(failed)?;
    let copies = [
        child.stdout.take().map(|from| relay(from, ports.stdout())),
        child.stderr.take().map(|from| relay(from, ports.stderr())),
    ];
    let deadline = start + Duration::from_secs(job.timeout_s);
    let (status, timed_out) = wait(&mut child, deadline).map_err(failed)?;
    let took = start.elapsed();
    // A background process of the session may keep the pipes open for ever: what it wrote until now
    // is relayed, then the streams are left.
    let patience = Instant::now() + Duration::from_secs(2);
    for copy in copies.into_iter().flatten() {
        while !copy.is_finished() && Instant::now() < patience {
            thread::sleep(PAUSE);
        }
    }
    Ok(ended(status, timed_out, took))
}

/// Copies by plain reads and writes: `io::copy` would splice, which the ports do not take.
fn relay(
    mut from: impl io::Read + Send + 'static,
    to: io::Result<fs::File>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let Ok(mut to) = to else { return };
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            // With nobody to read it, the command still must not see its stream break.
            let _ = io::Write::write_all(&mut to, buffer.get(..n).unwrap_or_default());
        }
    })
}

/// Waits for the child; past the deadline its process group is killed.
pub(crate) fn wait(child: &mut Child, deadline: Instant) -> io::Result<(ExitStatus, bool)> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, false));
        }
        if Instant::now() >= deadline {
            let group = i32::try_from(child.id()).unwrap_or(i32::MAX);
            // SAFETY: no pointers; the group is the child's own (`process_group(0)`).
            unsafe { libc::kill(-group, libc::SIGKILL) };
            return Ok((child.wait()?, true));
        }
        thread::sleep(PAUSE);
    }
}

fn ended(status: ExitStatus, timed_out: bool, took: Duration) -> Ended {
    let signal = status.signal();
    let code = match (timed_out, status.code(), signal) {
        (true, ..) => TIMED_OUT,
        (_, Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (_, None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        _ => u8::MAX,
    };
    Ended { status: code, signal, timed_out, took }
}

/// The user's copy of `--files`; made once.
fn work_dir(user: User) -> Result<PathBuf, Trouble> {
    let work = Path::new(user.home()).join("work");
    let from = Path::new(PAYLOAD_DIR).join("files");
    fs::create_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
    if from.exists() {
        let from = format!("{}/.", from.display());
        system::tool("cp", &["-a", &from, &work.to_string_lossy()])?;
    }
    let owner = format!("{0}:{0}", user.uid());
    system::tool("chown", &["-R", &owner, &work.to_string_lossy()])?;
    Ok(work)
}

/// Starts the helper that runs beside the session: root, unlabelled, its output in the logs.
pub(crate) fn start_beside() -> Result<Child, Trouble> {
    let path = Path::new("/run/guard/beside");
    system::install(&Path::new(PAYLOAD_DIR).join("beside"), path)?;
    let log = fs::File::create("/run/guard/beside.log").map_err(|error| error.to_string())?;
    let errors = log.try_clone().map_err(|error| error.to_string())?;
    Command::new(path)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("--beside: {error}"))
}

/// Ends the helper.
pub(crate) fn stop_beside(beside: Option<Child>) {
    if let Some(mut child) = beside {
        let group = i32::try_from(child.id()).unwrap_or(i32::MAX);
        // SAFETY: no pointers; the group is the child's own.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        let _ = child.wait();
    }
}
