//! The ways out that a hostile session tries (`bypasses.md`): which scenarios try each, and how that ended on
//! each kernel, with the evidence of the attempts: its sequence on the host, which is what a record is called in
//! `out/vm-KERNEL/evidence.ndjson`. Scenarios prove the effect, and most of them the evidence, themselves.

use super::attempts::ranges;
use crate::setup::Kernel;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// A row of the table.
struct Way {
    number: u8,
    out: &'static str,
    scenarios: &'static [&'static str],
    rest: Rest,
}

/// What of a row its scenarios do not stop.
#[derive(Clone, Copy)]
enum Rest {
    Nothing,
    /// It gets through: coverage and SPECIFICATION.md say so.
    Open(&'static str),
    /// It is stopped, and other tests than scenarios try it.
    Elsewhere(&'static str),
}
use Rest::{Elsewhere, Nothing, Open};

impl Rest {
    const fn text(self) -> &'static str {
        match self {
            Nothing => "",
            Open(what) | Elsewhere(what) => what,
        }
    }
}

const fn way(number: u8, out: &'static str, scenarios: &'static [&'static str], rest: Rest) -> Way {
    Way { number, out, scenarios, rest }
}

const POWERS: &str = "every_denied_use_of_the_kernel_itself_is_refused";
const TREE: &str = "every_denied_change_of_the_file_tree_leaves_it_as_it_was";
const NOTHING: &str = "a_program_that_may_do_nothing_else_reaches_nothing";
const EDITED: &str = "a_script_that_is_changed_after_its_decision_is_asked_about_again";
const UNSEEN: &str = "a_program_that_is_changed_without_a_trace_in_its_times_is_asked_about_again";
const ARGUMENTS: &str = "arguments_that_change_under_the_decision_never_run";
const VARIABLES: &str = "variables_that_change_under_the_decision_never_run";
const CONTENT: &str = "a_program_is_what_it_contains_whatever_its_name_and_times";
const NAMES: &str = "every_name_of_a_protected_file_is_the_protected_file";
const REMEMBERED: &str = "a_remembered_allow_does_not_follow_the_file_to_another_name";

const WAYS: [Way; 30] = [
    way(1, "io_uring", &["io_uring_is_refused_with_eperm", POWERS], Nothing),
    way(2, "programs without a name", &["a_program_without_a_name_is_held"], Nothing),
    way(
        3,
        "loaders, LD_PRELOAD, dlopen",
        &[
            "code_that_the_session_wrote_is_held_however_it_is_loaded",
            "the_loader_that_a_program_names_is_held",
        ],
        Open("executable memory without a file"),
    ),
    way(4, "code in arguments and variables", &[ARGUMENTS, VARIABLES], Nothing),
    way(
        5,
        "scripts, edited after approval",
        &["a_freshly_written_script_does_not_run_when_it_is_denied", EDITED],
        Open("the interpreter opens the script after the exec"),
    ),
    way(6, "copied, renamed, linked programs", &[TREE, REMEMBERED, CONTENT], Nothing),
    way(
        7,
        "other names of a protected file",
        &[TREE, REMEMBERED, NAMES],
        Open("an outsider's hard link of the last minute; overlayfs or FUSE above it"),
    ),
    way(8, "magic links, very long paths", &["a_path_that_is_too_long_is_never_allowed"], Nothing),
    way(9, "mounts, chroot, pivot_root", &[POWERS], Nothing),
    way(10, "user namespaces", &[POWERS], Nothing),
    way(
        11,
        "ptrace and memory of others",
        &["a_look_into_a_process_outside_the_session_is_refused"],
        Nothing,
    ),
    way(
        12,
        "descriptors handed in",
        &[
            "a_descriptor_that_the_session_could_not_open_is_not_received",
            "a_session_is_not_handed_what_it_could_not_open",
        ],
        Nothing,
    ),
    way(
        13,
        "setsid, double fork, failed fork",
        &[
            "an_orphan_in_a_session_of_its_own_is_still_held",
            "the_init_of_a_pid_namespace_is_held",
            "a_failed_fork_does_not_free_the_session",
        ],
        Nothing,
    ),
    way(
        14,
        "another cgroup",
        &[
            "a_session_that_moves_to_another_cgroup_is_still_held",
            "a_child_that_is_born_in_another_cgroup_is_still_held",
            "what_runs_in_a_selected_cgroup_is_a_session",
        ],
        Nothing,
    ),
    way(
        15,
        "daemons, login files, hooks",
        &[TREE, "what_acts_outside_of_the_session_is_held_by_the_shipped_policy"],
        Nothing,
    ),
    way(
        16,
        "DNS",
        &[
            "every_unlisted_way_to_an_address_is_held",
            "what_a_permitted_address_is_sent_is_evidence_by_the_minute",
        ],
        Nothing,
    ),
    way(
        17,
        "every address family",
        &["every_unlisted_way_to_an_address_is_held", "an_ipv6_connection_is_held_like_any_other"],
        Nothing,
    ),
    way(
        18,
        "UNIX sockets",
        &["loopback_and_socket_pairs_need_nobody", "every_unlisted_way_to_an_address_is_held"],
        Nothing,
    ),
    way(
        19,
        "bpf()",
        &[
            POWERS,
            "root_outside_of_sessions_is_kept_off_maps_pins_and_guard_agent",
            "a_guard_agent_that_gives_no_sign_of_life_keeps_no_other_out",
        ],
        Nothing,
    ),
    way(
        20,
        "unmounted, unlinked pins",
        &[
            "root_outside_of_sessions_is_kept_off_maps_pins_and_guard_agent",
            "pins_that_root_removes_or_covers_are_put_back_and_enforcement_goes_on",
        ],
        Nothing,
    ),
    way(
        21,
        "kill and stop of guard-agent",
        &[
            "a_signal_out_of_the_session_is_refused",
            "a_hold_survives_kill_9_of_guard_agent",
            "what_is_held_stays_held_while_guard_agent_stands_still",
        ],
        Nothing,
    ),
    way(
        22,
        "restart and upgrade",
        &["nothing_passes_and_no_session_ends_by_an_upgrade_to_another_abi_and_back"],
        Nothing,
    ),
    way(
        23,
        "flooding, blocking the ring buffer",
        &[
            "a_full_ring_buffer_denies_and_counts",
            "arguments_that_do_not_arrive_keep_nobody_else_waiting",
        ],
        Nothing,
    ),
    way(
        24,
        "flooding approvers",
        &["a_session_that_floods_its_approvers_waits_with_its_share_only"],
        Nothing,
    ),
    way(
        25,
        "changes while the approver reads",
        &[ARGUMENTS, VARIABLES, EDITED, UNSEEN, CONTENT],
        Nothing,
    ),
    way(
        26,
        "deceptive names and text",
        &["a_spoofed_name_changes_nothing", "hostile_text_is_stored_exactly"],
        Nothing,
    ),
    way(
        27,
        "before the label",
        &["a_selected_program_is_a_session_before_its_first_instruction"],
        Nothing,
    ),
    way(28, "a kernel without the BPF LSM", &[guard_vm_wire::WITHOUT_BPF_LSM], Nothing),
    way(
        29,
        "handles, raw devices, kernel memory",
        &["a_capability_that_no_policy_permits_is_refused_at_once", NOTHING],
        Nothing,
    ),
    way(
        30,
        "a grant used again",
        &[
            "a_stray_sigcont_does_not_release_a_hold",
            "a_grant_counts_once_and_for_its_own_thread_only",
            "a_grant_is_worth_nothing_to_the_next_process_with_its_number",
        ],
        Elsewhere("another host or boot: unit tests, model"),
    ),
];

/// How one scenario ended.
pub(super) struct Tried {
    pub(super) kernel: Kernel,
    pub(super) scenario: String,
    pub(super) passed: bool,
    /// When it was played, by the VM's boot clock.
    pub(super) from_ns: u64,
    pub(super) to_ns: u64,
    /// The sequences of its attempts in that host's evidence.
    pub(super) evidence: Vec<u64>,
}

/// The scenarios that try a way out, each once.
pub(super) fn scenarios() -> Vec<String> {
    let mut names: Vec<_> =
        WAYS.iter().flat_map(|way| way.scenarios).map(|name| (*name).into()).collect();
    names.sort();
    names.dedup();
    names
}

/// Row × kernel.
pub(super) fn table(tried: &[Tried]) -> String {
    let kernels = kernels(tried);
    let mut text = format!("\n{:<38}", "way out");
    for kernel in &kernels {
        let _ = write!(text, "{:>9}", kernel.to_string());
    }
    text.push_str("  what gets through, or is tried elsewhere\n");
    for way in &WAYS {
        let _ = write!(text, "{:>2} {:<35}", way.number, way.out);
        for kernel in &kernels {
            let _ = write!(text, "{:>9}", mark(way, *kernel, tried));
        }
        let _ = writeln!(text, "  {}", way.rest.text());
    }
    text.push_str(
        "✓ stopped   degraded: what was tried is stopped, and something gets through   ✗ not stopped   – not tried\n",
    );
    text.push_str("\nevidence of the attempts: sequences in out/vm-KERNEL/evidence.ndjson\n");
    for way in &WAYS {
        for kernel in &kernels {
            let ids: Vec<u64> =
                of(way, *kernel, tried).flat_map(|one| one.evidence.iter().copied()).collect();
            if !ids.is_empty() {
                let _ = writeln!(text, "{:>2} {:>6}  {}", way.number, kernel.name(), ranges(&ids));
            }
        }
    }
    text
}

/// The same for programs, with every id and its scenario.
pub(super) fn json(tried: &[Tried]) -> Value {
    let one = |one: &Tried| json!({ "scenario": one.scenario, "passed": one.passed, "evidence": one.evidence });
    let row = |way: &Way| {
        let on = |kernel: &Kernel| {
            let attempts: Vec<_> = of(way, *kernel, tried).map(one).collect();
            let mark = mark(way, *kernel, tried);
            json!({ "kernel": kernel.name(), "mark": mark, "attempts": attempts })
        };
        let kernels: Vec<_> = kernels(tried).iter().map(on).collect();
        let (open, elsewhere) = match way.rest {
            Nothing => ("", ""),
            Open(what) => (what, ""),
            Elsewhere(what) => ("", what),
        };
        json!({
            "number": way.number, "way": way.out, "open": open, "elsewhere": elsewhere, "kernels": kernels
        })
    };
    WAYS.iter().map(row).collect()
}

/// In the order in which they were run.
fn kernels(tried: &[Tried]) -> Vec<Kernel> {
    let mut kernels = Vec::new();
    for one in tried {
        if !kernels.contains(&one.kernel) {
            kernels.push(one.kernel);
        }
    }
    kernels
}

/// What was tried of a row on a kernel.
fn of<'a>(way: &Way, kernel: Kernel, tried: &'a [Tried]) -> impl Iterator<Item = &'a Tried> {
    let names = way.scenarios;
    tried.iter().filter(move |one| one.kernel == kernel && names.contains(&one.scenario.as_str()))
}

fn mark(way: &Way, kernel: Kernel, tried: &[Tried]) -> &'static str {
    let ended: Vec<_> = way
        .scenarios
        .iter()
        .map(|name| tried.iter().find(|one| one.kernel == kernel && one.scenario == **name))
        .collect();
    match () {
        () if ended.iter().flatten().any(|one| !one.passed) => "✗",
        () if ended.is_empty() || ended.iter().any(Option::is_none) => "–",
        () if matches!(way.rest, Open(_)) => "degraded",
        () => "✓",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_that_a_row_names_exists() {
        let source = crate::cache::repository().join("tests/src/bin/guard-guest/scenarios.rs");
        let all = std::fs::read_to_string(source).unwrap_or_default();
        for name in scenarios() {
            let is_there =
                name == guard_vm_wire::WITHOUT_BPF_LSM || all.contains(&format!("\"{name}\""));
            assert!(is_there, "{name}");
        }
    }

    #[test]
    fn a_row_is_stopped_only_where_all_of_it_was_tried_and_nothing_got_through() {
        let tried = |passed: [bool; 2]| {
            let names = ["io_uring_is_refused_with_eperm", POWERS];
            let one = |(name, passed): (&str, bool)| Tried {
                kernel: Kernel::V7_3,
                scenario: name.into(),
                passed,
                from_ns: 0,
                to_ns: 1,
                evidence: vec![4, 5],
            };
            names.into_iter().zip(passed).map(one).collect::<Vec<_>>()
        };
        let row = &WAYS[0];
        assert_eq!(mark(row, Kernel::V7_3, &tried([true, true])), "✓");
        assert_eq!(mark(row, Kernel::V7_3, &tried([true, false])), "✗");
        assert_eq!(mark(row, Kernel::V7_3, &tried([true, true])[..1]), "–");
        assert_eq!(mark(row, Kernel::V6_1, &tried([true, true])), "–");
        assert_eq!(mark(&WAYS[23], Kernel::V7_3, &tried([true, true])), "–");
        let open = way(0, "", &[POWERS], Open("something"));
        assert_eq!(mark(&open, Kernel::V7_3, &tried([true, true])), "degraded");
        assert_eq!(mark(&open, Kernel::V7_3, &tried([true, false])), "✗");
        let elsewhere = way(0, "", &[POWERS], Elsewhere("something"));
        assert_eq!(mark(&elsewhere, Kernel::V7_3, &tried([true, true])), "✓");
    }

    #[test]
    fn each_row_has_the_evidence_of_its_attempts_in_text_and_in_json() {
        let tried = [Tried {
            kernel: Kernel::V7_3,
            scenario: "a_program_without_a_name_is_held".into(),
            passed: true,
            from_ns: 0,
            to_ns: 1,
            evidence: vec![7, 8, 9],
        }];
        assert!(table(&tried).contains(" 2    7.3  7–9 (3)\n"), "{}", table(&tried));
        let row = &json(&tried)[1]["kernels"][0];
        assert_eq!(row["attempts"][0]["evidence"], serde_json::json!([7, 8, 9]));
        assert_eq!(row["mark"], "✓");
        assert_eq!(json(&tried)[0]["kernels"][0]["mark"], "–");
    }
}
