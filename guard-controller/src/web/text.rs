//! Template filters: text from elsewhere made safe to look at, times and durations for people.

use guard_model::text::is_deceptive;
use std::fmt::Display;
use time::{OffsetDateTime, macros::format_description};

/// Text that a host, a session or a user wrote, with everything escaped that could hide or reorder
/// what stands there. Other than [`guard_model::RawText::visible`] it keeps `\`, since much of what it is used for
/// has been escaped once already; line feeds and tabs stay too, for texts of several lines.
#[must_use]
pub(crate) fn safe_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if is_deceptive(char) && !matches!(char, '\n' | '\t') {
            out.push_str(&format!("\\u{{{:x}}}", u32::from(char)));
        } else {
            out.push(char);
        }
    }
    out
}

/// [`safe_text`] on one line.
#[must_use]
pub(crate) fn safe_line(text: &str) -> String {
    safe_text(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// `2026-11-23 22:04:53 UTC`.
#[must_use]
pub(crate) fn full_time(unix_ms: u64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second] UTC");
    format_time(unix_ms, format)
}

/// `22:04:53.123`.
#[must_use]
pub(crate) fn day_time(unix_ms: u64) -> String {
    let format = format_description!("[hour]:[minute]:[second].[subsecond digits:3]");
    format_time(unix_ms, format)
}

fn format_time(
    unix_ms: u64,
    format: &[time::format_description::BorrowedFormatItem<'_>],
) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    let text = time.ok().and_then(|time| time.format(format).ok());
    text.unwrap_or_else(|| format!("{unix_ms} ms since 1970"))
}

/// `2 min 5 s`, `3 h 10 min`: two units at most.
#[must_use]
pub(crate) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, 0) if ms > 0 => format!("{ms} ms"),
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, 0) => format!("{m} min"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

/// At most `max` characters, and how many are missing.
#[must_use]
pub(crate) fn cut(text: &str, max: usize) -> String {
    let missing = text.chars().count().saturating_sub(max);
    if missing == 0 {
        return text.into();
    }
    let start: String = text.chars().take(max).collect();
    format!("{start}… (+{missing} characters)")
}

/// What templates use.
#[expect(unreachable_pub, reason = "askama's macro makes its functions `pub`")]
pub(crate) mod filters {
    use super::{Display, cut, day_time, full_time, safe_line, safe_text, span};

    #[askama::filter_fn]
    pub(crate) fn line(value: impl Display, _: &dyn askama::Values) -> askama::Result<String> {
        Ok(safe_line(&value.to_string()))
    }

    #[askama::filter_fn]
    pub(crate) fn lines(value: impl Display, _: &dyn askama::Values) -> askama::Result<String> {
        Ok(safe_text(&value.to_string()))
    }

    #[askama::filter_fn]
    pub(crate) fn brief(
        value: impl Display,
        _: &dyn askama::Values,
        max: usize,
    ) -> askama::Result<String> {
        Ok(cut(&safe_line(&value.to_string()), max))
    }

    /// A name, or the id of what has none.
    #[askama::filter_fn]
    pub(crate) fn or_id(
        name: impl Display,
        _: &dyn askama::Values,
        id: &guard_model::HostId,
    ) -> askama::Result<String> {
        let name = name.to_string();
        Ok(if name.is_empty() { id.to_string() } else { name })
    }

    /// The start of a digest: enough to tell two apart by eye.
    #[askama::filter_fn]
    pub(crate) fn short(digest: &str, _: &dyn askama::Values) -> askama::Result<String> {
        Ok(safe_line(digest).chars().take(16).collect())
    }

    #[askama::filter_fn]
    pub(crate) fn when(unix_ms: &u64, _: &dyn askama::Values) -> askama::Result<String> {
        Ok(full_time(*unix_ms))
    }

    #[askama::filter_fn]
    pub(crate) fn clock(unix_ms: &u64, _: &dyn askama::Values) -> askama::Result<String> {
        Ok(day_time(*unix_ms))
    }

    #[askama::filter_fn]
    pub(crate) fn duration(ms: &u64, _: &dyn askama::Values) -> askama::Result<String> {
        Ok(span(*ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_like_words() {
        let cases = [(0, "0 s"), (7, "7 ms"), (59_999, "59 s"), (60_000, "1 min")];
        for (ms, text) in cases.into_iter().chain([
            (125_000, "2 min 5 s"),
            (11_400_000, "3 h 10 min"),
            (93_600_000, "1 d 2 h"),
        ]) {
            assert_eq!(span(ms), text);
        }
    }

    #[test]
    fn a_time_out_of_range_is_shown_as_it_is() {
        assert_eq!(full_time(1_000), "1970-01-01 00:00:01 UTC");
        assert_eq!(full_time(u64::MAX), format!("{} ms since 1970", u64::MAX));
    }

    #[test]
    fn a_cut_says_how_much_is_missing() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abcd… (+2 characters)");
    }

    proptest! {
        #[test]
        fn nothing_deceptive_passes_a_filter(text in any::<String>()) {
            prop_assert!(!safe_line(&text).chars().any(is_deceptive));
        }
    }
}
