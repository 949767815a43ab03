//! What the kernel side costs, in instructions of a VM that counts them: P1, P3, P4, P5, and P8 from the ring
//! buffer to the spool. The peers are measured in the same boot.

use super::row::{Row, sort, table};
use crate::{
    build,
    cache::repository,
    run::say,
    setup::{self, Kernel},
    vm,
};
use anyhow::Result;
use guard_vm_wire::{BENCH_FILE, Bench, Condition, Job, Task};
use serde::Serialize;
use std::fmt::Write as _;

/// Longest time for all of it, seconds; it takes some minutes.
const TIMEOUT_S: u64 = 3000;
/// P8 is a rate on real hardware, where no program of ours may be loaded: what one core does a second there.
/// Three thousand million instructions are one each cycle at 3 GHz.
const INSTRUCTIONS_A_SECOND: f64 = 3e9;
/// P8: events a second and core.
const EVENTS_A_SECOND: f64 = 300_000.0;
/// P8: memory of guard-agent, KiB.
const AGENT_KIB: f64 = 40.0 * 1024.0;
/// P4: a fraction of what the peers add.
const KERNEL_TIER: f64 = 1.0 / 25.0;

/// What is written.
#[derive(Serialize)]
struct Written<'a> {
    machine: String,
    rows: &'a [Row],
    measured: &'a Bench,
}

/// Measures, prints, writes `out/bench-kernel.json`; whether everything could be measured.
pub(super) fn run(kernel: Kernel, json: bool) -> Result<bool> {
    let job = Job::new(Task::Bench, TIMEOUT_S);
    let request = vm::Request { counts_instructions: true, ..vm::Request::new(job) };
    let built = build::released(setup::for_build()?)?;
    let out = repository().join("out");
    let measured: Bench =
        vm::measure(kernel, &built, &request, &out.join("bench-kernel"), BENCH_FILE)?;
    let rows = rows(&measured);
    let machine = "QEMU TCG, -icount shift=0,sleep=off, 1 CPU: figures are guest instructions";
    let written = Written { machine: machine.to_owned(), rows: &rows, measured: &measured };
    let path = out.join("bench-kernel.json");
    let text = vm::write_json(&path, &written)?;
    if json {
        print!("{text}");
    } else {
        print!("{}", report(&measured, &rows));
    }
    say(format!("written to {}", path.display()));
    Ok(measured.problems.is_empty())
}

/// The median of a measurement, what the measuring costs taken off.
fn of(bench: &Bench, program: &str, condition: Condition) -> Option<f64> {
    let is = |cost: &&guard_vm_wire::Cost| cost.program == program && cost.condition == condition;
    let cost = bench.costs.iter().find(is)?;
    Some(cost.median.saturating_sub(bench.nothing) as f64)
}

/// What `condition` adds to the program as it is.
fn added(bench: &Bench, program: &str, condition: Condition) -> Option<f64> {
    Some(of(bench, program, condition)? - of(bench, program, Condition::Native)?)
}

/// Every goal for which there are figures; what is missing is among the problems.
fn rows(bench: &Bench) -> Vec<Row> {
    let mut rows = Vec::new();
    for (program, goal) in [("open", 1.03), ("read", 1.005), ("exec", 1.005)] {
        let pair = of(bench, program, Condition::Unlabelled);
        if let Some((figure, native)) = pair.zip(of(bench, program, Condition::Native)) {
            let what = format!("{}, in no session", name(program));
            rows.push(Row::at_most(("P1", goal), what, figure, ("native", native)));
        }
    }
    let pair = of(bench, "open", Condition::Again).zip(of(bench, "open", Condition::Native));
    if let Some((figure, native)) = pair {
        let what = format!("{}, session, second time", name("open"));
        rows.push(Row::at_most(("P3", 1.10), what, figure, ("native", native)));
    }
    for program in ["open", "socket", "exec"] {
        for peer in [Condition::Fanotify, Condition::Seccomp] {
            let Some(anchor) = added(bench, program, peer) else { continue };
            let anchor_is = format!("{} adds", shown(peer));
            if let Some(figure) = added(bench, program, Condition::Again) {
                let what = format!("{}, session, cached: adds", name(program));
                rows.push(Row::at_most(("P4", KERNEL_TIER), what, figure, (&anchor_is, anchor)));
            }
            if peer == Condition::Fanotify
                && let Some(figure) = added(bench, program, Condition::First)
            {
                let what = format!("{}, session, guard-agent decides: adds", name(program));
                rows.push(Row::at_most(("P5", 1.5), what, figure, (&anchor_is, anchor)));
            }
        }
    }
    rows.extend(burst(bench));
    sort(&mut rows);
    rows
}

fn burst(bench: &Bench) -> Vec<Row> {
    let Some(burst) = &bench.burst else { return Vec::new() };
    let missing = burst.lost.max(burst.events.saturating_sub(burst.spooled));
    let spooled = burst.spooled.max(1) as f64;
    let each = burst.agent_instructions as f64 / spooled;
    let budget = ("budget, see docs", INSTRUCTIONS_A_SECOND / EVENTS_A_SECOND);
    let all = ("events", burst.events as f64);
    vec![
        Row::at_most(("P8", 1.0), "guard-agent, ring buffer to spool, an event", each, budget),
        Row::at_most(("P8", 0.0), "events of a burst without a record", missing as f64, all),
        Row::at_most(
            ("P8", 1.0),
            "guard-agent, peak resident memory, KiB",
            burst.peak_rss_kib as f64,
            ("KiB", AGENT_KIB),
        ),
    ]
}

const fn shown(condition: Condition) -> &'static str {
    match condition {
        Condition::Native => "native",
        Condition::Fanotify => "fanotify",
        Condition::Seccomp => "seccomp",
        Condition::Unlabelled => "no session",
        Condition::First => "decided",
        Condition::Again => "cached",
    }
}

fn name(program: &str) -> &str {
    match program {
        "open" => "openat+close",
        "socket" => "udp socket+connect+close",
        "send" => "send, connected udp",
        "exec" => "vfork+exec+wait",
        "path" => "mkdir+rmdir",
        "map" => "mmap(PROT_EXEC)+munmap",
        other => other,
    }
}

/// Misses first, then every program under every condition.
fn report(bench: &Bench, rows: &[Row]) -> String {
    let mut out = String::new();
    for problem in &bench.problems {
        let _ = writeln!(out, "NOT MEASURED {}", problem.escape_debug());
    }
    let _ = writeln!(out, "Linux {}, guest instructions, medians\n", bench.kernel);
    out += &table(rows);
    let conditions = [
        Condition::Native,
        Condition::Unlabelled,
        Condition::Again,
        Condition::First,
        Condition::Fanotify,
        Condition::Seccomp,
    ];
    let _ = write!(out, "\n{:<26}", "program");
    for condition in conditions {
        let _ = write!(out, " {:>12}", shown(condition));
    }
    let _ = writeln!(out, "   no session");
    for program in ["open", "read", "socket", "send", "exec", "path", "chmod", "map"] {
        let _ = write!(out, "{:<26}", name(program));
        for condition in conditions {
            let cost = of(bench, program, condition);
            let text = cost.map_or_else(|| "–".to_owned(), |cost| format!("{cost:.0}"));
            let _ = write!(out, " {text:>12}");
        }
        let adds = added(bench, program, Condition::Unlabelled);
        let _ = writeln!(out, "   {}", adds.map_or_else(String::new, |adds| format!("{adds:+.0}")));
    }
    if let Some(burst) = &bench.burst {
        let _ = writeln!(
            out,
            "\nburst: {} events, {} with a record in the spool, {} lost by count; guard-agent ran {} \
             instructions, {} KiB resident afterwards",
            burst.events, burst.spooled, burst.lost, burst.agent_instructions, burst.rss_kib
        );
    }
    out += &ran(bench);
    out
}

/// Who ran for an action that guard-agent decided, whoever ran most first.
fn ran(bench: &Bench) -> String {
    let mut out = String::new();
    let mut ran: Vec<(&String, &u64)> = bench.ran_each.iter().collect();
    ran.sort_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
    if !ran.is_empty() {
        let _ = writeln!(out, "\nfor each {} that was decided, until all was quiet:", name("open"));
    }
    for (process, instructions) in ran {
        let _ = writeln!(out, "{instructions:>12} {}", process.escape_debug());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{report, rows};
    use guard_vm_wire::{Bench, Burst, Condition, Cost};

    fn bench() -> Bench {
        let cost = |program: &str, condition, median| Cost {
            program: program.to_owned(),
            condition,
            n: 100,
            median,
            min: median,
            p99: median,
        };
        Bench {
            nothing: 100,
            costs: vec![
                cost("open", Condition::Native, 4100),
                cost("open", Condition::Unlabelled, 4200),
                cost("open", Condition::Again, 4900),
                cost("open", Condition::First, 104_100),
                cost("open", Condition::Fanotify, 24_100),
            ],
            burst: Some(Burst { events: 10, lost: 1, spooled: 9, ..Burst::default() }),
            ran_each: [("guard-agent".to_owned(), 7), ("\x1b[2J".to_owned(), 9)].into(),
            ..Bench::default()
        }
    }

    #[test]
    fn ratios_are_of_what_is_left_without_the_measuring() {
        let rows = rows(&bench());
        let ratio = |id| rows.iter().find(|row| row.id == id).and_then(|row| row.ratio);
        assert_eq!(ratio("P1"), Some(1.025));
        assert_eq!(ratio("P3"), Some(1.2));
        assert_eq!(ratio("P4"), Some(800.0 / 20_000.0));
        assert_eq!(ratio("P5"), Some(5.0));
        assert!(rows.iter().take_while(|row| !row.met).count() == 3, "P3, P5, one event lost");
        assert!(rows.iter().any(|row| row.id == "P8" && row.figure == 1.0 && !row.met));
    }

    #[test]
    fn who_ran_most_is_named_first_and_in_visible_letters() {
        let text = report(&bench(), &[]);
        assert!(text.ends_with("           9 \\u{1b}[2J\n           7 guard-agent\n"), "{text}");
    }

    #[test]
    fn what_could_not_be_measured_is_said_first_and_makes_no_row() {
        let problems = vec!["exec, Fanotify: \x1b[2J".to_owned()];
        let bench = Bench { problems, ..Bench::default() };
        assert_eq!(rows(&bench), []);
        let text = report(&bench, &[]);
        assert!(text.starts_with("NOT MEASURED exec, Fanotify: \\u{1b}[2J\n"), "{text}");
    }
}
