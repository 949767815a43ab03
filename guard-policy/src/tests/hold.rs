//! Hold semantics: what turns a denial into a hold, on which terms, and what never becomes an
//! allow.

use super::support::*;
use crate::{Outcome, Policy, PolicySource};
use guard_model::{Action, DecisionTerms};

const PERMIT: &str = "permit (principal, action, resource);";

fn terms(policy: &Policy, action: &Action) -> DecisionTerms {
    match decide(policy, DEV, action) {
        Outcome::Hold { terms, .. } => terms,
        other => panic!("not a hold: {other:?}"),
    }
}

#[test]
fn a_forbid_that_approval_lifts_is_a_hold() {
    let policy = load(&format!(
        "{PERMIT} @id(\"x\") @hold forbid (principal, action, resource == \
         Guard::File::\"/x\") unless {{ context.approved }};"
    ));
    assert_eq!(verdict(&policy, DEV, &open("/x", "read")), "hold x");
    assert_eq!(verdict(&policy, DEV, &open("/y", "read")), "allow");
}

#[test]
fn a_permit_that_needs_approval_is_a_hold() {
    let policy = load(
        "@id(\"x\") @hold(\"sre\") permit (principal, action == Guard::Action::\"open\", resource) \
         when { context.approved };",
    );
    assert_eq!(verdict(&policy, DEV, &open("/x", "read")), "hold x");
    assert_eq!(terms(&policy, &open("/x", "read")).approver_groups, ["sre"]);
    assert_eq!(verdict(&policy, DEV, &inet("127.0.0.1", 1)), "deny");
}

#[test]
fn a_plain_forbid_beside_a_hold_is_a_deny() {
    let policy = load(&format!(
        "{PERMIT} @id(\"h\") @hold forbid (principal, action, resource)
         unless {{ context.approved }};
         @id(\"d\") @reason(\"never\") forbid (principal, action, resource);"
    ));
    let outcome = decide(&policy, DEV, &open("/x", "read"));
    let Outcome::Deny { reason, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(reason.as_deref(), Some("never"));
}

#[test]
fn what_nothing_permits_is_denied_with_words() {
    let policy = load("permit (principal, action == Guard::Action::\"exec\", resource);");
    let outcome = decide(&policy, DEV, &open("/x", "read"));
    let Outcome::Deny { statements, reason } = outcome else { panic!("{outcome:?}") };
    assert!(statements.is_empty());
    assert_eq!(reason.as_deref(), Some("no statement permits it"));
}

#[test]
fn several_holds_give_the_strictest_terms() {
    let policy = load(&format!(
        "{PERMIT}
         @id(\"a\") @hold(\"sre\") @ttl(\"5m\")
         forbid (principal, action, resource) unless {{ context.approved }};
         @id(\"b\") @hold(\"security\") @ttl(\"30s\") @quorum(\"1\") @scope(\"once\")
         forbid (principal, action, resource) unless {{ context.approved }};"
    ));
    let action = open("/x", "read");
    assert_eq!(verdict(&policy, DEV, &action), "hold a b");
    let terms = terms(&policy, &action);
    assert_eq!(terms.approver_groups, ["security", "sre"]);
    assert_eq!((terms.ttl_ms, terms.quorum, terms.scope.as_str()), (30_000, 1, "once"));
}

#[test]
fn a_hold_without_a_group_is_for_every_approver() {
    let policy = load(&format!(
        "{PERMIT} @hold forbid (principal, action, resource) unless {{ context.approved }};"
    ));
    let terms = terms(&policy, &open("/x", "read"));
    assert_eq!(terms.approver_groups, ["approvers"]);
    assert_eq!(terms.ttl_ms, 600_000);
}

#[test]
fn a_statement_that_fails_to_evaluate_denies_instead_of_being_skipped() {
    let overflow = "context.uid + 9223372036854775807 > 0";
    for text in [
        format!(
            "{PERMIT} @id(\"x\") forbid (principal, action == Guard::Action::\"open\", \
                 resource) when {{ {overflow} }};"
        ),
        format!(
            "{PERMIT} @id(\"x\") @hold forbid (principal, action == Guard::Action::\"open\", \
                 resource) when {{ {overflow} }} unless {{ context.approved }};"
        ),
        format!(
            "{PERMIT} @id(\"h\") @hold forbid (principal, action, resource) \
                 unless {{ context.approved }}; @id(\"x\") permit (principal, action == \
                 Guard::Action::\"open\", resource) when {{ context.approved && {overflow} }};"
        )
        .replace("@id(\"x\") permit", "@id(\"x\") @hold permit"),
    ] {
        let outcome = decide(&load(&text), DEV, &open("/x", "read"));
        let Outcome::Deny { reason, .. } = outcome else { panic!("{text}: {outcome:?}") };
        let reason = reason.unwrap();
        assert!(reason.contains("failed to evaluate") && reason.contains('x'), "{reason}");
    }
}

#[test]
fn an_unknown_path_is_held_where_it_would_be_allowed() {
    let mut file = file("/work/x", DEV, 0o100_644);
    file.path_error = Some("too long".into());
    let action = Action::Open { file, access: access("read") };
    let policy = Policy::default_policy();
    assert_eq!(verdict(&policy, DEV, &action), "hold guard:path-unknown");
    let Outcome::Hold { statements, .. } = decide(&policy, DEV, &action) else { unreachable!() };
    let reason = statements[0].reason.as_deref().unwrap();
    assert!(reason.contains("too long"), "{reason}");

    let by_path = load(
        "permit (principal, action, resource is Guard::File) \
                        when { resource.path like \"/work/*\" };",
    );
    assert_eq!(verdict(&by_path, DEV, &action), "deny");
    let never = load("forbid (principal, action, resource);");
    assert_eq!(verdict(&never, DEV, &action), "deny policy0");
}

#[test]
fn a_path_that_is_not_absolute_is_not_known() {
    for path in ["", "work/x", "(unreachable)/x"] {
        let policy = Policy::default_policy();
        assert_eq!(verdict(&policy, DEV, &open(path, "read")), "hold guard:path-unknown");
    }
}

#[test]
fn cut_arguments_are_held_where_the_policy_depends_on_arguments() {
    let Action::Exec { program, argv, .. } = exec("/usr/bin/git", 0, 0o755) else { unreachable!() };
    let cut = Action::Exec {
        program,
        argv,
        argv_complete: false,
        interpreter: false,
        unnamed: false,
        loader: false,
        gains: false,
        environment: Vec::new(),
    };
    let reads = format!(
        "{PERMIT} @id(\"x\") forbid (principal, action == Guard::Action::\"exec\", resource) \
         when {{ context.args like \"*--force*\" }};"
    );
    assert_eq!(verdict(&load(&reads), DEV, &cut), "hold guard:argv-incomplete");
    assert_eq!(verdict(&load(PERMIT), DEV, &cut), "allow");
}

#[test]
fn content_is_what_the_policy_says_and_where_it_is_unknown_a_person_decides() {
    let pinned = "ab".repeat(32);
    let reads = load(&format!(
        "permit (principal, action == Guard::Action::\"exec\", resource) when {{
           context.loader || context.sha256 == \"{pinned}\" || resource.path == \"/usr/bin/other\" }};"
    ));
    assert!(reads.reads_content());
    assert!(!load(PERMIT).reads_content() && !Policy::default_policy().reads_content());
    let content = |path: &str, content: Option<&str>, is_loader: bool| {
        let mut action = exec(path, 0, 0o755);
        let Action::Exec { program, loader, .. } = &mut action else { unreachable!() };
        program.sha256 = content.map(|byte| byte.repeat(32));
        *loader = is_loader;
        action
    };
    for name in ["/usr/bin/git", "/tmp/anything"] {
        assert!(verdict(&reads, DEV, &content(name, Some("ab"), false)).starts_with("allow"));
        assert_eq!(verdict(&reads, DEV, &content(name, Some("cd"), false)), "deny");
        // Nothing permits it, known or not.
        assert_eq!(verdict(&reads, DEV, &content(name, None, false)), "deny");
    }
    // It would be allowed by its path, but another statement could have said something of its content.
    let other = content("/usr/bin/other", None, false);
    assert_eq!(verdict(&reads, DEV, &other), "hold guard:content-unknown");
    assert!(verdict(&load(PERMIT), DEV, &other).starts_with("allow"));
    assert!(verdict(&reads, DEV, &content("/lib/ld.so", None, true)).starts_with("allow"));
}

#[test]
fn a_policy_decides_on_every_action_but_those_that_it_always_permits() {
    let permits = load("permit (principal, action, resource);");
    assert!(!permits.decides_on("mount") && !permits.decides_on("exec"));
    let permits = load("permit (principal, action == Guard::Action::\"mount\", resource);");
    assert!(!permits.decides_on("mount") && permits.decides_on("exec"));
    for text in [
        "permit (principal, action == Guard::Action::\"mount\", resource) when { context.exe == \"/bin/mount\" };",
        "permit (principal, action == Guard::Action::\"exec\", resource);",
        "permit (principal, action, resource);
         forbid (principal, action in Guard::Action::\"system\", resource) when { context.exe == \"/bin/sh\" };",
        "permit (principal, action, resource); forbid (principal in Guard::Role::\"bots\", action, resource);",
    ] {
        assert!(load(text).decides_on("mount"), "{text}");
    }
    assert!(Policy::default_policy().decides_on("mount"));
    // Rows of coverage that are no actions.
    assert!(!Policy::default_policy().decides_on("self_protection"));
}

#[test]
fn arguments_are_given_in_order_joined_by_a_space() {
    let policy = load(
        "@id(\"x\") permit (principal, action == Guard::Action::\"exec\", resource) when {
           context.argv0 == \"git\" && context.args == \"push --force\" && context.argc == 3 };",
    );
    let run = |argv: &[&str]| verdict(&policy, DEV, &exec_args("/usr/bin/git", 0, 0o755, argv));
    assert_eq!(run(&["git", "push", "--force"]), "allow");
    assert_eq!(run(&["git", "--force", "push"]), "deny");
    assert_eq!(run(&["git", "push --force"]), "deny");
}

#[test]
fn a_directory_contains_what_is_below_it_and_nothing_else() {
    let policy = load(
        "permit (principal, action == Guard::Action::\"open\", \
         resource in Guard::Directory::\"/home/dev/.ssh\");",
    );
    for (path, expected) in [
        ("/home/dev/.ssh/id", "allow"),
        ("/home/dev/.ssh/a/b/c", "allow"),
        ("/home/dev/.ssh", "deny"),
        ("/home/dev/.sshx/id", "deny"),
        ("/root/home/dev/.ssh/id", "deny"),
    ] {
        assert_eq!(verdict(&policy, DEV, &open(path, "read")), expected, "{path}");
    }
}

#[test]
fn text_that_is_not_utf8_is_compared_in_its_exact_form() {
    let policy = load(
        r#"permit (principal, action == Guard::Action::"open", resource)
           when { resource.name == "a\\xff" };"#,
    );
    let mut file = file("/x", DEV, 0o100_644);
    file.path = guard_model::RawText::new(b"/x/a\xff".to_vec());
    let action = Action::Open { file, access: access("read") };
    assert_eq!(verdict(&policy, DEV, &action), "allow");
    // The text `a\xff` itself is another name.
    assert_eq!(verdict(&policy, DEV, &open("/x/a\\xff", "read")), "deny");
}

#[test]
fn the_host_and_the_program_are_visible_to_policy() {
    let policy = load(
        "permit (principal, action, resource is Guard::File) when { principal.host == \"host-1\" \
         && principal.name == \"agent\" && context.exe == \"/usr/bin/bash\" };",
    );
    assert_eq!(verdict(&policy, DEV, &open("/x", "read")), "allow");
}

#[test]
fn the_digest_changes_with_every_name_and_text() {
    let digest = |file: &str, text: &str| {
        let source = PolicySource { file: file.into(), text: text.into() };
        Policy::load(&[source]).unwrap().digest().to_owned()
    };
    let base = digest("a", PERMIT);
    assert_eq!(base.len(), 64);
    assert_eq!(base, digest("a", PERMIT));
    assert_ne!(base, digest("b", PERMIT));
    assert_ne!(base, digest("a", &format!("{PERMIT} ")));
}

#[test]
fn statements_name_their_file_line_and_text() {
    let sources = [
        ("a.cedar", "// first\n\n@id(\"one\")\npermit (principal, action, resource);\n"),
        ("b.cedar", "forbid (principal, action, resource);"),
    ]
    .map(|(file, text)| PolicySource { file: file.into(), text: text.into() });
    let policy = Policy::load(&sources).unwrap();
    let [one, two] = policy.statements() else { panic!("{:?}", policy.statements()) };
    assert_eq!((one.id.as_str(), one.file.as_str(), one.line), ("one", "a.cedar", 3));
    assert_eq!(one.text, "@id(\"one\")\npermit (principal, action, resource);");
    assert_eq!((two.id.as_str(), two.file.as_str(), two.line), ("policy1", "b.cedar", 1));
    assert_eq!(policy.files(), ["a.cedar", "b.cedar"]);
}
