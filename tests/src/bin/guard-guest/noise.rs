//! Holds under noise: a session's threads and processes act by the thousand while somebody outside of it stops,
//! continues, kills and traces them. `cargo xtask noise` does it at length, a scenario for a moment.
//!
//! In rounds: after each the noise ends, and everybody has to come to an end without it. Who needs another
//! stray signal to go on was forgotten.

use crate::{
    Trouble,
    command::User::{Dev, Root},
    guard,
    ports::Ports,
    scenario::{self, Running, Stage, expect},
    tables, took_ms,
};
use guard_vm_wire::{
    Report,
    noise::{Attempts, NOISE_FILE, NoiseFigures},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

const WORKLOAD: &str = "/usr/local/bin/guard-workload";
const DIR: &str = "/home/dev/noise";
/// Attempts of a round.
const ROUND: u64 = 2500;
/// Longest time for what was begun to end after the noise: guard-agent resumes who has not taken his answer six
/// times, the last time after a minute.
const QUIET_PATIENCE: Duration = Duration::from_secs(100);
/// Longest time for a round's attempts to be begun.
const BUSY_PATIENCE: Duration = Duration::from_secs(600);
/// Longest time for what dead tasks have left to be cleared away: guard-agent looks for them every ten seconds.
const SETTLED: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);
/// Counters that must not move: somebody was denied or expired who was to be answered, or something was lost.
const NEVER: [&str; 6] = [
    "events_lost",
    "denied_ring_full",
    "denied_holds_full",
    "denied_no_stop",
    "denied_not_restartable",
    "expired",
];

/// `holds` attempts in rounds; what went wrong is among the misses.
pub(crate) fn play(
    stage: &Stage,
    holds: u64,
    figures: &mut NoiseFigures,
    mut told: impl FnMut(&NoiseFigures),
) -> Result<(), Trouble> {
    let begun = Instant::now();
    figures.tables_before = tables::of_tasks()?;
    let before = counters()?;
    let mut rest = holds;
    while rest > 0 && figures.misses.is_empty() {
        let n = rest.min(ROUND);
        let seed = figures.seed + figures.rounds;
        match round(stage, n, seed, figures) {
            Ok(()) => figures.rounds += 1,
            Err(why) => figures.misses.push(format!("round with seed {seed}: {why}")),
        }
        rest -= n;
        figures.took_ms = took_ms(begun);
        told(figures);
    }
    for (name, now) in counters()? {
        let moved = now.saturating_sub(before.get(&name).copied().unwrap_or_default());
        if moved > 0 && NEVER.contains(&name.as_str()) {
            figures.misses.push(format!("the kernel counted {moved} times {name}"));
        }
        if moved > 0 {
            figures.counters.insert(name, moved);
        }
    }
    figures.holds = figures.counters.get("hold_ids").copied().unwrap_or_default();
    // A label that cannot be kept at once means no child: Linux 6.1 refuses every change of task storage while
    // another task of the same CPU sleeps in one. It has to be counted, and rare.
    let (refused, denied) = (
        figures.attempts.forks_refused,
        figures.counters.get("denied_label").copied().unwrap_or_default(),
    );
    if refused > denied || denied > holds.div_ceil(100) {
        let words = format!("{refused} forks were refused, and the kernel counted {denied}");
        figures.misses.push(words);
    }
    // Killed ones may have been killed before they were held. More is right: some are two holds.
    let came_back = figures.attempts.begun.saturating_sub(figures.attempts.killed);
    if figures.holds < came_back {
        let holds = figures.holds;
        let words = format!("{came_back} attempts came back and there were only {holds} holds");
        figures.misses.push(words);
    }
    figures.misses.extend(figures.attempts.problems());
    Ok(())
}

/// One session, and its noise.
fn round(stage: &Stage, n: u64, seed: u64, figures: &mut NoiseFigures) -> Result<(), Trouble> {
    let dir = Path::new(DIR);
    let _ = fs::remove_dir_all(dir);
    for directory in [dir, &dir.join("plain"), &dir.join("denied")] {
        scenario::make_dir(directory)?;
    }
    scenario::write(&dir.join("denied/secret"), "never to be read\n")?;
    let (n_text, seed_text) = (n.to_string(), seed.to_string());
    let noise = stage.start_unlabelled(Root, &[WORKLOAD, "noise", &seed_text, DIR])?;
    let mut session = stage.start(Dev, &[WORKLOAD, "noisy", &n_text, DIR, &seed_text])?;
    if let Err(why) = wait_for(&mut session) {
        let who = standing();
        session.kill();
        noise.kill();
        return Err(format!("{why}; {who}"));
    }
    let outcome = session.finish()?;
    let noise = noise.finish()?;
    let attempts: Attempts = serde_json::from_str(outcome.out.trim())
        .map_err(|error| format!("the session said {outcome:?}: {error}"))?;
    let missing = n.saturating_sub(attempts.begun);
    figures.attempts.add(attempts);
    let done: BTreeMap<String, u64> = serde_json::from_str(noise.out.trim())
        .map_err(|error| format!("the noise said {noise:?}: {error}"))?;
    expect(noise.err.is_empty(), format!("the noise said {:?}", noise.err))?;
    for (what, count) in done {
        *figures.noise.entry(what).or_default() += count;
    }
    // A thread that is killed between taking its number and beginning begins nothing.
    expect(missing < n / 10, format!("{missing} of {n} attempts were never begun"))?;
    let made = fs::read_dir(dir.join("denied")).into_iter().flatten().flatten().count();
    expect(made == 1, format!("{} forbidden files were made", made.saturating_sub(1)))?;
    settle(figures)
}

/// Waits for the session's end: for long while there is noise, and not for long without.
fn wait_for(session: &mut Running) -> Result<(), Trouble> {
    let quiet = Path::new(DIR).join("quiet");
    let (mut since, begun) = (None, Instant::now());
    while !session.has_ended() {
        if since.is_none() && quiet.exists() {
            since = Some(Instant::now());
        }
        if since.is_some_and(|since| since.elapsed() > QUIET_PATIENCE) {
            return Err(format!("not all have ended {QUIET_PATIENCE:?} after the noise"));
        }
        expect(begun.elapsed() < BUSY_PATIENCE, "the attempts were not all begun in time")?;
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Waits until the tables are as they were, and no session runs.
fn settle(figures: &mut NoiseFigures) -> Result<(), Trouble> {
    let deadline = Instant::now() + SETTLED;
    loop {
        figures.tables_after = tables::of_tasks()?;
        let status = guard::status();
        let sessions = status.pointer("/sessions").and_then(Value::as_array).map(Vec::len);
        if figures.tables_after == figures.tables_before && sessions == Some(0) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let (before, after) = (&figures.tables_before, &figures.tables_after);
            return Err(format!(
                "leaked: the tables had {before:?} and have {after:?}; sessions: {sessions:?}"
            ));
        }
        thread::sleep(PAUSE);
    }
}

fn counters() -> Result<BTreeMap<String, u64>, Trouble> {
    let status = guard::status();
    let counters = status.get("counters").cloned().unwrap_or_default();
    serde_json::from_value(counters).map_err(|error| format!("guard status: {error}"))
}

/// The session's threads that are still there, and where the kernel has them.
fn standing() -> String {
    let of = |path: &str, name: &str| {
        let text = fs::read_to_string(format!("{path}/{name}")).unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let entries = |path: &str| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        names.collect::<Vec<_>>()
    };
    let mut out = Vec::new();
    for pid in entries("/proc") {
        let name = of(&format!("/proc/{pid}"), "comm");
        if !["noise-worker", "guard-workload", "true"].contains(&name.as_str()) {
            continue;
        }
        for tid in entries(&format!("/proc/{pid}/task")) {
            let path = format!("/proc/{pid}/task/{tid}");
            let status = fs::read_to_string(format!("{path}/status")).unwrap_or_default();
            let wanted = ["State", "TracerPid", "SigPnd", "ShdPnd"];
            let lines =
                status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)));
            let lines = lines.map(|line| line.replace('\t', " ")).collect::<Vec<_>>().join(", ");
            let [wchan, syscall, stack] = ["wchan", "syscall", "stack"].map(|name| of(&path, name));
            out.push(format!(
                "{name} {pid}/{tid}: {lines}, wchan {wchan}, syscall {syscall}, stack {stack}"
            ));
        }
    }
    let tables = tables::of_tasks();
    format!("tables {tables:?}; still there: {}", out.join(" | "))
}

/// `cargo xtask noise`.
pub(crate) fn run(ports: &mut Ports, kernel: &str, holds: u64, seed: u64) -> Result<(), Trouble> {
    let mut stage = Stage::set_up(ports, guard::Ring::AsShipped)?;
    let mut figures = NoiseFigures { kernel: kernel.to_owned(), seed, ..NoiseFigures::default() };
    let told = |figures: &NoiseFigures| {
        let (begun, seconds) = (figures.attempts.begun, figures.took_ms / 1000);
        if figures.rounds.is_multiple_of(5) {
            ports.note(format!("{begun} of {holds} attempts in {seconds} s"));
        }
    };
    if let Err(trouble) = play(&stage, holds, &mut figures, told) {
        figures.misses.push(trouble);
    }
    stage.guard.stop();
    ports.send_json(NOISE_FILE, &figures);
    let status = u8::from(!figures.misses.is_empty());
    ports.report(&Report::Exit { status, timed_out: false });
    Ok(())
}
