//! How deep a policy text may nest: Cedar's parser and evaluator recurse, and a stack that
//! overflows ends the process. Counted on tokens, before Cedar sees the text.

use crate::{
    problem::{Located, Problem},
    token::tokens,
};

/// Deepest nesting of brackets; a person loses track far earlier.
pub const MAX_NESTING: usize = 32;
/// Most operators, member accesses and `if`s in one statement: each can make the tree one deeper.
pub const MAX_OPERATORS: usize = 1000;

/// The first place in a text where it goes too deep.
pub(crate) fn too_deep(source: Located<'_>) -> Option<Problem> {
    let (mut depth, mut operators) = (0_usize, 0_usize);
    for (at, token) in tokens(source.text) {
        match token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            ";" => operators = 0,
            "&&" | "||" | "+" | "-" | "*" | "!" | "." | "if" | "has" | "in" => operators += 1,
            _ => {}
        }
        if depth > MAX_NESTING {
            return Some(source.problem(
                (at, token.len()),
                "nested too deep",
                format!("expected at most {MAX_NESTING} levels of brackets"),
            ));
        }
        if operators > MAX_OPERATORS {
            return Some(source.problem(
                (at, token.len()),
                "a statement with too many operators",
                format!("expected at most {MAX_OPERATORS}: use a set, or several statements"),
            ));
        }
    }
    None
}
