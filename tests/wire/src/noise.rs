//! What holds under noise came to: a round as the workload counts it, and all rounds as xtask prints them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the file with [`NoiseFigures`] among those that the VM sends.
pub const NOISE_FILE: &str = "noise.json";

/// What became of attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Begun.
    pub begun: u64,
    /// Came back with success, as was to be.
    pub allowed: u64,
    /// Came back with `EPERM`, as was to be.
    pub denied: u64,
    /// Never came back: the noise killed their process.
    pub killed: u64,
    /// Never came back, in a process that nobody killed.
    pub lost: u64,
    /// Came back otherwise, errno 513 included.
    pub wrong: u64,
    /// Came back as errno 513, the kernel's own `ERESTARTNOINTR`.
    pub seen_513: u64,
    /// Came back as `EINTR` or as another of the kernel's own errors of restarts (512 to 516).
    pub interrupted: u64,
    /// Processes that were started, threads not counted.
    pub processes: u64,
    /// Of these, killed.
    pub processes_killed: u64,
    /// Threads and processes that were not made, because their label could not be kept (`EPERM`).
    pub forks_refused: u64,
    /// The longest that one took to come back, ms.
    pub slowest_ms: u64,
    /// The first of those that went wrong, in words.
    pub examples: Vec<String>,
}

/// Most examples that are kept: one fault makes many.
const EXAMPLES_MAX: usize = 20;

impl Attempts {
    /// Adds another round's.
    pub fn add(&mut self, other: Self) {
        for (to, from) in [
            (&mut self.begun, other.begun),
            (&mut self.allowed, other.allowed),
            (&mut self.denied, other.denied),
            (&mut self.killed, other.killed),
            (&mut self.lost, other.lost),
            (&mut self.wrong, other.wrong),
            (&mut self.seen_513, other.seen_513),
            (&mut self.interrupted, other.interrupted),
            (&mut self.processes, other.processes),
            (&mut self.processes_killed, other.processes_killed),
            (&mut self.forks_refused, other.forks_refused),
        ] {
            *to += from;
        }
        self.slowest_ms = self.slowest_ms.max(other.slowest_ms);
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES_MAX);
    }

    /// Keeps an example, while there is room.
    pub fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(text());
        }
    }

    /// What must never be, in words; nothing if all is well.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let never = [
            (self.lost, "never came back, and nobody had killed their process"),
            (self.wrong, "came back otherwise than decided"),
            (self.seen_513, "came back as errno 513"),
            (self.interrupted, "came back as EINTR or an error of restarts"),
        ];
        let mut problems: Vec<_> = never
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} of {} attempts {what}", self.begun))
            .collect();
        let ended = self.allowed + self.denied + self.killed + self.lost + self.wrong;
        if ended != self.begun {
            problems.push(format!("{} attempts were begun and {ended} counted", self.begun));
        }
        problems.extend(self.examples.iter().cloned());
        problems
    }
}

/// What [`crate::Task::Noise`] saw.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NoiseFigures {
    /// Kernel release.
    pub kernel: String,
    /// What went wrong, in words. Empty: all is well.
    pub misses: Vec<String>,
    /// The seed of the first round; each further one has the next.
    pub seed: u64,
    /// Rounds that were whole.
    pub rounds: u64,
    /// Holds that the kernel placed meanwhile, by its own counter.
    pub holds: u64,
    /// What became of the attempts.
    pub attempts: Attempts,
    /// Noise by its kind.
    pub noise: BTreeMap<String, u64>,
    /// Kernel counters, as far as they have moved.
    pub counters: BTreeMap<String, u64>,
    /// Entries of the kernel's tables before the first round.
    pub tables_before: BTreeMap<String, u64>,
    /// The same after the last one.
    pub tables_after: BTreeMap<String, u64>,
    /// Milliseconds for all rounds.
    pub took_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::Attempts;

    #[test]
    fn what_must_never_be_is_a_problem_and_so_is_an_attempt_that_nobody_counts() {
        let good = Attempts { begun: 6, allowed: 3, denied: 2, killed: 1, ..Attempts::default() };
        assert_eq!(good.problems(), Vec::<String>::new());
        let uncounted = Attempts { killed: 0, ..good.clone() };
        assert_eq!(uncounted.problems(), ["6 attempts were begun and 5 counted"]);
        let wrong = Attempts { wrong: 1, seen_513: 1, allowed: 2, ..good.clone() };
        assert_eq!(wrong.problems().len(), 2);
        let mut sum = good.clone();
        sum.add(wrong);
        assert_eq!((sum.begun, sum.wrong, sum.seen_513), (12, 1, 1));
    }
}
