//! `report.html` in a bundle: what is in it, for people. A rendering; it proves nothing.

use super::{Report, difference::difference};
use crate::{Event, Record};
use guard_model::HostId;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Lines of one change of a policy; more are counted only.
const LINES_MAX: usize = 400;

/// Rows of one table; more are counted only.
const ROWS_MAX: usize = 1000;

/// A table that is longer has no more rows, bytes: whoever verifies a bundle makes its page too, and who
/// made the bundle may mean harm.
const TABLE_BYTES_MAX: usize = 4 << 20;

/// What a verification shows if there is no problem.
pub const PROVEN: [&str; 5] = [
    "these entries were logged, in this order, and none in the range is left out",
    "none was altered, removed or reordered since the checkpoint was signed",
    "every payload that is not erased is the one that was logged",
    "each host's sequence of records has no gap here; what its counters lost is listed",
    "the checkpoint was signed by the key that you gave, or by one that it handed over to",
];

/// What the verification of a proof of one entry shows if there is no problem.
pub const PROVEN_OF_ONE: [&str; 2] = [
    "this leaf is the entry at this position of the log that the checkpoint is of",
    "the checkpoint was signed by the key that you gave",
];

/// What no verification can show.
pub const NOT_PROVEN: [&str; 5] = [
    "that a host whose kernel was already owned told the truth",
    "that what a host lost before it was logged did not matter: only how much is known",
    "that the log's clock was right; times of different machines are labels",
    "that nobody was shown another log, unless witnesses that you trust have cosigned",
    "that the key which you gave is the right one: compare it over another channel",
];

/// Evidence supporting these controls; whether they are met is an auditor's judgement.
const CONTROLS: [(&str, &str); 8] = [
    ("SOC 2 CC6.1, CC6.3", "who may approve: policy digests; decisions with names"),
    ("SOC 2 CC7.2, CC7.3", "actions, refusals and losses, in order and complete"),
    ("NIST 800-53 AU-2, AU-3, AU-12", "each record: what, when, where, who, outcome"),
    ("NIST 800-53 AU-9, AU-10", "Merkle log, signed checkpoints, decisions with names"),
    ("NIST 800-53 AC-3, AC-6", "actions refused or held, and by which statement"),
    ("NIST 800-53 CM-3, CM-5", "policies that took effect: digest, time, what changed"),
    ("EU AI Act, article 12", "events recorded automatically over the system's lifetime"),
    ("EU AI Act, article 14", "what persons were asked, what they decided and how fast"),
];

/// Gathers what the page shows.
#[derive(Debug, Default)]
pub(super) struct Page {
    decisions: Rows,
    policies: Rows,
    erasures: Rows,
    legal_holds: Rows,
    /// Differences between policies.
    changes: Rows,
    held: HashMap<String, u64>,
    /// The last policy of each host in this range: digest, and file → text.
    in_force: HashMap<HostId, (String, BTreeMap<String, String>)>,
}

#[derive(Debug, Default)]
struct Rows {
    html: String,
    count: usize,
    shown: usize,
}

impl Rows {
    fn push(&mut self, cells: &[&str]) {
        self.count += 1;
        if self.shown < ROWS_MAX && self.html.len() < TABLE_BYTES_MAX {
            self.shown += 1;
            let cells: String =
                cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
            let _ = writeln!(self.html, "<tr>{cells}</tr>");
        }
    }

    fn table(&self, title: &str, head: &[&str]) -> String {
        let head: String = head.iter().map(|cell| format!("<th>{cell}</th>")).collect();
        let more = match self.count - self.shown {
            0 => String::new(),
            more => format!("<p>{more} more are in the entries.</p>"),
        };
        format!("<h2>{title}: {}</h2><table><tr>{head}</tr>{}</table>{more}", self.count, self.html)
    }
}

impl Page {
    /// The next entry, and when it was logged.
    pub(super) fn entry(&mut self, index: u64, logged: u64, record: Option<&Record>) {
        let Some(record) = record.filter(|record| is_shown(&record.event)) else { return };
        let (at, time) = (index.to_string(), when(logged));
        match &record.event {
            Event::Held { request } => {
                self.held.insert(request.hold_id.to_string(), record.unix_ms);
            }
            Event::PersonDecided { hold_id, verdict, decided_by, reason, .. } => {
                let hold = hold_id.to_string();
                let took = self.held.remove(&hold).map_or_else(String::new, |held| {
                    format!("{:.1} s", record.unix_ms.saturating_sub(held) as f64 / 1000.0)
                });
                let verdict = format!("{verdict:?}");
                self.decisions.push(&[&at, &time, &hold, &verdict, decided_by, reason, &took]);
            }
            Event::PolicyLoaded { digest, files, texts } => {
                let host = record.host.to_string();
                self.policies.push(&[&at, &time, &host, digest, &files.join(", ")]);
                self.policy(&at, record.host, digest, files.iter().zip(texts));
            }
            Event::PayloadErased { index, reason, by, .. } => {
                self.erasures.push(&[&at, &time, &index.to_string(), reason, by]);
            }
            Event::PayloadsExpired { of, days, count, kept, entries, .. } => {
                let first = entries.first().map_or(0, |(first, _)| *first);
                let last = entries.last().map_or(0, |(first, count)| first + count.max(&1) - 1);
                let which = format!("{count} from {first} to {last}");
                let rule = format!("{of} older than {days} days; {kept} kept by legal hold");
                self.erasures.push(&[&at, &time, &which, &rule, "the rule of retention"]);
            }
            Event::LegalHoldSet { legal_hold, scope, reason, by } => {
                let (id, what) = (legal_hold.to_string(), format!("set: keeps {scope}"));
                self.legal_holds.push(&[&at, &time, &id, &what, reason, by]);
            }
            Event::LegalHoldLifted { legal_hold, reason, by } => {
                self.legal_holds.push(&[&at, &time, &legal_hold.to_string(), "lifted", reason, by]);
            }
            _ => {}
        }
    }

    /// How a host's policy differs from the one before it in this range.
    fn policy<'a>(
        &mut self,
        at: &str,
        host: HostId,
        digest: &str,
        texts: impl Iterator<Item = (&'a String, &'a String)>,
    ) {
        let now: BTreeMap<String, String> =
            texts.map(|(file, text)| (file.clone(), text.clone())).collect();
        let before = self.in_force.insert(host, (digest.to_owned(), now));
        let Some((_, before)) = before.filter(|(known, _)| known != digest) else { return };
        let (_, now) = &self.in_force[&host];
        let host = host.to_string();
        if before.is_empty() || now.is_empty() {
            self.changes.push(&[at, &host, "", "a text is not in the log: see the digests"]);
            return;
        }
        let none = String::new();
        for file in before.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
            let (old, new) = (before.get(file), now.get(file));
            let lines = difference(old.unwrap_or(&none), new.unwrap_or(&none));
            if lines.is_empty() {
                continue;
            }
            let more = lines.len().saturating_sub(LINES_MAX);
            let shown = lines.iter().take(LINES_MAX);
            let mut text: String = shown.map(|(sign, line)| format!("{sign} {line}\n")).collect();
            if more > 0 {
                let _ = write!(text, "and {more} lines more, in the entries");
            }
            self.changes.push(&[at, &host, file, &text]);
        }
    }

    pub(super) fn html(&self, report: &Report, (from, to): (u64, u64)) -> String {
        let list = |items: &[&str]| -> String {
            items.iter().map(|item| format!("<li>{}</li>", escape(item))).collect()
        };
        let texts = |lines: &[String]| -> String {
            lines.iter().map(|line| format!("<li>{}</li>", escape(line))).collect()
        };
        let controls: String = CONTROLS
            .iter()
            .map(|(control, what)| format!("<tr><td>{control}</td><td>{what}</td></tr>"))
            .collect();
        let span = |time: Option<u64>| time.map_or_else(String::new, when);
        format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Guard evidence</title>\
             <style>body{{font:15px sans-serif;margin:2em;max-width:70em}}td,th{{text-align:left;\
             border-bottom:1px solid #ccc;padding:.2em .6em;overflow-wrap:break-word;white-space:pre-wrap}}th{{white-space:nowrap}}</style>\
             <h1>Evidence {from} to {last} of {origin}</h1>\
             <p>{entries} entries, {erased} with an erased payload, logged from {first} to {until}. \
             Tree of {size} entries, root {root}.</p>\
             <p>This page is a rendering and proves nothing by itself: run \
             <code>guard audit verify</code>, or a verifier of your own, on the bundle.</p>\
             <h2>Proven, once the bundle is verified</h2><ul>{proven}</ul>\
             <h2>Not proven</h2><ul>{not}</ul>\
             <h2>To look at: {findings_count}</h2><ul>{findings}</ul>{decisions}{policies}{changes}{erasures}{legal_holds}\
             <h2>Break-glass: 0</h2><p>This version has no break-glass.</p>\
             <h2>Evidence supporting controls</h2><table>{controls}</table></html>\n",
            last = to - 1,
            origin = escape(&report.origin),
            entries = report.entries,
            erased = report.erased,
            first = span(report.first_unix_ms),
            until = span(report.last_unix_ms),
            size = report.size,
            root = report.root,
            proven = list(&PROVEN),
            not = list(&NOT_PROVEN),
            findings_count = report.findings.count,
            findings = texts(&report.findings.lines),
            decisions = self.decisions.table(
                "Decisions of persons",
                &["entry", "logged", "hold", "verdict", "by", "reason", "after"]
            ),
            policies =
                self.policies.table("Policies", &["entry", "logged", "host", "digest", "files"]),
            changes = self
                .changes
                .table("Changes of policies", &["entry", "host", "file", "- gone, + new"]),
            erasures =
                self.erasures.table("Erasures", &["entry", "logged", "of entry", "reason", "by"]),
            legal_holds = self
                .legal_holds
                .table("Legal holds", &["entry", "logged", "hold", "what", "reason", "by"]),
        )
    }
}

/// Whether the page has a word for it: most records have none, and are not worth a formatted time.
fn is_shown(event: &Event) -> bool {
    matches!(
        event,
        Event::Held { .. }
            | Event::PersonDecided { .. }
            | Event::PolicyLoaded { .. }
            | Event::PayloadErased { .. }
            | Event::PayloadsExpired { .. }
            | Event::LegalHoldSet { .. }
            | Event::LegalHoldLifted { .. }
    )
}

fn when(unix_ms: u64) -> String {
    let nanos = i128::from(unix_ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix_ms.to_string())
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(char),
            char if char.is_control() => {
                let _ = write!(out, "{}", char.escape_default());
            }
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_an_end_in_rows_and_in_bytes_and_counts_the_rest() {
        let mut rows = Rows::default();
        (0..ROWS_MAX + 3).for_each(|_| rows.push(&["a"]));
        assert!(rows.table("t", &["h"]).ends_with("<p>3 more are in the entries.</p>"));
        let (mut rows, long) = (Rows::default(), "a".repeat(1 << 20));
        (0..10).for_each(|_| rows.push(&[&long]));
        assert_eq!((rows.count, rows.shown), (10, TABLE_BYTES_MAX >> 20));
        assert!(rows.table("t", &["h"]).contains("t: 10<"));
    }
}
