//! The canary: a session that tries forbidden actions a thousand times a second while guard-agent is killed
//! and upgraded. `cargo xtask canary` runs it at length, a scenario for a moment.

use crate::{
    Trouble,
    answer::{Answering, How},
    command::User::Dev,
    guard::{self, Version},
    ports::Ports,
    scenario::{self, Running, Stage, expect},
    system::OneCpu,
    took_ms,
};
use guard_vm_wire::{CANARY_FILE, CanaryFigures, Report};
use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

const WORKLOAD: &str = "/usr/local/bin/guard-workload";
const DIR: &str = "/home/dev/canary";
/// Longest time between the word to stop and the end of the canary: its last plain attempt is held.
const PATIENCE: Duration = Duration::from_secs(120);
/// Attempts a second.
const RATE: u32 = 1000;
/// Between two restarts: the canary is to meet a guard-agent that works, too.
const REST: Duration = Duration::from_millis(300);

/// A canary that sings.
pub(crate) struct Canary {
    session: Running,
    victim: Running,
}

impl Canary {
    /// Starts it, with `rate` attempts a second, and waits until it attempts.
    pub(crate) fn start(stage: &Stage, rate: u32) -> Result<Self, Trouble> {
        let dir = Path::new(DIR);
        let _ = fs::remove_dir_all(dir);
        scenario::make_dir(dir)?;
        scenario::write(&dir.join("forbidden"), "never to be read\n")?;
        // SIGUSR1 ends it: that is the effect that must not come.
        let victim = stage.start_unlabelled(Dev, &["sleep", "100000"])?;
        let pid = victim.pid().to_string();
        // The ring itself is made with leave.
        let answering = Answering::start(stage.guard.api(), How::Approve);
        let session = stage.start(Dev, &[WORKLOAD, "canary", DIR, &pid, &rate.to_string()]);
        let denied = stage.evidence(|record| {
            record.get("event").is_some_and(|event| event == "decided")
                && record
                    .pointer("/action/file/path")
                    .and_then(|path| path.as_str())
                    .is_some_and(|path| path.starts_with(DIR))
        });
        answering.stop();
        denied?;
        Ok(Self { session: session?, victim })
    }

    /// Ends it and looks for what it must not have done.
    pub(crate) fn finish(mut self, figures: &mut CanaryFigures) -> Result<(), Trouble> {
        fs::write(format!("{DIR}/stop"), "").map_err(|error| error.to_string())?;
        let outcome = self.session.finish_within(PATIENCE)?;
        figures.summary = outcome.out.lines().map(str::to_owned).collect();
        let numbers = |word: &str| -> u64 {
            let before = outcome.out.lines().filter_map(|line| {
                let at = line.split_whitespace().position(|found| found.starts_with(word))?;
                line.split_whitespace().nth(at.checked_sub(1)?)?.parse::<u64>().ok()
            });
            before.sum()
        };
        figures.attempts = numbers("attempts");
        figures.passes = numbers("passes");
        let made: Vec<_> = fs::read_dir(DIR)
            .map_err(|error| format!("{DIR}: {error}"))?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("made-"))
            .collect();
        let signalled = self.victim.has_ended();
        if !signalled {
            self.victim.kill();
        }
        expect(made.is_empty(), format!("files were made: {made:?}"))?;
        expect(!signalled, "the process outside was signalled")?;
        expect(outcome.code == 0 && figures.passes == 0, format!("{outcome:?}"))?;
        expect(figures.attempts > 0, format!("nothing was attempted: {outcome:?}"))
    }
}

/// Kills guard-agent with SIGKILL and starts it again, as the version that it is.
pub(crate) fn kill_and_restart(stage: &mut Stage) -> Result<(), Trouble> {
    stage.guard.kill_agent();
    stage.guard.restart_agent()
}

/// Kills guard-agent and starts another version of it.
pub(crate) fn upgrade(stage: &mut Stage, to: Version) -> Result<(), Trouble> {
    let _one = OneCpu::enter()?;
    stage.guard.kill_agent();
    stage.guard.set_version(to)?;
    stage.guard.restart_agent()
}

/// `cargo xtask canary`.
pub(crate) fn run(
    ports: &mut Ports,
    kernel: &str,
    kills: u32,
    upgrades: u32,
) -> Result<(), Trouble> {
    let mut stage = Stage::set_up(ports, guard::Ring::Small)?;
    let mut figures = CanaryFigures { kernel: kernel.to_owned(), ..CanaryFigures::default() };
    let begun = Instant::now();
    let canary = Canary::start(&stage, RATE)?;
    let mut restart = || -> Result<(), Trouble> {
        for n in 0..kills {
            kill_and_restart(&mut stage)?;
            figures.kills += 1;
            if n % 10 == 9 {
                ports.note(format!("{} of {kills} times killed", n + 1));
            }
            thread::sleep(REST);
        }
        for n in 0..upgrades {
            upgrade(&mut stage, Version::ALL[(n as usize + 1) % Version::ALL.len()])?;
            figures.upgrades += 1;
            ports.note(format!("{} of {upgrades} times upgraded", n + 1));
            thread::sleep(REST);
        }
        Ok(())
    };
    if let Err(trouble) = restart() {
        figures.misses.push(trouble);
    }
    if let Err(trouble) = canary.finish(&mut figures) {
        figures.misses.push(trouble);
    }
    figures.took_ms = took_ms(begun);
    stage.guard.stop();
    ports.send_json(CANARY_FILE, &figures);
    let status = u8::from(!figures.misses.is_empty());
    ports.report(&Report::Exit { status, timed_out: false });
    Ok(())
}
