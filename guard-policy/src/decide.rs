//! Allow, deny or hold: Cedar asked without and, if it denies, with approval.

use crate::{
    annotation::{default_terms, strictest},
    entity::{Question, Unrepresentable, path_is_known},
    load::Policy,
};
use cedar_policy::{Decision, PolicyId, Response};
use guard_model::{Action, DecisionTerms, FileRef, PolicyStatement, ProcessContext, SessionInfo};

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
    /// Decides one attempt. Total: whatever goes wrong inside ends in [`Outcome::Deny`].
    #[must_use]
    pub fn decide(&self, attempt: &Attempt<'_>) -> Outcome {
        let outcome = self.try_decide(attempt).unwrap_or_else(|error| Outcome::Deny {
            statements: Vec::new(),
            reason: Some(error.to_string()),
        });
        match self.undetermined(attempt.action) {
            None => outcome,
            Some(why) => held_for(why, outcome),
        }
    }

    fn try_decide(&self, attempt: &Attempt<'_>) -> Result<Outcome, Unrepresentable> {
        let question = Question::of(attempt)?;
        let ask = |approved| -> Result<Response, Unrepresentable> {
            let request = question.request(approved)?;
            Ok(self.authorizer.is_authorized(&request, &self.set, &question.entities))
        };
        let now = ask(false)?;
        if let Some(deny) = self.failed(&now) {
            return Ok(deny);
        }
        if now.decision() == Decision::Allow {
            return Ok(Outcome::Allow { statements: self.determining(&now) });
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

    /// Cedar skips a statement that fails to evaluate; Guard denies: it could have been a forbid.
    fn failed(&self, response: &Response) -> Option<Outcome> {
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
        at.retain(|at| self.annotations[*at].terms.is_some());
        let terms = strictest(at.iter().filter_map(|at| self.annotations[*at].terms.as_ref()));
        let statements = at.iter().map(|at| self.statements[*at].clone()).collect();
        Outcome::Hold { statements, terms }
    }

    fn determining(&self, response: &Response) -> Vec<PolicyStatement> {
        self.positions(response).into_iter().map(|at| self.statements[at].clone()).collect()
    }

    fn positions(&self, response: &Response) -> Vec<usize> {
        let position = |id: &PolicyId| self.index.get(id).copied();
        let mut at: Vec<usize> = response.diagnostics().reason().filter_map(position).collect();
        at.sort_unstable();
        at
    }

    /// What the policy would have had to know and Guard does not (K3).
    fn undetermined(&self, action: &Action) -> Option<PolicyStatement> {
        let (id, reason) = match action {
            Action::Exec { program, .. } if !path_is_known(&program.file) => {
                ("guard:path-unknown", path_unknown(&program.file))
            }
            Action::Open { file, .. } if !path_is_known(file) => {
                ("guard:path-unknown", path_unknown(file))
            }
            Action::Exec { argv_complete: false, .. } if self.reads_argv => (
                "guard:argv-incomplete",
                "the arguments could not be read completely, and the policy depends on arguments"
                    .to_owned(),
            ),
            _ => return None,
        };
        Some(PolicyStatement {
            id: id.to_owned(),
            file: BUILT_IN.to_owned(),
            line: 0,
            text: String::new(),
            reason: Some(reason),
        })
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
