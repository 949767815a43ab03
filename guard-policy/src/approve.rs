//! Who may approve a hold: rules that no policy can override, then the policy's own statements.

use crate::{
    annotation::EVERY_APPROVER,
    entity::{Unrepresentable, attributes, entities, entity, flag, text, unrepresentable},
    load::Policy,
    names::{NAMES, uid},
};
use cedar_policy::{Context, Decision, Entities, EntityUid, Request, RestrictedExpression};
use guard_model::HoldRequest;
use std::collections::HashSet;

/// Role without which nobody approves anything.
const APPROVER: &str = "approver";

/// A person who wants to approve a hold.
#[derive(Clone, Copy, Debug)]
pub struct ApproveRequest<'a> {
    /// Their user name.
    pub user: &'a str,
    /// Their roles.
    pub roles: &'a [String],
    /// Their groups.
    pub groups: &'a [String],
    /// OS accounts that are this person's own.
    pub principals: &'a [String],
    /// What they want to approve.
    pub hold: &'a HoldRequest,
}

/// Why a person may not approve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApproveRefusal {
    /// It is their own session.
    #[error(
        "{user} may not approve: the session acts for {principal}, and nobody approves for \
         themselves; ask another approver"
    )]
    OwnSession {
        /// Who wanted to approve.
        user: String,
        /// Whom the session acts for.
        principal: String,
    },
    /// They have not the role.
    #[error("{user} may not approve: the role `approver` is missing; an administrator can give it")]
    NotApprover {
        /// Who wanted to approve.
        user: String,
    },
    /// They are not in a group that the hold names.
    #[error("{user} may not approve: the hold asks for the group `{group}`")]
    NotInGroup {
        /// Who wanted to approve.
        user: String,
        /// The first group that is missing.
        group: String,
    },
    /// The policy forbids it.
    #[error("{user} may not approve: the policy forbids it ({statements})")]
    Forbidden {
        /// Who wanted to approve.
        user: String,
        /// `id (file:line)` of the forbids, comma-separated.
        statements: String,
    },
    /// The policy has statements about approving, and none permits this.
    #[error(
        "{user} may not approve: no statement permits it, and the policy has rules for `approve`"
    )]
    NotPermitted {
        /// Who wanted to approve.
        user: String,
    },
    /// The policy could not be evaluated.
    #[error("{user} may not approve: {reason}")]
    Undetermined {
        /// Who wanted to approve.
        user: String,
        /// What failed.
        reason: String,
    },
}

impl Policy {
    /// Whether the person may approve. The built-in rules come first and cannot be overridden. Then
    /// a forbid that applies refuses, and where a statement names the action `approve`, one must
    /// permit.
    ///
    /// # Errors
    /// The first rule that refuses.
    pub fn may_approve(&self, request: &ApproveRequest<'_>) -> Result<(), ApproveRefusal> {
        built_in_rules(request)?;
        let user = || request.user.to_owned();
        let (cedar, entities) = question(request).map_err(|error| {
            ApproveRefusal::Undetermined { user: user(), reason: error.to_string() }
        })?;
        let response = self.authorizer.is_authorized(&cedar, self.sets.whole(), &entities);
        if let Some(error) = response.diagnostics().errors().next() {
            let reason = format!("a policy statement failed to evaluate: {error}");
            return Err(ApproveRefusal::Undetermined { user: user(), reason });
        }
        if response.decision() == Decision::Allow {
            return Ok(());
        }
        let forbids: Vec<String> = response
            .diagnostics()
            .reason()
            .filter_map(|id| self.index.get(id))
            .map(|at| &self.statements[*at])
            .map(|statement| format!("{} ({}:{})", statement.id, statement.file, statement.line))
            .collect();
        match (forbids.is_empty(), self.rules_approval) {
            (false, _) => {
                Err(ApproveRefusal::Forbidden { user: user(), statements: forbids.join(", ") })
            }
            (true, true) => Err(ApproveRefusal::NotPermitted { user: user() }),
            (true, false) => Ok(()),
        }
    }
}

fn built_in_rules(request: &ApproveRequest<'_>) -> Result<(), ApproveRefusal> {
    let user = || request.user.to_owned();
    let own = &request.hold.session.principal;
    let accounts = request.principals.iter().map(String::as_str).chain([request.user]);
    if accounts.into_iter().any(|account| same_account(account, own)) {
        return Err(ApproveRefusal::OwnSession { user: user(), principal: own.clone() });
    }
    if !request.roles.iter().any(|role| role == APPROVER) {
        return Err(ApproveRefusal::NotApprover { user: user() });
    }
    let missing = request
        .hold
        .terms
        .approver_groups
        .iter()
        .find(|group| *group != EVERY_APPROVER && !request.groups.contains(group));
    match missing {
        None => Ok(()),
        Some(group) => Err(ApproveRefusal::NotInGroup { user: user(), group: group.clone() }),
    }
}

/// Without case and surrounding space: refusing one account too many is the safe side.
fn same_account(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}

fn question(request: &ApproveRequest<'_>) -> Result<(Request, Entities), Unrepresentable> {
    let roles = request.roles.iter().map(|role| uid(&NAMES.role, role));
    let groups = request.groups.iter().map(|group| uid(&NAMES.group, group));
    let parents: HashSet<EntityUid> = roles.chain(groups).collect();
    let user = uid(&NAMES.user, request.user);
    let person = entity("user", user.clone(), attributes([("name", text(request.user))]), parents)?;
    let hold = request.hold;
    let set = |values: &mut dyn Iterator<Item = &str>| {
        RestrictedExpression::new_set(values.map(text).collect::<Vec<_>>())
    };
    let mut about = attributes([
        ("action", text(hold.action.name())),
        ("object", text(&hold.action.object_line())),
        ("exe", text(&hold.process.exe.to_exact())),
        ("host", text(&hold.host.to_string())),
        ("session", text(&hold.session.name)),
        ("principal", text(&hold.session.principal)),
        ("statements", set(&mut hold.statements.iter().map(|statement| statement.id.as_str()))),
        ("groups", set(&mut hold.terms.approver_groups.iter().map(String::as_str))),
    ]);
    if let Some(file) = hold.action.file() {
        about.insert("path".to_owned(), text(&file.path.to_exact()));
    }
    let held = uid(&NAMES.hold, &hold.hold_id.to_string());
    let resource = entity("hold", held.clone(), about, HashSet::new())?;
    // Always true here: a hold for every action must not hold the approval itself.
    let context = Context::from_pairs([("approved".to_owned(), flag(true))])
        .map_err(|error| unrepresentable("context", error))?;
    let cedar = Request::new(user, NAMES.approve.clone(), held, context, None)
        .map_err(|error| unrepresentable("request", error))?;
    Ok((cedar, entities([person, resource])?))
}
