//! Which statements can concern which action.
//!
//! Cedar looks at every statement of the set that it is given, whatever the action, and builds the list of a
//! scope's actions anew each time. A statement whose scope does not have the action is neither satisfied nor an
//! error, so it is left out; of one whose scope has it, that part of the scope is true, so it is asked about
//! every action. Cedar's answer over the set that an action has in this way is its answer over all statements.

use crate::names::{ACTIONS, NAMES, action_names};
use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy, PolicyId, PolicySet};
use guard_model::ChangeOperation;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// The set of each action. Actions with the same statements share one.
#[derive(Debug)]
pub(crate) struct ActionSets {
    by_action: HashMap<EntityUid, Arc<PolicySet>>,
    /// Of those, the statements that forbid.
    forbids: HashMap<EntityUid, Arc<PolicySet>>,
    whole: Arc<PolicySet>,
}

impl ActionSets {
    /// `unscoped`: what [`for_every_action`] has made of the statements.
    pub(crate) fn new(whole: PolicySet, unscoped: &HashMap<PolicyId, Policy>) -> Self {
        let whole = Arc::new(whole);
        let policies: Vec<&Policy> = whole.policies().collect();
        let mut shared: HashMap<Vec<usize>, Arc<PolicySet>> = HashMap::new();
        let mut of = |action: EntityUid, all: bool| {
            let concerned = |(_, policy): &(usize, &&Policy)| {
                can_concern(&policy.action_constraint(), &action)
                    && (all || policy.effect() == Effect::Forbid)
            };
            let at: Vec<usize> =
                policies.iter().enumerate().filter(concerned).map(|(at, _)| at).collect();
            let set = shared.entry(at).or_insert_with_key(|at| {
                let some = at.iter().map(|at| {
                    let policy = policies[*at];
                    unscoped.get(policy.id()).unwrap_or(policy).clone()
                });
                // Their ids are unique in the whole set. If they were not, the whole set is right too.
                PolicySet::from_policies(some).map_or_else(|_| whole.clone(), Arc::new)
            });
            (action, set.clone())
        };
        let actions = || action_names().map(|name| NAMES.action(name));
        let by_action = actions().map(|action| of(action, true)).collect();
        let forbids = actions().map(|action| of(action, false)).collect();
        Self { by_action, forbids, whole }
    }

    /// What can concern this action; all statements for one that is not known.
    pub(crate) fn of(&self, action: &EntityUid) -> &PolicySet {
        self.by_action.get(action).unwrap_or(&self.whole)
    }

    /// What can forbid this action; all statements for one that is not known.
    pub(crate) fn forbids(&self, action: &EntityUid) -> &PolicySet {
        self.forbids.get(action).unwrap_or(&self.whole)
    }

    /// All statements.
    pub(crate) fn whole(&self) -> &PolicySet {
        &self.whole
    }
}

/// Deepest JSON form of a statement that is made into another one: reading and comparing it take stack, and a
/// chain of twelve conditions has some fifty levels. A deeper one keeps its scope, which costs time alone.
const LEVELS_MAX: usize = 200;

/// Whether a value has more levels than `levels`.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let Some(left) = levels.checked_sub(1) else { return true };
    match value {
        Value::Array(items) => items.iter().any(|item| is_deeper(item, left)),
        Value::Object(members) => members.values().any(|member| is_deeper(member, left)),
        _ => false,
    }
}

/// The same statement, about every action, from its JSON form. `None` unless all the rest of it is the same.
pub(crate) fn for_every_action(policy: &Policy, mut json: Value) -> Option<Policy> {
    if is_deeper(&json, LEVELS_MAX) {
        return None;
    }
    *json.get_mut("action")? = json!({ "op": "All" });
    let unscoped = Policy::from_json(Some(policy.id().clone()), json).ok()?;
    let (one, other) = (policy.as_ref(), unscoped.as_ref());
    let is_same = one.effect() == other.effect()
        && one.principal_constraint() == other.principal_constraint()
        && one.resource_constraint() == other.resource_constraint()
        && one.non_scope_constraints() == other.non_scope_constraints();
    (is_same && unscoped.action_constraint() == ActionConstraint::Any).then_some(unscoped)
}

/// Whether a statement with this scope may be satisfied by the action: by itself, or by a group that it is in.
fn can_concern(scope: &ActionConstraint, action: &EntityUid) -> bool {
    let is = |named: &EntityUid| named == action || ACTIONS.is_ancestor_of(named, action);
    match scope {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(named) => named == action,
        ActionConstraint::In(named) => named.iter().any(is),
    }
}

/// Whether a statement with this scope may be satisfied by an action on a file.
pub(crate) fn concerns_files(scope: &ActionConstraint) -> bool {
    let changes = ChangeOperation::ALL.iter().map(|operation| operation.name());
    let mut names = ["exec", "map", "open", "receive"].into_iter().chain(changes);
    names.any(|name| can_concern(scope, &NAMES.action(name)))
}

/// The actions that some statements are about.
#[derive(Debug, Default)]
pub(crate) struct ActionScopes {
    every: bool,
    some: HashSet<EntityUid>,
}

impl ActionScopes {
    pub(crate) fn add(&mut self, scope: &ActionConstraint) {
        let actions = match scope {
            ActionConstraint::Any => {
                self.every = true;
                return;
            }
            ActionConstraint::Eq(action) => std::slice::from_ref(action),
            ActionConstraint::In(actions) => actions.as_slice(),
        };
        self.every |= actions.iter().any(|action| NAMES.groups.contains(action));
        self.some.extend(actions.iter().cloned());
    }

    /// Whether a statement is about this action.
    pub(crate) fn concern(&self, action: &EntityUid) -> bool {
        self.every || self.some.contains(action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    #[test]
    fn an_action_is_asked_about_with_fewer_statements_than_there_are() {
        let sets = Policy::default_policy().sets;
        let count = |name| sets.of(&NAMES.action(name)).policies().count();
        let all = sets.whole().policies().count();
        // `receive` is named by no statement of the pack, a change of the file tree by its group.
        assert_eq!(count("receive"), 0);
        assert!((2..all / 2).contains(&count("open")), "{} of {all}", count("open"));
        assert!((2..all / 2).contains(&count("mkdir")), "{} of {all}", count("mkdir"));
        assert_eq!(sets.of(&NAMES.approve).policies().count(), all);
    }

    #[test]
    fn no_list_of_actions_is_left_where_the_action_is_known() {
        let sets = Policy::default_policy().sets;
        for name in action_names() {
            for policy in sets.of(&NAMES.action(name)).policies() {
                assert_eq!(policy.action_constraint(), ActionConstraint::Any, "{policy}");
            }
        }
    }

    #[test]
    fn a_statement_that_takes_much_stack_keeps_its_scope() {
        let of = |conditions: usize| {
            let long = "true && ".repeat(conditions);
            let text = format!(
                "permit(principal, action == Guard::Action::\"open\", resource) when {{ {long}true }};"
            );
            let policy = cedar_policy::Policy::parse(None, text).unwrap();
            for_every_action(&policy, policy.to_json().unwrap())
        };
        assert!(of(LEVELS_MAX / 4).is_some());
        assert!(of(LEVELS_MAX).is_none());
    }

    #[test]
    fn a_statement_that_would_be_another_one_keeps_its_scope() {
        let text =
            "forbid(principal, action == Guard::Action::\"open\", resource) when { 1 == 2 };";
        let one = cedar_policy::Policy::parse(None, text).unwrap();
        let json = one.to_json().unwrap();
        assert!(for_every_action(&one, json.clone()).is_some());
        let changes = [
            ("effect", json!("permit")),
            ("principal", json!({ "op": "is", "entity_type": "Guard::Session" })),
            ("resource", json!({ "op": "is", "entity_type": "Guard::File" })),
            ("conditions", json!([])),
            ("action", Value::Null),
        ];
        for (member, value) in changes {
            let mut other = json.clone();
            if member == "action" {
                other.as_object_mut().unwrap().remove(member);
            } else {
                other[member] = value;
            }
            assert!(for_every_action(&one, other).is_none(), "{member}");
        }
    }
}
