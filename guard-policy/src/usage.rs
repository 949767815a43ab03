//! What a statement reads of `context`, from Cedar's JSON form of it.

use serde_json::Value;
use std::collections::BTreeSet;

/// What one statement reads of the context.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ContextUse {
    /// Attributes read, or tested with `has`.
    pub(crate) attributes: BTreeSet<String>,
    /// `context` stands somewhere without `.attribute`, so what is read of it cannot be told.
    pub(crate) whole: bool,
}

impl ContextUse {
    /// Of a statement in Cedar's JSON policy format.
    pub(crate) fn of(statement: &Value) -> Self {
        let mut found = Self::default();
        found.walk(&statement["conditions"]);
        found
    }

    fn walk(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Value::Object(members) => {
                for (operator, operand) in members {
                    self.operator(operator, operand);
                }
            }
            _ => {}
        }
    }

    fn operator(&mut self, operator: &str, operand: &Value) {
        match operator {
            // A literal: nothing in it is an expression.
            "Value" => {}
            // Keys of a record are names, not operators.
            "Record" => {
                for member in operand.as_object().into_iter().flat_map(serde_json::Map::values) {
                    self.walk(member);
                }
            }
            "Var" if operand == "context" => self.whole = true,
            "." | "has" if operand["left"]["Var"] == "context" => match operand["attr"].as_str() {
                Some(name) => {
                    self.attributes.insert(name.to_owned());
                }
                None => self.whole = true,
            },
            _ => self.walk(operand),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(condition: &str) -> ContextUse {
        let text = format!("permit(principal, action, resource) when {{ {condition} }};");
        let policy = cedar_policy::Policy::parse(None, text).unwrap();
        ContextUse::of(&policy.to_json().unwrap())
    }

    #[test]
    fn reads_of_the_context_are_found_wherever_they_stand() {
        for text in [
            "context.approved",
            "context[\"approved\"]",
            "!(1 == 2 || (if context.approved then true else false))",
            "[context.approved].contains(true)",
            "{ a: context.approved }.a",
            "{ Value: context.approved }.Value",
            "context has approved",
            "ip(\"::1\").isLoopback() && context.approved",
        ] {
            let found = of(text);
            assert!(found.attributes.contains("approved"), "{text}: {found:?}");
            assert!(!found.whole, "{text}");
        }
    }

    #[test]
    fn text_that_only_looks_like_a_read_is_none() {
        let found = of("resource.path == \"context.approved\" && principal.approved");
        assert_eq!(found, ContextUse::default());
    }

    #[test]
    fn the_context_as_a_whole_is_noticed() {
        assert!(of("{ a: context }.a.approved").whole);
        assert!(of("context == { approved: true }").whole);
    }
}
