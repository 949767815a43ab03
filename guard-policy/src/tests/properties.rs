//! Properties over random attempts: nothing panics, a hold is what approval turns, K3 holds, and
//! what is handed to Cedar is what the schema says.

use super::support::*;
use crate::{Attempt, OtherNames, Outcome, Policy, entity::Question, load::SCHEMA};
use cedar_policy::{Decision, Entities, Request};
use guard_model::{
    Action, ChangeOperation, Endpoint, FileAccess, FileRef, ProcessContext, ProgramRef, RawText,
    SessionInfo, SocketOperation, SystemOperation, TaskOperation, TaskRef,
};
use proptest::prelude::*;
use std::{collections::HashSet, sync::LazyLock};

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
                    loader: false,
                    gains: false,
                    environment: Vec::new(),
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
        more_actions(),
    ]
}

fn more_actions() -> impl Strategy<Value = Action> {
    let text = path;
    prop_oneof![
        (
            prop::sample::select(ChangeOperation::ALL.to_vec()),
            a_file(),
            prop::option::of(a_file()),
            text()
        )
            .prop_map(|(operation, file, to, detail)| Action::Change {
                operation,
                file,
                to,
                detail
            }),
        (a_file(), any::<[bool; 2]>()).prop_map(|(file, [unnamed, writable])| Action::Map {
            program: ProgramRef { file, sha256: None },
            unnamed,
            writable,
        }),
        (
            prop::sample::select(SocketOperation::ALL.to_vec()),
            endpoint(),
            any::<u32>(),
            any::<u32>()
        )
            .prop_map(|(operation, endpoint, socket_type, protocol)| Action::Socket {
                operation,
                endpoint,
                socket_type,
                protocol,
            }),
        (prop::sample::select(SystemOperation::ALL.to_vec()), text(), prop::option::of(a_file()))
            .prop_map(|(operation, detail, file)| Action::System { operation, detail, file }),
        (prop::sample::select(TaskOperation::ALL.to_vec()), any::<u32>(), text(), any::<bool>())
            .prop_map(|(operation, pid, detail, own_session)| Action::Task {
                operation,
                target: TaskRef {
                    pid,
                    start_boottime_ns: 1,
                    uid: 0,
                    comm: detail.clone(),
                    own_session,
                },
                detail,
            }),
    ]
}

fn who() -> impl Strategy<Value = (SessionInfo, ProcessContext)> {
    let uid = || prop_oneof![Just(0), Just(DEV), any::<u32>()];
    (uid(), uid(), path(), path()).prop_map(|(session_uid, process_uid, exe, cwd)| {
        (session(session_uid), ProcessContext { exe, cwd, ..process(process_uid) })
    })
}

/// How many [`POLICIES`] there are.
const POLICY_COUNT: usize = 6;

/// Policies of every shape: the pack, only permits, only forbids, holds by permit, argv rules, groups of actions.
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
            "permit (principal, action in Guard::Action::\"change\", resource);
             permit (principal, action in [Guard::Action::\"system\", Guard::Action::\"open\"], resource);
             forbid (principal, action == Guard::Action::\"rename\", resource) \
             when { context.destination };
             forbid (principal, action in [Guard::Action::\"network\"], resource is Guard::Endpoint) \
             unless { resource has port && resource.port < 1024 };",
        ]
        .map(load),
    );
    policies
});

/// Cedar's own answer to all questions, without Guard's rules: `None` if a statement failed.
fn cedar(policy: &Policy, questions: &[Question], approved: bool) -> Option<Decision> {
    let mut decision = Decision::Allow;
    for question in questions {
        let request = question.request(approved).unwrap();
        let response =
            policy.authorizer.is_authorized(&request, policy.sets.whole(), &question.entities);
        response.diagnostics().errors().next().is_none().then_some(())?;
        if response.decision() == Decision::Deny {
            decision = Decision::Deny;
        }
    }
    Some(decision)
}

fn has_unknown_path(action: &Action) -> bool {
    let to = match action {
        Action::Change { to, .. } => to.as_ref(),
        _ => None,
    };
    action.file().into_iter().chain(to).any(|file| !crate::entity::path_is_known(file))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_outcome_is_what_cedar_says_and_never_weaker(
        (session, process) in who(), action in action(), which in 0..POLICY_COUNT,
    ) {
        let policy = &POLICIES[which];
        let attempt = Attempt { session: &session, process: &process, action: &action, host: "h" };
        let question = Question::all(&attempt).unwrap();
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
    fn other_names_never_make_an_outcome_weaker(
        (session, process) in who(), action in action(), other in action(), which in 0..POLICY_COUNT,
    ) {
        let policy = &POLICIES[which];
        let attempt = Attempt { session: &session, process: &process, action: &action, host: "h" };
        let names: Vec<_> = other.file().map(|file| file.path.clone()).into_iter().collect();
        let others = OtherNames { file: names.clone(), to: names, unknown: None };
        let rank = |outcome: &Outcome| match outcome {
            Outcome::Allow { .. } => 0,
            Outcome::Hold { .. } => 1,
            Outcome::Deny { .. } => 2,
        };
        let (alone, with) = (policy.decide(&attempt), policy.decide_with(&attempt, &others));
        prop_assert!(rank(&with) >= rank(&alone), "{alone:?} became {with:?}");
        if rank(&with) == rank(&alone) && rank(&with) != 1 {
            prop_assert_eq!(with, alone);
        }
    }

    #[test]
    fn the_statements_that_can_concern_an_action_answer_as_all_statements_do(
        (session, process) in who(), action in action(), which in 0..POLICY_COUNT,
        approved in any::<bool>(),
    ) {
        let policy = &POLICIES[which];
        let attempt = Attempt { session: &session, process: &process, action: &action, host: "h" };
        for question in Question::all(&attempt).unwrap() {
            let request = question.request(approved).unwrap();
            let answer = |set| {
                let response = policy.authorizer.is_authorized(&request, set, &question.entities);
                let said = response.diagnostics();
                let reasons: HashSet<_> = said.reason().cloned().collect();
                let errors: HashSet<_> = said.errors().map(ToString::to_string).collect();
                (response.decision(), reasons, errors)
            };
            let some = policy.sets.of(&question.action);
            prop_assert_eq!(answer(some), answer(policy.sets.whole()));
        }
    }

    #[test]
    fn what_is_handed_to_cedar_is_what_the_schema_says(
        (session, process) in who(), action in action(),
    ) {
        let attempt = Attempt { session: &session, process: &process, action: &action, host: "h" };
        for question in Question::all(&attempt).unwrap() {
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
    }

    #[test]
    fn any_text_is_read_or_refused_but_never_panics(text in "[@a-z(){};\"\\\\ =.&|!?:,/\n]{0,80}") {
        let _ = try_load(&text);
        let _ = try_load(&format!("@hold(\"{text}\") {text} permit(principal, action, resource);"));
    }
}
