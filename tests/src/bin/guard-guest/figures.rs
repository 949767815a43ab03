//! `cargo xtask figures`: how long holds take, and whether any is lost, wrong or seen as errno 513.
//!
//! All times are the VM's own `CLOCK_MONOTONIC`, which every process in it shares. Nothing here is a
//! timed test: figures depend on the machine, and only what went wrong makes the run fail.

use crate::{
    Trouble,
    answer::{How, decide},
    changes::Changes,
    command::User::Dev,
    evidence, guard,
    ports::Ports,
    result::DROPS,
    scenario::{self, Outcome, Stage},
    took_ms,
};
use guard_vm_wire::{FIGURES_FILE, Figures, Report, Spread, Tally};
use serde_json::Value;
use std::{
    collections::HashSet,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

const WORKLOAD: &str = "/usr/local/bin/guard-workload";
/// Holds that a person answers, one after the other.
const BY_A_PERSON: usize = 1000;
/// Holds that the policy answers, one after the other.
const BY_POLICY: usize = 10_000;
/// Threads, and processes, that are held together: as many files as the scenarios have.
const TOGETHER: usize = 200;
/// The kernel's `ERESTARTNOINTR`, which no process may ever see.
const ERESTARTNOINTR: i32 = 513;
/// Longest time for one session; a hold that is never answered ends at its deadline before that.
const PATIENCE: Duration = Duration::from_secs(1500);
/// Holds that wait together are all there when none has come for this long.
const QUIET: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(200);

const PERSON: &str = "one after the other, by a person";
const POLICY: &str = "one after the other, by policy";

/// One attempt of `guard-workload timed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attempt {
    start_ns: u64,
    end_ns: u64,
    errno: i32,
}

/// Measures everything; a part that fails is a miss, and the rest is measured all the same.
pub(crate) fn run(ports: &mut Ports, kernel: &str) -> Result<(), Trouble> {
    let mut stage = Stage::set_up(ports, guard::Ring::AsShipped)?;
    make_files("/home/dev/held/timed", BY_A_PERSON)?;
    make_files("/home/dev/plain/timed", BY_POLICY)?;
    let mut figures = Figures { kernel: kernel.to_owned(), ..Figures::default() };
    type Part = fn(&Stage, &mut Figures) -> Result<(), Trouble>;
    let parts: [(&str, Part); 4] = [
        (PERSON, by_a_person),
        (POLICY, by_policy),
        ("threads", threads),
        ("processes", processes),
    ];
    for (name, part) in parts {
        ports.note(format!("measuring: {name}"));
        if let Err(trouble) = part(&stage, &mut figures) {
            figures.misses.push(format!("{name}: {trouble}"));
        }
        stage.clear();
    }
    drops(&mut figures);
    stage.guard.stop();
    check_evidence(&evidence::records(), &mut figures);
    let misses = figures.tallies.iter().filter_map(miss).collect::<Vec<_>>();
    figures.misses.extend(misses);
    ports.send_json(FIGURES_FILE, &figures);
    let status = u8::from(!figures.misses.is_empty());
    ports.report(&Report::Exit { status, timed_out: false });
    Ok(())
}

fn make_files(directory: &str, n: usize) -> Result<(), Trouble> {
    scenario::make_dir(Path::new(directory))?;
    (0..n).try_for_each(|i| scenario::write(&Path::new(directory).join(i.to_string()), "x"))
}

/// Each hold is approved as soon as the page shows it.
fn by_a_person(stage: &Stage, figures: &mut Figures) -> Result<(), Trouble> {
    let api = stage.guard.api();
    let mut page = Changes::open(api.clone())?;
    let (n, begun) = (BY_A_PERSON.to_string(), Instant::now());
    let running = stage.start(Dev, &[WORKLOAD, "timed", &n, "/home/dev/held/timed"])?;
    let (mut shown_ns, mut approved_ns) = (Vec::new(), Vec::new());
    let mut answer = || -> Result<(), Trouble> {
        for _ in 0..BY_A_PERSON {
            let id = page.next_hold()?;
            shown_ns.push(monotonic_ns());
            // The process waits for the answer: nothing can arrive now.
            page.renew()?;
            approved_ns.push(monotonic_ns());
            decide(&api, &id, "allow")?;
        }
        Ok(())
    };
    if let Err(trouble) = answer() {
        running.kill();
        return Err(format!("hold {} of {n}: {trouble}", shown_ns.len()));
    }
    let outcome = running.finish_within(PATIENCE)?;
    let took_ms = took_ms(begun);
    let attempts = attempts(&outcome.out);
    figures.tallies.push(Tally { at_once: 1, took_ms, ..tally(PERSON, BY_A_PERSON, &attempts) });
    let starts = attempts.iter().map(|attempt| attempt.start_ns);
    let ends = attempts.iter().map(|attempt| attempt.end_ns);
    figures.spreads.push(spread("held → shown on an open page", starts.zip(shown_ns)));
    let answered = approved_ns.into_iter().zip(ends);
    figures.spreads.push(spread("approve → system call returns", answered));
    Ok(())
}

/// Each hold is answered by guard-agent alone.
fn by_policy(stage: &Stage, figures: &mut Figures) -> Result<(), Trouble> {
    let (n, begun) = (BY_POLICY.to_string(), Instant::now());
    let running = stage.start(Dev, &[WORKLOAD, "timed", &n, "/home/dev/plain/timed"])?;
    let outcome = running.finish_within(PATIENCE)?;
    let took_ms = took_ms(begun);
    let attempts = attempts(&outcome.out);
    figures.tallies.push(Tally { at_once: 1, took_ms, ..tally(POLICY, BY_POLICY, &attempts) });
    let times = attempts.iter().map(|attempt| (attempt.start_ns, attempt.end_ns));
    figures.spreads.push(spread("held → answered by policy, call returns", times));
    Ok(())
}

fn threads(stage: &Stage, figures: &mut Figures) -> Result<(), Trouble> {
    together(stage, figures, "threads")
}

fn processes(stage: &Stage, figures: &mut Figures) -> Result<(), Trouble> {
    together(stage, figures, "processes")
}

/// Holds wait together, and then half of them are approved and half denied. A held thread stops its
/// process, so that of threads some wait only once others have been answered.
fn together(stage: &Stage, figures: &mut Figures, kind: &str) -> Result<(), Trouble> {
    let n = TOGETHER.to_string();
    let mut running = stage.start(Dev, &[WORKLOAD, kind, &n, "/home/dev/held/many"])?;
    let mut at_once = gathered(stage)?;
    let begun = Instant::now();
    while !running.has_ended() {
        at_once = at_once.max(stage.answer(How::ByName));
        if begun.elapsed() > PATIENCE {
            running.kill();
            return Err(format!("not all were answered in {PATIENCE:?}"));
        }
        thread::sleep(PAUSE);
    }
    let took_ms = took_ms(begun);
    let outcome = running.finish()?;
    let tally = Tally { at_once: at_once as u64, took_ms, ..tally_of_many(kind, &outcome) };
    figures.tallies.push(tally);
    Ok(())
}

/// Waits until no more holds come; how many wait.
fn gathered(stage: &Stage) -> Result<usize, Trouble> {
    let begun = Instant::now();
    let (mut most, mut since) = (0, Instant::now());
    loop {
        let pending = stage.pending()?.len();
        if pending > most {
            (most, since) = (pending, Instant::now());
        }
        if most == TOGETHER || (most > 0 && since.elapsed() > QUIET) {
            return Ok(most);
        }
        if begun.elapsed() > PATIENCE {
            return Err("nothing was held".to_owned());
        }
        thread::sleep(PAUSE);
    }
}

/// What the kernel had to drop meanwhile.
fn drops(figures: &mut Figures) {
    let status = guard::status();
    for name in DROPS {
        let value = status.pointer(&format!("/counters/{name}")).and_then(Value::as_u64);
        if value.is_none() {
            figures.misses.push(format!("guard-agent tells no counter {name}"));
        }
        if let Some(value) = value.filter(|value| *value > 0) {
            figures.drops.insert(name.to_owned(), value);
            figures.misses.push(format!("the kernel counted {value} times {name}"));
        }
    }
}

/// An attempt without a hold, or a hold without an end in evidence, is lost, whatever the process saw.
fn check_evidence(records: &[Arc<Value>], figures: &mut Figures) {
    let is = |record: &Value, event: &str| record.get("event").is_some_and(|found| found == event);
    for (what, directory) in [(PERSON, "/home/dev/held/timed/"), (POLICY, "/home/dev/plain/timed/")]
    {
        let holds: HashSet<&str> = records
            .iter()
            .filter(|record| is(record, "held") || is(record, "decided"))
            .filter(|record| path_of(record).is_some_and(|path| path.starts_with(directory)))
            .filter_map(|record| hold_of(record))
            .collect();
        let outcomes = records
            .iter()
            .filter(|record| is(record, "outcome"))
            .filter_map(|record| hold_of(record));
        let ended = outcomes.filter(|hold| holds.contains(hold)).collect::<HashSet<_>>().len();
        if let Some(tally) = figures.tallies.iter_mut().find(|tally| tally.what == what) {
            tally.lost = tally.lost.max(tally.holds.saturating_sub(ended as u64));
        }
    }
    for record in records.iter().filter(|record| is(record, "lost")) {
        figures.misses.push(format!("evidence tells of a loss: {record}"));
    }
}

fn hold_of(record: &Value) -> Option<&str> {
    record.get("hold_id").or(record.pointer("/request/hold_id"))?.as_str()
}

fn path_of(record: &Value) -> Option<&str> {
    let held = record.pointer("/request/action/file/path");
    held.or(record.pointer("/action/file/path"))?.as_str()
}

fn attempts(out: &str) -> Vec<Attempt> {
    let attempt = |line: &str| {
        let mut fields = line.split(' ');
        Some(Attempt {
            start_ns: fields.next()?.parse().ok()?,
            end_ns: fields.next()?.parse().ok()?,
            errno: fields.next()?.parse().ok()?,
        })
    };
    out.lines().filter_map(attempt).collect()
}

/// Every attempt is to be allowed.
fn tally(what: &str, n: usize, attempts: &[Attempt]) -> Tally {
    let right = attempts.iter().filter(|attempt| attempt.errno == 0).count();
    let seen_513 = attempts.iter().filter(|attempt| attempt.errno == ERESTARTNOINTR).count();
    Tally {
        what: what.to_owned(),
        holds: n as u64,
        right: right as u64,
        wrong: (attempts.len() - right) as u64,
        lost: n.saturating_sub(attempts.len()) as u64,
        seen_513: seen_513 as u64,
        ..Tally::default()
    }
}

/// The workload itself compares each outcome with the one that was to be.
fn tally_of_many(kind: &str, outcome: &Outcome) -> Tally {
    let n = TOGETHER as u64;
    let words = outcome.out.lines().find(|line| line.contains("attempts went wrong"));
    let wrong = words.and_then(|line| line.split(' ').next()).and_then(|count| count.parse().ok());
    let all_right = outcome.code == 0 && outcome.out.contains(&format!("ok: {n} attempts"));
    let seen_513 = outcome.out.matches(&format!("errno {ERESTARTNOINTR}:")).count();
    Tally {
        what: format!("{n} {kind} at once, answers mixed"),
        holds: n,
        // A workload that says neither has lost all of its attempts.
        lost: if all_right || wrong.is_some() { 0 } else { n },
        wrong: wrong.unwrap_or(0),
        right: if all_right { n } else { wrong.map_or(0, |wrong| n.saturating_sub(wrong)) },
        seen_513: seen_513 as u64,
        ..Tally::default()
    }
}

/// What is not as it was to be, in words.
fn miss(tally: &Tally) -> Option<String> {
    let Tally { what, holds, right, wrong, lost, seen_513, .. } = tally;
    let good = right == holds && [wrong, lost, seen_513].into_iter().all(|count| *count == 0);
    let told =
        format!("{right} of {holds} right, {wrong} wrong, {lost} lost, {seen_513} seen as 513");
    (!good).then(|| format!("{what}: {told}"))
}

/// Of the times between the two of each pair, ns.
fn spread(what: &str, pairs: impl Iterator<Item = (u64, u64)>) -> Spread {
    let mut times: Vec<u64> = pairs.map(|(from, to)| to.saturating_sub(from) / 1000).collect();
    times.sort_unstable();
    // Nearest rank.
    let rank = |percent: usize| {
        let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(at).copied().unwrap_or_default()
    };
    let (p50_us, p99_us, max_us) = (rank(50), rank(99), rank(100));
    Spread { what: what.to_owned(), n: times.len() as u64, p50_us, p99_us, max_us }
}

fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is writable, and the clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let spread = spread("x", (1..=200).map(|us| (1000, 1000 + us * 1000)));
        assert_eq!((spread.n, spread.p50_us, spread.p99_us, spread.max_us), (200, 100, 198, 200));
        assert_eq!(super::spread("none", std::iter::empty()).max_us, 0);
    }

    #[test]
    fn a_513_a_wrong_errno_and_a_missing_line_are_misses() {
        let good = tally("x", 2, &attempts("1 2 0\n3 4 0\n"));
        assert_eq!(miss(&good), None);
        let bad = tally("x", 4, &attempts("1 2 0\n3 4 513\n5 6 1\n"));
        assert_eq!((bad.right, bad.wrong, bad.lost, bad.seen_513), (1, 2, 1, 1));
        let said = miss(&bad).unwrap_or_default();
        assert!(said.contains("1 of 4 right, 2 wrong, 1 lost, 1 seen as 513"), "{said}");
    }

    #[test]
    fn a_workload_that_says_nothing_has_lost_everything() {
        let outcome = |code, out: &str| Outcome { code, out: out.into(), err: String::new() };
        let good = outcome(0, "ok: 200 attempts, every outcome as expected");
        assert_eq!(miss(&tally_of_many("threads", &good)), None);
        assert_eq!(tally_of_many("threads", &outcome(-9, "")).lost, 200);
        let bad = "3 of 200 attempts went wrong:\na: errno 513: x\nb\nc";
        let bad = tally_of_many("threads", &outcome(1, bad));
        assert_eq!((bad.right, bad.wrong, bad.seen_513), (197, 3, 1));
    }

    #[test]
    fn an_attempt_that_left_no_hold_or_no_end_in_evidence_is_lost() {
        let path = "/home/dev/plain/timed/7";
        let decided = |id: &str| json!({ "event": "decided", "hold_id": id, "action": { "file": { "path": path } } });
        let outcome = json!({ "event": "outcome", "hold_id": "a" });
        let mut figures = Figures { tallies: vec![tally(POLICY, 2, &[])], ..Figures::default() };
        figures.tallies[0].lost = 0;
        let records = [decided("a"), decided("b"), outcome].map(Arc::new);
        check_evidence(&records, &mut figures);
        assert_eq!(figures.tallies[0].lost, 1);
    }
}
