//! The scenarios of the VM matrix. Each is named as a sentence about behaviour; SPECIFICATION.md names
//! the promise that it enforces.

mod budget;
mod code;
mod content;
mod control;
mod coverage;
mod exec;
mod failure;
mod guardian;
mod hold;
mod limit;
mod names;
mod network;
mod nothing;
mod outlive;
mod powers;
mod reach;
mod reuse;
mod scale;
mod select;
mod survival;
mod tree;

use crate::{Trouble, scenario::Stage};

type Play = fn(&mut Stage) -> Result<(), Trouble>;

/// Those that are played only where they are named: each load of all programs takes a minute under emulation
/// on a busy machine, and the first needs three; the other needs a VM of its own.
pub(crate) const ON_REQUEST: &[(&str, Play)] = &[
    (
        "nothing_passes_and_no_session_ends_by_an_upgrade_to_another_abi_and_back",
        survival::upgraded,
    ),
    (guard_vm_wire::WITH_ANOTHER_HASH, content::pinned_by_agent),
];

/// All that every run plays, cheap ones first; those that restart Guard last.
pub(crate) const ALL: &[(&str, Play)] = &[
    ("a_held_open_goes_on_when_it_is_approved", hold::open_approved),
    ("a_held_open_fails_with_eperm_when_it_is_denied", hold::open_denied),
    ("a_freshly_written_script_is_held_and_runs_once_approved", hold::script_approved),
    ("a_freshly_written_script_does_not_run_when_it_is_denied", hold::script_denied),
    ("a_script_that_is_changed_after_its_decision_is_asked_about_again", exec::edited),
    (
        "a_program_that_is_changed_without_a_trace_in_its_times_is_asked_about_again",
        exec::edited_unseen,
    ),
    ("arguments_that_change_under_the_decision_never_run", exec::raced_argv),
    ("variables_that_change_under_the_decision_never_run", exec::raced_environment),
    ("arguments_that_do_not_arrive_keep_nobody_else_waiting", exec::stalled_argv),
    ("many_execs_in_a_row_are_each_what_was_decided", exec::in_a_row),
    ("the_loader_that_a_program_names_is_held", exec::loader),
    ("a_program_that_gives_another_user_is_held", exec::gains),
    ("a_program_that_gives_capabilities_is_held_once", exec::file_capabilities),
    ("a_program_without_a_name_is_held", hold::memfd),
    ("an_unlisted_connection_is_held_and_goes_on_when_it_is_approved", hold::connect_approved),
    ("an_unlisted_connection_fails_when_it_is_denied", hold::connect_denied),
    ("a_listed_connection_needs_nobody", hold::connect_listed),
    ("an_ipv6_connection_is_held_like_any_other", hold::connect_ipv6),
    ("root_reading_the_password_hashes_is_held", hold::shadow),
    ("a_creation_is_one_hold_and_survives_o_excl", hold::create_exclusive),
    ("a_denied_truncation_leaves_the_content", hold::truncate_denied),
    ("an_unnamed_file_is_created_once_approved", hold::tmpfile),
    ("an_orphan_in_a_session_of_its_own_is_still_held", hold::orphan),
    ("a_child_that_is_born_in_another_cgroup_is_still_held", hold::born_in_cgroup),
    ("a_session_that_moves_to_another_cgroup_is_still_held", hold::other_cgroup),
    ("the_init_of_a_pid_namespace_is_held", hold::pid_namespace),
    ("a_failed_fork_does_not_free_the_session", hold::failed_fork),
    ("a_spoofed_name_changes_nothing", hold::spoofed_name),
    ("an_unlabelled_process_is_not_touched", hold::unlabelled),
    ("a_stray_sigcont_does_not_release_a_hold", hold::stray_sigcont),
    ("a_grant_counts_once_and_for_its_own_thread_only", hold::granted_once),
    ("a_grant_is_worth_nothing_to_the_next_process_with_its_number", reuse::by_pid),
    ("a_held_task_can_be_killed", hold::killed),
    ("hostile_text_is_stored_exactly", hold::hostile_text),
    ("every_denied_change_of_the_file_tree_leaves_it_as_it_was", tree::denied),
    ("every_approved_change_of_the_file_tree_is_done", tree::approved),
    ("a_change_that_policy_permits_waits_for_nobody", tree::plain),
    ("attributes_that_give_rights_need_a_person", tree::attributes),
    ("a_signal_out_of_the_session_is_refused", reach::signal),
    ("a_look_into_a_process_outside_the_session_is_refused", reach::ptrace),
    (
        "what_steers_others_or_the_machine_is_refused_and_what_is_the_sessions_own_is_not",
        control::refused,
    ),
    ("no_descriptor_sends_a_signal_out_of_the_session", control::no_signal_by_descriptor),
    ("a_program_that_may_do_nothing_else_reaches_nothing", nothing::reached),
    ("a_capability_that_no_policy_permits_is_refused_at_once", reach::capability),
    ("a_capability_that_the_policy_permits_is_allowed_after_its_first_use", reach::standing),
    ("what_a_policy_permits_to_everybody_works_at_its_first_use", reach::beforehand),
    ("capset_gives_a_session_nothing_that_it_had_dropped", reach::capset),
    ("every_denied_use_of_the_kernel_itself_is_refused", powers::denied),
    ("every_approved_use_of_the_kernel_itself_is_done", powers::approved),
    ("every_unlisted_way_to_an_address_is_held", network::denied),
    ("loopback_and_socket_pairs_need_nobody", network::plain),
    ("what_an_attached_program_does_not_see_is_told_as_degraded", coverage::told),
    ("what_a_permitted_address_is_sent_is_evidence_by_the_minute", network::sums),
    ("addresses_beyond_what_is_counted_are_a_loss_that_is_told", network::many),
    ("code_that_the_session_wrote_is_held_however_it_is_loaded", code::mapped),
    ("a_descriptor_that_the_session_could_not_open_is_not_received", code::received),
    ("a_remembered_allow_does_not_follow_the_file_to_another_name", code::remembered),
    ("io_uring_is_refused_with_eperm", limit::uring),
    ("a_path_that_is_too_long_is_never_allowed", limit::long_path),
    ("a_hold_that_nobody_answers_is_denied_at_its_deadline", limit::deadline),
    ("a_session_may_not_start_another_session", limit::nested),
    ("a_malformed_request_on_the_socket_gets_a_clear_error", limit::malformed),
    ("three_hundred_holds_in_a_row_never_show_513", scale::in_a_row),
    ("a_session_that_floods_its_approvers_waits_with_its_share_only", scale::processes),
    ("holds_under_signals_kills_and_tracers_all_end_and_leave_nothing_behind", scale::noise),
    ("two_hundred_threads_held_at_once_each_get_their_answer", scale::threads),
    ("a_selected_program_is_a_session_before_its_first_instruction", select::program),
    ("a_session_is_not_handed_what_it_could_not_open", select::handed),
    ("a_selected_users_programs_are_sessions", select::user),
    ("what_runs_in_a_selected_cgroup_is_a_session", select::cgroup),
    (
        "what_is_not_selected_stays_unlabelled_and_a_selector_that_is_gone_selects_nothing",
        select::unselected,
    ),
    ("a_session_that_began_while_guard_agent_was_away_is_held_and_has_its_name", select::meanwhile),
    ("a_program_is_what_it_contains_whatever_its_name_and_times", content::pinned),
    ("every_name_of_a_protected_file_is_the_protected_file", names::every_one),
    ("what_acts_outside_of_the_session_is_held_by_the_shipped_policy", outlive::held),
    ("a_hold_survives_kill_9_of_the_controller", failure::controller_killed),
    ("a_hold_survives_kill_9_of_guard_agent", failure::agent_killed),
    ("what_is_held_stays_held_while_guard_agent_stands_still", survival::stands_still),
    ("root_outside_of_sessions_is_kept_off_maps_pins_and_guard_agent", guardian::kept_off),
    ("a_guard_agent_that_gives_no_sign_of_life_keeps_no_other_out", guardian::silent),
    ("pins_that_root_removes_or_covers_are_put_back_and_enforcement_goes_on", survival::pins),
    ("every_program_costs_the_verifier_no_more_than_its_budget", budget::within),
    ("a_full_ring_buffer_denies_and_counts", limit::ring_full),
    // From here on nothing is enforced.
    ("only_a_deliberate_end_by_root_with_a_reason_ends_enforcement", survival::deliberate_end),
    ("evidence_has_no_gap", failure::no_gap),
];
