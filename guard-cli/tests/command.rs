//! The built command, as a shell sees it: exit codes, words on stderr, JSON on stdout.

#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::Value;
use std::process::{Command, Output};

fn guard(args: &[&str]) -> Output {
    // Nothing of a Guard that happens to run on this machine is to be met.
    let nowhere = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_guard"))
        .args(args)
        .env("GUARD_SOCKET", nowhere.path().join("agent.sock"))
        .env("GUARD_STATE", nowhere.path().join("state"))
        .env_remove("GUARD_URL")
        .env_remove("GUARD_TOKEN")
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn doctors_exit_code_says_whether_enforcement_is_possible() {
    let output = guard(&["doctor", "--json", "--ebpf-object", "/nonexistent.o"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), &report["enforcement_possible"]), (3, &Value::Bool(false)));
    let checks = report["checks"].as_array().unwrap();
    let problems = checks.iter().filter(|check| check["verdict"] == "problem").count();
    assert_eq!(report["problems"], problems);
    let text = guard(&["doctor", "--ebpf-object", "/nonexistent.o"]).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("/nonexistent.o"), "{text}");
    assert!(text.contains("Enforcement is NOT possible on this machine"), "{text}");
}

#[test]
fn up_refuses_with_words_before_it_touches_anything() {
    let output = guard(&["up", "--ebpf-object", "/nonexistent.o"]);
    let is_root = nix::unistd::geteuid().is_root();
    let (expected, words) = if is_root { (3, "not possible") } else { (1, "needs root") };
    assert_eq!(code(&output), expected, "{}", stderr(&output));
    assert!(stderr(&output).contains(words), "{}", stderr(&output));
}

#[test]
fn up_refuses_a_bad_policy_first() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.cedar");
    std::fs::write(&file, "permit (principal, action resource);").unwrap();
    let output = guard(&["up", "--policy", file.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("bad.cedar:1:27"), "{}", stderr(&output));
}

#[test]
fn run_says_by_its_exit_code_why_the_command_did_not_run() {
    let without_agent = guard(&["run", "--as", "bot", "--", "true"]);
    assert_eq!(code(&without_agent), 125);
    assert!(stderr(&without_agent).contains("guard up"), "{}", stderr(&without_agent));
    assert_eq!(code(&guard(&["run", "--as", "bot", "--", "no-such-command-here"])), 127);
    assert_eq!(code(&guard(&["run", "--as", "bot", "--", "/etc/passwd"])), 126);
    assert_eq!(code(&guard(&["run", "--as", "bot"])), 2);
}

#[test]
fn the_shipped_policy_passes_its_own_check() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.cedar");
    let text = guard(&["policy", "default"]).stdout;
    std::fs::write(&file, &text).unwrap();
    let output = guard(&["policy", "check", "--json", file.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), &report["ok"]), (0, &Value::Bool(true)));

    std::fs::write(&file, [text.as_slice(), b"\npermit (principl, action, resource);"].concat())
        .unwrap();
    let output = guard(&["policy", "check", "--json", file.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code(&output), &report["ok"]), (1, &Value::Bool(false)));
    let line = text.iter().filter(|byte| **byte == b'\n').count() + 2;
    assert_eq!(report["problems"][0]["line"], line);
}

#[test]
fn without_guard_the_other_commands_say_what_to_start() {
    for args in [&["status"][..], &["why"], &["approvals", "list"]] {
        let output = guard(args);
        assert_eq!(code(&output), 1, "{args:?}");
        assert!(stderr(&output).contains("guard up"), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = guard(&["completions", shell]);
        assert_eq!(code(&output), 0);
        assert!(String::from_utf8_lossy(&output.stdout).contains("approvals"), "{shell}");
    }
}
