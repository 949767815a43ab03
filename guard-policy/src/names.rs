//! The schema's entity types and actions, parsed once: parsing a name costs more than deciding.

use crate::load::SCHEMA;
use cedar_policy::{Entities, EntityId, EntityTypeName, EntityUid};
use guard_model::{ChangeOperation, SocketOperation, SystemOperation, TaskOperation};
use std::{collections::HashMap, str::FromStr as _, sync::LazyLock};

/// Entity types and actions.
pub(crate) struct Names {
    pub(crate) session: EntityTypeName,
    pub(crate) directory: EntityTypeName,
    pub(crate) file: EntityTypeName,
    pub(crate) program: EntityTypeName,
    pub(crate) endpoint: EntityTypeName,
    pub(crate) task: EntityTypeName,
    pub(crate) system: EntityTypeName,
    pub(crate) user: EntityTypeName,
    pub(crate) role: EntityTypeName,
    pub(crate) group: EntityTypeName,
    pub(crate) hold: EntityTypeName,
    pub(crate) approve: EntityUid,
    actions: HashMap<&'static str, EntityUid>,
    /// Groups of actions, as they may stand in a policy.
    pub(crate) groups: [EntityUid; 4],
}

/// The one instance.
pub(crate) static NAMES: LazyLock<Names> = LazyLock::new(|| Names {
    session: type_name("Session"),
    directory: type_name("Directory"),
    file: type_name("File"),
    program: type_name("Program"),
    endpoint: type_name("Endpoint"),
    task: type_name("Task"),
    system: type_name("System"),
    user: type_name("User"),
    role: type_name("Role"),
    group: type_name("Group"),
    hold: type_name("Hold"),
    approve: uid(&type_name("Action"), "approve"),
    actions: action_names().map(|name| (name, uid(&type_name("Action"), name))).collect(),
    groups: ["change", "network", "task", "system"].map(|name| uid(&type_name("Action"), name)),
});

/// The actions with the groups that they belong to: without them `action in` finds no group.
#[expect(clippy::expect_used, reason = "of the shipped schema; every test would fail")]
pub(crate) static ACTIONS: LazyLock<Entities> =
    LazyLock::new(|| SCHEMA.action_entities().expect("the schema's actions are entities"));

impl Names {
    /// The uid of an action by its name. One that the schema does not know makes a request that Cedar
    /// refuses, and a refused request is a deny; a test walks all names.
    pub(crate) fn action(&self, name: &'static str) -> EntityUid {
        let known = self.actions.get(name).cloned();
        known.unwrap_or_else(|| uid(&type_name("Action"), name))
    }

    /// The uid of an action of this name, if there is one.
    pub(crate) fn known_action(&self, name: &str) -> Option<&EntityUid> {
        self.actions.get(name)
    }
}

/// The names of all actions of sessions.
pub(crate) fn action_names() -> impl Iterator<Item = &'static str> {
    let changes = ChangeOperation::ALL.iter().map(|operation| operation.name());
    let sockets = SocketOperation::ALL.iter().map(|operation| operation.name());
    let tasks = TaskOperation::ALL.iter().map(|operation| operation.name());
    let system = SystemOperation::ALL.iter().map(|operation| operation.name());
    ["exec", "open", "connect", "map", "receive"]
        .into_iter()
        .chain(changes)
        .chain(sockets)
        .chain(tasks)
        .chain(system)
}

/// An entity's uid.
pub(crate) fn uid(name: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
}

#[expect(clippy::expect_used, reason = "constant input; every test would fail")]
fn type_name(name: &str) -> EntityTypeName {
    EntityTypeName::from_str(&format!("Guard::{name}")).expect("a constant, valid type name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_every_action_and_group() {
        let known: std::collections::HashSet<_> = SCHEMA.actions().cloned().collect();
        for name in action_names() {
            assert!(known.contains(&NAMES.action(name)), "{name}");
        }
        assert!(known.contains(&NAMES.approve));
        let groups: std::collections::HashSet<_> = SCHEMA.action_groups().cloned().collect();
        for group in &NAMES.groups {
            assert!(groups.contains(group), "{group}");
        }
        let (actions, all) = (action_names().count(), known.len());
        assert_eq!(actions + 1 + NAMES.groups.len(), all, "actions, approve, groups");
    }
}
