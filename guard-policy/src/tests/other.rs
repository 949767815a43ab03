//! Other names of an object: what is forbidden under one is forbidden, what is permitted under one is not.

use super::support::{exec, file, load, open, process, session};
use crate::{Attempt, OtherNames, Outcome, Policy};
use guard_model::{Action, ChangeOperation, RawText};

const ALL: &str = "permit (principal, action, resource);\n";
const SECRETS: &str = "@id(\"secrets\") @reason(\"no secrets\")\n\
    forbid (principal, action, resource is Guard::File in Guard::Directory::\"/etc/secrets\");\n";
const ASKED: &str = "@id(\"asked\") @hold(\"sre\") @ttl(\"1m\")\n\
    forbid (principal, action, resource == Guard::File::\"/etc/asked\")\n\
    unless { context.approved };\n";

fn others(file: &[&str], to: &[&str]) -> OtherNames {
    let texts = |names: &[&str]| names.iter().map(|name| RawText::from(*name)).collect();
    OtherNames { file: texts(file), to: texts(to), unknown: None }
}

fn decide(policy: &Policy, uid: u32, action: &Action, others: &OtherNames) -> Outcome {
    let (session, process) = (session(uid), process(uid));
    let attempt = Attempt { session: &session, process: &process, action, host: "host-1" };
    policy.decide_with(&attempt, others)
}

fn verdict(policy: &Policy, action: &Action, others: &OtherNames) -> String {
    let (word, statements) = match decide(policy, 1000, action, others) {
        Outcome::Allow { cacheable, .. } if cacheable => ("allow always", Vec::new()),
        Outcome::Allow { .. } => ("allow", Vec::new()),
        Outcome::Deny { statements, .. } => ("deny", statements),
        Outcome::Hold { statements, .. } => ("hold", statements),
    };
    let ids = statements.iter().map(|statement| statement.id.as_str());
    std::iter::once(word).chain(ids).collect::<Vec<_>>().join(" ")
}

fn link(operation: ChangeOperation, from: &str, to: &str) -> Action {
    Action::Change {
        operation,
        file: file(from, 0, 0o100_644),
        to: Some(file(to, 0, 0)),
        detail: RawText::default(),
    }
}

#[test]
fn what_is_forbidden_under_another_name_is_forbidden() {
    let policy = load(&format!("{ALL}{SECRETS}{ASKED}"));
    let read = open("/tmp/x", "read");
    let verdict = |names: &[&str]| verdict(&policy, &read, &others(names, &[]));
    assert_eq!(verdict(&[]), "allow always");
    assert_eq!(verdict(&["/srv/x", "/etc/secrets2/x"]), "allow always");
    assert_eq!(verdict(&["/srv/x", "/etc/secrets/x"]), "deny secrets guard:other-name");
    assert_eq!(verdict(&["/etc/asked"]), "hold asked guard:other-name");
    // The stricter of all names, in any order.
    assert_eq!(verdict(&["/etc/asked", "/etc/secrets/x"]), "deny secrets guard:other-name");
    assert_eq!(verdict(&["/etc/secrets/x", "/etc/asked"]), "deny secrets guard:other-name");
}

#[test]
fn the_terms_of_a_hold_and_the_reasons_are_those_of_the_statement() {
    let policy = load(&format!("{ALL}{SECRETS}{ASKED}"));
    let read = open("/tmp/x", "read");
    let Outcome::Hold { statements, terms } =
        decide(&policy, 1000, &read, &others(&["/etc/asked"], &[]))
    else {
        panic!("not held")
    };
    assert_eq!((terms.approver_groups, terms.ttl_ms), (vec!["sre".to_owned()], 60_000));
    assert_eq!(statements[1].reason.as_deref(), Some("the object is also /etc/asked"));
    let Outcome::Deny { reason, .. } =
        decide(&policy, 1000, &read, &others(&["/etc/secrets/x"], &[]))
    else {
        panic!("not denied")
    };
    assert_eq!(reason.as_deref(), Some("no secrets"));
}

#[test]
fn another_name_that_nothing_permits_takes_nothing_away() {
    let list = "permit (principal, action, resource in Guard::Directory::\"/work\");\n";
    let policy = load(&format!("{list}{SECRETS}"));
    let read = open("/work/x", "read");
    assert_eq!(verdict(&policy, &read, &others(&["/var/lib/box/1/work/x"], &[])), "allow always");
    // Nor does a permit of another name give anything.
    assert_eq!(verdict(&policy, &open("/x", "read"), &others(&["/work/x"], &[])), "deny");
}

#[test]
fn a_forbid_with_exceptions_follows_to_the_names_that_it_names_only() {
    let policy = load(&format!(
        "{ALL}@id(\"outside\") forbid (principal, action, resource is Guard::File)\n\
         unless {{ resource in Guard::Directory::\"/work\" }};"
    ));
    let read = open("/work/x", "read");
    assert_eq!(verdict(&policy, &read, &others(&["/var/lib/box/1/work/x"], &[])), "allow always");
    assert_eq!(verdict(&policy, &read, &others(&["/work/y"], &[])), "allow always");
    let policy = load(&format!(
        "{ALL}@id(\"etc\") forbid (principal, action, resource is Guard::File)\n\
         when {{ resource in Guard::Directory::\"/etc\" }}\n\
         unless {{ resource in Guard::Directory::\"/etc/pub\" }};"
    ));
    let read = open("/etc/pub/x", "read");
    assert_eq!(verdict(&policy, &read, &others(&["/etc/pub/y"], &[])), "allow always");
    assert_eq!(verdict(&policy, &read, &others(&["/etc/x"], &[])), "deny etc guard:other-name");
}

#[test]
fn the_shipped_pack_leaves_a_container_its_own_files() {
    let policy = Policy::default_policy();
    let host = |path: &str| format!("/var/lib/docker/overlay2/17/merged{path}");
    for path in ["/usr/bin/ls", "/usr/lib/ssl/cert.pem", "/work/main.rs", "/etc/hosts"] {
        let others = others(&[&host(path)], &[]);
        for action in [open(path, "read"), exec(path, 0, 0o755)] {
            for uid in [0, 1000] {
                let alone = decide(&policy, uid, &action, &OtherNames::default());
                assert_eq!(decide(&policy, uid, &action, &others), alone, "{path}");
            }
        }
    }
    let held = decide(&policy, 0, &open("/x", "read"), &others(&["/home/dev/.ssh/id"], &[]));
    assert!(matches!(held, Outcome::Hold { .. }), "{held:?}");
}

#[test]
fn both_files_of_a_rename_or_link_have_their_other_names() {
    let policy = load(&format!("{ALL}{SECRETS}"));
    for operation in [ChangeOperation::Rename, ChangeOperation::Link] {
        let action = link(operation, "/tmp/a", "/tmp/b");
        let verdict = |file: &[&str], to: &[&str]| verdict(&policy, &action, &others(file, to));
        assert_eq!(verdict(&["/srv/a"], &["/srv/b"]), "allow");
        assert_eq!(verdict(&["/etc/secrets/a"], &[]), "deny secrets guard:other-name");
        assert_eq!(verdict(&[], &["/etc/secrets/b"]), "deny secrets guard:other-name");
    }
    // A statement may look from one of the two at the other.
    let policy = load(&format!(
        "{ALL}@id(\"out\") forbid (principal, action == Guard::Action::\"link\", resource)\n\
         when {{ context.other like \"/etc/secrets/*\" && context.destination }};"
    ));
    let action = link(ChangeOperation::Link, "/tmp/a", "/tmp/b");
    let names = others(&["/etc/secrets/a"], &[]);
    assert_eq!(verdict(&policy, &action, &names), "deny out guard:other-name");
}

#[test]
fn a_statement_that_fails_under_another_name_denies() {
    let policy = load(&format!(
        "{ALL}@id(\"broken\") forbid (principal, action == Guard::Action::\"open\", resource)\n\
         when {{ resource.path == \"/etc/x\" && resource.ino + 9223372036854775807 == 1 }};"
    ));
    let read = open("/tmp/x", "read");
    assert_eq!(verdict(&policy, &read, &others(&["/srv/x"], &[])), "allow always");
    let outcome = decide(&policy, 1000, &read, &others(&["/etc/x"], &[]));
    let Outcome::Deny { reason: Some(reason), .. } = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("failed to evaluate"), "{reason}");
}

#[test]
fn names_that_could_not_be_found_hold_what_would_be_allowed() {
    let policy = load(&format!("{ALL}{SECRETS}"));
    let unknown = OtherNames { unknown: Some("unreadable".into()), ..others(&[], &[]) };
    assert_eq!(verdict(&policy, &open("/tmp/x", "read"), &unknown), "hold guard:names-unknown");
    assert_eq!(verdict(&policy, &open("/etc/secrets/x", "read"), &unknown), "deny secrets");
    let unknown =
        OtherNames { unknown: Some("unreadable".into()), ..others(&["/etc/secrets/x"], &[]) };
    let denied = verdict(&policy, &open("/tmp/x", "read"), &unknown);
    assert_eq!(denied, "deny secrets guard:other-name");
}

#[test]
fn a_file_whose_path_is_not_known_is_what_its_other_name_says() {
    let policy = load(&format!("{ALL}{SECRETS}"));
    let mut read = open("", "read");
    if let Action::Open { file, .. } = &mut read {
        file.path_error = Some("too long".into());
    }
    assert_eq!(verdict(&policy, &read, &others(&[], &[])), "hold guard:path-unknown");
    let denied = verdict(&policy, &read, &others(&["/etc/secrets/x"], &[]));
    assert_eq!(denied, "deny secrets guard:other-name");
}

#[test]
fn only_actions_that_a_statement_with_names_forbids_have_names_to_look_for() {
    let policy = load(&format!(
        "{ALL}forbid (principal, action == Guard::Action::\"open\", resource)\n\
         when {{ resource.path == \"/etc/x\" }};\n\
         forbid (principal, action == Guard::Action::\"exec\", resource) when {{ context.gains }};"
    ));
    assert!(policy.follows(&open("/tmp/x", "read")));
    assert!(!policy.follows(&exec("/tmp/x", 0, 0o755)));
    assert!(!policy.follows(&link(ChangeOperation::Link, "/a", "/b")));
}
