//! 1005 Module Activity: code that is mapped into a process.

use super::{Class, OcsfEvent, base::Base, disposition::Disposition, file};
use guard_model::FileRef;
use serde_json::json;

/// A file is mapped as code.
pub(super) fn load(base: Base, file: &FileRef, disposition: Disposition) -> OcsfEvent {
    let module = json!({
        "file": file::object(file),
        "load_type_id": 4,
        "load_type": "Mapped",
    });
    base.event(Class::MODULE, (1, "Load"), disposition).with("module", module)
}
