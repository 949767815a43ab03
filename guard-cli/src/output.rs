//! Lines, columns and times for people; JSON for programs.

use anyhow::Result;
use serde::Serialize;
use std::{
    io::{Write, stdout},
    time::{SystemTime, UNIX_EPOCH},
};

/// One JSON value on one line of stdout.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(serde_json::to_string(value)?.as_bytes())?;
    Ok(out.write_all(b"\n")?)
}

/// Text to stdout. Unlike `print!` it does not panic when the reader has gone.
pub(crate) fn text(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Rows as aligned columns; the last column is not padded.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < N {
                out.push_str(&" ".repeat(width(column) - cell.chars().count() + 2));
            }
        }
        out.push('\n');
    }
    out
}

/// Wall clock, ms since 1970.
pub(crate) fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A length of time in its largest fitting unit: `5 s`, `12 min`, `3 h`, `2 d`.
pub(crate) fn duration(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s @ 7200..172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

/// How long ago.
pub(crate) fn ago(unix_ms: u64) -> String {
    format!("{} ago", duration(now_unix_ms().saturating_sub(unix_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters() {
        let rows = [["ä", "b"], ["ccc", "d"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), "ä    b\nccc  d\n");
    }

    #[test]
    fn a_duration_is_shown_in_its_largest_fitting_unit() {
        for (ms, shown) in [
            (0, "0 s"),
            (119_999, "119 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 d"),
        ] {
            assert_eq!(duration(ms), shown);
        }
    }
}
