//! Users, links, browser sessions and API tokens: what works, for how long, and what ends it.

use crate::support::{events, sql, start};
use guard_audit::Event;
use guard_controller::{AccountError, Controller, Role, UserSpec, service};

const PHC: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g";

async fn user(controller: &Controller, name: &str, roles: &[Role]) {
    let spec = UserSpec { name: name.into(), roles: roles.into(), ..UserSpec::default() };
    controller.create_user(spec, "test").await.unwrap();
}

#[tokio::test]
async fn a_sign_in_link_works_once_and_a_newer_one_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    user(controller, "ann", &[Role::Approver]).await;
    let old = controller.new_sign_in_link("ann", "admin").await.unwrap();
    let new = controller.new_sign_in_link("ann", "admin").await.unwrap();
    assert!(controller.use_sign_in_link(&old).await.unwrap().is_none());
    for _ in 0..2 {
        assert_eq!(controller.peek_sign_in_link(&new).await.unwrap().unwrap().name, "ann");
    }
    assert_eq!(controller.use_sign_in_link(&new).await.unwrap().unwrap().name, "ann");
    assert!(controller.use_sign_in_link(&new).await.unwrap().is_none());
    assert!(controller.peek_sign_in_link(&new).await.unwrap().is_none());
    let late = controller.new_sign_in_link("ann", "admin").await.unwrap();
    sql(dir.path(), "UPDATE sign_in_links SET expires_unix_ms = 1").await;
    assert!(controller.use_sign_in_link(&late).await.unwrap().is_none());
    assert!(controller.use_sign_in_link(&"x".repeat(10_000)).await.unwrap().is_none());
    running.shutdown().await;
}

#[tokio::test]
async fn a_browser_session_ends_by_idling_by_age_by_sign_out_and_by_disabling() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    user(controller, "ann", &[Role::Approver]).await;
    let session = async || controller.new_web_session("ann").await.unwrap().0;
    let works = async |token: &str| controller.web_session(token).await.unwrap().is_some();
    let token = session().await;
    assert!(works(&token).await);
    sql(dir.path(), "UPDATE web_sessions SET seen_unix_ms = seen_unix_ms - 1800000").await;
    assert!(!works(&token).await, "idle");
    let token = session().await;
    sql(dir.path(), "UPDATE web_sessions SET expires_unix_ms = 1").await;
    assert!(!works(&token).await, "old");
    let token = session().await;
    controller.end_web_session(&token).await.unwrap();
    assert!(!works(&token).await, "signed out");
    let token = session().await;
    controller.set_user_disabled("ann", true, "admin").await.unwrap();
    controller.set_user_disabled("ann", false, "admin").await.unwrap();
    assert!(!works(&token).await, "was disabled in between");
    let mut tokens = Vec::new();
    for _ in 0..=service::SESSIONS_PER_USER_MAX {
        tokens.push(session().await);
    }
    assert!(!works(&tokens[0]).await, "too many");
    assert!(works(&tokens[1]).await);
    running.shutdown().await;
}

#[tokio::test]
async fn a_new_password_ends_all_other_sessions_and_links() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    user(controller, "ann", &[Role::Approver]).await;
    let kept = controller.new_web_session("ann").await.unwrap().0;
    let other = controller.new_web_session("ann").await.unwrap().0;
    let link = controller.new_sign_in_link("ann", "admin").await.unwrap();
    let plain = controller.set_password_hash("ann", "secret", None).await;
    assert!(matches!(plain, Err(AccountError::Invalid { .. })));
    controller.set_password_hash("ann", PHC, Some(&kept)).await.unwrap();
    assert!(controller.web_session(&kept).await.unwrap().is_some());
    assert!(controller.web_session(&other).await.unwrap().is_none());
    assert!(controller.peek_sign_in_link(&link).await.unwrap().is_none());
    let ann = controller.user_by_name("ann").await.unwrap().unwrap();
    assert_eq!(ann.password_hash.as_deref(), Some(PHC));
    running.shutdown().await;
}

#[tokio::test]
async fn an_api_token_works_until_it_expires_or_is_revoked_or_its_user_is_disabled() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    user(controller, "ann", &[Role::Auditor]).await;
    let make = async |name: &str| controller.new_api_token("ann", name, 60_000, "ann").await;
    let works = async |token: &str| controller.user_by_api_token(token).await.unwrap().is_some();
    let (token, stored) = make("ci").await.unwrap();
    assert!(works(&token).await && !works(&stored.id).await);
    assert!(matches!(make("ci").await, Err(AccountError::Exists { .. })));
    let listed = controller.api_tokens(Some("ann")).await.unwrap();
    assert!(listed[0].used_unix_ms.is_some());
    controller.revoke_api_token(&stored.id, "admin").await.unwrap();
    assert!(!works(&token).await);
    let again = controller.revoke_api_token(&stored.id, "admin").await;
    assert!(matches!(again, Err(AccountError::NotFound { .. })));
    let (token, _) = make("late").await.unwrap();
    controller.set_user_disabled("ann", true, "admin").await.unwrap();
    assert!(!works(&token).await);
    controller.set_user_disabled("ann", false, "admin").await.unwrap();
    assert!(works(&token).await);
    sql(dir.path(), "UPDATE api_tokens SET expires_unix_ms = 1").await;
    assert!(!works(&token).await);
    for number in 0..service::TOKENS_PER_USER_MAX {
        make(&format!("t{number}")).await.unwrap();
    }
    assert!(matches!(make("one more").await, Err(AccountError::TooMany { .. })));
    running.shutdown().await;
}

#[tokio::test]
async fn the_last_admin_can_neither_be_disabled_nor_lose_the_role() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let disable = async || controller.set_user_disabled("admin", true, "admin").await;
    assert!(matches!(disable().await, Err(AccountError::LastAdmin(_))));
    let demoted =
        UserSpec { name: "admin".into(), roles: vec![Role::Approver], ..UserSpec::default() };
    let refused = controller.update_user(demoted, "admin").await;
    assert!(matches!(refused, Err(AccountError::LastAdmin(_))));
    user(controller, "ann", &[Role::Admin]).await;
    disable().await.unwrap();
    running.shutdown().await;
}

#[tokio::test]
async fn every_change_of_a_user_is_evidence_and_no_secret_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    user(controller, "ann", &[Role::Approver]).await;
    let taken = UserSpec { name: "ann".into(), ..UserSpec::default() };
    let taken = controller.create_user(taken, "admin").await;
    assert!(matches!(taken, Err(AccountError::Exists { .. })));
    let link = controller.new_sign_in_link("ann", "admin").await.unwrap();
    let cookie = controller.new_web_session("ann").await.unwrap().0;
    let token = controller.new_api_token("ann", "ci", 60_000, "ann").await.unwrap().0;
    let join = controller.new_join_token().await.unwrap().token;
    let changes: Vec<_> = events(controller)
        .await
        .into_iter()
        .filter_map(|event| match event {
            Event::UserChanged { user, change, .. } if user == "ann" => Some(change),
            _ => None,
        })
        .collect();
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert!(changes[0].contains("roles [approver]"));
    running.shutdown().await;
    let mut dirs = vec![dir.path().join("state")];
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { &mut dirs } else { &mut files }.push(path);
        }
    }
    assert!(files.len() > 8, "the log's files too: {files:?}");
    for path in files {
        let content = std::fs::read(path).unwrap();
        for secret in [&link, &cookie, &token, &join] {
            let found = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "a secret is stored");
        }
    }
}

#[tokio::test]
async fn users_and_their_groups_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let controller = &running.controller;
    let groups = |count: usize| (0..count).map(|n| format!("g{n}")).collect();
    let spec = |name: &str, count| UserSpec {
        name: name.into(),
        groups: groups(count),
        ..UserSpec::default()
    };
    let many = controller.create_user(spec("ann", service::GROUPS_MAX + 1), "admin").await;
    assert!(matches!(many, Err(AccountError::Invalid { what: "group", .. })));
    controller.create_user(spec("ann", service::GROUPS_MAX), "admin").await.unwrap();
    // The first user and ann are there already.
    let fill = "WITH RECURSIVE n (i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
                INSERT INTO users \
                (name, roles_json, groups_json, principals_json, created_unix_ms) \
                SELECT 'u' || i, '[]', '[]', '[]', 0 FROM n";
    sql(dir.path(), fill).await;
    let full = controller.create_user(spec("bob", 0), "admin").await;
    assert!(matches!(full, Err(AccountError::TooMany { what: "users", max: service::USERS_MAX })));
    running.shutdown().await;
}
