//! The engine's promises, one by one.

use super::*;

#[test]
fn a_policy_allow_is_granted_and_resumed_at_once() {
    let mut engine = engine();
    assert_eq!(engine.announce(announcement(1, 4, 0, 0)), Announced::Judge);
    engine.judge(0, 1, allow(1));
    let commands = engine.take_commands();
    assert_eq!((grants(&commands), resumes(&commands)), (vec![(1, VERDICT_ALLOW)], vec![1]));
}

#[test]
fn nobody_waits_for_what_is_said_of_their_answer() {
    let mut engine = engine();
    engine.link_up();
    // Threads of two processes; what the first of them left is forgotten, and the last one waits.
    for (hold, tid) in [(1, 0), (2, 4), (3, 0), (4, 8)] {
        let _ = engine.announce(announcement(hold, tid, hold, 0));
        engine.judge(0, hold, if hold == 4 { ask(4, 60_000) } else { allow(hold) });
    }
    let turn = |command: &Command| match command {
        Command::Grant { .. } | Command::Forget { .. } | Command::Reannounce { .. } => 0,
        Command::Resume { .. } => 1,
        Command::Request(_) | Command::Farewell(_) | Command::Evidence { .. } => 2,
    };
    let commands = engine.take_commands();
    let turns: Vec<u32> = commands.iter().map(turn).collect();
    assert!(turns.is_sorted(), "{commands:?}");
    assert_eq!((resumes(&commands).len(), requests(&commands)), (2, 1));
    // Neither tables nor words change their order among themselves.
    let granted: Vec<u64> = grants(&commands).into_iter().map(|(hold, _)| hold).collect();
    assert_eq!(granted, [1, 2, 3]);
    let at = |wanted: fn(&Command) -> bool| commands.iter().position(wanted).unwrap();
    assert!(
        at(|command| matches!(command, Command::Forget { hold: 1, .. }))
            < at(|command| matches!(command, Command::Grant { hold: 3, .. }))
    );
}

#[test]
fn a_person_allows_exactly_the_action_that_was_shown() {
    let mut engine = waiting();
    engine.decide(1, decision(1, digest(2), Verdict::Allow));
    let commands = engine.take_commands();
    assert_eq!((grants(&commands).len(), refusals(&commands)), (0, 1));
    engine.decide(2, decision(1, digest(1), Verdict::Allow));
    assert_eq!(grants(&engine.take_commands()), [(1, VERDICT_ALLOW)]);
}

#[test]
fn a_decision_for_a_hold_that_is_not_here_is_refused_with_evidence() {
    let mut engine = waiting();
    engine.decide(1, decision(9, digest(9), Verdict::Allow));
    let commands = engine.take_commands();
    assert_eq!((grants(&commands).len(), refusals(&commands)), (0, 1));
    // The controller must not go on re-sending it.
    assert_eq!(farewells(&commands), [HoldEnd::Finished { consumed: false }]);
}

#[test]
fn a_decision_counts_once_and_cannot_be_changed() {
    let mut engine = waiting();
    engine.decide(1, decision(1, digest(1), Verdict::Deny));
    assert_eq!(grants(&engine.take_commands()), [(1, VERDICT_DENY)]);
    engine.decide(2, decision(1, digest(1), Verdict::Allow));
    let commands = engine.take_commands();
    assert_eq!((grants(&commands).len(), refusals(&commands)), (0, 1));
    // The same word again, after a reconnect, is no news.
    engine.decide(3, decision(1, digest(1), Verdict::Deny));
    assert_eq!(engine.take_commands(), []);
}

#[test]
fn a_hold_that_nobody_answers_expires_to_deny_at_the_policys_time() {
    let mut engine = waiting();
    engine.tick(60 * SECOND - 1);
    assert_eq!(engine.take_commands(), []);
    engine.tick(60 * SECOND);
    let commands = engine.take_commands();
    assert_eq!(grants(&commands), [(1, VERDICT_DENY)]);
    assert_eq!(farewells(&commands), [HoldEnd::Withdrawn(Withdrawal::Expired)]);
    engine.decide(61 * SECOND, decision(1, digest(1), Verdict::Allow));
    assert_eq!(grants(&engine.take_commands()), []);
}

#[test]
fn the_kernels_deadline_wins_over_a_longer_time_of_the_policy() {
    let mut engine = engine();
    let _ = engine.announce(announcement(1, 4, 0, 0));
    engine.judge(0, 1, ask(1, 10 * TTL / 1_000_000));
    engine.take_commands();
    engine.decide(TTL, decision(1, digest(1), Verdict::Allow));
    assert_eq!(grants(&engine.take_commands()), [(1, VERDICT_DENY)]);
}

#[test]
fn losing_the_link_decides_nothing_and_gaining_it_asks_again() {
    let mut engine = waiting();
    engine.link_down();
    engine.tick(SECOND);
    assert_eq!(engine.take_commands(), []);
    assert_eq!(engine.pending_ids(), [HoldId::derive(HOST, BOOT, 1)]);
    engine.link_up();
    assert_eq!(requests(&engine.take_commands()), 1);
}

#[test]
fn an_end_while_the_link_is_down_is_told_when_it_is_up() {
    let mut engine = waiting();
    engine.link_down();
    engine.gone(1);
    assert_eq!(farewells(&engine.take_commands()), []);
    assert_eq!(engine.pending_ids(), [HoldId::derive(HOST, BOOT, 1)]);
    engine.link_up();
    let end = HoldEnd::Withdrawn(Withdrawal::Abandoned);
    assert_eq!(farewells(&engine.take_commands()), [end]);
    // It was said, and the controller asks again: it hears the same.
    engine.decide(1, decision(1, digest(1), Verdict::Allow));
    let commands = engine.take_commands();
    assert_eq!((farewells(&commands), refusals(&commands)), (vec![end], 0));
}

#[test]
fn a_hold_announced_again_is_not_asked_again_but_its_lost_grant_is_written_again() {
    let mut engine = waiting();
    assert_eq!(engine.announce(announcement(1, 4, 0, 0)), Announced::Known);
    assert_eq!(engine.take_commands(), []);
    engine.decide(1, decision(1, digest(1), Verdict::Allow));
    engine.take_commands();
    assert_eq!(engine.announce(announcement(1, 4, 0, 0)), Announced::Known);
    assert_eq!(grants(&engine.take_commands()), [(1, VERDICT_ALLOW)]);
}

#[test]
fn an_adopted_hold_keeps_an_early_decision_until_its_digest_can_be_compared() {
    for (shown, granted) in [(digest(1), vec![(1, VERDICT_ALLOW)]), (digest(2), vec![])] {
        let mut engine = engine();
        let record =
            HoldRecord { hold_id: 1, session: 7, deadline_ns: TTL, ..HoldRecord::default() };
        engine.adopt(0, *key(4, 0), &record);
        let commands = engine.take_commands();
        assert!(matches!(commands[0], Command::Reannounce { hold: 1, .. }));
        assert!(matches!(commands[1], Command::Resume { hold: 1, .. }));
        engine.decide(1, decision(1, shown, Verdict::Allow));
        assert_eq!(grants(&engine.take_commands()), []);
        assert_eq!(engine.announce(announcement(1, 4, 0, 0)), Announced::Judge);
        engine.judge(2, 1, ask(1, 60_000));
        assert_eq!(grants(&engine.take_commands()), granted);
    }
}

#[test]
fn an_early_no_outlives_a_policy_that_now_says_yes() {
    let mut engine = engine();
    let record = HoldRecord { hold_id: 1, session: 7, deadline_ns: TTL, ..HoldRecord::default() };
    engine.adopt(0, *key(4, 0), &record);
    engine.decide(1, decision(1, digest(1), Verdict::Deny));
    let _ = engine.announce(announcement(1, 4, 0, 0));
    engine.judge(2, 1, allow(1));
    assert_eq!(grants(&engine.take_commands()), [(1, VERDICT_DENY)]);
}

#[test]
fn another_action_of_the_same_thread_supersedes_the_first() {
    let mut engine = waiting();
    assert_eq!(engine.announce(announcement(2, 4, 9, 1)), Announced::Judge);
    let commands = engine.take_commands();
    assert!(
        commands.iter().any(|c| matches!(c, Command::Forget { key: k, .. } if *k == key(4, 0)))
    );
    assert_eq!(farewells(&commands), [HoldEnd::Withdrawn(Withdrawal::Superseded)]);
    engine.decide(1, decision(1, digest(1), Verdict::Allow));
    assert_eq!(grants(&engine.take_commands()), []);
}

/// The record of the first one's end may be lost: the same action is then held anew under the same key.
#[test]
fn a_hold_is_forgotten_by_its_number_and_not_with_a_newer_one_of_the_same_action() {
    let mut engine = waiting();
    assert_eq!(engine.announce(announcement(2, 4, 0, 1)), Announced::Judge);
    let forgotten = |command: &Command| match command {
        Command::Forget { hold, .. } => Some(*hold),
        _ => None,
    };
    let commands = engine.take_commands();
    assert_eq!(commands.iter().filter_map(forgotten).collect::<Vec<_>>(), [1]);
}

#[test]
fn an_answer_that_the_kernels_deadline_overtook_is_taken_back() {
    let mut engine = engine();
    assert_eq!(engine.announce(announcement(1, 4, 0, 0)), Announced::Judge);
    engine.judge(TTL, 1, allow(1));
    engine.outcome(&outcome(1, key(4, 0), EVENT_EXPIRED, VERDICT_DENY, REASON_EXPIRED));
    let commands = engine.take_commands();
    assert_eq!(grants(&commands), [(1, VERDICT_ALLOW)]);
    assert!(commands.iter().any(|c| matches!(c, Command::Forget { hold: 1, .. })), "{commands:?}");
}

#[test]
fn decisions_for_many_threads_of_one_process_are_one_resume() {
    let mut engine = engine();
    for hold in 0..4 {
        let _ = engine.announce(announcement(hold + 1, u32::try_from(hold).unwrap(), 0, 0));
        engine.judge(0, hold + 1, allow(hold + 1));
    }
    let commands = engine.take_commands();
    assert_eq!((grants(&commands).len(), resumes(&commands).len()), (4, 1));
}

#[test]
fn a_dead_thread_hands_its_resume_to_a_decided_sibling() {
    let mut engine = engine();
    for hold in [1, 2] {
        let _ = engine.announce(announcement(hold, u32::try_from(hold).unwrap(), 0, 0));
        engine.judge(0, hold, allow(hold));
    }
    let commands = engine.take_commands();
    let [hold] = resumes(&commands)[..] else { panic!("{commands:?}") };
    engine.gone(hold);
    assert_eq!(resumes(&engine.take_commands()), [3 - hold]);
}

#[test]
fn a_grant_outlives_the_siblings_that_keep_its_thread_stopped() {
    let mut engine = engine();
    let _ = engine.announce(announcement(1, 1, 0, 0));
    engine.judge(0, 1, allow(1));
    let commands = engine.take_commands();
    let Some(Command::Grant { grant, .. }) =
        commands.iter().find(|c| matches!(c, Command::Grant { .. }))
    else {
        panic!("{commands:?}")
    };
    // A sibling that is held a moment later stops the process up to its own deadline.
    let sibling_deadline_ns = SECOND + TTL;
    assert!(grant.expires_ns > sibling_deadline_ns);
    assert!(grant.expires_ns <= TTL + GRANT_SLACK_NS);
}

#[test]
fn a_grant_that_the_map_refused_is_written_again() {
    let mut engine = engine();
    let _ = engine.announce(announcement(1, 1, 0, 0));
    engine.judge(0, 1, allow(1));
    engine.take_commands();
    engine.grant_failed(1);
    engine.tick(NUDGE_FIRST_NS);
    assert_eq!(grants(&engine.take_commands()), [(1, VERDICT_ALLOW)]);
}

#[test]
fn an_answer_that_is_not_consumed_is_resumed_again_a_few_times_and_then_forgotten() {
    let mut engine = engine();
    let _ = engine.announce(announcement(1, 1, 0, 0));
    engine.judge(0, 1, allow(1));
    engine.take_commands();
    let mut resumes = 0;
    for second in 1..TTL / SECOND + 31 {
        engine.tick(second * SECOND);
        let commands = engine.take_commands();
        assert_eq!(grants(&commands), []);
        resumes += commands.iter().filter(|c| matches!(c, Command::Resume { .. })).count();
    }
    assert_eq!(resumes, NUDGES_MAX as usize);
    assert_eq!(engine.tracked().count(), 0);
}

#[test]
fn one_hold_too_many_is_denied_at_once() {
    let mut engine = engine();
    for hold in 0..limits().holds as u64 {
        let _ = engine.announce(announcement(hold + 1, u32::try_from(hold).unwrap(), 0, 0));
    }
    assert_eq!(engine.announce(announcement(99, 99, 0, 0)), Announced::Known);
    let commands = engine.take_commands();
    assert_eq!((grants(&commands), resumes(&commands)), (vec![(99, VERDICT_DENY)], vec![99]));
}

#[test]
fn a_session_cannot_bury_approvers_under_prompts() {
    let mut engine = engine();
    engine.link_up();
    let max = u64::from(limits().waiting_per_session);
    for hold in 1..=max + 1 {
        let _ = engine.announce(announcement(hold, u32::try_from(hold).unwrap(), 0, 0));
        engine.judge(0, hold, ask(hold, 60_000));
    }
    let commands = engine.take_commands();
    assert_eq!(grants(&commands), [(max + 1, VERDICT_DENY)]);
    assert_eq!(requests(&commands) as u64, max);
    // One ends, one more fits.
    engine.gone(1);
    let _ = engine.announce(announcement(50, 50, 0, 0));
    engine.judge(0, 50, ask(50, 60_000));
    assert_eq!(requests(&engine.take_commands()), 1);
}

#[test]
fn with_a_full_spool_nothing_new_waits_for_a_person() {
    let mut engine = engine();
    engine.set_spool_full(true);
    let _ = engine.announce(announcement(1, 1, 0, 0));
    engine.judge(0, 1, ask(1, 60_000));
    let _ = engine.announce(announcement(2, 2, 0, 0));
    engine.judge(0, 2, allow(2));
    let granted = grants(&engine.take_commands());
    assert_eq!(granted, [(1, VERDICT_DENY), (2, VERDICT_ALLOW)]);
}

#[test]
fn the_controller_hears_whether_a_persons_decision_was_carried_out() {
    for (reason, consumed) in [(REASON_GRANT, true), (REASON_STALE_GRANT, false)] {
        let mut engine = waiting();
        engine.decide(1, decision(1, digest(1), Verdict::Allow));
        engine.take_commands();
        engine.outcome(&outcome(1, key(4, 0), EVENT_CONSUMED, VERDICT_ALLOW, reason));
        let commands = engine.take_commands();
        assert_eq!(farewells(&commands), [HoldEnd::Finished { consumed }]);
        assert_eq!(engine.tracked().count(), 0);
    }
}

#[test]
fn a_grant_of_an_earlier_guard_agent_is_told_only_to_a_controller_that_asks() {
    let mut engine = engine();
    engine.link_up();
    let record = HoldRecord { hold_id: 1, session: 7, deadline_ns: TTL, ..HoldRecord::default() };
    engine.adopt(0, *key(4, 0), &record);
    engine.outcome(&outcome(1, key(4, 0), EVENT_CONSUMED, VERDICT_ALLOW, REASON_GRANT));
    assert_eq!(farewells(&engine.take_commands()), []);
    engine.decide(1, decision(1, digest(1), Verdict::Allow));
    let commands = engine.take_commands();
    assert_eq!(farewells(&commands), [HoldEnd::Finished { consumed: true }]);
    assert_eq!((refusals(&commands), grants(&commands)), (0, vec![]));
}

#[test]
fn a_hold_that_the_kernel_expired_is_withdrawn() {
    let mut engine = waiting();
    engine.outcome(&outcome(1, key(4, 0), EVENT_EXPIRED, VERDICT_DENY, REASON_EXPIRED));
    let end = HoldEnd::Withdrawn(Withdrawal::Expired);
    assert_eq!(farewells(&engine.take_commands()), [end]);
}
