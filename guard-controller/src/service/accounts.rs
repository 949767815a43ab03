//! Users: made, changed, disabled. Every change is evidence.

use super::{Controller, is_reserved};
use crate::{
    AccountError, Role, StoreError, User, UserSpec, clock,
    db::{accounts, credentials},
    identity::token_hash,
};
use guard_audit::Event;
use sqlx::{Sqlite, Transaction};

/// Users at most: names are typed by people.
pub const USERS_MAX: usize = 1000;

/// Groups, and principals, of one user at most.
pub const GROUPS_MAX: usize = 64;

const NAME_EXPECTED: &str =
    "expected 1 to 64 of a-z, 0-9, `.`, `_`, `-`, beginning with a letter or digit";

impl Controller {
    /// All users, by name.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        accounts::list(self.inner.db.read(), None).await
    }

    /// One user.
    ///
    /// # Errors
    /// Storage failed.
    pub async fn user_by_name(&self, name: &str) -> Result<Option<User>, StoreError> {
        Ok(accounts::list(self.inner.db.read(), Some(name)).await?.into_iter().next())
    }

    /// Makes a user without a password: a sign-in link lets them set one.
    ///
    /// # Errors
    /// The name is taken, or something in `spec` is not valid.
    pub async fn create_user(&self, spec: UserSpec, by: &str) -> Result<User, AccountError> {
        check(&spec)?;
        let mut tx = self.inner.db.write().await?;
        if accounts::list(&mut *tx, None).await?.len() >= USERS_MAX {
            return Err(AccountError::TooMany { what: "users", max: USERS_MAX });
        }
        if !accounts::insert(&mut tx, &spec, clock::unix_ms()).await? {
            return Err(AccountError::Exists { what: "user", name: spec.name });
        }
        self.user_changed(tx, &spec.name, format!("created: {}", in_words(&spec)), by).await?;
        self.existing_user(&spec.name).await
    }

    /// Changes roles, groups and principals of the user that `spec` names.
    ///
    /// # Errors
    /// There is no such user, something in `spec` is not valid, or no admin would be left.
    pub async fn update_user(&self, spec: UserSpec, by: &str) -> Result<User, AccountError> {
        check(&spec)?;
        let mut tx = self.inner.db.write().await?;
        if !spec.roles.contains(&Role::Admin) {
            keep_an_admin(&mut tx, &spec.name).await?;
        }
        if !accounts::update(&mut tx, &spec).await? {
            return Err(AccountError::NotFound { what: "user", name: spec.name });
        }
        self.user_changed(tx, &spec.name, format!("changed: {}", in_words(&spec)), by).await?;
        self.existing_user(&spec.name).await
    }

    /// Enables or disables a user; disabling ends all their sessions and links at once.
    ///
    /// # Errors
    /// There is no such user, or no admin would be left.
    pub async fn set_user_disabled(
        &self,
        name: &str,
        disabled: bool,
        by: &str,
    ) -> Result<(), AccountError> {
        let mut tx = self.inner.db.write().await?;
        if disabled {
            keep_an_admin(&mut tx, name).await?;
            credentials::delete_sessions_of(&mut tx, name, None).await?;
        }
        if !accounts::set_disabled(&mut tx, name, disabled).await? {
            return Err(AccountError::NotFound { what: "user", name: name.into() });
        }
        let change = if disabled { "disabled" } else { "enabled" };
        Ok(self.user_changed(tx, name, change.into(), by).await?)
    }

    /// Sets the password (an Argon2id PHC string) and ends all of the user's sessions and links but
    /// the session with the cookie token `keep`.
    ///
    /// # Errors
    /// There is no such user, or `phc` is no Argon2id PHC string.
    pub async fn set_password_hash(
        &self,
        name: &str,
        phc: &str,
        keep: Option<&str>,
    ) -> Result<(), AccountError> {
        if !phc.starts_with("$argon2id$") {
            return Err(AccountError::Invalid {
                what: "password hash",
                value: "(not shown)".into(),
                expected: "expected an Argon2id PHC string",
            });
        }
        let mut tx = self.inner.db.write().await?;
        if !accounts::set_password_hash(&mut tx, name, phc).await? {
            return Err(AccountError::NotFound { what: "user", name: name.into() });
        }
        let keep = keep.map(token_hash);
        credentials::delete_sessions_of(&mut tx, name, keep.as_deref()).await?;
        Ok(self.user_changed(tx, name, "password set".into(), name).await?)
    }

    /// Commits a change of a user with the evidence of it.
    pub(super) async fn user_changed(
        &self,
        mut tx: Transaction<'static, Sqlite>,
        user: &str,
        change: String,
        by: &str,
    ) -> Result<(), StoreError> {
        let event = Event::UserChanged { user: user.into(), change, by: by.into() };
        self.record(&mut tx, None, event).await?;
        self.commit(tx, []).await
    }

    /// One user, who must be there.
    pub(super) async fn existing_user(&self, name: &str) -> Result<User, AccountError> {
        self.user_by_name(name)
            .await?
            .ok_or_else(|| AccountError::NotFound { what: "user", name: name.into() })
    }
}

async fn keep_an_admin(
    tx: &mut Transaction<'static, Sqlite>,
    name: &str,
) -> Result<(), AccountError> {
    let users = accounts::list(&mut **tx, None).await?;
    let is_admin = |user: &User| user.has(Role::Admin) && !user.disabled;
    let is_one = users.iter().any(|user| user.name == name && is_admin(user));
    let others = users.iter().any(|user| user.name != name && is_admin(user));
    if is_one && !others { Err(AccountError::LastAdmin(name.into())) } else { Ok(()) }
}

/// Whether it can be a user's name.
fn is_user_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut bytes = name.bytes();
    name.len() <= 64
        && bytes.next().is_some_and(plain)
        && bytes.all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'))
        && !is_reserved(name)
}

/// Groups and OS accounts: any printable word.
fn is_word(word: &str) -> bool {
    (1..=64).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_graphic())
}

fn check(spec: &UserSpec) -> Result<(), AccountError> {
    let invalid = |what, value: &str, expected| {
        Err(AccountError::Invalid { what, value: value.into(), expected })
    };
    if !is_user_name(&spec.name) {
        return invalid("user name", &spec.name, NAME_EXPECTED);
    }
    for (what, words) in [("group", &spec.groups), ("principal", &spec.principals)] {
        if words.len() > GROUPS_MAX {
            return invalid(what, &format!("{} of them", words.len()), "expected at most 64");
        }
        if let Some(word) = words.iter().find(|word| !is_word(word)) {
            return invalid(what, word, "expected 1 to 64 printable ASCII characters, no spaces");
        }
    }
    let mut roles = spec.roles.clone();
    roles.sort_unstable();
    roles.dedup();
    if roles.len() != spec.roles.len() {
        return invalid("roles", &in_words(spec), "expected each role once");
    }
    Ok(())
}

fn in_words(spec: &UserSpec) -> String {
    let roles: Vec<_> = spec.roles.iter().map(|role| role.name()).collect();
    format!(
        "roles [{}], groups [{}], own accounts [{}]",
        roles.join(", "),
        spec.groups.join(", "),
        spec.principals.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_user_names_and_the_controllers_own_is_not() {
        for good in ["ann", "a.b-c_d", "0x"] {
            assert!(is_user_name(good), "{good}");
        }
        let long = "a".repeat(65);
        for bad in ["", "Ann", ".a", "a b", "a\u{202e}b", "guard-controller", &long] {
            assert!(!is_user_name(bad), "{bad}");
        }
    }
}
