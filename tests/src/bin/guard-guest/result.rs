//! What goes into `--out`: evidence as NDJSON, and its sums in `result.json`.

use crate::{guard, ports::Ports};
use guard_vm_wire::RunResult;
use serde_json::Value;

/// Counters that mean something was dropped or denied for want of room.
pub(crate) const DROPS: [&str; 7] = [
    "events_lost",
    "denied_ring_full",
    "denied_holds_full",
    "denied_no_stop",
    "denied_not_restartable",
    "denied_unreadable",
    "denied_label",
];

/// Reads guard-agent's evidence, sends it, and sums it up.
pub(crate) fn collect(ports: &mut Ports, result: &mut RunResult) {
    let evidence = guard::agent_evidence();
    for line in evidence.lines() {
        let Ok(record) = serde_json::from_str::<Value>(line) else {
            *result.evidence.entry("unreadable".to_owned()).or_default() += 1;
            continue;
        };
        sum_up(&record, result);
    }
    ports.send_bytes("evidence.ndjson", evidence.as_bytes());
}

fn sum_up(record: &Value, result: &mut RunResult) {
    let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
    let event = text("event");
    *result.evidence.entry(event.to_owned()).or_default() += 1;
    match event {
        "held" => result.holds += 1,
        "person_decided" => {
            let verdict = if text("verdict") == "allow" { "approved" } else { "rejected" };
            *result.decisions.entry(verdict.to_owned()).or_default() += 1;
        }
        "withdrawn" => *result.decisions.entry(text("why").to_owned()).or_default() += 1,
        "heartbeat" => {
            for name in DROPS {
                let value = record.pointer(&format!("/counters/{name}")).and_then(Value::as_u64);
                // Counters only grow: the last heartbeat's value is the run's.
                if let Some(value) = value.filter(|value| *value > 0) {
                    result.drops.insert(name.to_owned(), value);
                }
            }
        }
        _ => {}
    }
}
