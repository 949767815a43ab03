//! `cargo xtask bench`: what the kernel side costs whom, in instructions.
//!
//! The VM has one CPU and a clock that counts its instructions, so a time is a number of them, the same on every
//! machine. What is native and what the peers cost is measured before Guard's programs are loaded, in the same
//! boot. Nothing here is a test: what is over its goal is a figure like any other.

use crate::{
    Trouble,
    answer::{Answering, How},
    command::User::Dev,
    guard::{self, Guard},
    ports::Ports,
    scenario::{self, Stage, wait_for_file},
};
use guard_vm_wire::{BENCH_FILE, Bench, Burst, Condition, Cost, Report};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path, process::Command, thread, time::Duration};

const WORKLOAD: &str = "/usr/local/bin/guard-workload";
/// Where the objects are: root's, so that a session could not have written a program there.
const OBJECTS: &str = "/srv/bench";
/// Objects of each program: a median needs no more, and the first use of each is measured once.
const N: usize = 100;
/// Events of the burst (docs/performance.md).
const BURST: usize = 100_000;
const PAUSE: Duration = Duration::from_millis(500);
/// More than guard-agent lets pass between two heartbeats.
const HEARTBEATS: Duration = Duration::from_secs(60);
/// Looks at guard-agent until it has nothing left to do, and at all others before a measurement.
const LOOKS_MAX: usize = 600;
/// What all together may run between two looks while nobody is said to be busy, our own looks among it: a fiftieth.
const QUIET: u64 = 10_000_000;

/// Programs with a goal, and those of further families. `exec` comes first of all: its cost grows with what the
/// parent has mapped, and each measurement is a process of its own.
const PROGRAMS: [&str; 8] = ["open", "read", "socket", "send", "exec", "path", "chmod", "map"];
const PEERS: [(&str, Condition); 5] = [
    ("open", Condition::Fanotify),
    ("exec", Condition::Fanotify),
    ("open", Condition::Seccomp),
    ("socket", Condition::Seccomp),
    ("exec", Condition::Seccomp),
];

/// Measures everything; a part that fails is a problem, and the rest is measured all the same.
pub(crate) fn run(ports: &mut Ports, kernel: &str) -> Result<(), Trouble> {
    guard::install_programs()?;
    make_objects()?;
    let mut bench = Bench { kernel: kernel.to_owned(), ..Bench::default() };
    match plain("nothing") {
        Ok(times) => bench.nothing = cost("nothing", Condition::Native, times).median,
        Err(trouble) => bench.problems.push(format!("nothing: {trouble}")),
    }
    for (program, condition) in PEERS {
        ports.note(format!("measuring {program}, {condition:?}"));
        let times = if condition == Condition::Fanotify {
            fanotify(program)
        } else {
            quiet()
                .and_then(|()| workload(&["seccomp", program, &N.to_string(), &objects(program)]))
        };
        bench.take(program, condition, times);
    }
    // Last, so that nothing but Guard stands between these figures and those under Guard.
    for program in PROGRAMS {
        ports.note(format!("measuring {program}, native"));
        bench.take(program, Condition::Native, plain(program));
    }
    let mut stage = Stage { guard: Guard::start(false)? };
    stage.guard.let_controller_wait()?;
    ports.report(&Report::Ready { after_ms: crate::system::uptime_ms(), sign_in: None });
    for program in PROGRAMS {
        ports.note(format!("measuring {program}, under Guard"));
        bench.take(program, Condition::Unlabelled, plain(program));
        labelled(&stage, program, &mut bench);
    }
    ports.note("measuring who runs for it");
    match ran_each(&stage) {
        Ok(ran) => bench.ran_each = ran,
        Err(trouble) => bench.problems.push(format!("who runs: {trouble}")),
    }
    ports.note(format!("measuring {BURST} events"));
    match burst(&mut stage) {
        Ok(burst) => bench.burst = Some(burst),
        Err(trouble) => bench.problems.push(format!("burst: {trouble}")),
    }
    stage.guard.stop();
    ports.send_json(BENCH_FILE, &bench);
    ports.report(&Report::Exit { status: 0, timed_out: false });
    Ok(())
}

trait Take {
    fn take(&mut self, program: &str, condition: Condition, times: Result<Vec<u64>, Trouble>);
}

impl Take for Bench {
    fn take(&mut self, program: &str, condition: Condition, times: Result<Vec<u64>, Trouble>) {
        match times {
            Ok(times) => self.costs.push(cost(program, condition, times)),
            Err(trouble) => self.problems.push(format!("{program}, {condition:?}: {trouble}")),
        }
    }
}

fn cost(program: &str, condition: Condition, mut times: Vec<u64>) -> Cost {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len().saturating_sub(1) * part / 100).copied();
    let [min, median, p99] = [0, 50, 99].map(|part| at(part).unwrap_or(0));
    Cost { program: program.to_owned(), condition, n: times.len() as u64, median, min, p99 }
}

fn objects(program: &str) -> String {
    // What is only read is the same for all of them.
    let own = if ["exec", "path", "chmod"].contains(&program) { program } else { "open" };
    format!("{OBJECTS}/{own}")
}

fn make_objects() -> Result<(), Trouble> {
    let failed = |error: std::io::Error| format!("{OBJECTS}: {error}");
    // The one static program of the tree: what a dynamic one opens would be measured as well.
    let busybox =
        ["/usr/bin/busybox", "/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.ok_or("there is no busybox")?;
    for program in ["open", "exec"] {
        fs::create_dir_all(objects(program)).map_err(failed)?;
    }
    for program in ["path", "chmod"] {
        scenario::make_dir(Path::new(&objects(program)))?;
    }
    let first = format!("{}/0", objects("exec"));
    fs::copy(busybox, &first).map_err(failed)?;
    for i in 0..N {
        fs::write(format!("{}/{i}", objects("open")), [0; 4096]).map_err(failed)?;
        scenario::write(Path::new(&format!("{}/{i}", objects("chmod"))), "x")?;
        if i > 0 {
            fs::hard_link(&first, format!("{}/{i}", objects("exec"))).map_err(failed)?;
        }
    }
    Ok(())
}

/// Waits until nobody runs but now and then. A kernel that has just booted tests its ciphers for seconds, and what
/// a session did is told to the controller when it is over: whoever is measured meanwhile has to share the
/// processor, a scheduler's slice of 0.7 ms at a time.
fn quiet() -> Result<(), Trouble> {
    let all = || ran().values().map(|(_, ran)| ran).sum::<u64>();
    let mut before = all();
    for _ in 0..LOOKS_MAX {
        // An idle machine's clock jumps: this costs nothing.
        thread::sleep(PAUSE);
        let now = all();
        if now.saturating_sub(before) < QUIET {
            return Ok(());
        }
        before = now;
    }
    Err(format!("somebody is always busy: {:?}", ran()))
}

/// A process of nobody's session; the second pass counts, when all that can be cached by anybody is.
fn plain(program: &str) -> Result<Vec<u64>, Trouble> {
    quiet()?;
    let passes = workload(&["measure", program, &N.to_string(), "2", &objects(program)]);
    passes.map(|times| times.get(N..).unwrap_or_default().to_vec())
}

fn workload(args: &[&str]) -> Result<Vec<u64>, Trouble> {
    let mut argv = vec![WORKLOAD.to_owned()];
    argv.extend(args.iter().map(|arg| (*arg).to_owned()));
    let output = crate::command::as_user(Dev, None, &argv, Path::new(Dev.home())).output();
    let output = output.map_err(|error| format!("{WORKLOAD}: {error}"))?;
    times(&String::from_utf8_lossy(&output.stdout))
}

fn times(out: &str) -> Result<Vec<u64>, Trouble> {
    let times = out.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>();
    times.ok().filter(|times| !times.is_empty()).ok_or_else(|| format!("no times: {out:?}"))
}

fn fanotify(program: &str) -> Result<Vec<u64>, Trouble> {
    let ready = format!("/run/guard/fanotify-{program}");
    let mut peer = Command::new(WORKLOAD)
        .args(["fanotify", program, &objects(program), &ready])
        .spawn()
        .map_err(|error| error.to_string())?;
    let times = wait_for_file(&ready).and_then(|()| plain(program));
    let _ = peer.kill();
    let _ = peer.wait();
    times
}

/// The first use of each object, and the second.
fn labelled(stage: &Stage, program: &str, bench: &mut Bench) {
    let n = N.to_string();
    let directory = objects(program);
    let argv = [WORKLOAD, "measure", program, &n, "2", &directory];
    let outcome =
        quiet().and_then(|()| stage.start(Dev, &argv)).and_then(scenario::Running::finish);
    let times = outcome.and_then(|outcome| {
        times(&outcome.out).map_err(|trouble| format!("{trouble}, {:?}", outcome.err))
    });
    match times {
        Ok(times) => {
            let (first, again) = times.split_at(N.min(times.len()));
            bench.take(program, Condition::First, Ok(first.to_vec()));
            bench.take(program, Condition::Again, Ok(again.to_vec()));
        }
        Err(trouble) => bench.take(program, Condition::First, Err(trouble)),
    }
}

/// What each process runs for one `open` that guard-agent decides: what a session that opens many has more than
/// one that opens a single file, so that the session's start and end are not in it.
fn ran_each(stage: &Stage) -> Result<BTreeMap<String, u64>, Trouble> {
    let session = |n: usize| -> Result<BTreeMap<String, u64>, Trouble> {
        let n = n.to_string();
        quiet()?;
        let before = ran();
        let argv = [WORKLOAD, "measure", "open", &n, "1", &objects("open")];
        stage.start(Dev, &argv)?.finish()?;
        // The controller has its turn.
        quiet()?;
        let mut by_name = BTreeMap::new();
        for (pid, (name, ran)) in ran() {
            let earlier = before.get(&pid).map_or(0, |(_, ran)| *ran);
            *by_name.entry(name).or_default() += ran.saturating_sub(earlier);
        }
        Ok(by_name)
    };
    // What is done once only is done by a first one.
    session(N)?;
    let (one, many) = (session(1)?, session(N)?);
    let more = many.into_iter().map(|(process, ran)| {
        let ran = ran.saturating_sub(one.get(&process).copied().unwrap_or(0));
        (process, ran / (N as u64 - 1))
    });
    Ok(more.filter(|(_, ran)| *ran > 0).collect())
}

/// Name, and time on a CPU, of every process that there is. One that has ended ran for somebody else.
fn ran() -> BTreeMap<u32, (String, u64)> {
    let of = |process: &fs::DirEntry| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        // The kernel's workers are called after what they do just then.
        let name = if name.starts_with("kworker") { "kworker" } else { name.trim() };
        Some((pid, (name.to_owned(), on_cpu_ns(pid).ok()?)))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| of(&process)).collect()
}

/// As many small events as one session can cause: refused opens through io_uring. Without a controller, to
/// which guard-agent would send them meanwhile.
fn burst(stage: &mut Stage) -> Result<Burst, Trouble> {
    let pid = stage.guard.agent_pid();
    let (path, directory) = (format!("{}/0", objects("open")), "/home/dev/burst");
    scenario::make_dir(Path::new(directory))?;
    let n = BURST.to_string();
    let answering = Answering::start(stage.guard.api(), How::Approve);
    let running = stage.start(Dev, &[WORKLOAD, "burst", &n, directory, &path])?;
    let ready = wait_for_file(&format!("{directory}/ready"));
    answering.stop();
    ready?;
    stage.guard.kill_controller();
    thread::sleep(PAUSE * 4);
    let lost_before = lost();
    let before = on_cpu_ns(pid)?;
    fs::write(format!("{directory}/go"), "").map_err(|error| error.to_string())?;
    running.finish()?.expect_success("ok:")?;
    let mut spent = 0;
    for _ in 0..LOOKS_MAX {
        thread::sleep(PAUSE);
        let now = on_cpu_ns(pid)? - before;
        // A heartbeat and our own looks are less than a thousand events.
        let quiet = now - spent < BURST as u64;
        spent = now;
        if quiet {
            break;
        }
    }
    // Losses become evidence with a heartbeat. An idle machine's clock jumps: this costs nothing.
    thread::sleep(HEARTBEATS);
    // As text: parsed, they would not fit into the VM's memory.
    let evidence = guard::agent_evidence();
    let spooled = evidence.lines().filter(|line| line.contains("\"not_restartable\"")).count();
    Ok(Burst {
        events: BURST as u64,
        lost: (lost() - lost_before).max(lost_in(&evidence)),
        spooled: spooled as u64,
        agent_instructions: spent,
        rss_kib: status_kib(pid, "VmRSS:")?,
        peak_rss_kib: status_kib(pid, "VmHWM:")?,
    })
}

/// Records that the kernel had no room for.
fn lost() -> u64 {
    guard::status().pointer("/counters/events_lost").and_then(Value::as_u64).unwrap_or(0)
}

/// Losses of which evidence tells.
fn lost_in(evidence: &str) -> u64 {
    let lines = evidence.lines().filter(|line| line.contains("\"event\":\"lost\""));
    let records = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    records.filter_map(|record| record.get("count")?.as_u64()).sum()
}

/// Time on a CPU of all threads of a process: instructions, as the clock has it.
fn on_cpu_ns(pid: u32) -> Result<u64, Trouble> {
    let directory = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&directory).map_err(|error| format!("{directory}: {error}"))?;
    let of = |path: &Path| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    let times: Vec<u64> = tasks.flatten().filter_map(|task| of(&task.path())).collect();
    if times.is_empty() {
        Err(format!("{directory}: no schedstat"))
    } else {
        Ok(times.iter().sum())
    }
}

fn status_kib(pid: u32, field: &str) -> Result<u64, Trouble> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("{path}: no {field}"))
}
