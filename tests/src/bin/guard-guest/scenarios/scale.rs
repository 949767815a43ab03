//! Many holds, in a row and at once.

use crate::{
    Trouble,
    answer::How,
    command::User::Dev,
    evidence, guard, noise,
    scenario::{Stage, expect, make_dir, write},
};
use guard_vm_wire::noise::NoiseFigures;
use serde_json::Value;
use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

const WORKLOAD: &str = "/usr/local/bin/guard-workload";
const FLOODED: &str = "/home/dev/held/flood";
/// How long a flood may take to be announced and answered; it takes half a minute on a busy machine.
const FLOOD_PATIENCE: Duration = Duration::from_secs(180);

/// Held in the kernel, answered by guard-agent: no person is needed for `plain`. By the thousand:
/// `cargo xtask figures` and `cargo xtask noise`.
pub(super) fn in_a_row(stage: &mut Stage) -> Result<(), Trouble> {
    let held = || {
        let status = guard::status();
        status.pointer("/counters/hold_ids").and_then(Value::as_u64)
    };
    let dir = Path::new("/home/dev/plain/in-a-row");
    let _ = std::fs::remove_dir_all(dir);
    make_dir(dir)?;
    let before = held();
    let argv = [WORKLOAD, "loop", "300", "/home/dev/plain/in-a-row/file"];
    stage.session(Dev, How::Nothing, &argv)?.expect_success("ok: 300 attempts")?;
    // What is remembered is not held, and would show nothing.
    let placed = held().zip(before).map_or(0, |(after, before)| after.saturating_sub(before));
    expect(placed >= 300, format!("only {placed} of them were held"))
}

pub(super) fn threads(stage: &mut Stage) -> Result<(), Trouble> {
    let argv = [WORKLOAD, "threads", "200", "/home/dev/held/many"];
    stage.session(Dev, How::ByName, &argv)?.expect_success("ok: 200 attempts")
}

/// Of what a session wants at once only its share waits for people, and each gets its answer; the rest is denied
/// without bothering anybody.
pub(super) fn processes(stage: &mut Stage) -> Result<(), Trouble> {
    // `Limits::default` of guard-agent's engine.
    const SHARE: usize = 256;
    const MORE: usize = 8;
    let dir = Path::new(FLOODED);
    make_dir(dir)?;
    for i in 0..SHARE + MORE {
        let name = if i % 2 == 1 { format!("{i}-deny") } else { i.to_string() };
        write(&dir.join(name), "x")?;
    }
    let count = (SHARE + MORE).to_string();
    let mut running = stage.start(Dev, &[WORKLOAD, "processes", &count, FLOODED])?;
    let deadline = Instant::now() + FLOOD_PATIENCE;
    let seen = || (held_below_flooded(), denied_at_once().len());
    while seen() != (SHARE, MORE) && Instant::now() < deadline {
        thread::sleep(Duration::from_secs(1));
    }
    expect(seen() == (SHARE, MORE), format!("(held, denied at once): {:?}", seen()))?;
    while !running.has_ended() && Instant::now() < deadline {
        stage.answer(How::ByName);
    }
    // Some of those who did not get to wait would have been approved.
    let unheard = denied_at_once().iter().filter(|path| !path.contains("deny")).count();
    let outcome = running.finish()?;
    if unheard == 0 {
        return outcome.expect_success(&format!("ok: {count} attempts"));
    }
    outcome.expect_failure(&format!("{unheard} of {count} attempts went wrong"))
}

/// How many opens below [`FLOODED`] waited for a person.
fn held_below_flooded() -> usize {
    evidence::count(|record| {
        record["event"] == "held" && below_flooded(&record["request"]["action"]).is_some()
    })
}

/// The files below [`FLOODED`] whose opens were denied because too many waited.
fn denied_at_once() -> Vec<String> {
    const WHY: &str = "too many actions of this session wait for a person";
    let denied = |record: &Value| {
        let path = below_flooded(&record["action"])?;
        (record["event"] == "decided" && record.to_string().contains(WHY)).then_some(path)
    };
    evidence::records().iter().filter_map(|record| denied(record)).collect()
}

fn below_flooded(action: &Value) -> Option<String> {
    let path = action["file"]["path"].as_str()?;
    path.starts_with(&format!("{FLOODED}/")).then(|| path.to_owned())
}

/// A short form of `cargo xtask noise`: always the same noise, as far as the machine lets it be.
pub(super) fn noise(stage: &mut Stage) -> Result<(), Trouble> {
    const HOLDS: u64 = 500;
    let mut figures = NoiseFigures { seed: 1, ..NoiseFigures::default() };
    noise::play(stage, HOLDS, &mut figures, |_| {})?;
    let misses = figures.misses.join("; ");
    expect(misses.is_empty(), format!("seed {}: {misses}", figures.seed))?;
    let killed = figures.attempts.processes_killed;
    expect(killed > 0 && figures.noise.len() > 3, format!("there was no noise: {figures:?}"))
}
