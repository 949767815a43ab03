//! How many instructions the kernel's verifier may go through for each program, and how many bytes of stack it may
//! use; and whether it does.
//!
//! The verifier gives up after a million, and what it goes through grows without a word when a branch is added
//! before a loop. A file for each kernel, `tests/budgets/V.toml`, says what it was; a scenario compares.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the file with [`Verified`] among those that the VM sends.
pub const VERIFIED_FILE: &str = "verified.json";

/// Before the name of a program whose number is bytes of stack, of which it may have 512.
pub const STACK: &str = "stack.";

/// A program may grow by so many parts of a hundred before somebody has to look at it: less is what another
/// build of the same kernel series makes of it.
pub const GROWTH_PERCENT: u64 = 10;

/// What the verifier went through, by program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// Kernel release.
    pub kernel: String,
    /// Instructions by program (`verified_insns` of `struct bpf_prog_info`), and bytes of stack by [`STACK`] and
    /// program.
    pub programs: BTreeMap<String, u64>,
}

/// Reads a budget: a line `program = instructions` each, `#` begins a remark.
///
/// # Errors
/// The line that is none.
pub fn parse(text: &str) -> Result<BTreeMap<String, u64>, String> {
    let mut budget = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with('#') {
            continue;
        }
        let pair = line.split_once('=').map(|(name, number)| (name.trim(), number.trim()));
        let pair = pair.and_then(|(name, number)| Some((name, number.parse().ok()?)));
        let (name, number) = pair.ok_or_else(|| format!("not `program = number`: {line}"))?;
        if budget.insert(name.to_owned(), number).is_some() {
            return Err(format!("twice: {name}"));
        }
    }
    Ok(budget)
}

/// The file's text.
#[must_use]
pub fn text(kernel: &str, programs: &BTreeMap<String, u64>) -> String {
    let mut text = format!(
        "# Instructions that the verifier of Linux {kernel} goes through, and bytes of stack of the deepest chain of\n\
         # functions. `cargo xtask budgets --write` renews it.\n"
    );
    for (name, number) in programs {
        text += &format!("{name} = {number}\n");
    }
    text
}

/// Every program that is over its budget, has none, or is not loaded although it has one.
#[must_use]
pub fn problems(programs: &BTreeMap<String, u64>, budget: &BTreeMap<String, u64>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, number) in programs {
        match budget.get(name) {
            None => problems.push(format!("{name} has no budget, and costs {number}")),
            Some(budget) if number * 100 > budget * (100 + GROWTH_PERCENT) => {
                problems.push(format!("{name} costs {number}, its budget is {budget}"));
            }
            Some(_) => {}
        }
    }
    for name in budget.keys().filter(|name| !programs.contains_key(*name)) {
        problems.push(format!("{name} has a budget, and is not loaded"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::{parse, problems, text};
    use std::collections::BTreeMap;

    fn of(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
        pairs.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    }

    #[test]
    fn a_budget_is_read_as_it_is_written() {
        let programs = of(&[("a", 1), ("b", 1000)]);
        assert_eq!(parse(&text("7.3", &programs)), Ok(programs));
        for bad in ["a", "a = x", "a = 1\na = 2", "= "] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn growth_of_a_tenth_is_taken_and_more_is_not() {
        let budget = of(&[("a", 1000)]);
        assert_eq!(problems(&of(&[("a", 1100)]), &budget), Vec::<String>::new());
        let grown = problems(&of(&[("a", 1101)]), &budget);
        assert_eq!(grown, ["a costs 1101, its budget is 1000"]);
    }

    #[test]
    fn a_program_without_a_budget_and_a_budget_without_a_program_are_problems() {
        let found = problems(&of(&[("new", 1)]), &of(&[("old", 1)]));
        assert_eq!(
            found,
            ["new has no budget, and costs 1", "old has a budget, and is not loaded"]
        );
    }
}
