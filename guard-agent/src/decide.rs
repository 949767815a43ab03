//! The second tier: the policy on the full context, and what follows from its outcome.

use crate::{clock, names::Names, session::SessionView};
use guard_model::{
    Action, ActionDigest, BootId, HoldId, HoldRequest, HostId, PolicyStatement, ProcessContext,
};
use guard_policy::{Attempt, Outcome, Policy};

/// Proof that the policy permits an action without a person; only [`Decider`] makes one.
#[derive(Debug)]
pub struct PolicyAllow {
    cacheable: bool,
}

impl PolicyAllow {
    /// Whether the kernel may remember it for the same action on the same object.
    #[must_use]
    pub fn is_cacheable(&self) -> bool {
        self.cacheable
    }
}

#[cfg(test)]
impl PolicyAllow {
    /// For the hold engine's tests, which have no policy.
    pub(crate) fn for_tests() -> Self {
        Self { cacheable: false }
    }
}

/// What was judged, as it goes into evidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Action digest.
    pub digest: ActionDigest,
    /// Which task.
    pub process: ProcessContext,
    /// What.
    pub action: Action,
    /// Under which statements.
    pub statements: Vec<PolicyStatement>,
}

/// The second tier's word on a hold.
#[derive(Debug)]
pub enum Judgement {
    /// The policy permits it.
    Allow(PolicyAllow, Box<Judged>),
    /// The policy denies it, or it cannot be judged.
    Deny(Box<Judged>),
    /// A person must decide.
    Person(Box<HoldRequest>),
}

/// A held action as the driver knows it, before anything was read from `/proc`.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The kernel's number of the hold.
    pub hold: u64,
    /// Whose session.
    pub session: &'a SessionView<'a>,
    /// Which task.
    pub process: &'a ProcessContext,
    /// What.
    pub action: &'a Action,
    /// Now, `CLOCK_BOOTTIME` ns.
    pub now_ns: u64,
    /// The kernel's deadline, `CLOCK_BOOTTIME` ns.
    pub deadline_ns: u64,
}

/// Applies the policy.
#[derive(Debug)]
pub struct Decider {
    policy: std::sync::Arc<Policy>,
    host: HostId,
    boot: BootId,
    hostname: String,
    names: Option<Names>,
}

impl Decider {
    /// For `boot` of `host`, which calls itself `hostname`.
    #[must_use]
    pub fn new(
        policy: std::sync::Arc<Policy>,
        host: HostId,
        boot: BootId,
        hostname: String,
    ) -> Self {
        Self { policy, host, boot, hostname, names: None }
    }

    /// With other names of the objects than those that were used.
    #[must_use]
    pub fn with_names(self, names: Names) -> Self {
        Self { names: Some(names), ..self }
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Judges a held action. `full` reads what only a person needs to see (ancestors, command
    /// line); it is called only if a person will.
    pub fn judge(
        &self,
        question: &Question<'_>,
        full: impl FnOnce() -> ProcessContext,
    ) -> Judgement {
        let Question { session, action, .. } = *question;
        match self.outcome(question) {
            Outcome::Allow { statements, cacheable } => {
                let judged = Box::new(self.judged(question, statements));
                Judgement::Allow(PolicyAllow { cacheable }, judged)
            }
            Outcome::Deny { mut statements, reason } => {
                if statements.is_empty() {
                    let reason = reason.unwrap_or_else(|| "no statement permits it".to_owned());
                    statements.push(own_statement("default-deny", &reason));
                }
                Judgement::Deny(Box::new(self.judged(question, statements)))
            }
            Outcome::Hold { statements, terms } => {
                let (now_ms, left_ns) =
                    (clock::unix_ms(), question.deadline_ns.saturating_sub(question.now_ns));
                let wait_ms = terms.ttl_ms.min(left_ns / 1_000_000);
                Judgement::Person(Box::new(HoldRequest {
                    hold_id: HoldId::derive(self.host, self.boot, question.hold),
                    host: self.host,
                    boot: self.boot,
                    session: session.info.clone(),
                    process: full(),
                    action: action.clone(),
                    digest: self.digest(question),
                    statements,
                    terms,
                    recent: session.recent.iter().cloned().collect(),
                    held_at_unix_ms: now_ms,
                    deadline_unix_ms: now_ms.saturating_add(wait_ms),
                }))
            }
        }
    }

    /// Whether the policy permits an action without a person.
    #[must_use]
    pub fn permits(&self, question: &Question<'_>) -> bool {
        matches!(self.outcome(question), Outcome::Allow { .. })
    }

    /// The same, whichever program of the session's user asks.
    #[must_use]
    pub fn permits_whoever(&self, question: &Question<'_>) -> bool {
        !self.policy.depends_on_program(question.action) && self.permits(question)
    }

    fn outcome(&self, question: &Question<'_>) -> Outcome {
        let Question { session, process, action, .. } = *question;
        let attempt = Attempt { session: session.info, process, action, host: &self.hostname };
        let others = self.names.as_ref().map(|names| names.of(process, action));
        self.policy.decide_with(&attempt, &others.unwrap_or_default())
    }

    /// Denies an action that cannot be judged (K3), and says why.
    #[must_use]
    pub fn unjudgeable(&self, question: &Question<'_>, why: &str) -> Judgement {
        let statements = vec![own_statement("unjudgeable", why)];
        Judgement::Deny(Box::new(self.judged(question, statements)))
    }

    fn judged(&self, question: &Question<'_>, statements: Vec<PolicyStatement>) -> Judged {
        // Their text is in the policy, which evidence names by its digest: not in every record
        // again.
        let without_text = |statement| PolicyStatement { text: String::new(), ..statement };
        let statements = statements.into_iter().map(without_text).collect();
        Judged {
            digest: self.digest(question),
            process: question.process.clone(),
            action: question.action.clone(),
            statements,
        }
    }

    /// The digest of an action.
    #[must_use]
    pub fn digest(&self, question: &Question<'_>) -> ActionDigest {
        let session = question.session.info.id;
        ActionDigest::of(self.host, self.boot, session, question.process, question.action)
    }
}

/// A statement that is Guard's own and stands in no policy file.
#[must_use]
pub fn own_statement(id: &str, reason: &str) -> PolicyStatement {
    PolicyStatement {
        id: id.to_owned(),
        file: "(guard-agent)".to_owned(),
        line: 0,
        text: String::new(),
        reason: Some(reason.to_owned()),
    }
}
