//! A bad policy is refused whole, and its author sees every problem at its place.

use super::support::*;
use crate::{
    MAX_NESTING, MAX_OPERATORS, MAX_SOURCE_BYTES, MAX_SOURCES, MAX_STATEMENTS, Policy,
    PolicySource, Problem,
};

fn problems(text: &str) -> Vec<Problem> {
    try_load(text).expect_err(text).problems().to_vec()
}

/// `line:column found`, for each problem.
fn lines(text: &str) -> Vec<String> {
    let show = |p: &Problem| format!("{}:{} {}", p.line, p.column, p.found);
    problems(text).iter().map(show).collect()
}

const HOLD: &str = "forbid (principal, action, resource) unless { context.approved };";

#[test]
fn a_syntax_error_names_file_line_column_and_what_was_expected() {
    let error =
        try_load("permit (principal, action, resource)\nwhen { resource.path = \"/x\" };\n")
            .expect_err("a syntax error")
            .to_string();
    assert!(error.contains("test.cedar:2:"), "{error}");
    assert!(error.contains("2 | when { resource.path = \"/x\" };"), "{error}");
    assert!(error.contains("try using '==' instead"), "{error}");

    let found = problems("permit (principal, action resource);");
    assert_eq!((found[0].line, found[0].column), (1, 27), "{found:?}");
    assert!(found[0].expected.contains("expected"), "{found:?}");
}

#[test]
fn an_unknown_attribute_action_or_type_names_its_place() {
    let found = lines(
        "permit (principal, action == Guard::Action::\"open\", resource)\n\
                       when { resource.pth == \"/x\" };",
    );
    assert!(found[0].starts_with("2:8 attribute `pth`"), "{found:?}");
    let found = lines("permit (principal, action == Guard::Action::\"opn\", resource);");
    assert!(found[0].contains("Guard::Action::\"opn\""), "{found:?}");
    let found = lines("permit (principal, action, resource in Guard::Dir::\"/x\");");
    assert!(found[0].contains("Guard::Dir"), "{found:?}");
}

#[test]
fn what_is_wrong_for_several_entity_types_is_said_once() {
    let found = lines("permit (principal, action, resource) when { resource.nope };");
    let [line] = found.as_slice() else { panic!("{found:?}") };
    assert!(line.starts_with("1:45 attribute `nope` not found on Guard::"), "{line}");
    for name in ["Guard::Endpoint", "Guard::File", "Guard::Hold", "Guard::Program"] {
        assert!(line.contains(name), "{line}");
    }
}

#[test]
fn a_wrong_type_names_its_place() {
    let found = lines(
        "permit (principal, action == Guard::Action::\"connect\", resource)\n\
                       when {\n  resource has port && resource.port == \"443\" };",
    );
    assert!(found[0].starts_with("3:"), "{found:?}");
}

#[test]
fn an_optional_attribute_must_be_tested_first() {
    let found = lines(
        "permit (principal, action == Guard::Action::\"connect\", resource)\n\
                       when { resource.port == 443 };",
    );
    assert!(found[0].starts_with("2:8 ") && found[0].contains("optional"), "{found:?}");
}

#[test]
fn bad_annotations_name_their_place() {
    for (annotation, expected) in [
        ("@quorum(\"0\")", "invalid quorum `0`"),
        ("@quorum(\"two\")", "invalid quorum `two`"),
        ("@quorum(\"2\")", "a quorum of 2 is not implemented yet"),
        ("@ttl(\"\")", "invalid time ``"),
        ("@ttl(\"5\")", "invalid time `5`"),
        ("@ttl(\"-5m\")", "invalid time `-5m`"),
        ("@ttl(\"5ü\")", "invalid time `5ü`"),
        ("@ttl(\"99999999999999999999m\")", "invalid time `99999999999999999999m`"),
        ("@ttl(\"0s\")", "a hold of `0s` is too short"),
        ("@ttl(\"11m\")", "a hold of `11m` is longer than the kernel waits"),
        ("@ttl(\"1h\")", "a hold of `1h` is longer than the kernel waits"),
        ("@scope(\"session\")", "unknown scope `session`"),
        ("@stepup(\"webauthn\")", "step-up is not implemented yet"),
        ("@hlod(\"x\")", "unknown annotation `@hlod`"),
        ("@id(\"a b\")", "invalid name `a b`"),
        ("@reason(\"\")", "invalid reason"),
        ("@reason(\"a\\u{202e}b\")", "invalid reason"),
    ] {
        // A comment and a string that look like the annotation must not be taken for it.
        let key = annotation.split('(').next().unwrap();
        let text = format!("// {key}\n@hold(\"x\")\n  {annotation}\n{HOLD}");
        assert_eq!(lines(&text), [format!("3:3 {expected}")], "{text}");
    }
}

#[test]
fn the_bounds_of_a_time_are_accepted() {
    for ttl in ["1s", "600s", "10m"] {
        load(&format!("@hold(\"x\") @ttl(\"{ttl}\") {HOLD}"));
    }
}

#[test]
fn an_annotation_inside_a_string_is_not_taken_for_the_place() {
    let text = format!("@reason(\"why @ttl(\\\"\") @hold @ttl(\"x\") {HOLD}");
    assert_eq!(lines(&text), ["1:30 invalid time `x`"]);
}

#[test]
fn terms_without_a_hold_are_refused() {
    let found = lines("@ttl(\"5m\")\npermit (principal, action, resource);");
    assert_eq!(found, ["1:1 `@ttl` on a statement that does not hold"]);
}

#[test]
fn a_hold_that_approval_cannot_change_is_refused() {
    let found = lines("@hold(\"x\")\nforbid (principal, action, resource);");
    assert_eq!(found, ["1:1 `@hold` on a statement that never asks for `context.approved`"]);
}

#[test]
fn approval_without_a_hold_is_refused() {
    let found = lines(&format!("@id(\"x\")\n{HOLD}"));
    assert_eq!(found, ["2:55 `context.approved` in a statement without `@hold`"]);
}

#[test]
fn the_context_as_a_whole_is_refused() {
    let found = lines(
        "permit (principal, action == Guard::Action::\"open\", resource)\n\
                       when { { a: context }.a.approved };",
    );
    assert!(found.iter().any(|line| line.contains("`context` is used as a whole")), "{found:?}");
}

#[test]
fn an_id_names_one_statement_in_all_files_together() {
    let source = |file: &str, text: &str| PolicySource { file: file.into(), text: text.into() };
    let text = "@id(\"x\")\npermit (principal, action, resource);";
    let error = Policy::load(&[source("a", text), source("b", text)]).expect_err("two x");
    let [problem] = error.problems() else { panic!("{error}") };
    assert_eq!((problem.file.as_str(), problem.line), ("b", 1));
    assert_eq!(problem.found, "a second statement with the id `x`");
}

#[test]
fn a_template_is_refused() {
    let found = lines("permit (principal == ?principal, action, resource);");
    assert!(found[0].starts_with("1:1") && found[0].contains("template"), "{found:?}");
}

#[test]
fn all_problems_of_all_files_are_listed_in_order() {
    let source = |file: &str, text: &str| PolicySource { file: file.into(), text: text.into() };
    let error = Policy::load(&[
        source("b.cedar", "permit (principal, action, resource) when { resource.nope };"),
        source("a.cedar", "permit (principal, action resource);"),
        source("c.cedar", &format!("@quorum(\"x\") {HOLD}\n@foo {HOLD}")),
    ])
    .expect_err("bad");
    let mut places: Vec<_> = error.problems().iter().map(|p| (p.file.as_str(), p.line)).collect();
    places.dedup();
    assert_eq!(places, [("a.cedar", 1), ("b.cedar", 1), ("c.cedar", 1), ("c.cedar", 2)], "{error}");
    assert!(error.to_string().starts_with("the policy is refused for "), "{error}");
}

#[test]
fn one_bad_file_refuses_the_whole_policy() {
    let good = Policy::default_source();
    let bad = PolicySource { file: "bad".into(), text: "permit".into() };
    assert!(Policy::load(&[good, bad]).is_err());
}

#[test]
fn limits_are_enforced_at_their_edge() {
    let source = |file: usize, text: String| PolicySource { file: file.to_string(), text };
    let permit = "permit (principal, action, resource);";
    let files = |count| (0..count).map(|n| source(n, permit.into())).collect::<Vec<_>>();
    assert!(Policy::load(&files(MAX_SOURCES)).is_ok());
    assert!(Policy::load(&files(MAX_SOURCES + 1)).is_err());
    assert!(Policy::load(&[]).is_err());
    let sized = |bytes: usize| source(0, format!("{permit}{}", " ".repeat(bytes - permit.len())));
    assert!(Policy::load(&[sized(MAX_SOURCE_BYTES)]).is_ok());
    assert!(Policy::load(&[sized(MAX_SOURCE_BYTES + 1)]).is_err());
    assert!(Policy::load(&[source(0, permit.into()), source(0, permit.into())]).is_err());
}

#[test]
fn a_policy_has_at_most_so_many_statements() {
    let text = "permit (principal, action, resource);\n".repeat(MAX_STATEMENTS + 1);
    let found = lines(&text);
    assert_eq!(found, [format!("{}:1 too many statements", MAX_STATEMENTS + 1)]);
}

#[test]
fn an_expression_nested_without_end_is_refused_and_does_not_overflow() {
    let inside = |condition: &str| {
        try_load(&format!("permit (principal, action, resource) when {{ {condition} }};"))
    };
    let nested = |depth: usize| inside(&format!("{}true{}", "(".repeat(depth), ")".repeat(depth)));
    // The braces of `when` are one level.
    assert!(nested(MAX_NESTING - 1).is_ok());
    let error = nested(MAX_NESTING).expect_err("too deep").to_string();
    assert!(error.contains("nested"), "{error}");
    assert!(nested(20_000).is_err());
    let widest = "true && ".repeat(MAX_OPERATORS - 1);
    let policy = load(&format!("permit (principal, action, resource) when {{ {widest}true }};"));
    assert_eq!(verdict(&policy, DEV, &open("/x", "read")), "allow");
    assert!(inside(&format!("true && true && {widest}true")).is_err());
    for endless in [
        format!("{}true", "!".repeat(50_000)),
        format!("{}true", "true && ".repeat(50_000)),
        format!("{}true", "true || ".repeat(50_000)),
        format!("1{} > 0", " + 1".repeat(50_000)),
        format!("{}true", "if true then true else ".repeat(20_000)),
        format!("resource{} == 1", ".a".repeat(50_000)),
        format!("resource has a{}", ".a".repeat(50_000)),
    ] {
        assert!(inside(&endless).is_err(), "{}", &endless[..40]);
    }
}
