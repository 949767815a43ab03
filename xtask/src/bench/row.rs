//! One figure beside its goal, and the table of them.

use serde::Serialize;
use std::fmt::Write as _;

/// A figure, what it is compared with, and the goal for their ratio.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Row {
    /// Of docs/performance.md.
    pub id: &'static str,
    /// What was measured.
    pub what: String,
    /// The figure.
    pub figure: f64,
    /// What it is compared with.
    pub anchor: f64,
    /// Of what kind the anchor is.
    pub anchor_is: String,
    /// Figure by anchor; none if the anchor is nothing.
    pub ratio: Option<f64>,
    /// The ratio is to be at most this.
    pub goal: f64,
    /// Whether it is.
    pub met: bool,
}

impl Row {
    /// A figure that is to be at most `goal` times the anchor.
    pub(crate) fn at_most(
        (id, goal): (&'static str, f64),
        what: impl Into<String>,
        figure: f64,
        (anchor_is, anchor): (&str, f64),
    ) -> Self {
        // An anchor of nothing meets no goal.
        let ratio = (anchor > 0.0).then(|| figure / anchor);
        let (what, anchor_is) = (what.into(), anchor_is.to_owned());
        Self {
            id,
            what,
            figure,
            anchor,
            anchor_is,
            ratio,
            goal,
            met: ratio.is_some_and(|ratio| ratio <= goal),
        }
    }
}

/// Misses first, the worst of them at the top.
pub(crate) fn sort(rows: &mut [Row]) {
    let worse = |row: &Row| row.ratio.map_or(f64::MAX, |ratio| ratio / row.goal);
    rows.sort_by(|a, b| a.met.cmp(&b.met).then(worse(b).total_cmp(&worse(a))));
}

/// The table.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<4} {:<48} {:>11} {:>11} {:<22} {:>8} {:>8}\n",
        "", "figure", "measured", "anchor", "", "ratio", "goal"
    );
    for Row { id, what, figure, anchor, anchor_is, ratio, goal, met } in rows {
        let word = if *met { "met" } else { "MISSED" };
        let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.4}"));
        let _ = writeln!(
            out,
            "{id:<4} {what:<48} {figure:>11.0} {anchor:>11.0} {anchor_is:<22} {ratio:>8} {goal:>8.4} {word}"
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Row, sort, table};

    #[test]
    fn misses_come_first_and_an_anchor_of_nothing_is_one() {
        let row = |what: &str, figure, anchor| {
            Row::at_most(("P1", 1.03), what, figure, ("native", anchor))
        };
        let mut rows =
            vec![row("good", 100.0, 100.0), row("bad", 110.0, 100.0), row("none", 1.0, 0.0)];
        sort(&mut rows);
        let order: Vec<&str> = rows.iter().map(|row| row.what.as_str()).collect();
        assert_eq!(order, ["none", "bad", "good"]);
        assert_eq!(rows.iter().map(|row| row.met).collect::<Vec<_>>(), [false, false, true]);
        let text = table(&rows);
        let missed = text.lines().filter(|line| line.ends_with("MISSED")).count();
        assert_eq!(missed, 2, "{text}");
    }
}
