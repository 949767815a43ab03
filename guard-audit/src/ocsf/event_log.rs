//! 1008 Event Log Activity: what is missing from the evidence, and what was removed on purpose.

use super::{
    Class, Context, OcsfEvent,
    base::Base,
    disposition::{Disposition, Severity},
    words::{LOG_NAME, UNKNOWN},
};
use serde_json::json;

/// Records or actions were lost.
pub(super) fn lost(base: Base, counter: &str, count: u64) -> OcsfEvent {
    base.event(Class::EVENT_LOG, (99, "Lost"), Disposition::ERROR)
        .with("log_name", LOG_NAME.into())
        // OCSF's `count` is a 32-bit integer.
        .with("count", count.min(i32::MAX as u64).into())
        .detail(counter)
        .message(&format!("{count} × {counter} lost"))
        .unmapped("lost", count.into())
        .severity(Severity::High)
}

/// Somebody erased the payload of an entry.
pub(super) fn payload_erased(
    base: Base,
    index: u64,
    leaf_hash: &str,
    reason: &str,
    by: &str,
) -> OcsfEvent {
    base.event(Class::EVENT_LOG, (2, "Delete"), Disposition::OBSERVED)
        .with("log_name", LOG_NAME.into())
        .with("actor", json!({ "user": { "name": if by.is_empty() { UNKNOWN } else { by } } }))
        .message(&format!("the payload of entry {index} was erased"))
        .detail(reason)
        .unmapped("erased_sequence", index.into())
        .unmapped("erased_uid", leaf_hash.into())
        .severity(Severity::Medium)
}

/// A rule of retention erased payloads.
pub(super) fn payloads_expired(
    base: Base,
    (of, days): (&str, u32),
    (count, kept): (u64, u64),
    entries: &[(u64, u64)],
) -> OcsfEvent {
    base.event(Class::EVENT_LOG, (2, "Delete"), Disposition::OBSERVED)
        .with("log_name", LOG_NAME.into())
        .with("count", count.min(i32::MAX as u64).into())
        .message(&format!("{count} payloads of class {of} were erased after {days} days"))
        .unmapped("erased_class", of.into())
        .unmapped("retained_days", days.into())
        .unmapped("kept_by_legal_hold", kept.into())
        .unmapped("erased_ranges", json!(entries))
}

/// The entry stands in the log; its payload was erased.
pub(super) fn erased(context: &Context<'_>) -> OcsfEvent {
    Base::without_record(context)
        .event(Class::EVENT_LOG, (2, "Delete"), Disposition::OBSERVED)
        .with("log_name", LOG_NAME.into())
        .message("the payload of this entry has been erased; its proof is intact")
}
