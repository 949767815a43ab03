//! What a statement reads of `context`, from Cedar's JSON form of it.

use crate::expression::operators;
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
        operators(&statement["conditions"], &mut |operator, operand| found.see(operator, operand));
        found
    }

    fn see(&mut self, operator: &str, operand: &Value) -> bool {
        match operator {
            // A literal: nothing in it is an expression.
            "Value" => return false,
            "Var" if operand == "context" => self.whole = true,
            "." | "has" if operand["left"]["Var"] == "context" => {
                match operand["attr"].as_str() {
                    Some(name) => {
                        self.attributes.insert(name.to_owned());
                    }
                    None => self.whole = true,
                }
                return false;
            }
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::support::statement;

    fn of(condition: &str) -> ContextUse {
        ContextUse::of(&statement("permit", condition))
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
