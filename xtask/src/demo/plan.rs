//! What `--auto` decides about each of the agent's steps, and what must come of it.

use std::{collections::BTreeMap, process::ExitCode};

/// One step of `tests/demo/agent.sh`.
pub(crate) struct Step {
    /// Its name in the script.
    pub(crate) name: &'static str,
    /// What the hold is on, and whether it is approved; none: the step needs nobody.
    pub(crate) hold: Option<(&'static str, bool)>,
}

const fn free(name: &'static str) -> Step {
    Step { name, hold: None }
}

const fn held(name: &'static str, object: &'static str, approve: bool) -> Step {
    Step { name, hold: Some((object, approve)) }
}

/// In the agent's order.
pub(crate) const STEPS: &[Step] = &[
    free("work"),
    free("listed"),
    held("secret", "/.ssh/id_ed25519", false),
    held("outside", "198.51.100.7", true),
    held("tool", "/work/tool", true),
    held("installer", "/work/installer", false),
    free("goodbye"),
];

/// A hold that `--auto` has answered.
pub(crate) struct Answer {
    /// The action in one line, as the API has it.
    pub(crate) line: String,
    /// The step that it belongs to; none: nobody expected it, and it was denied.
    pub(crate) step: Option<&'static str>,
}

/// The step that a held action belongs to, and whether it is approved.
pub(crate) fn find(line: &str) -> Option<(&'static str, bool)> {
    STEPS.iter().find_map(|step| {
        let (object, approve) = step.hold?;
        line.contains(object).then_some((step.name, approve))
    })
}

/// Compares what the agent saw with what was decided, and says so in a table.
pub(crate) fn judge(steps: &str, answers: &[Answer]) -> ExitCode {
    let (lines, problems) = compare(steps, answers);
    println!("\n{:<12} {:<10} {:<7} outcome", "step", "decision", "status");
    for line in lines {
        println!("{line}");
    }
    for problem in &problems {
        println!("FAILED {problem}");
    }
    println!("\ndemo: {}", if problems.is_empty() { "every outcome is right" } else { "failed" });
    if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn compare(steps: &str, answers: &[Answer]) -> (Vec<String>, Vec<String>) {
    let seen: BTreeMap<&str, i32> = steps
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, status)| Some((name, status.parse().ok()?)))
        .collect();
    let (mut lines, mut problems) = (Vec::new(), Vec::new());
    for step in STEPS {
        let answered = answers.iter().filter(|answer| answer.step == Some(step.name)).count();
        let decision = match step.hold {
            None => "none",
            Some((_, true)) => "approved",
            Some((_, false)) => "denied",
        };
        let Some(status) = seen.get(step.name) else {
            problems.push(format!("step `{}` was not run", step.name));
            continue;
        };
        let succeeds = step.hold.is_none_or(|(_, approve)| approve);
        let right = succeeds == (*status == 0) && step.hold.is_some() == (answered > 0);
        let outcome = if right { "right" } else { "WRONG" };
        lines.push(format!("{:<12} {decision:<10} {status:<7} {outcome}", step.name));
        if !right {
            problems.push(format!(
                "step `{}`: exit status {status}, {answered} holds, decision {decision}",
                step.name
            ));
        }
    }
    for answer in answers.iter().filter(|answer| answer.step.is_none()) {
        problems.push(format!("unexpected hold: {}", answer.line.escape_debug()));
    }
    (lines, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: &str = "work 0\nlisted 0\nsecret 1\noutside 0\ntool 0\ninstaller 126\ngoodbye 0\n";

    fn answers() -> Vec<Answer> {
        let lines = ["open /home/dev/.ssh/id_ed25519", "connect 198.51.100.7:80"];
        let programs = ["run /home/dev/work/tool", "run /home/dev/work/installer"];
        let lines = lines.into_iter().chain(programs);
        lines.map(|line| Answer { line: line.into(), step: find(line).map(|it| it.0) }).collect()
    }

    #[test]
    fn what_was_decided_and_seen_is_right() {
        assert_eq!(compare(SEEN, &answers()).1, Vec::<String>::new());
    }

    #[test]
    fn a_denied_step_that_went_on_is_wrong() {
        let (_, problems) = compare(&SEEN.replace("secret 1", "secret 0"), &answers());
        assert!(problems.len() == 1 && problems[0].contains("`secret`"), "{problems:?}");
    }

    #[test]
    fn a_step_that_was_never_held_is_wrong() {
        let (_, problems) = compare(SEEN, &answers()[1..]);
        assert!(problems.len() == 1 && problems[0].contains("`secret`"), "{problems:?}");
    }

    #[test]
    fn a_missing_step_and_an_unexpected_hold_are_wrong() {
        let mut answers = answers();
        answers.push(Answer { line: "open /etc/passwd".into(), step: None });
        let (_, problems) = compare(&SEEN.replace("goodbye 0\n", ""), &answers);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
