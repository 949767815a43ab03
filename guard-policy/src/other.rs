//! Other names of the objects: prohibitions follow an object to all its names, permissions do not.
//!
//! A permit is for the name that was used: a policy that permits what is in `/work` of a container would permit
//! nothing if it had to permit the host's name for it too. A forbid is asked about every other name that it names
//! (see [`Literals::name_beside`]).

use crate::{
    Literals,
    decide::{Attempt, Outcome, built_in, stricter},
    entity::{Question, Unrepresentable},
    load::Policy,
    names::NAMES,
};
use cedar_policy::Response;
use guard_model::{Action, FileRef, PolicyStatement, RawText};

/// Names that the objects of an action have beside those that it used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OtherNames {
    /// Of the file or program.
    pub file: Vec<RawText>,
    /// Of the second file of a link or rename.
    pub to: Vec<RawText>,
    /// Why they could not be found, so that what would be allowed is held.
    pub unknown: Option<String>,
}

impl Policy {
    /// What its statements that forbid actions on files name.
    #[must_use]
    pub fn named(&self) -> &Literals {
        &self.all_named
    }

    /// Whether other names of its object can matter to an action: some statement that names files forbids it.
    #[must_use]
    pub fn follows(&self, action: &Action) -> bool {
        self.name_readers.concern(&NAMES.action(action.name()))
    }

    /// The stricter of the outcome under the name that was used and of what is forbidden under the others.
    ///
    /// An allow stays as cacheable as it was. The kernel repeats it for the same inode under the same name only,
    /// and what has these has no other names than those that were judged here, but for one made since: that one
    /// is asked about once the allow is a minute old.
    pub(crate) fn under_other_names(
        &self,
        attempt: &Attempt<'_>,
        others: &OtherNames,
        mut outcome: Outcome,
    ) -> Result<Outcome, Unrepresentable> {
        let file = others.file.iter().map(|name| (name, false));
        for (name, destination) in file.chain(others.to.iter().map(|name| (name, true))) {
            if matches!(outcome, Outcome::Deny { .. }) {
                break;
            }
            if let Some(forbidden) = self.forbidden_as(attempt, name, destination)? {
                outcome = stricter(outcome, forbidden);
            }
        }
        Ok(outcome)
    }

    /// What the statements that name this other name of an object make of it. `None`: nothing.
    fn forbidden_as(
        &self,
        attempt: &Attempt<'_>,
        name: &RawText,
        destination: bool,
    ) -> Result<Option<Outcome>, Unrepresentable> {
        let Some((own, action)) = renamed(attempt.action, name, destination) else {
            return Ok(None);
        };
        let (own, other) = (own.to_exact(), name.to_exact());
        let forbids = self.sets.forbids(&NAMES.action(action.name()));
        let names = |at: &usize| self.named[*at].name_beside(&other, &own);
        if !forbids.policies().filter_map(|policy| self.index.get(policy.id())).any(names) {
            return Ok(None);
        }
        let renamed = Attempt { action: &action, ..*attempt };
        let mut found: Option<Outcome> = None;
        for question in Question::under(&renamed, attempt.action)? {
            let ask = |approved| -> Result<Response, Unrepresentable> {
                let request = question.request(approved)?;
                Ok(self.authorizer.is_authorized(&request, forbids, &question.entities))
            };
            let by = |response: &Response| {
                let mut at = self.positions(response);
                at.retain(names);
                at
            };
            let now = ask(false)?;
            if let Some(deny) = self.failed(&now) {
                return Ok(Some(deny));
            }
            let now = by(&now);
            if now.is_empty() {
                continue;
            }
            let approved = ask(true)?;
            if let Some(deny) = self.failed(&approved) {
                return Ok(Some(deny));
            }
            let approved = by(&approved);
            let mut next = if approved.is_empty() {
                self.held_by(now)
            } else {
                let statements: Vec<_> =
                    approved.into_iter().map(|at| self.statements[at].clone()).collect();
                let reason = statements.iter().find_map(|statement| statement.reason.clone());
                Outcome::Deny { statements, reason }
            };
            let (Outcome::Hold { statements, .. } | Outcome::Deny { statements, .. }) = &mut next
            else {
                continue;
            };
            statements.push(also(name));
            found = Some(match found {
                None => next,
                Some(found) => stricter(found, next),
            });
        }
        Ok(found)
    }
}

/// Tells approvers and auditors why a statement that does not name what was used applies.
fn also(name: &RawText) -> PolicyStatement {
    built_in("guard:other-name", format!("the object is also {}", name.visible()))
}

/// The path of one object of an action, and the action with another name in its place.
fn renamed(action: &Action, name: &RawText, destination: bool) -> Option<(RawText, Action)> {
    let mut action = action.clone();
    let file: &mut FileRef = match &mut action {
        Action::Change { to: Some(to), .. } if destination => to,
        Action::Exec { program, .. } | Action::Map { program, .. } if !destination => {
            &mut program.file
        }
        Action::Open { file, .. } | Action::Receive { file, .. } | Action::Change { file, .. }
            if !destination =>
        {
            file
        }
        _ => return None,
    };
    let own = std::mem::replace(&mut file.path, name.clone());
    file.path_error = None;
    Some((own, action))
}
