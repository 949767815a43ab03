//! 2004 Detection Finding: something that looks like tampering.

use super::{
    Class, OcsfEvent,
    base::Base,
    disposition::{Disposition, Severity},
};
use guard_model::{HoldId, HostId};
use serde_json::json;

/// Something that claimed to be a decision was refused.
pub(super) fn decision_refused(base: Base, hold: Option<HoldId>, why: &str) -> OcsfEvent {
    finding(base, "decision-refused", "A decision was refused", why).correlated(hold)
}

/// Something that a host sent was not accepted.
pub(super) fn host_refused(base: Base, host: HostId, what: &str, why: &str) -> OcsfEvent {
    finding(base, "host-refused", "A host sent what is not accepted", why)
        .unmapped("refused_host", host.to_string().into())
        .unmapped("refused_what", what.into())
}

/// Somebody ended enforcement deliberately.
pub(super) fn enforcement_ended(
    base: Base,
    (by, uid, pid): (&str, u32, u32),
    reason: &str,
) -> OcsfEvent {
    let title = "Enforcement was ended deliberately";
    of(base, Disposition::OBSERVED, "enforcement-ended", title, reason)
        .unmapped("ended_by", by.into())
        .unmapped("ended_by_uid", uid.into())
        .unmapped("ended_by_pid", pid.into())
}

/// Something of Guard in the kernel was not as it had been left.
pub(super) fn tampered(base: Base, what: &str, mended: bool) -> OcsfEvent {
    of(base, Disposition::OBSERVED, "tampered", "Guard was tampered with", what)
        .unmapped("mended", mended.into())
}

/// A finding by one of our own rules: something was refused.
pub(super) fn finding(base: Base, rule: &str, title: &str, why: &str) -> OcsfEvent {
    of(base, Disposition::BLOCKED, rule, title, why)
}

fn of(base: Base, disposition: Disposition, rule: &str, title: &str, why: &str) -> OcsfEvent {
    let event = base.event(Class::FINDING, (1, "Create"), disposition);
    let uid = event.text("metadata.uid").unwrap_or_default().to_owned();
    let info = json!({
        "uid": uid,
        "title": title,
        "desc": why,
        "types": [rule],
        "analytic": { "uid": rule, "name": rule, "type_id": 1, "type": "Rule" },
    });
    event.with("finding_info", info).detail(why).message(title).severity(Severity::High)
}
