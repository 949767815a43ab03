//! Which evidence is of which scenario's attempts: by the time on the VM's clock that the scenario took, which
//! every record has too.

use super::bypass::Tried;
use serde_json::Value;
use std::fmt::Write as _;

/// Most ranges of ids that a line of text has; all are in the file.
const RANGES_MAX: usize = 8;

/// Writes into each of `tried` the sequences of its attempts: what was held, decided, denied at once or found
/// tampered with while it was played.
pub(super) fn assign(evidence: &str, tried: &mut [Tried]) {
    for line in evidence.lines() {
        let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
        let number = |name: &str| record.get(name).and_then(Value::as_u64);
        let (Some(sequence), Some(at)) = (number("sequence"), number("boottime_ns")) else {
            continue;
        };
        if !is_attempt(&record) {
            continue;
        }
        if let Some(one) = tried.iter_mut().find(|one| (one.from_ns..one.to_ns).contains(&at)) {
            one.evidence.push(sequence);
        }
    }
}

fn is_attempt(record: &Value) -> bool {
    match record.get("event").and_then(Value::as_str) {
        Some("held" | "decided" | "blocked" | "tampered" | "lost") => true,
        // The end of a hold is the same attempt as its beginning.
        Some("outcome") => record.get("hold_id").is_none_or(Value::is_null),
        _ => false,
    }
}

/// `3–5, 9 (4)`; sorted, and cut after some ranges.
pub(super) fn ranges(ids: &[u64]) -> String {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for &id in &ids {
        match ranges.last_mut() {
            Some((_, to)) if *to + 1 == id => *to = id,
            _ => ranges.push((id, id)),
        }
    }
    let mut text = String::new();
    for (from, to) in ranges.iter().take(RANGES_MAX) {
        let gap = if text.is_empty() { "" } else { ", " };
        let _ = if from == to {
            write!(text, "{gap}{from}")
        } else {
            write!(text, "{gap}{from}–{to}")
        };
    }
    if ranges.len() > RANGES_MAX {
        text.push_str(", …");
    }
    let _ = write!(text, " ({})", ids.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Kernel;

    fn tried(from_ns: u64, to_ns: u64) -> Tried {
        let (kernel, scenario) = (Kernel::V7_3, String::new());
        Tried { kernel, scenario, passed: true, from_ns, to_ns, evidence: Vec::new() }
    }

    #[test]
    fn a_record_belongs_to_the_scenario_that_was_played_at_its_time_and_only_attempts_count() {
        let evidence = [
            r#"{"sequence":1,"boottime_ns":5,"event":"held"}"#,
            r#"{"sequence":2,"boottime_ns":10,"event":"blocked"}"#,
            r#"{"sequence":3,"boottime_ns":11,"event":"heartbeat"}"#,
            r#"{"sequence":4,"boottime_ns":19,"event":"outcome","verdict":"deny"}"#,
            r#"{"sequence":5,"boottime_ns":19,"event":"outcome","hold_id":"x"}"#,
            "no JSON",
            r#"{"sequence":6,"boottime_ns":20,"event":"decided"}"#,
        ];
        let mut all = [tried(10, 20), tried(20, 30)];
        assign(&evidence.join("\n"), &mut all);
        assert_eq!(all[0].evidence, [2, 4]);
        assert_eq!(all[1].evidence, [6]);
    }

    #[test]
    fn ids_are_told_as_ranges_with_their_number() {
        assert_eq!(ranges(&[9, 3, 4, 5, 5]), "3–5, 9 (4)");
        let many: Vec<u64> = (0..40).map(|i| i * 2).collect();
        assert!(ranges(&many).ends_with(", … (40)"), "{}", ranges(&many));
    }
}
