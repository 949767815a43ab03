//! Rules of retention: how many days a class of evidence is kept.

use std::{collections::BTreeMap, str::FromStr};

/// Longest time that a rule can name, days: a century. More is surely a mistake.
pub const DAYS_MAX: u32 = 36_500;

/// What a rule says of every class without a rule of its own.
const ALL: &str = "all";

const DAY_MS: u64 = 24 * 3600 * 1000;

/// Classes of which nothing is ever erased: verification and later rules build on them.
const NEEDED: [&str; 5] = [
    "payload_erased",
    "payloads_expired",
    "legal_hold_set",
    "legal_hold_lifted",
    "log_key_rotated",
];

/// Every class that can be erased, as [`crate::Event::class`] says it.
const CLASSES: [&str; 25] = [
    "started",
    "stopped",
    "policy_loaded",
    "heartbeat",
    "lost",
    "session_started",
    "session_ended",
    "forked",
    "executed",
    "exited",
    "sent",
    "decided",
    "blocked",
    "held",
    "person_decided",
    "decision_refused",
    "outcome",
    "withdrawn",
    "approval_changed",
    "enrolled",
    "host_link",
    "host_refused",
    "authentication",
    "user_changed",
    ALL,
];

/// Whether payloads of a class are never erased.
#[must_use]
pub fn is_needed(class: &str) -> bool {
    NEEDED.contains(&class)
}

/// Whether there is such a class of evidence.
#[must_use]
pub fn is_class(class: &str) -> bool {
    is_needed(class) || class != ALL && CLASSES.contains(&class)
}

/// One rule: `CLASS=DAYS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    class: String,
    days: u32,
}

/// Not a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// Not `CLASS=DAYS`.
    #[error("`{0}`: expected CLASS=DAYS, such as executed=90")]
    Form(String),
    /// No such class.
    #[error("`{class}` is no class of evidence that can be erased; there are {}", CLASSES.join(", "))]
    Class {
        /// What was given.
        class: String,
    },
    /// Not a number of days, or out of range.
    #[error("`{days}`: expected 1 to {DAYS_MAX} days")]
    Days {
        /// What was given.
        days: String,
    },
}

impl FromStr for Rule {
    type Err = InvalidRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (class, days) =
            text.split_once('=').ok_or_else(|| InvalidRule::Form(text.to_owned()))?;
        if !CLASSES.contains(&class) {
            return Err(InvalidRule::Class { class: class.into() });
        }
        let days = days.strip_suffix('d').unwrap_or(days);
        let number = days.parse().ok().filter(|days| (1..=DAYS_MAX).contains(days));
        let days = number.ok_or_else(|| InvalidRule::Days { days: days.into() })?;
        Ok(Self { class: class.into(), days })
    }
}

/// All rules; none by default: nothing is erased that nobody asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    days: BTreeMap<String, u32>,
}

impl Rules {
    /// Of a class named twice, the longer time counts.
    #[must_use]
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let mut days = BTreeMap::new();
        for Rule { class, days: given } in rules {
            let known = days.entry(class).or_insert(given);
            *known = given.max(*known);
        }
        Self { days }
    }

    /// Whether nothing is ever erased.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.days.is_empty()
    }

    /// How many days an entry of a class is kept; `None`: for ever.
    #[must_use]
    pub fn days(&self, class: &str) -> Option<u32> {
        if is_needed(class) {
            return None;
        }
        self.days.get(class).or_else(|| self.days.get(ALL)).copied()
    }

    /// Every class that is not kept for ever, with the days that it is kept.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let classes = CLASSES.iter().filter(|class| **class != ALL);
        classes.filter_map(|class| Some((*class, self.days(class)?)))
    }

    /// What was logged before this is older than `days`, ms since 1970.
    #[must_use]
    pub fn cutoff(days: u32, now_unix_ms: u64) -> u64 {
        now_unix_ms.saturating_sub(u64::from(days) * DAY_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Rules {
        Rules::new(texts.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn a_class_is_kept_as_its_own_rule_says_else_as_the_rule_for_all() {
        assert_eq!(rules(&["held=2"]).iter().collect::<Vec<_>>(), [("held", 2)]);
        let rules = rules(&["executed=30", "all=365d", "held=1000"]);
        assert_eq!(rules.days("executed"), Some(30));
        assert_eq!(rules.days("held"), Some(1000));
        assert_eq!(rules.days("lost"), Some(365));
        assert_eq!(rules.iter().count(), CLASSES.len() - 1);
    }

    #[test]
    fn without_a_rule_nothing_expires_and_what_proofs_need_never_does() {
        assert!(Rules::default().is_empty());
        assert_eq!(Rules::default().days("executed"), None);
        assert_eq!(rules(&["executed=1"]).days("held"), None);
        for class in NEEDED {
            assert_eq!(rules(&["all=1"]).days(class), None, "{class}");
            assert!(format!("{class}=1").parse::<Rule>().is_err(), "{class}");
        }
    }

    #[test]
    fn of_a_class_named_twice_the_longer_time_counts() {
        assert_eq!(rules(&["held=30", "held=60", "held=45"]).days("held"), Some(60));
    }

    #[test]
    fn what_is_no_rule_is_refused_with_what_to_write() {
        for (text, expected) in [
            ("executed", "CLASS=DAYS"),
            ("exec=30", "executed"),
            ("executed=0", "1 to 36500"),
            ("executed=36501", "1 to 36500"),
            ("executed=-1", "1 to 36500"),
            ("executed=", "1 to 36500"),
        ] {
            let problem = text.parse::<Rule>().unwrap_err().to_string();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }

    #[test]
    fn a_time_before_1970_is_no_time_at_all() {
        assert_eq!(Rules::cutoff(30, DAY_MS), 0);
        assert_eq!(Rules::cutoff(1, 3 * DAY_MS), 2 * DAY_MS);
    }
}
