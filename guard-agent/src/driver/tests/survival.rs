//! Tampering, hangs, upgrades to another ABI, and the deliberate end of enforcement.

use super::{flows::FakeEvents, *};
use guard_common::guardian::TAMPER_UNLINK;
use std::{
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

/// A call of this very process, with another user id.
fn call(uid: u32, request: Request) -> (Call, oneshot::Receiver<Reply>) {
    let (reply, answer) = oneshot::channel();
    let pid = std::process::id();
    let pidfd = crate::kernel::pidfd_open(pid).unwrap();
    (Call { peer: Peer { pid, uid, pidfd }, request, reply }, answer)
}

fn stop(reason: &str) -> Request {
    Request::Stop { reason: reason.into() }
}

#[tokio::test]
async fn pins_that_were_removed_are_evidence_within_a_scan() {
    let mut bench = Bench::new();
    let finding = Tampering { what: "2 pins were removed".into(), mended: true };
    bench.kernel.inside(|inside| inside.tampered.push(finding));
    let mut events = FakeEvents(mpsc::unbounded_channel().1);
    bench.driver.scan(&mut events);
    bench.driver.scan(&mut events);
    let (records, _folder) = bench.end();
    let tampered = |event: &Event| matches!(event, Event::Tampered { mended: true, .. });
    assert_eq!(count(&records, tampered), 1);
}

#[tokio::test]
async fn what_the_kernel_refused_to_a_hand_on_guard_is_evidence_with_whose_it_was() {
    let mut bench = Bench::new();
    let body = KernelBody::Tamper { what: TAMPER_UNLINK, name: "file_open".into() };
    bench.event(KernelEvent { header: header(0, 0), body });
    let (records, _folder) = bench.end();
    let told = format!("refused: to remove the pin file_open, by  (pid {}", std::process::id());
    let is_it = |event: &Event| matches!(event, Event::Tampered { what, mended: true } if what.starts_with(&told));
    assert_eq!(count(&records, is_it), 1);
}

#[tokio::test]
async fn a_driver_that_hangs_gives_no_sign_of_life_and_gives_it_again_once_it_works() {
    let mut bench = Bench::new();
    let session = bench.start_session();
    let path = bench.folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    bench.driver.parts.notifier = Notifier::to(&path).unwrap();
    let gate = Arc::new(Mutex::new(()));
    bench.kernel.inside(|inside| inside.gate = Some(gate.clone()));
    let (events, receiver) = mpsc::unbounded_channel();
    let (mut ins, _calls, _link) = inputs();
    let (end, ended) = oneshot::channel::<()>();
    let mut driver = bench.driver;
    let running = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let shutdown = async {
                let _ = ended.await;
            };
            driver.run(&mut FakeEvents(receiver), &mut ins, shutdown).await.unwrap()
        })
    });
    let heard_within = |patience: Duration| {
        manager.set_read_timeout(Some(patience)).unwrap();
        let mut bytes = [0; 256];
        manager.recv(&mut bytes).is_ok_and(|n| bytes[..n].starts_with(b"WATCHDOG=1"))
    };
    assert!(heard_within(3 * SCAN_INTERVAL));
    // The kernel side does not come back from writing a grant.
    let hang = gate.lock().unwrap();
    events.send(held(session, 1, "/fine")).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    while heard_within(Duration::from_millis(1)) {}
    assert!(!heard_within(3 * SCAN_INTERVAL));
    drop(hang);
    assert!(heard_within(3 * SCAN_INTERVAL));
    end.send(()).unwrap();
    assert_eq!(running.join().unwrap(), End::Asked);
}

#[tokio::test]
async fn after_another_abi_what_stands_still_in_a_session_is_continued_a_few_times() {
    // A child that stands still, in a session, of whose hold no table tells.
    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let pid = child.id();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.cast_signed()),
        nix::sys::signal::Signal::SIGSTOP,
    )
    .unwrap();
    let proc = Proc::default();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !proc.is_stopped(pid) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let kernel = FakeKernel::default();
    kernel.inside(|inside| {
        inside.follows_another_abi = true;
        inside.labels.insert(pid, Label { session: 5, flags: 0, _pad: 0 });
    });
    let mut bench = Bench::in_folder(tempfile::tempdir().unwrap(), kernel);
    let mut events = FakeEvents(mpsc::unbounded_channel().1);
    for _ in 0..WAKE_SCANS + 2 {
        bench.driver.scan(&mut events);
    }
    let woken = bench.kernel.inside(|inside| inside.woken.clone());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(woken, vec![pid; WAKE_SCANS as usize]);
}

#[tokio::test]
async fn only_root_outside_of_a_session_ends_enforcement_and_only_with_a_reason() {
    let mut bench = Bench::new();
    let mut refused = |uid, reason: &str| {
        let (call, mut answer) = call(uid, stop(reason));
        bench.driver.call(call);
        assert!(bench.driver.order.is_none());
        match answer.try_recv() {
            Ok(Reply::Error { message }) => message,
            other => panic!("{other:?}"),
        }
    };
    assert!(refused(1000, "maintenance").contains("only root"));
    assert!(refused(0, " \n").contains("--reason"));
    let long = "x".repeat(crate::socket::protocol::REASON_MAX + 1);
    assert!(refused(0, &long).contains("--reason"));
    bench.start_session();
    let (call, mut answer) = call(0, stop("let me out"));
    bench.driver.call(call);
    assert!(bench.driver.order.is_none());
    let Ok(Reply::Error { message }) = answer.try_recv() else { panic!() };
    assert!(message.contains("`why` only"), "{message}");
    assert!(!bench.kernel.inside(|inside| inside.ended));
}

#[tokio::test]
async fn a_deliberate_end_is_evidence_first_then_denials_then_the_end() {
    let mut bench = Bench::new();
    let session = bench.start_session();
    bench.event(held(session, 1, "/secret"));
    // The caller is outside of every session.
    bench.kernel.inside(|inside| inside.labels.clear());
    let (mut ins, calls, _link) = inputs();
    let (events, receiver) = mpsc::unbounded_channel();
    let (call, answer) = call(0, stop("maintenance of box"));
    calls.send(call).await.unwrap();
    let kernel = bench.kernel.clone();
    let task = tokio::spawn(async move {
        // The held task takes its denial.
        let Reply::Ending {} = answer.await.unwrap() else { panic!() };
        while kernel.verdicts().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!kernel.inside(|inside| inside.ended));
        assert!(kernel.inside(|inside| inside.expiring));
        events.send(consumed(session, 1, VERDICT_DENY)).unwrap();
        events
    });
    let ended = bench
        .driver
        .run(&mut FakeEvents(receiver), &mut ins, std::future::pending())
        .await
        .unwrap();
    let _events = task.await.unwrap();
    assert_eq!(ended, End::Enforcement("maintenance of box".into()));
    assert_eq!(bench.kernel.verdicts(), [(1, VERDICT_DENY)]);
    assert!(bench.kernel.inside(|inside| inside.ended));
    let (records, _folder) = bench.end();
    let at = |what: fn(&Event) -> bool| records.iter().position(|record| what(&record.event));
    let told = at(
        |event| matches!(event, Event::EnforcementEnded { uid: 0, reason, .. } if reason == "maintenance of box"),
    );
    let denied = at(|event| matches!(event, Event::Outcome { .. }));
    assert!(told.unwrap() < denied.unwrap());
    assert_eq!(count(&records, |event| matches!(event, Event::SessionEnded {})), 1);
}

/// The unit file, and what this module and the keeper of the pins rest upon.
#[test]
fn the_service_manager_waits_longer_than_a_scan_and_leaves_guard_agent_the_hosts_mounts() {
    let unit = include_str!("../../../../packaging/systemd/guard-agent.service");
    let value = |key: &str| {
        unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
    };
    assert_eq!(value("Type"), "notify");
    let watchdog_s: u64 = value("WatchdogSec").strip_suffix('s').unwrap().parse().unwrap();
    assert!(Duration::from_secs(watchdog_s) > 4 * SCAN_INTERVAL);
    assert!(Duration::from_secs(watchdog_s) > STOP_TIME_MAX, "a deliberate end gives no sign");
    // What ended in order stays ended, what died does not, and what cannot enforce is not tried again.
    assert_eq!(value("Restart"), "on-failure");
    assert_eq!(value("RestartPreventExitStatus"), "3");
    for namespaced in
        ["ProtectSystem", "ProtectHome", "PrivateTmp", "ReadWritePaths", "PrivateMounts"]
    {
        assert_eq!(value(namespaced), "", "a bpf file system mounted here would not be the host's");
    }
}
