//! `cargo xtask figures --events`: from the kernel's ring buffer to a sink, at ever higher rates, until
//! some are lost. A loss is no miss; one that Guard does not count exactly is.

use crate::{
    Trouble,
    command::User::Dev,
    guard,
    ports::Ports,
    scenario::{self, Stage},
    took_ms,
};
use guard_vm_wire::{FIGURES_FILE, Figures, Flow, Report};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    thread,
    time::{Duration, Instant},
};

const WORKLOAD: &str = "/usr/local/bin/guard-workload";
/// What the sink writes.
const SINK: &str = "/run/guard-events.ndjson";
/// Children a second, each of two events; 0: as fast as it goes.
const RATES: [usize; 4] = [25, 100, 400, 0];
/// How long each rate lasts, s.
const LASTS: usize = 8;
/// Children as fast as it goes.
const FLOOD: usize = 3_000;
/// Children while guard-agent stands still: more events than the ring buffer has room for.
const STALLED: usize = 8_000;
/// How long guard-agent runs before it stands still: the session has begun by then.
const BEFORE_IT_STANDS: Duration = Duration::from_secs(2);
/// The rest has come when nothing has for this long.
const QUIET: Duration = Duration::from_secs(8);
/// Longest wait for the rest.
const PATIENCE: Duration = Duration::from_secs(900);
const PAUSE: Duration = Duration::from_millis(250);

/// Measures; what goes wrong is a miss.
pub(crate) fn run(ports: &mut Ports, kernel: &str) -> Result<(), Trouble> {
    let to = json!({ "kind": "file", "path": SINK });
    let sink = json!({ "name": "events", "only": ["forked", "exited", "lost"], "to": to });
    scenario::write(Path::new(guard::SINKS), &json!({ "sinks": [sink] }).to_string())?;
    let mut stage = Stage::set_up(ports, guard::Ring::Least)?;
    let mut figures = Figures { kernel: kernel.to_owned(), ..Figures::default() };
    if let Err(trouble) = measure(&stage, ports, &mut figures) {
        figures.misses.push(trouble);
    }
    stage.clear();
    stage.guard.stop();
    ports.send_json(FIGURES_FILE, &figures);
    let status = u8::from(!figures.misses.is_empty());
    ports.report(&Report::Exit { status, timed_out: false });
    Ok(())
}

fn measure(stage: &Stage, ports: &mut Ports, figures: &mut Figures) -> Result<(), Trouble> {
    // What a session makes of such events besides: its own start and end.
    let mut sink = Sink::default();
    let besides = flow(stage, &mut sink, 0, 1, false)?;
    if besides.lost > 0 {
        return Err(format!("lost without load: {besides:?}"));
    }
    let flows = RATES.map(|rate| (rate, if rate == 0 { FLOOD } else { rate * LASTS }, false));
    for (rate, children, stalled) in flows.into_iter().chain([(0, STALLED, true)]) {
        ports.note(format!("measuring: {children} children, {rate} a second, stalled: {stalled}"));
        let mut flow = flow(stage, &mut sink, children, rate, stalled)?;
        flow.made += besides.delivered;
        // At once: whoever ends a long run early has seen what there is.
        ports.note(format!("{flow:?}"));
        figures.misses.extend(miss(&flow));
        figures.flows.push(flow);
    }
    Ok(())
}

fn flow(
    stage: &Stage,
    sink: &mut Sink,
    children: usize,
    rate: usize,
    stalled: bool,
) -> Result<Flow, Trouble> {
    sink.look()?;
    let before = sink.seen.clone();
    let argv = [WORKLOAD, "forks", &children.to_string(), &rate.to_string()];
    let begun = Instant::now();
    let running = stage.start(Dev, &argv)?;
    if stalled {
        thread::sleep(BEFORE_IT_STANDS);
        stage.guard.stop_agent_process();
    }
    let outcome = running.finish_within(PATIENCE);
    if stalled {
        stage.guard.continue_agent_process();
    }
    let outcome = outcome?;
    let made_in_ms = outcome.out.trim().parse().map_err(|_| format!("it said {outcome:?}"))?;
    let delivered_in_ms = sink.settle(begun)?;
    let moved = |name: &str| sink.seen.get(name).unwrap_or(&0) - before.get(name).unwrap_or(&0);
    Ok(Flow {
        offered_per_s: 2 * rate as u64,
        stalled,
        made: 2 * children as u64,
        delivered: moved("forked") + moved("exited"),
        lost: moved("lost"),
        made_in_ms,
        delivered_in_ms,
    })
}

/// What the sink has written, read once each: reading all of it anew would take the time that is measured.
#[derive(Default)]
struct Sink {
    /// Bytes of whole lines that are counted.
    read: u64,
    /// Events by kind; of `lost`, how many the kernel's records of it say.
    seen: BTreeMap<String, u64>,
}

impl Sink {
    /// Counts the lines that are new; whether there were any.
    fn look(&mut self) -> Result<bool, Trouble> {
        let failed = |error: io::Error| format!("{SINK}: {error}");
        let mut file = match File::open(SINK) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(failed)?,
        };
        file.seek(SeekFrom::Start(self.read)).map_err(failed)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        // The last line may be under way.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        for line in text[..whole].lines() {
            let event: Value =
                serde_json::from_str(line).map_err(|error| format!("{SINK}: {error}"))?;
            let kind = event.pointer("/metadata/event_code").and_then(Value::as_str);
            let count = match kind {
                Some("lost") => {
                    event.pointer("/unmapped/lost").and_then(Value::as_u64).unwrap_or(0)
                }
                _ => 1,
            };
            *self.seen.entry(kind.unwrap_or_default().to_owned()).or_default() += count;
        }
        self.read += whole as u64;
        Ok(whole > 0)
    }

    /// Waits until nothing more comes; how long it took from `begun` until the last came, ms.
    fn settle(&mut self, begun: Instant) -> Result<u64, Trouble> {
        self.look()?;
        let (mut at, mut since) = (took_ms(begun), Instant::now());
        while since.elapsed() < QUIET {
            if begun.elapsed() > PATIENCE {
                return Err("the sink does not come to rest".to_owned());
            }
            thread::sleep(PAUSE);
            if self.look()? {
                (at, since) = (took_ms(begun), Instant::now());
            }
        }
        Ok(at)
    }
}

/// What is neither delivered nor counted as lost, in words.
fn miss(flow: &Flow) -> Option<String> {
    let Flow { offered_per_s, stalled, made, delivered, lost, .. } = flow;
    if *stalled && *lost == 0 {
        return Some("nothing was lost: that losses are counted is not shown".to_owned());
    }
    (delivered + lost != *made).then(|| {
        format!(
            "events at {offered_per_s} a second: {made} made, {delivered} delivered and {lost} \
             counted as lost"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_counted_is_a_miss() {
        let good = Flow { made: 10, delivered: 7, lost: 3, ..Flow::default() };
        assert_eq!(miss(&good), None);
        for (delivered, lost) in [(7, 2), (10, 1), (0, 0)] {
            assert!(miss(&Flow { delivered, lost, ..good.clone() }).is_some());
        }
        let whole = Flow { made: 10, delivered: 10, ..Flow::default() };
        assert_eq!(miss(&whole), None);
        assert!(miss(&Flow { stalled: true, ..whole }).is_some(), "the ring did not overflow");
    }
}
