//! `guard audit` as a shell sees it: on logs on disk, and on a controller that runs.

#![expect(clippy::unwrap_used, reason = "tests")]

use guard_audit::{
    Event, Record,
    log::{Cosigner, Dir, Draft, Log, LogKey, Storage as _, checkpoint},
};
use guard_controller::{Config, Controller, Running};
use guard_model::{BootId, HostId};
use guard_policy::Policy;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};
use tempfile::TempDir;

fn guard(args: &[&str], env: &[(&str, &str)]) -> Output {
    let nowhere = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_guard"))
        .args(args)
        .env("GUARD_STATE", nowhere.path())
        .env_remove("GUARD_URL")
        .env_remove("GUARD_TOKEN")
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)))
}

/// A log of 300 entries, one of them erased, on disk.
struct OnDisk {
    dir: TempDir,
    key: LogKey,
}

const SIZE: u64 = 300;
const ERASED: u64 = 7;

impl OnDisk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = LogKey::generate("log.test/guard").unwrap();
        let on_disk = Self { dir, key };
        let mut log = Log::create(Dir::new(on_disk.path()), &on_disk.key).unwrap();
        let leaf_hash = String::new();
        let erased = Event::PayloadErased {
            index: ERASED,
            leaf_hash,
            reason: "asked for".into(),
            by: "ann".into(),
        };
        let lost = |count| Event::Lost { counter: "ring_full".into(), count };
        let events = (1..SIZE).map(lost).chain([erased]);
        let drafts: Vec<_> = (1..).zip(events).map(|(n, event)| draft(n, event)).collect();
        for (part, drafts) in (0..).zip(drafts.chunks(100)) {
            let staged = log.stage(drafts, 1_700_000_000_000 + part * 1000).unwrap();
            log.publish(staged).unwrap();
        }
        log.erase(ERASED).unwrap();
        on_disk
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn log(&self) -> String {
        self.path().to_str().unwrap().into()
    }

    fn key(&self) -> &str {
        self.key.verifier().as_str()
    }

    /// A name for a file beside the log.
    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().into()
    }
}

fn draft(sequence: u64, event: Event) -> Draft {
    Draft::new(Record {
        host: HostId(uuid::Uuid::from_u128(1)),
        boot: BootId(uuid::Uuid::from_u128(2)),
        sequence,
        boottime_ns: sequence,
        unix_ms: 1_700_000_000_000,
        session: None,
        event,
    })
    .unwrap()
}

#[test]
fn verify_says_by_its_exit_code_whether_a_log_holds_does_not_or_nobody_can_say() {
    let on_disk = OnDisk::new();
    let (log, key) = (on_disk.log(), on_disk.key().to_owned());
    let good = guard(&["audit", "verify", &log, "--key", &key], &[]);
    assert_eq!(code(&good), 0, "{}", said(&good));
    for words in ["PROVEN: all", "300 entries (0 to 299), 1 erased", "Never proven", "lost "] {
        assert!(said(&good).contains(words), "{words}: {}", said(&good));
    }
    let without_key = guard(&["audit", "verify", &log, "--json"], &[]);
    assert_eq!((code(&without_key), &json(&without_key)["verdict"]), (2, &"no_key".into()));
    assert_eq!(json(&without_key)["names_itself"][0], key.as_str());
    assert_eq!(json(&without_key)["proven"].as_array().unwrap().len(), 0);
    let other = LogKey::generate("log.test/guard").unwrap();
    let wrong_key = guard(&["audit", "verify", &log, "--key", other.verifier().as_str()], &[]);
    assert_eq!(code(&wrong_key), 1);
    assert!(said(&wrong_key).contains("no given key has signed it"), "{}", said(&wrong_key));
    for (nothing, words) in [("/nonexistent", "No such file"), ("/", "there is no log")] {
        let output = guard(&["audit", "verify", nothing, "--key", &key], &[]);
        assert_eq!(code(&output), 2, "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
    }
    // On the machine of the log, the key that it signs with is known.
    let state = on_disk.dir.path().join("state");
    fs::create_dir_all(state.join("controller")).unwrap();
    fs::rename(&log, state.join("controller/log")).unwrap();
    fs::write(state.join("controller/log.key"), on_disk.key.to_secret_text()).unwrap();
    let output = guard(&["audit", "verify"], &[("GUARD_STATE", state.to_str().unwrap())]);
    assert_eq!(code(&output), 0, "{}", said(&output));
}

#[test]
fn verify_names_the_file_and_the_place_of_the_damage() {
    for (file, at, words) in [
        ("tile/entries/000", 40, "entry 0"),
        ("payload/000", 60, "entry 0"),
        ("tile/0/000", 33, "entry 1"),
        ("checkpoint", 30, "checkpoint: "),
    ] {
        let on_disk = OnDisk::new();
        let path = on_disk.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let output = guard(&["audit", "verify", &on_disk.log(), "--key", on_disk.key()], &[]);
        assert_eq!(code(&output), 1, "{file}: {}", said(&output));
        let text = said(&output);
        assert!(text.contains("NOT PROVEN") && text.contains(words), "{file}: {text}");
        assert!(!text.contains("\nProven:"), "{file}: {text}");
    }
    let on_disk = OnDisk::new();
    fs::remove_file(on_disk.path().join("checkpoint")).unwrap();
    let output = guard(&["audit", "verify", &on_disk.log(), "--key", on_disk.key()], &[]);
    assert_eq!(code(&output), 1);
    assert!(said(&output).contains("checkpoint is missing"), "{}", said(&output));
}

#[test]
fn an_entry_is_shown_and_an_erased_one_says_that_it_is() {
    let on_disk = OnDisk::new();
    let log = on_disk.log();
    let shown = guard(&["audit", "show", "8", "--log", &log], &[]);
    assert_eq!(code(&shown), 0, "{}", said(&shown));
    assert!(said(&shown).contains("\"counter\": \"ring_full\""), "{}", said(&shown));
    let shown = guard(&["audit", "show", "8", "--log", &log, "--json"], &[]);
    assert_eq!(
        (&json(&shown)["record"]["count"], &json(&shown)["erased"]),
        (&9.into(), &false.into())
    );
    let shown = guard(&["audit", "show", "7", "--log", &log], &[]);
    assert!(said(&shown).contains("was erased"), "{}", said(&shown));
    let beyond = guard(&["audit", "show", "300", "--log", &log], &[]);
    assert_eq!(code(&beyond), 1);
    assert!(said(&beyond).contains("there is no entry 300"), "{}", said(&beyond));
}

#[test]
fn a_proof_stands_alone_and_not_for_another_entry_or_log() {
    let on_disk = OnDisk::new();
    let (log, out) = (on_disk.log(), on_disk.file("9.tlog-proof"));
    let made = guard(&["audit", "prove", "9", "--log", &log, "--out", &out], &[]);
    assert_eq!(code(&made), 0, "{}", said(&made));
    let verify = |path: &str, key: &str| guard(&["audit", "verify", path, "--key", key], &[]);
    let good = verify(&out, on_disk.key());
    assert_eq!(code(&good), 0, "{}", said(&good));
    let other = LogKey::generate("log.test/guard").unwrap();
    assert_eq!(code(&verify(&out, other.verifier().as_str())), 1);
    let text = fs::read_to_string(&out).unwrap();
    let bad = on_disk.file("bad.tlog-proof");
    fs::write(&bad, text.replace("index 9", "index 10")).unwrap();
    assert_eq!(code(&verify(&bad, on_disk.key())), 1);
    let without_leaf: Vec<_> = text.lines().filter(|line| !line.starts_with("extra ")).collect();
    fs::write(&bad, without_leaf.join("\n") + "\n").unwrap();
    let output = verify(&bad, on_disk.key());
    assert_eq!(code(&output), 1);
    assert!(said(&output).contains("no leaf"), "{}", said(&output));
    let again = guard(&["audit", "prove", "9", "--log", &log, "--out", &out], &[]);
    assert!(code(&again) == 1 && said(&again).contains("exists"), "{}", said(&again));
}

#[test]
fn a_bundle_of_a_range_or_of_a_time_is_written_and_verified_elsewhere() {
    let on_disk = OnDisk::new();
    let (log, out) = (on_disk.log(), on_disk.file("bundle.tar"));
    let bundle = |args: &[&str]| guard(&[&["audit", "bundle", "--log", &log], args].concat(), &[]);
    let made = bundle(&["--from", "5", "--to", "105", "--out", &out, "--json"]);
    assert_eq!((code(&made), &json(&made)["sound"]), (0, &true.into()), "{}", said(&made));
    let verified = guard(&["audit", "verify", &out, "--key", on_disk.key(), "--json"], &[]);
    assert_eq!((code(&verified), &json(&verified)["entries"]), (0, &100.into()));
    let without_key = guard(&["audit", "verify", &out], &[]);
    assert!(code(&without_key) == 2 && said(&without_key).contains(on_disk.key()));
    let mut bytes = fs::read(&out).unwrap();
    let at = bytes.windows(9).position(|window| window == b"ring_full").unwrap();
    bytes[at] ^= 1;
    fs::write(&out, bytes).unwrap();
    let broken = guard(&["audit", "verify", &out, "--key", on_disk.key()], &[]);
    assert!(code(&broken) == 1 && said(&broken).contains("entry 5"), "{}", said(&broken));
    // The second hundred was logged a second later than the first.
    let by_time = on_disk.file("time.tar");
    let (from, to) = ("2023-11-14T22:13:21Z", "2023-11-14T22:13:22Z");
    let made = bundle(&["--from", from, "--to", to, "--out", &by_time, "--json"]);
    assert_eq!((&json(&made)["from"], &json(&made)["to"]), (&100.into(), &200.into()));
    let nothing = bundle(&["--from", "2030-01-01", "--out", &on_disk.file("none.tar")]);
    assert_eq!(code(&nothing), 1);
    assert!(said(&nothing).contains("there is no entry"), "{}", said(&nothing));
    assert!(!Path::new(&on_disk.file("none.tar")).exists());
}

#[test]
fn a_quorum_of_witnesses_is_needed_where_it_is_asked_for() {
    let on_disk = OnDisk::new();
    let files = Dir::new(on_disk.path());
    let head = checkpoint(&files).unwrap();
    let witnesses = ["w.test/1", "w.test/2"].map(|name| Cosigner::generate(name).unwrap());
    let line = witnesses[0].cosign(&head, 1_700_000_000).unwrap();
    let cosigned = head.with_signatures(&line).unwrap();
    files.replace("checkpoint.cosigned", cosigned.text().as_bytes()).unwrap();
    let keys = on_disk.file("witnesses");
    let text: String = witnesses.iter().map(|w| format!("{}\n", w.public().as_str())).collect();
    fs::write(&keys, text).unwrap();
    let verify = |quorum: &str| {
        let log = on_disk.log();
        let args = ["audit", "verify", &log, "--key", on_disk.key(), "--witness", &keys];
        guard(&[&args[..], &["--quorum", quorum]].concat(), &[])
    };
    let one = verify("1");
    assert_eq!(code(&one), 0, "{}", said(&one));
    assert!(said(&one).contains("w.test/1 saw 300 entries"), "{}", said(&one));
    let two = verify("2");
    assert!(code(&two) == 1 && said(&two).contains("cosigned, not 2"), "{}", said(&two));
}

/// A controller that runs in this process, and a token for it.
struct Online {
    dir: TempDir,
    running: Running,
    url: String,
    token: String,
}

impl Online {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let running = start(dir.path()).await;
        let url = format!("http://{}", running.ui_addr);
        let controller = &running.controller;
        let token = controller.new_api_token("admin", "test", 60_000, "test").await.unwrap().0;
        Self { dir, running, url, token }
    }

    async fn guard(&self, args: &[&str]) -> Output {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let (url, token) = (self.url.clone(), self.token.clone());
        let run = move || {
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            guard(&args, &[("GUARD_URL", &url), ("GUARD_TOKEN", &token)])
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    }

    async fn indexed(&self) {
        let all = async || self.running.controller.log_health().await.unwrap();
        while all().await.waiting > 0 || all().await.unindexed() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

async fn start(dir: &Path) -> Running {
    let mut config = Config::new(dir.join("controller"), Arc::new(Policy::default_policy()));
    config.ui_addr = ([127, 0, 0, 1], 0).into();
    config.rpc_addr = ([127, 0, 0, 1], 0).into();
    Controller::start(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_is_searched_proven_and_erased_through_the_controller() {
    let online = Online::start().await;
    let controller = &online.running.controller;
    let secret = Event::Stopped { component: "x".into(), reason: "hunter2 & co".into() };
    controller.audit(secret).await.unwrap();
    online.indexed().await;
    let search = ["audit", "search", "--text", "hunter2 &", "--json"];
    let found = online.guard(&search).await;
    let entries = json(&found)["entries"].as_array().unwrap().clone();
    assert_eq!((code(&found), entries.len()), (0, 1), "{}", said(&found));
    let id = entries[0]["index"].to_string();
    let shown = online.guard(&["audit", "search", "--kind", "stopped"]).await;
    assert!(said(&shown).contains(&id), "{}", said(&shown));
    let wrong = online.guard(&["audit", "search", "--since", "yesterday"]).await;
    assert!(code(&wrong) == 1 && said(&wrong).contains("expected a time"), "{}", said(&wrong));

    let proof = online.dir.path().join("p.tlog-proof").to_str().unwrap().to_owned();
    let made = online.guard(&["audit", "prove", &id, "--out", &proof]).await;
    assert_eq!(code(&made), 0, "{}", said(&made));
    let key = controller.log_key().unwrap().as_str().to_owned();
    let verified = online.guard(&["audit", "verify", &proof, "--key", &key]).await;
    assert_eq!(code(&verified), 0, "{}", said(&verified));

    let erase = ["audit", "erase", &id, "--reason"];
    let empty = online.guard(&[&erase[..], &[" "]].concat()).await;
    assert!(code(&empty) == 1 && said(&empty).contains("reason"), "{}", said(&empty));
    let erased = online.guard(&[&erase[..], &["a password"]].concat()).await;
    assert_eq!(code(&erased), 0, "{}", said(&erased));
    let again = online.guard(&[&erase[..], &["a password"]].concat()).await;
    assert!(code(&again) == 1 && said(&again).contains("erased already"), "{}", said(&again));
    online.indexed().await;
    assert_eq!(json(&online.guard(&search).await)["entries"], Value::Array(Vec::new()));
    let told = online.guard(&["audit", "search", "--kind", "payload_erased", "--json"]).await;
    assert_eq!(json(&told)["entries"][0]["record"]["by"], "admin");
    let show = online.guard(&["audit", "show", &id, "--json"]).await;
    assert_eq!(json(&show)["record"], Value::Null);
    // The proof from before is as good as it was, and an index made anew does not bring it back.
    assert_eq!(code(&online.guard(&["audit", "verify", &proof, "--key", &key]).await), 0);
    assert_eq!(code(&online.guard(&["audit", "reindex"]).await), 0);
    online.indexed().await;
    assert_eq!(json(&online.guard(&search).await)["entries"], Value::Array(Vec::new()));

    let again = json(&online.guard(&["audit", "search", "--text", "made anew", "--json"]).await);
    assert_eq!(again["entries"][0]["record"]["by"], "admin");

    let rotated = online.guard(&["audit", "keys", "rotate", "--json"]).await;
    assert_eq!(json(&rotated)["old"], key.as_str());
    let log = controller.log_dir().to_str().unwrap().to_owned();
    let verified = online.guard(&["audit", "verify", &log, "--key", &key]).await;
    assert_eq!(code(&verified), 0, "{}", said(&verified));
    online.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legal_hold_is_set_listed_obeyed_and_lifted_from_the_command_line() {
    let online = Online::start().await;
    let controller = &online.running.controller;
    let loss = Event::Lost { counter: "a-secret".into(), count: 3 };
    controller.audit(loss).await.unwrap();
    online.indexed().await;
    let search = ["audit", "search", "--text", "a-secret", "--json"];
    let id = json(&online.guard(&search).await)["entries"][0]["index"].to_string();
    let nothing = online.guard(&["audit", "hold", "add", "--reason", "x"]).await;
    assert!(code(&nothing) == 1 && said(&nothing).contains("--everything"), "{}", said(&nothing));
    let typo = ["audit", "hold", "add", "--class", "losst", "--reason", "x"];
    let typo = online.guard(&typo).await;
    assert!(code(&typo) == 1 && said(&typo).contains("no class"), "{}", said(&typo));
    let add = ["audit", "hold", "add", "--class", "lost", "--from", "2020-01-01", "--json"];
    let added = online.guard(&[&add[..], &["--reason", "matter 97"]].concat()).await;
    assert_eq!(code(&added), 0, "{}", said(&added));
    let hold = json(&added)["id"].as_str().unwrap().to_owned();
    let listed = online.guard(&["audit", "hold", "list"]).await;
    for expected in [&hold, "class lost, from 2020-01-01T00:00:00Z", "by admin", "matter 97"] {
        assert!(said(&listed).contains(expected), "{expected}: {}", said(&listed));
    }
    let erase = ["audit", "erase", &id, "--reason", "asked for"];
    let refused = online.guard(&erase).await;
    assert!(code(&refused) == 1 && said(&refused).contains(&hold), "{}", said(&refused));
    let remove = ["audit", "hold", "remove", &hold, "--reason", "settled"];
    assert_eq!(code(&online.guard(&remove).await), 0);
    let again = online.guard(&remove).await;
    assert!(code(&again) == 1 && said(&again).contains("no legal hold"), "{}", said(&again));
    assert!(said(&online.guard(&["audit", "hold", "list"]).await).contains("No legal hold"));
    let all = json(&online.guard(&["audit", "hold", "list", "--all", "--json"]).await);
    assert_eq!(all["legal_holds"][0]["lifted_reason"], "settled");
    assert_eq!(code(&online.guard(&erase).await), 0);
    online.indexed().await;
    for kind in ["legal_hold_set", "legal_hold_lifted"] {
        let told = online.guard(&["audit", "search", "--kind", kind, "--json"]).await;
        assert_eq!(json(&told)["entries"][0]["record"]["by"], "admin", "{kind}");
    }
    online.running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reindex_offline_refuses_while_a_controller_runs_and_mends_a_lost_database() {
    let online = Online::start().await;
    let state = online.dir.path().to_str().unwrap().to_owned();
    let offline = ["audit", "reindex", "--offline", "--state", &state];
    let refused = online.guard(&offline).await;
    assert_eq!(code(&refused), 1);
    assert!(said(&refused).contains("another guard-controller uses"), "{}", said(&refused));
    online.running.shutdown().await;
    for name in ["controller.db", "controller.db-wal", "controller.db-shm"] {
        let _ = fs::remove_file(online.dir.path().join("controller").join(name));
    }
    // Between fork and exec, a child that another test starts has the lock's descriptor.
    let mut mended = guard(&offline, &[]);
    for _ in 0..50 {
        if !said(&mended).contains("another guard-controller uses") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        mended = guard(&offline, &[]);
    }
    assert_eq!(code(&mended), 0, "{}", said(&mended));
    let running = start(online.dir.path()).await;
    running
        .controller
        .audit(Event::Stopped { component: "x".into(), reason: "y".into() })
        .await
        .unwrap();
    let key = running.controller.log_key().unwrap().as_str().to_owned();
    running.shutdown().await;
    let log = online.dir.path().join("controller/log").to_str().unwrap().to_owned();
    let verified = guard(&["audit", "verify", &log, "--key", &key], &[]);
    assert_eq!(code(&verified), 0, "{}", said(&verified));
}

#[test]
fn what_needs_a_controller_says_so_where_there_is_none() {
    for args in [
        &["audit", "search"][..],
        &["audit", "reindex"],
        &["audit", "erase", "1", "--reason", "x"],
        &["audit", "keys", "rotate"],
    ] {
        let output = guard(args, &[]);
        assert_eq!(code(&output), 1, "{args:?}");
        assert!(said(&output).contains("guard up"), "{args:?}: {}", said(&output));
    }
}
