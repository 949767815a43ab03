//! Who may approve: the rules that no policy overrides, and the policy's own.

use super::support::*;
use crate::{ApproveRefusal, ApproveRequest, Policy};
use guard_model::{ActionDigest, BootId, DecisionTerms, HoldId, HoldRequest, HostId};
use uuid::Uuid;

fn hold(groups: &[&str]) -> HoldRequest {
    let (host, boot) = (HostId(Uuid::from_u128(1)), BootId(Uuid::from_u128(2)));
    HoldRequest {
        hold_id: HoldId::derive(host, boot, 1),
        host,
        boot,
        session: session(DEV),
        process: process(DEV),
        action: open("/etc/shadow", "read"),
        digest: ActionDigest([0; 32]),
        statements: Policy::default_policy().statements()[..1].to_vec(),
        terms: DecisionTerms {
            approver_groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            quorum: 1,
            ttl_ms: 1000,
            scope: "once".into(),
            stepup: None,
        },
        recent: Vec::new(),
        held_at_unix_ms: 0,
        deadline_unix_ms: 1000,
    }
}

fn ask(
    policy: &Policy,
    user: &str,
    [roles, groups, principals]: [&[&str]; 3],
    hold: &HoldRequest,
) -> Result<(), ApproveRefusal> {
    let own = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (roles, groups, principals) = (own(roles), own(groups), own(principals));
    policy.may_approve(&ApproveRequest {
        user,
        roles: &roles,
        groups: &groups,
        principals: &principals,
        hold,
    })
}

const ANY: &str = "permit (principal, action, resource);";

#[test]
fn an_approver_may_approve_what_asks_for_every_approver() {
    let policy = Policy::default_policy();
    assert_eq!(ask(&policy, "ann", [&["approver"], &[], &[]], &hold(&["approvers"])), Ok(()));
}

#[test]
fn nobody_approves_for_their_own_session_whatever_the_policy_says() {
    let roles: &[&str] = &["approver", "admin"];
    for policy in [Policy::default_policy(), load(ANY)] {
        for (user, principals) in
            [("dev", &[][..]), ("DEV", &[]), (" dev ", &[]), ("ann", &["build", "Dev"])]
        {
            let answer = ask(&policy, user, [roles, &[], principals], &hold(&["approvers"]));
            assert!(matches!(answer, Err(ApproveRefusal::OwnSession { .. })), "{user}: {answer:?}");
        }
    }
}

#[test]
fn an_administrator_without_the_role_may_not_approve() {
    for policy in [Policy::default_policy(), load(ANY)] {
        let answer = ask(&policy, "root", [&["admin"], &["approvers"], &[]], &hold(&["approvers"]));
        assert!(matches!(answer, Err(ApproveRefusal::NotApprover { .. })), "{answer:?}");
    }
}

#[test]
fn every_group_of_the_hold_is_needed() {
    let policy = load(ANY);
    let hold = hold(&["security", "sre"]);
    let answer = ask(&policy, "ann", [&["approver"], &["sre"], &[]], &hold);
    assert!(
        matches!(answer, Err(ApproveRefusal::NotInGroup { ref group, .. }) if group == "security")
    );
    assert_eq!(ask(&policy, "ann", [&["approver"], &["sre", "security"], &[]], &hold), Ok(()));
}

#[test]
fn the_policys_own_statements_decide_on_top() {
    let policy = load(
        "permit (principal in Guard::Role::\"approver\", action == Guard::Action::\"approve\",
                 resource)
         when { principal in Guard::Group::\"sre\" };
         @id(\"not-ann\")
         forbid (principal == Guard::User::\"ann\", action == Guard::Action::\"approve\", resource)
         when { resource.path == \"/etc/shadow\" && resource.statements.contains(\"work\") };"
            .replace("resource.path ==", "resource has path && resource.path ==")
            .as_str(),
    );
    let hold = hold(&["approvers"]);
    let roles: &[&str] = &["approver"];
    assert_eq!(ask(&policy, "bob", [roles, &["sre"], &[]], &hold), Ok(()));
    let answer = ask(&policy, "bob", [roles, &[], &[]], &hold);
    assert!(matches!(answer, Err(ApproveRefusal::NotPermitted { .. })), "{answer:?}");
    let answer = ask(&policy, "ann", [roles, &["sre"], &[]], &hold).unwrap_err();
    assert_eq!(
        answer.to_string(),
        "ann may not approve: the policy forbids it (not-ann (test.cedar:4))"
    );
}

#[test]
fn statements_about_other_actions_or_sessions_leave_approval_to_the_built_in_rules() {
    for text in [
        "permit (principal, action == Guard::Action::\"open\", resource);",
        "permit (principal is Guard::Session, action, resource);",
        "forbid (principal is Guard::Session, action, resource);",
    ] {
        let policy = load(text);
        let hold = hold(&["approvers"]);
        assert_eq!(ask(&policy, "ann", [&["approver"], &[], &[]], &hold), Ok(()), "{text}");
    }
}

#[test]
fn a_forbid_of_everything_forbids_approval_too() {
    let policy = load("forbid (principal, action, resource);");
    let answer = ask(&policy, "ann", [&["approver"], &[], &[]], &hold(&["approvers"]));
    assert!(matches!(answer, Err(ApproveRefusal::Forbidden { .. })), "{answer:?}");
}
