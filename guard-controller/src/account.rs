//! People: users, their roles, and what they sign in with.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a user may do. An admin cannot approve unless also an approver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// May decide holds.
    Approver,
    /// Manages users and tokens.
    Admin,
    /// Reads and exports.
    Auditor,
    /// Proposes policy.
    PolicyAuthor,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Approver, Self::Admin, Self::Auditor, Self::PolicyAuthor];

    /// Its name in the API, in policy and in evidence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Approver => "approver",
            Self::Admin => "admin",
            Self::Auditor => "auditor",
            Self::PolicyAuthor => "policy_author",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A person who can sign in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Unique: `[a-z0-9][a-z0-9._-]{0,63}`.
    pub name: String,
    /// What they may do.
    pub roles: Vec<Role>,
    /// Groups that `@hold("group")` names.
    pub groups: Vec<String>,
    /// OS accounts that are this person's own: their sessions are not theirs to approve.
    pub principals: Vec<String>,
    /// Argon2id, in PHC string form; none until they set a password.
    #[serde(skip)]
    pub password_hash: Option<String>,
    /// May not sign in.
    pub disabled: bool,
    /// ms since 1970.
    pub created_unix_ms: u64,
}

impl User {
    /// Whether they have the role.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Who acts, for [`crate::Controller::decide`] and for evidence.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor {
            user: self.name.clone(),
            roles: self.roles.iter().map(|role| role.name().to_owned()).collect(),
            groups: self.groups.clone(),
            principals: self.principals.clone(),
        }
    }
}

/// Who acts. Made from a [`User`] as it stands now, never from what a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub(crate) user: String,
    pub(crate) roles: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) principals: Vec<String>,
}

impl Actor {
    /// The user's name.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }
}

/// A user to be made, or a change to one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    /// Name.
    pub name: String,
    /// What they may do.
    pub roles: Vec<Role>,
    /// Groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Their own OS accounts.
    #[serde(default)]
    pub principals: Vec<String>,
}

/// A signed-in browser. The token itself is only in its cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSession {
    /// Who, as they stand now.
    pub user: User,
    /// What unsafe requests must carry.
    pub csrf_token: String,
    /// ms since 1970.
    pub created_unix_ms: u64,
    /// Ends at the latest then, ms since 1970.
    pub expires_unix_ms: u64,
}

/// A token for programs. The token itself is shown once and not stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiToken {
    /// Its id.
    pub id: String,
    /// Whose rights it has.
    pub user: String,
    /// What it is for.
    pub name: String,
    /// ms since 1970.
    pub created_unix_ms: u64,
    /// ms since 1970.
    pub expires_unix_ms: u64,
    /// Last use, ms since 1970.
    pub used_unix_ms: Option<u64>,
    /// No longer accepted.
    pub revoked: bool,
}
