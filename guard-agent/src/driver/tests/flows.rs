//! From event to grant, from person to grant, from one life to the next.

use super::*;
use crate::session::HANDLE_SELECTED;

const BY_KERNEL: u64 = HANDLE_SELECTED | 1;

/// One selector, and the number that its records have.
fn bots() -> (Selectors, u64) {
    let selectors = Selectors::resolve(vec!["uid=1001,as=bots".parse().unwrap()]).unwrap();
    let number = selectors.active()[0].1;
    (selectors, number)
}

fn selected(selector: u64) -> KernelEvent {
    KernelEvent { header: header(BY_KERNEL, 0), body: KernelBody::Selected { selector } }
}

fn started_as(records: &[Record], name: &str) -> usize {
    count(
        records,
        |event| matches!(event, Event::SessionStarted { info } if info.name == name && info.root_pid == std::process::id()),
    )
}

#[tokio::test]
async fn a_session_that_the_kernel_began_has_its_selectors_name_and_evidence() {
    let mut bench = Bench::new();
    let (selectors, number) = bots();
    bench.driver.parts.selectors = selectors;
    bench.event(selected(number));
    bench.event(held(BY_KERNEL, 1, "/never"));
    assert_eq!(bench.kernel.verdicts(), [(1, VERDICT_DENY)]);
    let (records, _folder) = bench.end();
    assert_eq!(started_as(&records, "bots"), 1);
}

#[tokio::test]
async fn a_session_that_began_between_two_guard_agents_has_its_name() {
    let kernel = FakeKernel::default();
    let label = Label { session: BY_KERNEL, ..Label::default() };
    kernel.inside(|inside| inside.labels.insert(std::process::id(), label));
    let mut bench = Bench::in_folder(tempfile::tempdir().unwrap(), kernel);
    // Its record comes after the start; a name that was made up before would stay.
    let (selectors, number) = bots();
    bench.driver.parts.selectors = selectors;
    bench.event(selected(number));
    let (records, _folder) = bench.end();
    assert_eq!((started_as(&records, "bots"), started_as(&records, "unnamed")), (1, 0));
}

#[tokio::test]
async fn a_record_of_a_selector_that_is_gone_is_a_session_without_a_name() {
    let mut bench = Bench::new();
    bench.event(selected(bots().1));
    let (records, _folder) = bench.end();
    assert_eq!(started_as(&records, "unnamed"), 1);
}

#[tokio::test]
async fn a_start_leaves_the_configured_selectors_in_the_kernel_and_no_others() {
    let kernel = FakeKernel::default();
    kernel.inside(|inside| inside.selectors = vec![(SelectorKey::default(), 7)]);
    let mut bench = Bench::in_folder(tempfile::tempdir().unwrap(), kernel);
    assert_eq!(bench.kernel.inside(|inside| inside.selectors.clone()), []);
    let (selectors, _) = bots();
    let wanted = selectors.active().to_vec();
    bench.driver.parts.selectors = selectors;
    bench.driver.start().unwrap();
    assert_eq!(bench.kernel.inside(|inside| inside.selectors.clone()), wanted);
}

#[tokio::test]
async fn what_the_policy_allows_or_denies_is_answered_at_once_and_leaves_evidence() {
    let mut bench = Bench::new();
    let session = bench.start_session();
    bench.event(held(session, 1, "/fine"));
    bench.event(consumed(session, 1, VERDICT_ALLOW));
    bench.event(held(session, 2, "/never"));
    assert_eq!(bench.kernel.verdicts(), [(1, VERDICT_ALLOW), (2, VERDICT_DENY)]);
    assert_eq!(bench.kernel.inside(|inside| inside.resumed), 2);
    assert!(bench.said.try_recv().is_err());
    let (records, _folder) = bench.end();
    let decided = |event: &Event| matches!(event, Event::Decided { .. });
    assert_eq!(count(&records, decided), 2);
    assert_eq!(count(&records, |event| matches!(event, Event::Outcome { .. })), 1);
    assert!(matches!(records[0].event, Event::Started { .. }));
    assert!(matches!(records[1].event, Event::PolicyLoaded { .. }));
    assert!(matches!(records.last().unwrap().event, Event::Stopped { .. }));
}

#[tokio::test]
async fn a_person_sees_who_what_where_and_why_and_their_word_is_carried_out() {
    let mut bench = Bench::new();
    bench.news(FromLink::Up);
    let session = bench.start_session();
    bench.event(held(session, 1, "/never"));
    bench.event(held(session, 2, "/secret"));
    // The first hold of the thread was answered; it moved on.
    let request = loop {
        match bench.said.try_recv().unwrap() {
            ToLink::Request(request) => break request,
            _ => continue,
        }
    };
    assert_eq!(request.hold_id, HoldId::derive(HOST, BOOT, 2));
    assert_eq!((request.session.name.as_str(), request.host), ("bot", HOST));
    assert_eq!(request.statements[0].id, "secret");
    assert!(!request.process.exe.is_empty() && !request.process.cmdline.is_empty());
    assert_eq!(request.process.ancestors.last().unwrap().ppid, 0);
    assert!(request.process.ancestors[0].labelled);
    assert_eq!(request.recent, ["open for read /never (denied)"]);
    bench.news(decided(&request, Verdict::Allow));
    assert_eq!(bench.kernel.verdicts().last(), Some(&(2, VERDICT_ALLOW)));
    bench.event(consumed(session, 2, VERDICT_ALLOW));
    let said = bench.said.try_recv();
    assert!(matches!(said, Ok(ToLink::Farewell(farewell)) if farewell.hold_id == request.hold_id));
    let (records, _folder) = bench.end();
    let person = |event: &Event| matches!(event, Event::PersonDecided { decided_by, .. } if decided_by == "ann");
    assert_eq!(count(&records, person), 1);
}

#[tokio::test]
async fn a_session_asks_why_and_nothing_else() {
    let mut bench = Bench::new();
    assert!(matches!(bench.ask(Request::Why {}), Reply::Error { .. }));
    assert!(matches!(bench.ask(Request::Status {}), Reply::Status(_)));
    let session = bench.start_session();
    bench.event(held(session, 1, "/never"));
    let Reply::Why { session: info, entries } = bench.ask(Request::Why {}) else { panic!() };
    assert_eq!(info.name, "bot");
    let (rule, reason) = (entries[0].rule.as_str(), entries[0].reason.as_str());
    assert_eq!((rule, reason, entries[0].state), ("never", "not this one", WhyState::Denied));
    let run = Request::Run { name: "other".into(), command: vec![] };
    for request in [Request::Status {}, run] {
        let Reply::Error { message } = bench.ask(request) else { panic!() };
        assert!(message.contains("`why` only"), "{message}");
    }
    assert_eq!(bench.kernel.inside(|inside| inside.labels.len()), 1);
}

#[tokio::test]
async fn a_held_task_that_dies_is_abandoned_within_a_scan() {
    let mut bench = Bench::new();
    bench.news(FromLink::Up);
    let session = bench.start_session();
    bench.event(held(session, 1, "/secret"));
    assert!(bench.request().is_some());
    bench.kernel.inside(|inside| inside.dead.push(std::process::id()));
    let mut events = FakeEvents(mpsc::unbounded_channel().1);
    bench.driver.scan(&mut events);
    bench.driver.bury(&mut events);
    assert!(matches!(bench.said.try_recv(), Ok(ToLink::Farewell(_))));
    assert_eq!(bench.kernel.inside(|inside| inside.forgotten), 1);
    assert_eq!(bench.kernel.verdicts(), []);
}

#[tokio::test]
async fn a_task_that_consumed_its_grant_and_died_has_abandoned_nothing() {
    let mut bench = Bench::new();
    let session = bench.start_session();
    bench.event(held(session, 1, "/fine"));
    let (events, receiver) = mpsc::unbounded_channel();
    events.send(consumed(session, 1, VERDICT_ALLOW)).unwrap();
    bench.kernel.inside(|inside| inside.dead.push(std::process::id()));
    let mut events = FakeEvents(receiver);
    bench.driver.scan_tasks();
    bench.driver.bury(&mut events);
    let (records, _folder) = bench.end();
    assert_eq!(count(&records, |event| matches!(event, Event::Outcome { .. })), 1);
    assert_eq!(count(&records, |event| matches!(event, Event::Withdrawn { .. })), 0);
}

#[tokio::test]
async fn a_task_that_cannot_be_looked_at_is_denied_and_one_that_is_gone_is_forgotten() {
    let mut bench = Bench::new();
    let session = bench.start_session();
    let proc = tempfile::tempdir().unwrap();
    let task = proc.path().join(format!("{0}/task/{0}", std::process::id()));
    bench.driver.parts.proc = Proc::new(proc.path());
    bench.event(held(session, 1, "/fine"));
    assert_eq!(bench.kernel.verdicts(), []);
    assert_eq!(bench.kernel.inside(|inside| inside.forgotten), 1);
    std::fs::create_dir_all(&task).unwrap();
    std::fs::write(task.join("exe"), "not a link").unwrap();
    bench.event(held(session, 2, "/fine"));
    assert_eq!(bench.kernel.verdicts(), [(2, VERDICT_DENY)]);
}

#[tokio::test]
async fn the_next_guard_agent_adopts_what_waits_and_knows_whose_it_is() {
    let mut bench = Bench::new();
    let session = bench.start_session();
    bench.event(held(session, 5, "/secret"));
    assert!(bench.request().is_none(), "the link is down");
    let (_, folder) = bench.end();
    let deadline_ns = clock::boottime_ns() + 60_000_000_000;
    let record = HoldRecord { hold_id: 5, session, deadline_ns, ..HoldRecord::default() };
    let kernel = FakeKernel::default();
    kernel.inside(|inside| {
        inside.held = vec![(key(), record), (ActionKey { tid: 1, ..key() }, record)];
        inside.dead = vec![1];
        inside.labels =
            HashMap::from([(std::process::id(), Label { session, ..Label::default() })]);
    });
    let mut bench = Bench::in_folder(folder, kernel);
    bench.kernel.inside(|inside| {
        assert_eq!((inside.reannounced, inside.resumed, inside.forgotten), (1, 1, 1));
    });
    bench.news(FromLink::Up);
    bench.event(held(session, 5, "/secret"));
    let request = bench.request().unwrap();
    assert_eq!(request.hold_id, HoldId::derive(HOST, BOOT, 5));
    assert_eq!(request.session.name, "bot");
    bench.event(held(session, 5, "/secret"));
    assert!(bench.request().is_none(), "the same hold is one request");
    let (records, _folder) = bench.end();
    let started = |event: &Event| matches!(event, Event::SessionStarted { .. });
    assert_eq!(count(&records, started), 1);
    let sequences: Vec<u64> = records.iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, (1..=records.len() as u64).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_session_ends_with_its_last_task_and_that_is_evidence() {
    let mut bench = Bench::new();
    let session = bench.start_session();
    let exit = KernelEvent { header: header(session, 0), body: KernelBody::Exit };
    let body = KernelBody::Fork { child_tgid: 4_000_000, child_tid: 4_000_000 };
    bench.event(KernelEvent { header: header(session, 0), body });
    bench.event(exit);
    assert_eq!(bench.driver.parts.sessions.len(), 1);
    // The child's exit was lost; it is not there any more.
    bench.driver.drop_gone_tasks();
    assert!(bench.driver.parts.sessions.is_empty());
    let (records, _folder) = bench.end();
    assert_eq!(count(&records, |event| matches!(event, Event::SessionEnded {})), 1);
}

#[tokio::test]
async fn an_unknown_sessions_action_is_judged_under_a_session_without_a_name() {
    let mut bench = Bench::new();
    bench.event(held(77, 1, "/fine"));
    assert_eq!(bench.kernel.verdicts(), [(1, VERDICT_ALLOW)]);
    let (records, _folder) = bench.end();
    let unnamed =
        |event: &Event| matches!(event, Event::SessionStarted { info } if info.name == "unnamed");
    assert_eq!(count(&records, unnamed), 1);
}

#[tokio::test]
async fn a_moved_loss_counter_is_evidence() {
    let mut bench = Bench::new();
    bench.kernel.inside(|inside| {
        inside.counters = vec![0; COUNTERS as usize];
        inside.counters[EVENTS_LOST as usize] = 4;
    });
    bench.driver.heartbeat();
    let (records, _folder) = bench.end();
    let lost = Event::Lost { counter: "events_lost".into(), count: 4 };
    assert_eq!(count(&records, |event| *event == lost), 1);
    assert_eq!(count(&records, |event| matches!(event, Event::Heartbeat { .. })), 1);
    let tells = |event: &Event| {
        let Event::Heartbeat { counters, .. } = event else { return false };
        counters["events_lost"] == 4 && counters.contains_key("spool_unacknowledged_records")
    };
    assert_eq!(count(&records, tells), 1);
}

fn blocked(session: u64, detail: &str, access: u32, reason: u32) -> KernelEvent {
    let action = Action::System {
        operation: SystemOperation::Capability,
        detail: detail.into(),
        file: None,
    };
    let key = ActionKey { kind: KIND_CAPABILITY, access, flags: 272, ..key() };
    let body = KernelBody::Blocked { key: Box::new(key), action: Box::new(action), reason };
    KernelEvent { header: header(session, 0), body }
}

#[tokio::test]
async fn what_cannot_be_held_is_allowed_from_now_on_only_where_the_policy_permits_it() {
    let mut bench = Bench::new();
    let session = bench.start_session();
    bench.event(blocked(session, "CAP_SYS_ADMIN in system call 272", 21, REASON_NOT_HOLDABLE));
    bench.event(blocked(session, "CAP_SYS_BOOT in system call 169", 22, REASON_NOT_HOLDABLE));
    bench.event(blocked(session, "CAP_SYS_ADMIN in system call 272", 21, REASON_OUTSIDE));
    let mut standing = bench.kernel.inside(|inside| inside.standing.clone());
    standing.retain(|one| one.kind == KIND_CAPABILITY);
    assert_eq!(standing.len(), 1);
    assert_eq!((standing[0].session, standing[0].access, standing[0].flags), (session, 21, 272));
    let (records, _folder) = bench.end();
    let blocked = |from_now: bool| {
        count(
            &records,
            |event| matches!(event, Event::Blocked { allowed_from_now, .. } if *allowed_from_now == from_now),
        )
    };
    assert_eq!((blocked(true), blocked(false)), (1, 2));
}

#[tokio::test]
async fn what_everybody_in_a_session_may_do_at_once_is_permitted_when_it_begins() {
    let mut bench = Bench::new();
    let session = bench.start_session();
    let standing = bench.kernel.inside(|inside| inside.standing.clone());
    // The keys depend on the program, which the kernel would not look at.
    let told: Vec<_> = standing.iter().map(|one| (one.session, one.kind)).collect();
    assert_eq!(told, [(session, KIND_IPC)]);
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    assert_eq!(standing[0].ids, u64::from(uid) | u64::from(gid) << 32);
}

#[tokio::test]
async fn what_depends_on_the_program_is_never_permitted_for_the_whole_session() {
    let mut bench = Bench::new();
    let session = bench.start_session();
    let action = crate::kernel::action_of_kind(KIND_KEYRING);
    let key = ActionKey { kind: KIND_KEYRING, access: 0, flags: 0, ..key() };
    let reason = REASON_NOT_HOLDABLE;
    let body = KernelBody::Blocked { key: Box::new(key), action: Box::new(action), reason };
    bench.event(KernelEvent { header: header(session, 0), body });
    let standing = bench.kernel.inside(|inside| inside.standing.clone());
    assert!(standing.iter().all(|one| one.kind != KIND_KEYRING));
}

#[tokio::test]
async fn a_refusal_without_a_hold_is_told_to_the_session_and_kept() {
    let mut bench = Bench::new();
    let session = bench.start_session();
    let body = KernelBody::Outcome {
        event: EVENT_REFUSED,
        key: Box::new(key()),
        verdict: VERDICT_DENY,
        reason: REASON_NOT_RESTARTABLE,
    };
    bench.event(KernelEvent { header: header(session, 0), body });
    let entries = bench.driver.parts.sessions.why(session);
    assert_eq!(
        (entries[0].state, entries[0].reason.as_str()),
        (WhyState::Refused, "not_restartable")
    );
    let (records, _folder) = bench.end();
    assert_eq!(count(&records, |event| matches!(event, Event::Outcome { hold_id: None, .. })), 1);
}

#[tokio::test]
async fn more_than_the_link_can_take_opens_it_anew_instead_of_losing_requests() {
    let mut bench = Bench::new();
    bench.news(FromLink::Up);
    let (to_link, mut said) = mpsc::channel(1);
    bench.driver.parts.link.as_mut().unwrap().to_link = to_link;
    let session = bench.start_session();
    bench.event(held(session, 1, "/secret"));
    bench.event(held(session, 2, "/secret"));
    assert!(!bench.driver.link_up);
    let reset = bench.driver.parts.link.as_ref().unwrap().reset.clone();
    tokio::time::timeout(Duration::from_secs(5), reset.notified()).await.unwrap();
    while said.try_recv().is_ok() {}
    bench.news(FromLink::Up);
    let Ok(ToLink::Request(request)) = said.try_recv() else { panic!() };
    assert_eq!(request.hold_id, HoldId::derive(HOST, BOOT, 2));
}

/// Events from a channel.
pub(super) struct FakeEvents(pub(super) mpsc::UnboundedReceiver<KernelEvent>);

impl EventStream for FakeEvents {
    async fn next(&mut self) -> Option<KernelEvent> {
        self.0.recv().await
    }

    fn try_next(&mut self) -> Option<KernelEvent> {
        self.0.try_recv().ok()
    }
}

#[tokio::test]
async fn the_loop_answers_events_and_stops_when_asked() {
    let bench = Bench::new();
    let (kernel, mut driver) = (bench.kernel, bench.driver);
    let (events, receiver) = mpsc::unbounded_channel();
    let (mut inputs, _calls_in, _to_driver) = inputs();
    for hold in 1..=300 {
        events.send(held(77, hold, "/fine")).unwrap();
    }
    let all_granted = async {
        while kernel.verdicts().len() < 300 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let mut events_out = FakeEvents(receiver);
    let run = driver.run(&mut events_out, &mut inputs, all_granted);
    tokio::time::timeout(Duration::from_secs(30), run).await.unwrap().unwrap();
    // One process: one SIGCONT for each turn, not for each hold.
    assert!(kernel.inside(|inside| inside.resumed) < 10);
    driver.stop("test").close();
}

#[tokio::test]
async fn the_end_of_events_is_an_error_and_not_a_silent_idle() {
    let mut driver = Bench::new().driver;
    let (_, receiver) = mpsc::unbounded_channel();
    let (mut inputs, _calls_in, _to_driver) = inputs();
    let ended = driver.run(&mut FakeEvents(receiver), &mut inputs, std::future::pending()).await;
    assert!(matches!(ended, Err(DriverError::EventsEnded)));
    driver.stop("test").close();
}

/// A process that waits and has a file of this name open as its input.
fn holder(name: &str) -> (std::process::Child, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, "x").unwrap();
    let input = std::fs::File::open(path).unwrap();
    (std::process::Command::new("sleep").arg("1000").stdin(input).spawn().unwrap(), folder)
}

/// What the kernel says and has of a session that it began with this process.
fn begun(kernel: &FakeKernel, pid: u32) -> KernelEvent {
    let label = Label { session: BY_KERNEL, flags: LABEL_FLAG_ROOT | LABEL_FLAG_UNSEEN, _pad: 0 };
    kernel.inside(|inside| inside.labels.insert(pid, label));
    let header = Header { tgid: pid, tid: pid, ..header(BY_KERNEL, 0) };
    KernelEvent { header, body: KernelBody::Selected { selector: 1 } }
}

fn handed(records: &[Record]) -> usize {
    count(records, |event| {
        matches!(event, Event::Blocked { action: Action::Receive { .. }, reason, .. }
            if reason == "handed at the beginning")
    })
}

#[tokio::test]
async fn a_session_that_the_kernel_began_goes_on_once_it_was_seen_and_ends_with_what_it_could_not_open()
 {
    let mut bench = Bench::new();
    let (mut good, _fine) = holder("fine");
    bench.event(begun(&bench.kernel.clone(), good.id()));
    assert_eq!(bench.kernel.inside(|inside| inside.woken.clone()), [good.id()]);
    assert_eq!(bench.kernel.inside(|inside| inside.labels[&good.id()].flags), LABEL_FLAG_ROOT);
    assert!(good.try_wait().unwrap().is_none());
    good.kill().unwrap();
    good.wait().unwrap();
    bench.driver.parts.sessions.end(BY_KERNEL);

    let (mut bad, _never) = holder("never");
    bench.event(begun(&bench.kernel.clone(), bad.id()));
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(bad.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(bench.kernel.inside(|inside| inside.woken.len()), 1);
    let (records, _folder) = bench.end();
    assert_eq!(handed(&records), 1);
}

#[tokio::test]
async fn what_a_killed_guard_agent_had_not_seen_the_next_one_sees_and_nothing_else_continues_it() {
    let (mut child, _never) = holder("never");
    let mut bench = Bench::new();
    bench.event(begun(&bench.kernel.clone(), std::process::id()));
    begun(&bench.kernel, child.id());
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(child.id().cast_signed()),
        nix::sys::signal::Signal::SIGSTOP,
    )
    .unwrap();
    let proc = Proc::default();
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !proc.is_stopped(child.id()) {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
    bench.driver.wake_strangers();
    assert!(bench.kernel.inside(|inside| !inside.woken.contains(&child.id())));
    bench.driver.find_labels(Unknown::Left);
    child.wait().unwrap();
    let (records, _folder) = bench.end();
    assert_eq!(handed(&records), 1);
}

#[tokio::test]
async fn who_asks_for_a_session_with_what_it_could_not_open_is_told_and_gets_none() {
    let (mut child, _never) = holder("never");
    let mut bench = Bench::new();
    let run = || Request::Run { name: "bot".into(), command: vec![] };
    let Reply::Error { message } = bench.ask_as(child.id(), run()) else { panic!("a session") };
    assert!(message.contains("descriptor 0 (") && message.contains("/never"), "{message}");
    assert!(bench.kernel.inside(|inside| inside.labels.is_empty()));
    child.kill().unwrap();
    child.wait().unwrap();
    let (records, _folder) = bench.end();
    assert_eq!(handed(&records), 1);
    assert_eq!(count(&records, |event| matches!(event, Event::SessionEnded {})), 1);
}

#[tokio::test]
async fn what_was_sent_is_evidence_once_when_its_minute_is_over_or_its_session() {
    let mut bench = Bench::new();
    let session = bench.start_session();
    let now = SentKey::window_of(clock::boottime_ns());
    // 192.0.2.1:53, as an address in memory has it.
    let address = [u64::from_le_bytes([2, 0, 0, 53, 192, 0, 2, 1]), 0, 0];
    let key = |window| SentKey { session, window, socket_type: 2, protocol: 17, address };
    let sums =
        |messages| SentRecord { messages, unasked_max: 1, bytes: 40 * messages, largest: 50 };
    let over = (key(now.saturating_sub(2)), sums(7));
    // Not over before the test is.
    let running = (key(now + 2), sums(9));
    let of_another = (SentKey { session: session + 1, ..key(now + 2) }, sums(1));
    bench.kernel.inside(|inside| inside.sent = vec![over, running, of_another]);
    bench.driver.tell_sent(None);
    bench.driver.tell_sent(None);
    assert_eq!(bench.kernel.inside(|inside| inside.sent.clone()), [running, of_another]);
    bench.event(KernelEvent { header: header(session, 0), body: KernelBody::Exit });
    assert_eq!(bench.kernel.inside(|inside| inside.sent.clone()), [of_another]);
    let (records, _folder) = bench.end();
    let told = records.iter().filter_map(|record| match &record.event {
        Event::Sent {
            endpoint, messages, bytes, unasked_max, largest, from_boottime_ns, ..
        } => {
            assert_eq!(endpoint.to_string(), "192.0.2.1:53");
            assert_eq!((*unasked_max, *largest, *from_boottime_ns % 60_000_000_000), (1, 50, 0));
            assert!(record.session.is_some());
            Some((*messages, *bytes))
        }
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [(7, 280), (9, 360)]);
    let ended = records.iter().position(|record| record.event == Event::SessionEnded {}).unwrap();
    assert!(records[ended..].iter().all(|record| !matches!(record.event, Event::Sent { .. })));
}
