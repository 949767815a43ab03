//! The spool and the evidence log (P8, P9): each step is a process of its own, so that its memory is
//! its own, and what it is compared with runs just before or after it on the same disk.

use crate::{
    build::{MEASURING, SELECTION},
    cache::{repository, target},
    run::{at_root, loudly, quietly, say},
};
use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::Value;
use std::{fmt::Write as _, fs, path::Path, process::Command};

/// Entries to verify and to bundle, unless the command line says otherwise.
pub(super) const ENTRIES: u64 = 1_000_000;

/// Entries of which the search index is made anew: it is much slower than the rest.
const INDEXED: u64 = 100_000;

/// How long each way of appending is measured, s.
const SECONDS: &str = "5";

/// A goal for a figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "value")]
enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// Of the anchor, at least this part.
    RatioAtLeast(f64),
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    /// Of docs/performance.md.
    id: &'static str,
    what: String,
    figure: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    anchor: Option<Anchor>,
    /// Figure by anchor.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<Goal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
}

/// What a figure is compared with.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Anchor {
    is: &'static str,
    value: f64,
}

impl Row {
    fn new(
        id: &'static str,
        what: impl Into<String>,
        (figure, unit): (f64, &'static str),
        goal: Option<Goal>,
    ) -> Self {
        let met = goal.map(|goal| match goal {
            Goal::AtLeast(least) => figure >= least,
            Goal::AtMost(most) => figure <= most,
            // Without an anchor there is no ratio to be good.
            Goal::RatioAtLeast(_) => false,
        });
        Self { id, what: what.into(), figure, unit, anchor: None, ratio: None, goal, met }
    }

    fn beside(mut self, is: &'static str, value: f64) -> Self {
        let ratio = if value > 0.0 { self.figure / value } else { 0.0 };
        self.anchor = Some(Anchor { is, value });
        self.ratio = Some(ratio);
        if let Some(Goal::RatioAtLeast(least)) = self.goal {
            self.met = Some(ratio >= least);
        }
        self
    }
}

/// What is written.
#[derive(Serialize)]
struct Written<'a> {
    machine: String,
    entries: u64,
    rows: &'a [Row],
}

/// Measures, prints, writes `out/bench-evidence.json`; whether everything could be measured.
pub(super) fn run(entries: u64, json: bool) -> Result<bool> {
    let mut cargo = at_root("cargo");
    // The workspace's features, so that nothing is built twice; of the programs only these.
    cargo.args(["build", "--release"]).args(SELECTION).args(MEASURING);
    if !loudly(&mut cargo)? {
        bail!("the programs that measure cannot be built: see above");
    }
    // Beside the build, because /tmp is memory on many machines.
    let dir = tempfile::tempdir_in(target()).context("a directory for the figures")?;
    let programs = target().join("release/examples");
    let step = |program: &str, arguments: &[&str]| -> Result<Value> {
        say(format!("{program} {}", arguments.join(" ")));
        let mut command = Command::new(programs.join(program));
        let said = quietly(command.args(arguments).current_dir(dir.path()))?;
        serde_json::from_str(&said).with_context(|| format!("{program} said `{said}`"))
    };
    let mut rows = spool(&step("spool", &["spool", SECONDS])?)?;
    rows.extend(append(&step("figures", &["append", "append", SECONDS])?)?);
    let (entries_text, indexed) = (entries.to_string(), INDEXED.min(entries).to_string());
    step("figures", &["write", "whole", &entries_text])?;
    rows.extend(whole(
        entries,
        &step("figures", &["verify", "whole"])?,
        &step("figures", &["bundle", "whole"])?,
        &step("figures", &["verify-bundle", "whole"])?,
    )?);
    step("figures", &["write", "index", &indexed])?;
    let index = step("figures", &["index", "index"])?;
    for (what, name, unit) in [
        ("search index made anew of", "per_s", "/s"),
        ("database's view made anew (reindex) of", "adopted_per_s", "/s"),
        ("both, memory,", "rss_mb", "MB"),
    ] {
        let what = format!("{what} {indexed} entries");
        rows.push(Row::new("", what, (number(&index, name)?, unit), None));
    }
    sort(&mut rows);
    let machine = machine();
    let written = Written { machine: machine.clone(), entries, rows: &rows };
    let out = repository().join("out");
    fs::create_dir_all(&out)?;
    let path = out.join("bench-evidence.json");
    let text = crate::vm::write_json(&path, &written)?;
    if json {
        print!("{text}");
    } else {
        print!("{}\n{machine}\n", table(&rows));
        say(format!("written to {}", path.display()));
    }
    Ok(true)
}

fn number(value: &Value, name: &str) -> Result<f64> {
    value[name].as_f64().with_context(|| format!("no figure `{name}` in {value}"))
}

fn spool(said: &Value) -> Result<Vec<Row>> {
    let rate = (number(said, "per_s")?, "/s");
    let plain = number(said, "plain_per_s")?;
    Ok(vec![
        Row::new("P8", "event to durable spool", rate, Some(Goal::AtLeast(300_000.0)))
            .beside("the same bytes in a plain file", plain),
        Row::new(
            "P8",
            "lost at a burst of 100,000",
            (number(said, "burst_lost")?, ""),
            Some(Goal::AtMost(0.0)),
        ),
        Row::new(
            "P8",
            "memory of the spool at that burst",
            (number(said, "burst_rss_mb")?, "MB"),
            Some(Goal::AtMost(40.0)),
        ),
    ])
}

fn append(said: &Value) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for case in said["cases"].as_array().context("no cases")? {
        let what = case["what"].as_str().unwrap_or_default();
        let rate = number(case, "per_s")?;
        let row = Row::new("P9", what, (rate, "/s"), Some(Goal::RatioAtLeast(0.6)));
        rows.push(row.beside("SQLite, batched inserts", number(case, "sqlite_per_s")?));
        let best = case["is_best"] == true;
        if best {
            let goal = Some(Goal::AtLeast(150_000.0));
            rows.push(Row::new("P9", format!("{what}: rate"), (rate, "/s"), goal));
        }
        for (name, goal) in [("ack_p50_ms", None), ("ack_p99_ms", Some(Goal::AtMost(5.0)))] {
            let what = format!("{what}: {}", name.replace('_', " ").trim_end_matches(" ms"));
            rows.push(Row::new("P9", what, (number(case, name)?, "ms"), goal));
        }
    }
    Ok(rows)
}

fn whole(entries: u64, verify: &Value, bundle: &Value, of_bundle: &Value) -> Result<Vec<Row>> {
    let goal = (entries == ENTRIES).then_some(Goal::AtMost(2.0));
    let of = |what: &str| format!("{what} {entries} entries");
    let row = |what: String, value: &Value, name: &str, unit| -> Result<Row> {
        Ok(Row::new("", what, (number(value, name)?, unit), None))
    };
    Ok(vec![
        Row::new("P9", of("verify"), (number(verify, "seconds")?, "s"), goal),
        row(of("verify, memory,"), verify, "rss_mb", "MB")?,
        row(of("bundle of"), bundle, "seconds", "s")?,
        row(of("bundle, memory,"), bundle, "rss_mb", "MB")?,
        row(of("bundle, size,"), bundle, "mb", "MB")?,
        row(of("verify the bundle of"), of_bundle, "seconds", "s")?,
        row(of("verify the bundle, memory,"), of_bundle, "rss_mb", "MB")?,
        row(of("proof of one of"), verify, "proof_bytes", "bytes")?,
        row(of("proof, time to make,"), verify, "proof_ms", "ms")?,
    ])
}

/// Misses first, then what has a goal and meets it, then the rest.
fn sort(rows: &mut [Row]) {
    rows.sort_by_key(|row| match row.met {
        Some(false) => 0,
        Some(true) => 1,
        None => 2,
    });
}

fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<3} {:<46} {:>12} {:<6} {:>12} {:>7}  {:<14} {}\n",
        "", "figure", "measured", "", "anchor", "ratio", "goal", ""
    );
    for Row { id, what, figure, unit, anchor, ratio, goal, met } in rows {
        let value = |value: f64| match value {
            value if value.abs() >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
            value => format!("{value:.2}"),
        };
        let figure = value(*figure);
        let of_anchor = anchor.as_ref().map_or_else(String::new, |anchor| value(anchor.value));
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let goal = match goal {
            Some(Goal::AtLeast(least)) => format!("≥ {least}"),
            Some(Goal::AtMost(most)) => format!("≤ {most}"),
            Some(Goal::RatioAtLeast(least)) => format!("ratio ≥ {least}"),
            None => String::new(),
        };
        let met = met.map_or("", |met| if met { "met" } else { "MISSED" });
        let is = anchor.as_ref().map_or("", |anchor| anchor.is);
        let line = format!(
            "{id:<3} {what:<46} {figure:>12} {unit:<6} {of_anchor:>12} {ratio:>7}  {goal:<14} \
             {met:<6} {is}"
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let load = fs::read_to_string(Path::new("/proc/loadavg")).unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    format!("{model}, {cpus} CPUs, load {load} at the end; compare columns, not numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_come_first_and_say_so() {
        let figure = (5.0, "/s");
        let mut rows = vec![
            Row::new("", "without a goal", figure, None),
            Row::new("P9", "good", figure, Some(Goal::AtLeast(5.0))),
            Row::new("P9", "slow", figure, Some(Goal::AtMost(4.9))),
            Row::new("P9", "half", figure, Some(Goal::RatioAtLeast(0.6))).beside("SQLite", 10.0),
            Row::new("P9", "no anchor", figure, Some(Goal::RatioAtLeast(0.6))).beside("x", 0.0),
        ];
        sort(&mut rows);
        let order: Vec<&str> = rows.iter().map(|row| row.what.as_str()).collect();
        assert_eq!(order, ["slow", "half", "no anchor", "good", "without a goal"]);
        let text = table(&rows);
        assert_eq!(text.matches("MISSED").count(), 3, "{text}");
        assert_eq!(text.matches(" met").count(), 1, "{text}");
    }
}
