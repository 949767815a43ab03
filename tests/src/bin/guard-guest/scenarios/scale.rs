//! Many holds, in a row and at once.

use crate::{
    Trouble,
    answer::How,
    command::User::Dev,
    guard, noise,
    scenario::{Stage, expect, make_dir},
};
use guard_vm_wire::noise::NoiseFigures;

const WORKLOAD: &str = "/usr/local/bin/guard-workload";

/// Held in the kernel, answered by guard-agent: no person is needed for `plain`. By the thousand:
/// `cargo xtask figures` and `cargo xtask noise`.
pub(super) fn in_a_row(stage: &mut Stage) -> Result<(), Trouble> {
    let held = || {
        let status = guard::status();
        status.pointer("/counters/hold_ids").and_then(serde_json::Value::as_u64)
    };
    let dir = std::path::Path::new("/home/dev/plain/in-a-row");
    let _ = std::fs::remove_dir_all(dir);
    make_dir(dir)?;
    let before = held();
    let argv = [WORKLOAD, "loop", "300", "/home/dev/plain/in-a-row/file"];
    stage.session(Dev, How::Nothing, &argv)?.expect_success("ok: 300 attempts")?;
    // What is remembered is not held, and would show nothing.
    let placed = held().zip(before).map_or(0, |(after, before)| after.saturating_sub(before));
    expect(placed >= 300, format!("only {placed} of them were held"))
}

pub(super) fn processes(stage: &mut Stage) -> Result<(), Trouble> {
    let argv = [WORKLOAD, "processes", "200", "/home/dev/held/many"];
    let running = stage.start(Dev, &argv)?;
    stage.wait_for_pending(200)?;
    stage.answer(How::ByName);
    running.finish()?.expect_success("ok: 200 attempts")
}

pub(super) fn threads(stage: &mut Stage) -> Result<(), Trouble> {
    let argv = [WORKLOAD, "threads", "200", "/home/dev/held/many"];
    stage.session(Dev, How::ByName, &argv)?.expect_success("ok: 200 attempts")
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
