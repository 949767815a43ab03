//! Starting: the state directory is private, one controller's alone, and the first user gets in.

use crate::support::{config, sql, start};
use guard_controller::{Controller, Role, StartError};
use std::{fs, os::unix::fs::PermissionsExt as _};

const PHC: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g";

#[tokio::test]
async fn a_second_controller_on_the_same_state_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let second = Controller::start(config(dir.path())).await;
    assert!(matches!(second, Err(StartError::Locked { .. })));
    running.shutdown().await;
    start(dir.path()).await.shutdown().await;
}

#[tokio::test]
async fn the_state_directory_and_what_is_in_it_is_private() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).await.shutdown().await;
    let state = dir.path().join("state");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    for name in ["ca.pem", "decision.key"] {
        assert_eq!(mode(&state.join(name)), 0o600);
    }
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    let open = Controller::start(config(dir.path())).await;
    assert!(matches!(open, Err(StartError::State { doing: "cannot keep secrets", .. })));
}

#[tokio::test]
async fn the_first_user_gets_a_link_at_each_start_until_a_password_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let first = running.first_sign_in.clone().unwrap();
    let admin = running.controller.peek_sign_in_link(&first).await.unwrap().unwrap();
    assert_eq!(admin.name, "admin");
    assert!(admin.has(Role::Admin) && admin.has(Role::Approver));
    running.shutdown().await;
    let running = start(dir.path()).await;
    let second = running.first_sign_in.clone().unwrap();
    assert_ne!(first, second);
    assert!(running.controller.peek_sign_in_link(&first).await.unwrap().is_none());
    running.controller.set_password_hash("admin", PHC, None).await.unwrap();
    running.shutdown().await;
    let running = start(dir.path()).await;
    assert_eq!(running.first_sign_in, None);
    running.shutdown().await;
}

#[tokio::test]
async fn keys_and_identity_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path()).await;
    let (pin, key) = (running.controller.ca_pin(), running.controller.decision_public_key());
    running.shutdown().await;
    let running = start(dir.path()).await;
    assert_eq!((running.controller.ca_pin(), running.controller.decision_public_key()), (pin, key));
    running.shutdown().await;
}

#[tokio::test]
async fn a_database_that_is_newer_than_the_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).await.shutdown().await;
    let newer = "INSERT INTO _sqlx_migrations VALUES (9999, 'x', 0, 1, x'00', 0)";
    sql(dir.path(), newer).await;
    let refused = Controller::start(config(dir.path())).await;
    assert!(matches!(refused, Err(StartError::Migrate { .. })));
}
