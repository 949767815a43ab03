//! 1001 File System Activity, and the file objects of the other classes.

use super::{
    Class, OcsfEvent,
    action::Activity,
    base::Base,
    disposition::Disposition,
    words::{UNKNOWN, file_name},
};
use guard_model::{FileRef, ProgramRef};
use serde_json::{Value, json};

/// Something is done to a file.
pub(super) fn activity(
    base: Base,
    activity: Activity,
    file: &FileRef,
    result: Option<&FileRef>,
    disposition: Disposition,
) -> OcsfEvent {
    let event = base.event(Class::FILE, activity, disposition).with("file", object(file));
    match result {
        Some(result) => event.with("file_result", object(result)),
        None => event,
    }
}

/// A file as the kernel identified it: `uid` is `device:inode:generation`.
pub(super) fn object(file: &FileRef) -> Value {
    let (type_id, caption) = kind(file.mode);
    let mut object = json!({
        "name": file_name(&file.path),
        "type_id": type_id,
        "type": caption,
        "uid": format!("{:x}:{}:{}", file.dev, file.ino, file.generation),
        "owner": { "uid": file.owner_uid.to_string() },
        "attributes": file.mode,
    });
    match &file.path_error {
        None => object["path"] = file.path.to_exact().into(),
        Some(why) => {
            object["name"] = UNKNOWN.into();
            object["desc"] = format!("no path: {why}").into();
        }
    }
    object
}

/// A program, with its digest where that was computed.
pub(super) fn program(program: &ProgramRef) -> Value {
    let mut object = object(&program.file);
    if let Some(sha256) = &program.sha256 {
        object["hashes"] = json!([{ "algorithm_id": 3, "algorithm": "SHA-256", "value": sha256 }]);
    }
    object
}

/// OCSF's file type of an `i_mode` (`S_IFMT` of stat(2)).
fn kind(mode: u32) -> (u8, &'static str) {
    match mode & 0o170_000 {
        0o100_000 => (1, "Regular File"),
        0o040_000 => (2, "Folder"),
        0o020_000 => (3, "Character Device"),
        0o060_000 => (4, "Block Device"),
        0o140_000 => (5, "Local Socket"),
        0o010_000 => (6, "Named Pipe"),
        0o120_000 => (7, "Symbolic Link"),
        _ => (0, "Unknown"),
    }
}
