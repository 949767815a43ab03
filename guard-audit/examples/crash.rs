//! Kills a writer of the log with SIGKILL at random moments, again and again, and counts what was
//! acknowledged and is gone. `cargo run -p guard-audit --example crash -- [ROUNDS] [DIR]`
//!
//! A child writes and says on its standard output what it acknowledges: only after the head was
//! swapped and the files are published. The parent kills it, opens the log by the head that is
//! there, and looks whether every tree that was acknowledged is the beginning of the one that is
//! left. Most writers die some time after their first acknowledgement, so that there is something to
//! lose; the others at any time from their start on, so that opening and recovery are hit as well. SIGKILL leaves the kernel's page cache: power loss is what the tests with failing storage
//! are about.

#![expect(clippy::unwrap_used, reason = "a failure is the result")]

use guard_audit::{
    Event, Record,
    log::{Chains, Dir, DirReader, Draft, HostTip, Log, LogKey, Storage as _, TileHashes, verify},
};
use guard_model::{BootId, HostId};
use rand::Rng as _;
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// Rounds if none are asked for: about two minutes.
const ROUNDS: u64 = 1000;

/// Longest life of a writer after its first acknowledgement, or from its start, ms: long enough that
/// some retire a journal.
const LIFE_MS: u64 = 120;

/// One writer of so many is killed at a time that is counted from its start.
const FROM_START: u32 = 8;

/// Longest wait for the first acknowledgement; a writer that needs longer hangs.
const FIRST_WORD: Duration = Duration::from_secs(60);

/// A whole verification after so many rounds, and at the end.
const VERIFY_EVERY: u64 = 250;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--writer") {
        write(Path::new(&arguments[1]));
    }
    let rounds = arguments.first().map_or(ROUNDS, |text| text.parse().expect("ROUNDS: a number"));
    let given = arguments.get(1).map(PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let dir = given.unwrap_or_else(|| temporary.path().join("log"));
    run(rounds, &dir)
}

/// What rounds add up to.
#[derive(Default)]
struct Sum {
    acknowledged: u64,
    /// Committed, and killed before it was said: allowed.
    unsaid: u64,
    /// Rounds in which the writer was killed between a commit and its acknowledgement.
    between: u64,
    /// Rounds in which the writer was killed before it acknowledged anything.
    early: u64,
    lost: u64,
}

fn run(rounds: u64, dir: &Path) -> ExitCode {
    let started = Instant::now();
    let mut sum = Sum::default();
    create(dir);
    let mut size = 0;
    for round in 1..=rounds {
        let said = one_life(dir);
        let log = open(dir);
        let now = log.head().head;
        let storage = log.storage();
        drop(log);
        for (acknowledged, root) in &said {
            // Every tree that was acknowledged is the beginning of the one that is left.
            let kept = *acknowledged <= now.size
                && TileHashes::new(&*storage, now.size).head(*acknowledged).unwrap().root == *root;
            if !kept {
                sum.lost += acknowledged.saturating_sub(now.size).max(1);
                println!("round {round}: LOST: {acknowledged} acknowledged, {} left", now.size);
            }
        }
        let last = said.last().map_or(size, |(size, _)| *size);
        sum.acknowledged += last - size;
        sum.unsaid += now.size.saturating_sub(last);
        sum.between += u64::from(now.size > last);
        sum.early += u64::from(said.is_empty());
        size = now.size;
        if round % VERIFY_EVERY == 0 || round == rounds {
            let report = verify(&*storage, &[key(dir).verifier().clone()], &[]);
            assert!(report.is_sound(), "round {round}: {:?}", report.problems);
            println!("round {round}: {size} entries verified, {} s", started.elapsed().as_secs());
        }
    }
    let Sum { acknowledged, unsaid, between, early, lost } = sum;
    let after = rounds - early;
    println!(
        "rounds {rounds} ({after} killed after an acknowledgement, {early} before the first; \
         {between} between a commit and its acknowledgement), acknowledged {acknowledged}, \
         committed and not yet said {unsaid}, lost {lost}"
    );
    if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A writer from its start to its SIGKILL; the trees that it acknowledged.
fn one_life(dir: &Path) -> Vec<(u64, [u8; 32])> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--writer")
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (first, first_word) = mpsc::channel();
    let said = std::thread::spawn(move || {
        // A line that was cut was not said.
        let lines = output.lines().map_while(Result::ok);
        let parsed = lines.filter_map(|line| parse(&line));
        let tell = |word| {
            // Nobody may be waiting for it.
            let _ = first.send(());
            word
        };
        parsed.map(tell).collect::<Vec<_>>()
    });
    let mut random = rand::thread_rng();
    if !random.gen_ratio(1, FROM_START) {
        first_word.recv_timeout(FIRST_WORD).expect("the writer acknowledges something");
    }
    std::thread::sleep(Duration::from_micros(random.gen_range(0..LIFE_MS * 1000)));
    child.kill().unwrap();
    child.wait().unwrap();
    said.join().unwrap()
}

fn parse(line: &str) -> Option<(u64, [u8; 32])> {
    let (size, root) = line.split_once(' ')?;
    let mut hash = [0; 32];
    hex::decode_to_slice(root.strip_suffix('.')?, &mut hash).ok()?;
    Some((size.parse().ok()?, hash))
}

fn key(dir: &Path) -> LogKey {
    LogKey::parse(&std::fs::read_to_string(dir.join("key")).unwrap()).unwrap()
}

fn create(dir: &Path) {
    let key = LogKey::generate("crash.test/guard").unwrap();
    let log = Log::create(Dir::new(dir), &key).unwrap();
    let files = Dir::new(dir);
    files.replace("key", key.to_secret_text().as_bytes()).unwrap();
    files.replace("head", log.head().text().as_bytes()).unwrap();
}

/// The log, by the head that is there, with the chain of the one host that it has.
fn open(dir: &Path) -> Log<Dir> {
    let head = std::fs::read(dir.join("head")).unwrap();
    let mut log = Log::open(Dir::new(dir), &key(dir), &head).unwrap();
    let size = log.head().head.size;
    let mut chains = Chains::default();
    if let Some(last) = size.checked_sub(1) {
        let reader = DirReader::new(Arc::new(Dir::new(dir)), log.committed());
        let entry = reader.read_raw(last, 1).unwrap().remove(0);
        let leaf = guard_audit::log::leaf_hash(&entry.leaf);
        chains.set(host(), HostTip { leaf, policy: entry.envelope.policy });
    }
    *log.chains() = chains;
    log
}

fn host() -> HostId {
    HostId(Uuid::from_u128(1))
}

/// Writes until it is killed.
fn write(dir: &Path) -> ! {
    let mut log = open(dir);
    let files = Dir::new(dir);
    let mut random = rand::thread_rng();
    loop {
        let size = log.head().head.size;
        let drafts: Vec<_> = (1..=random.gen_range(1..=300)).map(|n| draft(size + n)).collect();
        let staged = log.stage(&drafts, 0).unwrap();
        files.replace("head", staged.after.text().as_bytes()).unwrap();
        log.publish(staged).unwrap();
        if random.gen_ratio(1, 8) {
            log.settle().unwrap();
        }
        let head = log.head().head;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{} {}.", head.size, hex::encode(head.root)).unwrap();
        out.flush().unwrap();
    }
}

fn draft(sequence: u64) -> Draft {
    let event = Event::Lost { counter: "a record of usual length".repeat(8), count: sequence };
    Draft::new(Record {
        host: host(),
        boot: BootId(Uuid::from_u128(2)),
        sequence,
        boottime_ns: sequence,
        unix_ms: 0,
        session: None,
        event,
    })
    .unwrap()
}
