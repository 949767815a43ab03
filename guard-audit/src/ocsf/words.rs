//! Small conversions that several classes share.

use guard_model::RawText;
use std::fmt::Write as _;

/// What stands for an object that is not known.
pub(super) const UNKNOWN: &str = "(unknown)";

/// How the log calls itself.
pub(super) const LOG_NAME: &str = "guard-evidence";

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The last component of a path, or the path itself if it has none.
pub(super) fn file_name(path: &RawText) -> String {
    let exact = path.to_exact();
    match exact.rsplit('/').find(|part| !part.is_empty()) {
        Some(name) => name.to_owned(),
        None if exact.is_empty() => UNKNOWN.to_owned(),
        None => exact,
    }
}

/// Arguments as one line, reversible but for the spaces between them.
pub(super) fn command_line(args: &[RawText]) -> String {
    args.iter().map(RawText::to_exact).collect::<Vec<_>>().join(" ")
}

/// `a, b`, or `nobody`.
pub(super) fn list(names: &[String]) -> String {
    if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
}
