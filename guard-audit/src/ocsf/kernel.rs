//! 1002 Kernel Extension Activity and 1003 Kernel Activity: what changes the kernel.

use super::{Class, OcsfEvent, action::Activity, base::Base, disposition::Disposition, file};
use guard_model::FileRef;
use serde_json::json;

pub(super) const INVOKE: Activity = (4, "Invoke");

/// A kernel module is loaded.
pub(super) fn module(base: Base, file: &FileRef, disposition: Disposition) -> OcsfEvent {
    base.event(Class::KERNEL_EXTENSION, (1, "Load"), disposition)
        .with("driver", json!({ "file": file::object(file) }))
}

/// A privilege of the kernel is used.
pub(super) fn operation(
    base: Base,
    operation: &str,
    object: &str,
    disposition: Disposition,
) -> OcsfEvent {
    let kernel = json!({
        "name": object,
        "type_id": 2,
        "type": "System Call",
        "system_call": operation,
    });
    base.event(Class::KERNEL, INVOKE, disposition).with("kernel", kernel)
}
