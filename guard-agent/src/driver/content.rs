//! Execs that are judged once their content is known, or known to stay unknown.

use super::Driver;
use crate::{
    clock,
    content::{Contents, Hashed, Wanted},
    kernel::Kernel,
};
use guard_common::event::Header;
use guard_model::Action;

/// Longest wait for a hash; then a person decides, where the policy depends on it. The longest file that is hashed takes
/// three seconds, and there can be others before it.
const PATIENCE_NS: u64 = 30_000_000_000;

/// A held exec that waits for its content's hash.
#[derive(Debug)]
pub(super) struct Unjudged {
    header: Header,
    action: Box<Action>,
    deadline_ns: u64,
    until_ns: u64,
}

impl<K: Kernel> Driver<K> {
    /// Judges a held action, if its content is wanted and not known once that is.
    pub(super) fn judge_with_content(
        &mut self,
        header: &Header,
        action: Box<Action>,
        deadline_ns: u64,
    ) {
        let hold = header.hold_id;
        if self.unjudged.contains_key(&hold) {
            return;
        }
        let ask = |contents: &Contents| {
            let wanted = Wanted::of(&self.parts.proc, header, &action);
            wanted.is_some_and(|wanted| contents.ask(wanted))
        };
        let is_asked = self.parts.contents.as_ref().is_some_and(ask);
        if !is_asked {
            return self.judge(header, &action, deadline_ns);
        }
        let until_ns = clock::boottime_ns().saturating_add(PATIENCE_NS);
        self.unjudged.insert(hold, Unjudged { header: *header, action, deadline_ns, until_ns });
    }

    /// What a program contains is known, or known to stay unknown.
    pub(super) fn hashed(&mut self, hashed: Hashed) {
        let Hashed { hold, sha256 } = hashed;
        // Given up on meanwhile.
        let Some(Unjudged { header, mut action, deadline_ns, .. }) = self.unjudged.remove(&hold)
        else {
            return;
        };
        if let Action::Exec { program, .. } = &mut *action {
            program.sha256 = sha256;
        }
        self.judge(&header, &action, deadline_ns);
    }

    /// Judges without their content what has waited for it too long.
    pub(super) fn give_up_on_contents(&mut self, now_ns: u64) {
        let is_over = |unjudged: &Unjudged| unjudged.until_ns <= now_ns;
        let over: Vec<u64> = (self.unjudged.iter())
            .filter_map(|(hold, unjudged)| is_over(unjudged).then_some(*hold))
            .collect();
        for hold in over {
            tracing::warn!(hold, "what a program contains is not known in time");
            self.hashed(Hashed { hold, sha256: None });
        }
    }
}
