//! The annotations of a statement: what a hold asks of its approvers.

use crate::{
    problem::{Located, Problem},
    token::tokens,
};
use guard_model::DecisionTerms;

/// Group that stands for everybody with the role `approver`.
pub(crate) const EVERY_APPROVER: &str = "approvers";
/// Longest hold: the kernel's own deadline (H6).
pub(crate) const TTL_MAX_MS: u64 = 10 * 60 * 1000;
/// Shortest hold: below it nobody can answer.
pub(crate) const TTL_MIN_MS: u64 = 1000;
/// Longest group name or id: they stand in tables, evidence and pages.
pub(crate) const NAME_CHARS_MAX: usize = 64;
/// Longest `@reason`: it is shown on one request's page and in evidence.
pub(crate) const REASON_CHARS_MAX: usize = 500;

const KNOWN: &str =
    "known: @id, @reason, @hold, @quorum, @ttl, @scope (not implemented yet: @stepup)";

/// The annotations of one statement, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Annotations {
    pub(crate) id: Option<String>,
    pub(crate) reason: Option<String>,
    /// Present on a statement that holds.
    pub(crate) terms: Option<DecisionTerms>,
}

/// What a hold asks for if its statement says no more.
pub(crate) fn default_terms() -> DecisionTerms {
    DecisionTerms {
        approver_groups: vec![EVERY_APPROVER.to_owned()],
        quorum: 1,
        ttl_ms: TTL_MAX_MS,
        scope: "once".to_owned(),
        stepup: None,
    }
}

/// The strictest of several: every group, the highest quorum, the shortest time.
pub(crate) fn strictest<'a>(several: impl IntoIterator<Item = &'a DecisionTerms>) -> DecisionTerms {
    let mut strictest = default_terms();
    let mut groups = Vec::new();
    for terms in several {
        groups.extend(terms.approver_groups.iter().cloned());
        strictest.quorum = strictest.quorum.max(terms.quorum);
        strictest.ttl_ms = strictest.ttl_ms.min(terms.ttl_ms);
    }
    groups.sort();
    groups.dedup();
    if !groups.is_empty() {
        strictest.approver_groups = groups;
    }
    strictest
}

/// Reads the annotations of the statement at bytes `span` of `source`; pushes what is wrong.
pub(crate) fn read<'a>(
    annotations: impl Iterator<Item = (&'a str, &'a str)>,
    source: Located<'_>,
    span: (usize, usize),
    problems: &mut Vec<Problem>,
) -> Annotations {
    let mut found = Annotations::default();
    let mut terms = default_terms();
    let mut holds = false;
    let mut needs_hold = Vec::new();
    for (key, value) in annotations {
        let result = match key {
            "id" => name(value).map(|id| found.id = Some(id)),
            "reason" => reason(value).map(|reason| found.reason = Some(reason)),
            "hold" => {
                holds = true;
                group(value).map(|group| terms.approver_groups = vec![group])
            }
            "quorum" => quorum(value).map(|quorum| terms.quorum = quorum),
            "ttl" => ttl(value).map(|ttl_ms| terms.ttl_ms = ttl_ms),
            "scope" => scope(value),
            "stepup" => Err((
                "step-up is not implemented yet".to_owned(),
                "remove `@stepup`: a policy that asks for what nobody checks is refused".to_owned(),
            )),
            _ => Err((format!("unknown annotation `@{key}`"), KNOWN.to_owned())),
        };
        if let Err((what, expected)) = result {
            problems.push(source.problem(place(source.text, span, key), what, expected));
        }
        if matches!(key, "quorum" | "ttl" | "scope") {
            needs_hold.push(key.to_owned());
        }
    }
    if holds {
        found.terms = Some(terms);
        return found;
    }
    for key in needs_hold {
        problems.push(source.problem(
            place(source.text, span, &key),
            format!("`@{key}` on a statement that does not hold"),
            "add `@hold(\"group\")`, or remove it",
        ));
    }
    found
}

type Checked<T> = Result<T, (String, String)>;

fn name(value: &str) -> Checked<String> {
    let allowed = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.');
    if !value.is_empty() && value.len() <= NAME_CHARS_MAX && value.chars().all(allowed) {
        return Ok(value.to_owned());
    }
    Err((
        format!("invalid name `{value}`"),
        format!("expected 1 to {NAME_CHARS_MAX} of the characters a-z A-Z 0-9 - _ ."),
    ))
}

/// `@hold` without a value means every approver.
fn group(value: &str) -> Checked<String> {
    if value.is_empty() { Ok(EVERY_APPROVER.to_owned()) } else { name(value) }
}

fn reason(value: &str) -> Checked<String> {
    let chars = value.chars().count();
    let deceptive = value.chars().any(guard_model::text::is_deceptive);
    if (1..=REASON_CHARS_MAX).contains(&chars) && !deceptive {
        return Ok(value.to_owned());
    }
    Err((
        "invalid reason".to_owned(),
        format!(
            "expected 1 to {REASON_CHARS_MAX} characters in one line, without control, \
             bidirectional or zero-width characters"
        ),
    ))
}

fn quorum(value: &str) -> Checked<u32> {
    match value.parse::<u32>() {
        Ok(1) => Ok(1),
        Ok(2..) => Err((
            format!("a quorum of {value} is not implemented yet"),
            "only `@quorum(\"1\")`: a policy that asks for what nobody counts is refused".into(),
        )),
        _ => Err((format!("invalid quorum `{value}`"), "expected a number from 1".into())),
    }
}

fn ttl(value: &str) -> Checked<u64> {
    let invalid = || {
        (
            format!("invalid time `{value}`"),
            "expected a whole number of seconds or minutes, as `30s` or `5m`".to_owned(),
        )
    };
    let unit_at = value.len().saturating_sub(1);
    let (number, unit) = value.split_at_checked(unit_at).ok_or_else(invalid)?;
    let unit_ms: u64 = match unit {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(invalid()),
    };
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid());
    }
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
    match ms.ok_or_else(invalid)? {
        ms if ms < TTL_MIN_MS => {
            Err((format!("a hold of `{value}` is too short"), "expected at least `1s`".into()))
        }
        ms if ms > TTL_MAX_MS => Err((
            format!("a hold of `{value}` is longer than the kernel waits"),
            "expected at most `10m`; longer holds are not implemented yet".into(),
        )),
        ms => Ok(ms),
    }
}

fn scope(value: &str) -> Checked<()> {
    if value == "once" {
        return Ok(());
    }
    Err((
        format!("unknown scope `{value}`"),
        "expected `once`; others are not implemented yet".into(),
    ))
}

/// Bytes of `@key` in the statement at `span`, outside comments and strings; else the statement's.
pub(crate) fn place(text: &str, (start, length): (usize, usize), key: &str) -> (usize, usize) {
    let statement = text.get(start..start.saturating_add(length)).unwrap_or_default();
    let mut before = "";
    for (at, token) in tokens(statement) {
        if before == "@" && token == key {
            return (start + at - 1, key.len() + 1);
        }
        before = token;
    }
    (start, statement.lines().next().map_or(1, str::len))
}
