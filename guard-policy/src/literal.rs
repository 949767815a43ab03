//! The files that a statement names: what tells which of an object's other names it is asked about.
//!
//! A `forbid` follows an object to another name only if it names that one. Else a statement like "nothing but
//! what is in `/work`" would forbid all of a container, whose files have host names outside of `/work`.

use crate::{expression::operators, path};
use serde_json::Value;
use std::collections::BTreeSet;

/// Entity types whose ids are paths.
const PATH_TYPES: [&str; 3] = ["Guard::File", "Guard::Program", "Guard::Directory"];

/// A part of a `like` pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Text(String),
    Any,
}

/// What one statement names, or many together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Literals {
    /// Ids of files, programs and directories: themselves and everything below.
    entities: BTreeSet<String>,
    /// Strings: a whole path, a last component, a directory.
    texts: BTreeSet<String>,
    /// `like` patterns, of the same.
    patterns: BTreeSet<Vec<Part>>,
}

/// What of a path is like a text that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The whole path.
    Path,
    /// Its last component.
    Last,
    /// The path without it.
    Directory,
}

/// One thing by which a path is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// This file, program or directory.
    Entity(&'a str),
    /// This string.
    Text(&'a str, View),
    /// The pattern at this position.
    Pattern(usize, View),
}

impl Literals {
    /// Of a statement in Cedar's JSON policy format.
    pub(crate) fn of(statement: &Value) -> Self {
        let mut found = Self::default();
        found.walk(&statement["resource"]);
        found.walk(&statement["conditions"]);
        found
    }

    fn walk(&mut self, value: &Value) {
        operators(value, &mut |operator, operand| self.see(operator, operand));
    }

    fn see(&mut self, operator: &str, operand: &Value) -> bool {
        match operator {
            "Value" => {
                self.literal(operand);
                return false;
            }
            "like" => self.pattern(&operand["pattern"]),
            _ => {}
        }
        if let (Some(kind), Some(id)) = (text(operand, "type"), text(operand, "id"))
            && PATH_TYPES.contains(&kind)
        {
            self.entities.insert(id.to_owned());
        }
        true
    }

    fn literal(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                self.texts.insert(text.clone());
            }
            Value::Array(items) => items.iter().for_each(|item| self.literal(item)),
            _ => self.walk(value),
        }
    }

    /// Cedar writes a pattern as one element for each character and wildcard.
    fn pattern(&mut self, value: &Value) {
        let mut parts: Vec<Part> = Vec::new();
        for element in value.as_array().into_iter().flatten() {
            match (text(element, "Literal"), parts.last_mut()) {
                (Some(more), Some(Part::Text(text))) => text.push_str(more),
                (Some(text), _) => parts.push(Part::Text(text.to_owned())),
                (None, Some(Part::Any)) => {}
                (None, _) => parts.push(Part::Any),
            }
        }
        self.patterns.insert(parts);
    }

    pub(crate) fn extend(&mut self, more: &Self) {
        self.entities.extend(more.entities.iter().cloned());
        self.texts.extend(more.texts.iter().cloned());
        self.patterns.extend(more.patterns.iter().cloned());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entities.is_empty() && self.texts.is_empty() && self.patterns.is_empty()
    }

    /// By which of these a path is named; by none: empty. Two names of an object with the same marks are one to
    /// the statements. `path` is in the form that policies see.
    #[must_use]
    pub fn marks(&self, path: &str) -> Vec<Mark<'_>> {
        let (dir, last) = path::split(path);
        let entities = std::iter::once(path).chain(path::ancestors(path));
        let entities =
            entities.filter_map(|path| self.entities.get(path)).map(|id| Mark::Entity(id));
        let views = [(View::Path, path), (View::Last, last), (View::Directory, dir)];
        let texts = views.iter().filter_map(|(view, text)| Some((self.texts.get(*text)?, *view)));
        let like = |at: usize, pattern: &[Part]| {
            let which = views.iter().filter(move |(_, text)| is_like(pattern, text));
            which.map(move |(view, _)| Mark::Pattern(at, *view)).collect::<Vec<_>>()
        };
        let patterns = self.patterns.iter().enumerate();
        let patterns = patterns.flat_map(|(at, pattern)| like(at, pattern));
        entities.chain(texts.map(|(text, view)| Mark::Text(text, view))).chain(patterns).collect()
    }

    /// Whether `other` is named so that a statement is asked about it, for an object that was reached as `own`.
    ///
    /// A whole path that is named always counts. A part of a path (`*.pem`, a last component) counts only where
    /// `own` does not have it too: the statement was asked about that under `own`, where its exceptions apply.
    pub(crate) fn name_beside(&self, other: &str, own: &str) -> bool {
        self.name_whole(other) || self.name_part(other, own)
    }

    fn name_whole(&self, path: &str) -> bool {
        let (dir, _) = path::split(path);
        self.entities.contains(path)
            || path::ancestors(path).any(|dir| self.entities.contains(dir))
            || self.texts.contains(path)
            || self.texts.contains(dir)
            || self.patterns.iter().any(|pattern| is_absolute(pattern) && of_any(pattern, path))
    }

    fn name_part(&self, path: &str, own: &str) -> bool {
        let last = |path| path::split(path).1;
        let is_new = |pattern: &Vec<Part>| of_any(pattern, path) && !of_any(pattern, own);
        self.texts.contains(last(path)) && last(own) != last(path)
            || self.patterns.iter().filter(|pattern| !is_absolute(pattern)).any(is_new)
    }

    /// Absolute paths that are named whole, as texts or as entities, in the form that policies see.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.entities.union(&self.texts).map(String::as_str).filter(|path| path.starts_with('/'))
    }

    /// Directories in which names stand that are named, and whether at any depth. Of a pattern it is the
    /// directory before the first wildcard; a pattern that begins with one has none.
    pub fn directories(&self) -> impl Iterator<Item = (&str, bool)> {
        let whole = self.entities.iter().map(|path| (path.as_str(), true));
        let texts = self.texts.iter().map(|path| (path.as_str(), false));
        let patterns = self.patterns.iter().filter_map(|pattern| match pattern.first()? {
            Part::Text(text) if pattern.len() > 1 => Some((path::split(text).0, true)),
            _ => None,
        });
        whole.chain(texts).chain(patterns).filter(|(path, _)| path.starts_with('/'))
    }
}

fn text<'a>(value: &'a Value, member: &str) -> Option<&'a str> {
    value.get(member)?.as_str()
}

fn is_absolute(pattern: &[Part]) -> bool {
    matches!(pattern.first(), Some(Part::Text(text)) if text.starts_with('/'))
}

/// Whether a pattern is like the path, its last component or its directory.
fn of_any(pattern: &[Part], path: &str) -> bool {
    let (dir, last) = path::split(path);
    [path, last, dir].iter().any(|text| is_like(pattern, text))
}

/// As Cedar's `like`: the first place for each text is enough, but for the last one, which ends the whole.
fn is_like(pattern: &[Part], text: &str) -> bool {
    let mut rest = text;
    let mut floats = false;
    for (at, part) in pattern.iter().enumerate() {
        match part {
            Part::Any => floats = true,
            Part::Text(text) => {
                let is_last = at + 1 == pattern.len();
                let found = match (floats, is_last) {
                    (true, true) => return rest.ends_with(text.as_str()),
                    (true, false) => rest.find(text.as_str()),
                    (false, _) => rest.starts_with(text.as_str()).then_some(0),
                };
                let Some(found) = found else { return false };
                rest = &rest[found + text.len()..];
                floats = false;
            }
        }
    }
    floats || rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::statement;

    fn of(condition: &str) -> Literals {
        Literals::of(&statement("forbid", condition))
    }

    #[test]
    fn names_are_found_wherever_a_statement_has_them() {
        for condition in [
            "resource in Guard::Directory::\"/etc/x\"",
            "resource == Guard::File::\"/etc/x/y\"",
            "resource.path == \"/etc/x/y\"",
            "resource.dir == \"/etc/x\"",
            "[\"/a\", \"/etc/x/y\"].contains(resource.path)",
            "resource in [Guard::Directory::\"/b\", Guard::Directory::\"/etc/x\"]",
            "resource.path like \"/etc/*/y\"",
            "resource.name == \"y\"",
            "!(if resource.name like \"y*\" then false else true)",
            "{ a: \"y\" }.a == resource.name",
            "{ \"like\": \"y\" }[\"like\"] == resource.name",
            "{ Value: \"y\" }.Value == resource.name",
        ] {
            assert!(!of(condition).marks("/etc/x/y").is_empty(), "{condition}");
            assert!(of(condition).marks("/etc/z/z").is_empty(), "{condition}");
        }
        let scope = "forbid(principal, action, resource in Guard::Directory::\"/etc/x\");";
        let scope = cedar_policy::Policy::parse(None, scope).unwrap().to_json().unwrap();
        assert!(!Literals::of(&scope).marks("/etc/x/y/z").is_empty());
        let scope =
            "forbid(principal, action, resource is Guard::File in Guard::Directory::\"/e\");";
        let scope = cedar_policy::Policy::parse(None, scope).unwrap().to_json().unwrap();
        assert!(!Literals::of(&scope).marks("/e/y").is_empty());
    }

    #[test]
    fn a_part_of_a_path_counts_only_where_it_was_not_there_before() {
        let keys = of("resource.name like \"*.pem\" && !(resource in Guard::Directory::\"/usr\")");
        assert!(keys.name_beside("/root/a.pem", "/tmp/a"));
        assert!(!keys.name_beside("/var/lib/box/usr/a.pem", "/usr/a.pem"));
        let ssh = of("resource.path like \"*/.ssh/*\"");
        assert!(ssh.name_beside("/home/dev/.ssh/key", "/mnt/key"));
        assert!(!ssh.name_beside("/box/home/dev/.ssh/key", "/home/dev/.ssh/key"));
        let named = of("resource.name == \"sudo\"");
        assert!(named.name_beside("/usr/bin/sudo", "/tmp/x"));
        assert!(!named.name_beside("/box/usr/bin/sudo", "/usr/bin/sudo"));
        // A whole path always counts.
        let all = of("resource in Guard::Directory::\"/etc\"");
        assert!(all.name_beside("/etc/a", "/etc/b"));
    }

    #[test]
    fn names_with_the_same_marks_are_one_to_a_statement() {
        let all = of("resource in Guard::Directory::\"/usr\" || resource.name like \"su*\" || \
                      resource.dir == \"/usr/x\" || resource.path == \"/usr/x\"");
        assert_eq!(all.marks("/usr/bin/perl"), all.marks("/usr/lib/perl5"));
        assert!(all.marks("/opt/perl").is_empty());
        for other in ["/usr/bin/sudo", "/usr/x", "/usr/x/y", "/opt/su"] {
            assert_ne!(all.marks("/usr/bin/perl"), all.marks(other), "{other}");
        }
        assert_ne!(all.marks("/usr/x"), all.marks("/usr/x/y"));
    }

    #[test]
    fn a_like_is_cedars_like() {
        for (pattern, text, like) in [
            ("/etc/*", "/etc/x/y", true),
            ("/etc/*", "/etc", false),
            ("*.pem", "a.pem", true),
            ("*.pem", "a.pem.pub", false),
            ("a*b*c", "abbc", true),
            ("a*b*c", "acb", false),
            ("*ab", "aab", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("ab*ba", "aba", false),
        ] {
            let literals = of(&format!("resource.name like \"{pattern}\""));
            let pattern = literals.patterns.first().unwrap();
            assert_eq!(is_like(pattern, text), like, "{pattern:?} {text}");
        }
    }

    #[test]
    fn the_directories_to_look_into_end_before_the_first_wildcard() {
        let literals =
            of("resource in Guard::Directory::\"/a/b\" || resource.path like \"/c/d/e*f\" || \
             resource.path like \"*/g\" || resource.path == \"/h/i\" || resource.name == \"j\"");
        let found: Vec<_> = literals.directories().collect();
        assert_eq!(found, [("/a/b", true), ("/h/i", false), ("/c/d", true)]);
        assert_eq!(literals.paths().collect::<Vec<_>>(), ["/a/b", "/h/i"]);
    }
}
