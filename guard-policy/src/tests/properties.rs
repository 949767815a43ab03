//! Properties over random attempts: nothing panics, a hold is what approval turns, K3 holds, and
//! what is handed to Cedar is what the schema says.

use super::support::*;
use crate::{Attempt, Outcome, Policy, entity::Question, load::SCHEMA};
use cedar_policy::{Decision, Entities, Request};
use guard_model::{
    Action, Endpoint, FileAccess, FileRef, ProcessContext, ProgramRef, RawText, SessionInfo,
};
use proptest::prelude::*;
use std::sync::LazyLock;

/// Paths near the rules of the pack, and arbitrary bytes.
fn path() -> impl Strategy<Value = RawText> {
    let near = prop::collection::vec(
        prop::sample::select(vec![
            "etc", "shadow", ".ssh", "id_rsa", "home", "dev", ".env", "usr", "bin", "sudo", "..",
            "proc", "1", "mem", ".git", "hooks", "x.sample", "", "guard", "var", "lib", "ä",
            "a\\b",
        ]),
        0..6,
    )
    .prop_map(|parts| RawText::from(format!("/{}", parts.join("/")).as_str()));
    let any = prop::collection::vec(any::<u8>(), 0..40).prop_map(RawText::new);
    prop_oneof![4 => near, 1 => any]
}

fn a_file() -> impl Strategy<Value = FileRef> {
    let error = prop::option::weighted(0.2, Just("too long".to_owned()));
    (path(), error, any::<[u64; 3]>(), prop_oneof![Just(0), Just(DEV), any::<u32>()], any::<u32>())
        .prop_map(|(path, path_error, [dev, ino, generation], owner_uid, mode)| FileRef {
            path,
            path_error,
            dev,
            ino,
            generation,
            owner_uid,
            mode,
        })
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    prop_oneof![
        (any::<std::net::Ipv4Addr>(), any::<u16>(), any::<bool>())
            .prop_map(|(ip, port, mapped)| Endpoint::Inet { ip: ip.into(), port, mapped }),
        (any::<std::net::Ipv6Addr>(), any::<u16>())
            .prop_map(|(ip, port)| Endpoint::Inet6 { ip: ip.into(), port }),
        path().prop_map(|path| Endpoint::Unix { path }),
        path().prop_map(|name| Endpoint::Abstract { name }),
        Just(Endpoint::Unspec),
        any::<u16>().prop_map(|number| Endpoint::Other { number, address_hex: "00".to_owned() }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let argv = prop::collection::vec(path(), 0..5);
    prop_oneof![
        (a_file(), argv, any::<[bool; 3]>()).prop_map(
            |(file, argv, [complete, interp, unnamed])| {
                Action::Exec {
                    program: ProgramRef { file, sha256: None },
                    argv,
                    argv_complete: complete,
                    interpreter: interp,
                    unnamed,
                }
            }
        ),
        (a_file(), any::<[bool; 6]>()).prop_map(
            |(file, [read, write, append, truncate, create, tmpfile])| Action::Open {
                file,
                access: FileAccess { read, write, append, truncate, create, tmpfile },
            }
        ),
        (endpoint(), any::<u32>(), any::<u32>()).prop_map(|(endpoint, socket_type, protocol)| {
            Action::Connect { endpoint, socket_type, protocol }
        }),
    ]
}

fn who() -> impl Strategy<Value = (SessionInfo, ProcessContext)> {
    let uid = || prop_oneof![Just(0), Just(DEV), any::<u32>()];
    (uid(), uid(), path(), path()).prop_map(|(session_uid, process_uid, exe, cwd)| {
        (session(session_uid), ProcessContext { exe, cwd, ..process(process_uid) })
    })
}

/// Policies of every shape: the pack, only permits, only forbids, holds by permit, argv rules.
static POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| {
    let mut policies = vec![Policy::default_policy()];
    policies.extend(
        [
            "permit (principal, action, resource);",
            "forbid (principal, action, resource);",
            "@hold(\"x\") permit (principal, action, resource is Guard::File) \
             when { context.approved && resource.path like \"/etc/*\" };
             permit (principal, action, resource is Guard::Program) \
             when { resource.path like \"*\" };",
            "permit (principal, action, resource);
             forbid (principal, action == Guard::Action::\"exec\", resource) \
             when { context.args like \"*x*\" };
             forbid (principal, action == Guard::Action::\"connect\", resource) \
             when { context.protocol + 9223372036854775807 > 0 };",
        ]
        .map(load),
    );
    policies
});

/// Cedar's own answer, without Guard's rules: `None` if a statement failed.
fn cedar(policy: &Policy, question: &Question, approved: bool) -> Option<Decision> {
    let request = question.request(approved).unwrap();
    let response = policy.authorizer.is_authorized(&request, &policy.set, &question.entities);
    response.diagnostics().errors().next().is_none().then(|| response.decision())
}

fn has_unknown_path(action: &Action) -> bool {
    match action {
        Action::Exec { program, .. } => !crate::entity::path_is_known(&program.file),
        Action::Open { file, .. } => !crate::entity::path_is_known(file),
        Action::Connect { .. } => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_outcome_is_what_cedar_says_and_never_weaker(
        (session, process) in who(), action in action(), which in 0..5_usize,
    ) {
        let policy = &POLICIES[which];
        let attempt = Attempt { session: &session, process: &process, action: &action, host: "h" };
        let question = Question::of(&attempt).unwrap();
        let (now, approved) = (cedar(policy, &question, false), cedar(policy, &question, true));
        match policy.decide(&attempt) {
            Outcome::Allow { .. } => {
                prop_assert_eq!(now, Some(Decision::Allow));
                prop_assert!(!has_unknown_path(&action));
            }
            Outcome::Hold { statements, terms } => {
                prop_assert!(!statements.is_empty());
                prop_assert!(!terms.approver_groups.is_empty() && terms.quorum == 1);
                prop_assert!((1000..=600_000).contains(&terms.ttl_ms));
                let built_in = statements.iter().any(|s| s.id.starts_with("guard:"));
                let turned =
                    now == Some(Decision::Deny) && approved == Some(Decision::Allow);
                prop_assert!(turned || (built_in && now == Some(Decision::Allow)));
            }
            Outcome::Deny { statements, reason } => {
                prop_assert!(now != Some(Decision::Allow));
                prop_assert!(now.is_none() || approved != Some(Decision::Allow));
                prop_assert!(!statements.is_empty() || reason.is_some());
            }
        }
    }

    #[test]
    fn what_is_handed_to_cedar_is_what_the_schema_says(
        (session, process) in who(), action in action(),
    ) {
        let attempt = Attempt { session: &session, process: &process, action: &action, host: "h" };
        let question = Question::of(&attempt).unwrap();
        for approved in [false, true] {
            let request = question.request(approved).unwrap();
            let uids = [request.principal(), request.action(), request.resource()];
            let [principal, action, resource] = uids
                .map(|uid| uid.unwrap().clone());
            let context = request.context().unwrap().clone();
            Request::new(principal, action, resource, context, Some(&SCHEMA)).unwrap();
        }
        let entities: Vec<_> = question.entities.iter().cloned().collect();
        Entities::from_entities(entities, Some(&SCHEMA)).unwrap();
    }

    #[test]
    fn any_text_is_read_or_refused_but_never_panics(text in "[@a-z(){};\"\\\\ =.&|!?:,/\n]{0,80}") {
        let _ = try_load(&text);
        let _ = try_load(&format!("@hold(\"{text}\") {text} permit(principal, action, resource);"));
    }
}
