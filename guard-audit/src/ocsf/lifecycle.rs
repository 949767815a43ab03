//! 6002 Application Lifecycle: guard-agent, the controller, and the AI agents' sessions.

use super::{
    Class, OcsfEvent,
    base::Base,
    disposition::{Disposition, Severity},
    words::{UNKNOWN, command_line},
};
use guard_model::{Coverage, CoverageState, SessionInfo};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const START: (u32, &str) = (3, "Start");
const STOP: (u32, &str) = (4, "Stop");

/// guard-agent or the controller started. Something that is not enforced raises the severity; that a program does not see
/// everything is so on every kernel.
pub(super) fn started(
    base: Base,
    component: &str,
    version: &str,
    kernel: &str,
    coverage: &[Coverage],
) -> OcsfEvent {
    let has = |state| coverage.iter().any(|row| row.state == state);
    let severity = match () {
        () if has(CoverageState::Absent) => Severity::Medium,
        () if has(CoverageState::Degraded) => Severity::Low,
        () => Severity::Informational,
    };
    let app = json!({ "name": component, "version": version, "vendor_name": "Guard" });
    base.event(Class::LIFECYCLE, START, Disposition::OBSERVED)
        .with("app", app)
        .message(&format!("{component} {version} started on {kernel}"))
        .unmapped("kernel", kernel.into())
        .unmapped("coverage", json!(coverage))
        .severity(severity)
}

/// It stopped in an orderly way.
pub(super) fn stopped(base: Base, component: &str, reason: &str) -> OcsfEvent {
    base.event(Class::LIFECYCLE, STOP, Disposition::OBSERVED)
        .with("app", product(component))
        .message(&format!("{component} stopped: {reason}"))
        .detail(reason)
        .severity(Severity::Low)
}

/// Sign of life.
pub(super) fn heartbeat(
    base: Base,
    counters: &BTreeMap<String, u64>,
    pending_holds: u64,
) -> OcsfEvent {
    base.event(Class::LIFECYCLE, (99, "Heartbeat"), Disposition::OBSERVED)
        .with("app", product("guard-agent"))
        .unmapped("counters", json!(counters))
        .unmapped("pending_holds", pending_holds.into())
}

/// A process tree was labelled.
pub(super) fn session_started(base: Base, info: &SessionInfo) -> OcsfEvent {
    let actor = json!({
        "user": { "name": info.principal, "uid": info.uid.to_string() },
        "process": { "pid": info.root_pid, "cmd_line": command_line(&info.command) },
        "session": { "uid": info.id.to_string() },
    });
    let app = json!({ "name": info.name, "uid": info.id.to_string() });
    base.event(Class::LIFECYCLE, START, Disposition::OBSERVED)
        .with("app", app)
        .with("actor", actor)
        .message(&format!("session {} of {} started", info.name, info.principal))
}

/// Its last process exited.
pub(super) fn session_ended(base: Base) -> OcsfEvent {
    let session = base.session.clone().unwrap_or_else(|| UNKNOWN.to_owned());
    base.event(Class::LIFECYCLE, STOP, Disposition::OBSERVED)
        .with("app", json!({ "name": "session", "uid": session }))
        .message("session ended")
}

fn product(component: &str) -> Value {
    json!({ "name": component, "vendor_name": "Guard" })
}
