//! The schema's entity types and actions, parsed once: parsing a name costs more than deciding.

use cedar_policy::{EntityId, EntityTypeName, EntityUid};
use std::{str::FromStr as _, sync::LazyLock};

/// Entity types and actions.
pub(crate) struct Names {
    pub(crate) session: EntityTypeName,
    pub(crate) directory: EntityTypeName,
    pub(crate) file: EntityTypeName,
    pub(crate) program: EntityTypeName,
    pub(crate) endpoint: EntityTypeName,
    pub(crate) user: EntityTypeName,
    pub(crate) role: EntityTypeName,
    pub(crate) group: EntityTypeName,
    pub(crate) hold: EntityTypeName,
    pub(crate) exec: EntityUid,
    pub(crate) open: EntityUid,
    pub(crate) connect: EntityUid,
    pub(crate) approve: EntityUid,
}

/// The one instance.
pub(crate) static NAMES: LazyLock<Names> = LazyLock::new(|| Names {
    session: type_name("Session"),
    directory: type_name("Directory"),
    file: type_name("File"),
    program: type_name("Program"),
    endpoint: type_name("Endpoint"),
    user: type_name("User"),
    role: type_name("Role"),
    group: type_name("Group"),
    hold: type_name("Hold"),
    exec: uid(&type_name("Action"), "exec"),
    open: uid(&type_name("Action"), "open"),
    connect: uid(&type_name("Action"), "connect"),
    approve: uid(&type_name("Action"), "approve"),
});

/// An entity's uid.
pub(crate) fn uid(name: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
}

#[expect(clippy::expect_used, reason = "constant input; every test would fail")]
fn type_name(name: &str) -> EntityTypeName {
    EntityTypeName::from_str(&format!("Guard::{name}")).expect("a constant, valid type name")
}
