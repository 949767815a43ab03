//! What is wrong with a policy, where, and what was expected.

use miette::Diagnostic;
use std::fmt;

/// One problem at one place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// File name as given in [`crate::PolicySource::file`].
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What was found.
    pub found: String,
    /// What was expected or would help; empty if nothing is known.
    pub expected: String,
    /// The line's text.
    pub source_line: String,
    /// How many characters of the line it is about, at least 1.
    pub width: u32,
}

/// A policy that was refused, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    problems: Vec<Problem>,
}

impl PolicyError {
    /// `None` if there is no problem.
    pub(crate) fn of(mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort_by(|a, b| {
            (&a.file, a.line, a.column, &a.found).cmp(&(&b.file, b.line, b.column, &b.found))
        });
        problems.dedup();
        let problems = one_for_all_types(problems);
        (!problems.is_empty()).then_some(Self { problems })
    }

    /// All problems, by file, line and column.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// Cedar says the same of a place once for every entity type; people read it once.
fn one_for_all_types(problems: Vec<Problem>) -> Vec<Problem> {
    let mut kept: Vec<(Problem, Vec<String>)> = Vec::new();
    for mut problem in problems {
        let types = problem.found.split_once(" on entity type `").and_then(|(what, rest)| {
            let (name, end) = rest.split_once('`')?;
            Some((format!("{what}{end}"), name.to_owned()))
        });
        let Some((found, name)) = types else {
            kept.push((problem, Vec::new()));
            continue;
        };
        problem.found = found;
        let place = |p: &Problem| (p.file.clone(), p.line, p.column, p.found.clone());
        let same = |(other, names): &&mut (Problem, Vec<String>)| {
            !names.is_empty() && place(other) == place(&problem)
        };
        match kept.iter_mut().find(same) {
            Some((first, names)) => {
                // A hint that fits one type only would mislead.
                if first.expected != problem.expected {
                    first.expected.clear();
                }
                names.push(name);
            }
            None => kept.push((problem, vec![name])),
        }
    }
    let join = |(mut problem, mut names): (Problem, Vec<String>)| {
        names.sort();
        if !names.is_empty() {
            problem.found = format!("{} on {}", problem.found, names.join(", "));
        }
        problem
    };
    kept.into_iter().map(join).collect()
}

impl std::error::Error for PolicyError {}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => writeln!(f, "the policy is refused:")?,
            count => writeln!(f, "the policy is refused for {count} reasons:")?,
        }
        for problem in &self.problems {
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.found)?;
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        // Tabs are kept in the padding, so that the caret stands under its character.
        let before = self.source_line.chars().take(self.column.saturating_sub(1) as usize);
        let padding: String = before.map(|char| if char == '\t' { '\t' } else { ' ' }).collect();
        writeln!(f, "{number} | {}", self.source_line)?;
        writeln!(f, "{gutter} | {padding}{}", "^".repeat(self.width as usize))?;
        if !self.expected.is_empty() {
            writeln!(f, "{gutter} = {}", self.expected)?;
        }
        Ok(())
    }
}

/// A named text in which byte offsets become lines and columns.
#[derive(Clone, Copy)]
pub(crate) struct Located<'a> {
    pub(crate) file: &'a str,
    pub(crate) text: &'a str,
}

impl Located<'_> {
    /// A problem with `length` bytes at byte `offset`.
    pub(crate) fn problem(
        &self,
        (offset, length): (usize, usize),
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Problem {
        let offset = self.text.floor_char_boundary(offset);
        let before = &self.text[..offset];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let source_line = self.text[start..].lines().next().unwrap_or_default();
        let column = before[start..].chars().count();
        let end = self.text.floor_char_boundary(offset.saturating_add(length));
        let room = source_line.chars().count().saturating_sub(column);
        let width = self.text[offset..end.max(offset)].chars().count().min(room).max(1);
        Problem {
            file: self.file.to_owned(),
            line: self.line(offset),
            column: count(column + 1),
            found: found.into(),
            expected: expected.into(),
            source_line: source_line.to_owned(),
            width: count(width),
        }
    }

    /// The line of byte `offset`, from 1.
    pub(crate) fn line(&self, offset: usize) -> u32 {
        let offset = self.text.floor_char_boundary(offset);
        count(self.text[..offset].matches('\n').count() + 1)
    }

    /// A problem that Cedar reports. `otherwise` is where to point if Cedar names no place.
    pub(crate) fn cedar_problem(
        &self,
        diagnostic: &dyn Diagnostic,
        otherwise: (usize, usize),
    ) -> Problem {
        let label = diagnostic.labels().and_then(|mut labels| labels.next());
        let place = label.as_ref().map_or(otherwise, |label| (label.offset(), label.len()));
        let mut expected: Vec<String> = Vec::new();
        expected.extend(label.as_ref().and_then(|label| label.label()).map(str::to_owned));
        expected.extend(diagnostic.help().map(|help| help.to_string()));
        self.problem(place, without_policy_id(&diagnostic.to_string()), expected.join("; "))
    }
}

/// Cedar's validator starts with ``for policy `id`, ``; the place says that better.
fn without_policy_id(message: &str) -> &str {
    message
        .strip_prefix("for policy `")
        .and_then(|rest| rest.split_once("`, "))
        .map_or(message, |(_, rest)| rest)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_counted_in_characters_and_underlined() {
        let text = "first\n\tä ö wrong here\n";
        let at = text.find("wrong").unwrap();
        let problem = Located { file: "x.cedar", text }.problem((at, 5), "found", "expected");
        assert_eq!((problem.line, problem.column, problem.width), (2, 6, 5));
        assert_eq!(
            problem.to_string(),
            "x.cedar:2:6: found\n2 | \tä ö wrong here\n  | \t    ^^^^^\n  = expected\n"
        );
    }

    #[test]
    fn any_offset_is_survived() {
        for text in ["", "ä", "a\n", "\n\n"] {
            for offset in 0..6 {
                let problem = Located { file: "f", text }.problem((offset, 9), "", "");
                assert!(problem.line >= 1 && problem.column >= 1 && problem.width >= 1);
            }
        }
    }
}
