//! Allow, deny or hold: Cedar asked without and, if it denies, with approval.

use crate::{
    annotation::{default_terms, strictest},
    entity::{Question, Unrepresentable, path_is_known},
    load::Policy,
    names::NAMES,
    other::OtherNames,
};
use cedar_policy::{Decision, Effect, PolicyId, PrincipalConstraint, ResourceConstraint, Response};
use guard_model::{
    Action, DecisionTerms, Endpoint, FileRef, PolicyStatement, ProcessContext, SessionInfo,
};

/// What is attempted, by whom, where.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Whose session.
    pub session: &'a SessionInfo,
    /// Which task.
    pub process: &'a ProcessContext,
    /// What.
    pub action: &'a Action,
    /// The host's name.
    pub host: &'a str,
}

/// What the policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The action goes on.
    Allow {
        /// The permits that apply.
        statements: Vec<PolicyStatement>,
        /// The same is allowed to whoever of this session does it again on the same object under the
        /// same name, as the same user: the kernel may remember it.
        cacheable: bool,
    },
    /// The action fails.
    Deny {
        /// The forbids that apply; empty if nothing permits it, or if a statement failed.
        statements: Vec<PolicyStatement>,
        /// Why, for people.
        reason: Option<String>,
    },
    /// A person decides.
    Hold {
        /// The statements that hold it, never empty.
        statements: Vec<PolicyStatement>,
        /// On which terms.
        terms: DecisionTerms,
    },
}

/// File shown for what Guard itself adds to a policy.
const BUILT_IN: &str = "(built in)";

impl Policy {
    /// Decides one attempt whose objects have no other names. Total: whatever goes wrong inside ends in
    /// [`Outcome::Deny`].
    #[must_use]
    pub fn decide(&self, attempt: &Attempt<'_>) -> Outcome {
        self.decide_with(attempt, &OtherNames::default())
    }

    /// As [`Policy::decide`], and what is forbidden under one of the object's other names is forbidden.
    #[must_use]
    pub fn decide_with(&self, attempt: &Attempt<'_>, others: &OtherNames) -> Outcome {
        let outcome = self.try_decide(attempt, others).unwrap_or_else(|error| Outcome::Deny {
            statements: Vec::new(),
            reason: Some(error.to_string()),
        });
        let outcome = match &others.unknown {
            None => outcome,
            Some(why) => held_for(built_in("guard:names-unknown", why.clone()), outcome),
        };
        match self.undetermined(attempt.action) {
            None => outcome,
            Some(why) => held_for(why, outcome),
        }
    }

    fn try_decide(
        &self,
        attempt: &Attempt<'_>,
        others: &OtherNames,
    ) -> Result<Outcome, Unrepresentable> {
        let mut outcome: Option<Outcome> = None;
        for question in Question::all(attempt)? {
            let next = self.answer(attempt, &question)?;
            outcome = Some(match outcome {
                None => next,
                Some(outcome) => stricter(outcome, next),
            });
        }
        let outcome = outcome.unwrap_or_else(|| Outcome::Deny {
            statements: Vec::new(),
            reason: Some("there is no object to decide on".to_owned()),
        });
        self.under_other_names(attempt, others, outcome)
    }

    fn answer(
        &self,
        attempt: &Attempt<'_>,
        question: &Question,
    ) -> Result<Outcome, Unrepresentable> {
        let statements = self.sets.of(&question.action);
        let ask = |approved| -> Result<Response, Unrepresentable> {
            let request = question.request(approved)?;
            Ok(self.authorizer.is_authorized(&request, statements, &question.entities))
        };
        let now = ask(false)?;
        if let Some(deny) = self.failed(&now) {
            return Ok(deny);
        }
        if now.decision() == Decision::Allow {
            let cacheable = self.is_cacheable(attempt.action);
            return Ok(Outcome::Allow { statements: self.determining(&now), cacheable });
        }
        let approved = ask(true)?;
        if let Some(deny) = self.failed(&approved) {
            return Ok(deny);
        }
        if approved.decision() == Decision::Allow {
            return Ok(self.held(&now, &approved));
        }
        let statements = self.determining(&now);
        let said = statements.iter().find_map(|statement| statement.reason.clone());
        let silent = || statements.is_empty().then(|| "no statement permits it".to_owned());
        let reason = said.or_else(silent);
        Ok(Outcome::Deny { statements, reason })
    }

    /// Whether an allow of this action depends on nothing but what the kernel's decision cache compares:
    /// session, user, object, name and access. A statement on it that reads the program or the working
    /// directory of the process makes every decision its own.
    fn is_cacheable(&self, action: &Action) -> bool {
        let is_steady = match action {
            Action::Open { access, .. } => !access.create && !access.tmpfile,
            Action::Exec { argv_complete, unnamed, gains, .. } => {
                *argv_complete && !unnamed && !gains
            }
            Action::Map { unnamed, writable, .. } => !unnamed && !writable,
            Action::Connect { endpoint, .. } | Action::Socket { endpoint, .. } => matches!(
                endpoint,
                Endpoint::Inet { .. } | Endpoint::Inet6 { .. } | Endpoint::Family { .. }
            ),
            Action::Change { .. }
            | Action::Receive { .. }
            | Action::Task { .. }
            | Action::System { .. } => false,
        };
        is_steady && !self.depends_on_program(action)
    }

    /// Whether a statement on this action reads the program or the working directory of the process: then what
    /// is allowed to one process is not allowed to the next.
    #[must_use]
    pub fn depends_on_program(&self, action: &Action) -> bool {
        self.place_readers.concern(&NAMES.action(action.name()))
    }

    /// Whether a statement reads the content's hash of what is executed: then the kernel has to make it.
    #[must_use]
    pub fn reads_content(&self) -> bool {
        self.reads_content
    }

    /// Whether the policy may say anything but yes to an action of this name (`mount`, `exec`, …). A host that does not see
    /// all of them cannot enforce such a policy. False for what is no action's name.
    #[must_use]
    pub fn decides_on(&self, action: &str) -> bool {
        let Some(action) = NAMES.known_action(action) else { return false };
        let says_yes_always = |policy: &cedar_policy::Policy| {
            policy.effect() == Effect::Permit
                && policy.principal_constraint() == PrincipalConstraint::Any
                && policy.resource_constraint() == ResourceConstraint::Any
                && policy.as_ref().non_scope_constraints().is_none()
        };
        self.sets.forbids(action).policies().next().is_some()
            || !self.sets.of(action).policies().any(says_yes_always)
    }

    /// Cedar skips a statement that fails to evaluate; Guard denies: it could have been a forbid.
    pub(crate) fn failed(&self, response: &Response) -> Option<Outcome> {
        let error = response.diagnostics().errors().next()?;
        Some(Outcome::Deny {
            statements: Vec::new(),
            reason: Some(format!("a policy statement failed to evaluate: {error}")),
        })
    }

    /// The terms come from every statement with `@hold` that determined either answer.
    fn held(&self, now: &Response, approved: &Response) -> Outcome {
        let mut at = self.positions(now);
        at.extend(self.positions(approved));
        at.sort_unstable();
        at.dedup();
        self.held_by(at)
    }

    /// A hold by the statements at these positions, as far as they hold.
    pub(crate) fn held_by(&self, mut at: Vec<usize>) -> Outcome {
        at.retain(|at| self.annotations[*at].terms.is_some());
        let terms = strictest(at.iter().filter_map(|at| self.annotations[*at].terms.as_ref()));
        let statements = at.iter().map(|at| self.statements[*at].clone()).collect();
        Outcome::Hold { statements, terms }
    }

    fn determining(&self, response: &Response) -> Vec<PolicyStatement> {
        self.positions(response).into_iter().map(|at| self.statements[at].clone()).collect()
    }

    pub(crate) fn positions(&self, response: &Response) -> Vec<usize> {
        let position = |id: &PolicyId| self.index.get(id).copied();
        let mut at: Vec<usize> = response.diagnostics().reason().filter_map(position).collect();
        at.sort_unstable();
        at
    }

    /// What the policy would have had to know and Guard does not (K3).
    fn undetermined(&self, action: &Action) -> Option<PolicyStatement> {
        let to = if let Action::Change { to, .. } = action { to.as_ref() } else { None };
        let unknown = action.file().into_iter().chain(to).find(|file| !path_is_known(file));
        let (id, reason) = match (action, unknown) {
            (_, Some(file)) => ("guard:path-unknown", path_unknown(file)),
            (Action::Exec { argv_complete: false, .. }, None) if self.reads_argv => (
                "guard:argv-incomplete",
                "the arguments could not be read completely, and the policy depends on arguments"
                    .to_owned(),
            ),
            // What loads a program is opened by the kernel itself, where nothing can be hashed: `context.loader` says so.
            (Action::Exec { program, loader: false, .. }, None)
                if self.reads_content && program.sha256.is_none() =>
            {
                (
                    "guard:content-unknown",
                    "the program's content could not be hashed (see `sha256` in docs/policy.md), and the policy \
                     depends on it"
                        .to_owned(),
                )
            }
            _ => return None,
        };
        Some(built_in(id, reason))
    }
}

/// A statement that Guard itself adds.
pub(crate) fn built_in(id: &str, reason: String) -> PolicyStatement {
    PolicyStatement {
        id: id.to_owned(),
        file: BUILT_IN.to_owned(),
        line: 0,
        text: String::new(),
        reason: Some(reason),
    }
}

/// Of the answers about two objects of one action, the stricter; of two holds, both statements and the
/// stricter terms.
pub(crate) fn stricter(one: Outcome, other: Outcome) -> Outcome {
    match (one, other) {
        (deny @ Outcome::Deny { .. }, _) | (_, deny @ Outcome::Deny { .. }) => deny,
        (
            Outcome::Hold { mut statements, terms },
            Outcome::Hold { statements: more, terms: others },
        ) => {
            for statement in more {
                if !statements.contains(&statement) {
                    statements.push(statement);
                }
            }
            Outcome::Hold { statements, terms: strictest([&terms, &others]) }
        }
        (hold @ Outcome::Hold { .. }, Outcome::Allow { .. })
        | (Outcome::Allow { .. }, hold @ Outcome::Hold { .. }) => hold,
        (
            Outcome::Allow { mut statements, cacheable },
            Outcome::Allow { statements: more, cacheable: also },
        ) => {
            for statement in more {
                if !statements.contains(&statement) {
                    statements.push(statement);
                }
            }
            Outcome::Allow { statements, cacheable: cacheable && also }
        }
    }
}

fn path_unknown(file: &FileRef) -> String {
    let why = file.path_error.as_deref().unwrap_or("it is not absolute");
    format!("the path could not be determined: {why}")
}

/// An allow becomes a hold; a hold gains a reason; a deny stays.
fn held_for(why: PolicyStatement, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Allow { .. } => Outcome::Hold { statements: vec![why], terms: default_terms() },
        Outcome::Hold { mut statements, terms } => {
            statements.push(why);
            Outcome::Hold { statements, terms }
        }
        deny @ Outcome::Deny { .. } => deny,
    }
}
