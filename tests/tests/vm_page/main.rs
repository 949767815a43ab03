//! A real process in a VM waits in its system call until Chromium approves it in the page.
//!
//! `cargo xtask test --only browser` boots the VM, starts this with the page's sign-in link in
//! `GUARD_VM_SIGN_IN`, and checks that the process went on. Leaves pictures of the queue and of the request
//! in `$GUARD_ARTEFACTS` (default `out/`).

#![expect(clippy::unwrap_used, reason = "tests")]

use guard_tests::webdriver::{Driver, key};
use std::{env, path::PathBuf, thread::sleep, time::Duration};

fn artefact(name: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../out");
    env::var_os("GUARD_ARTEFACTS").map_or_else(|| PathBuf::from(root), PathBuf::from).join(name)
}

#[test]
fn a_process_in_the_vm_goes_on_when_chromium_approves_it() {
    let link = env::var("GUARD_VM_SIGN_IN")
        .expect("GUARD_VM_SIGN_IN: run this by `cargo xtask test --only browser`");
    let page = link.split("/sign-in").next().unwrap().to_owned();
    let dir = tempfile::tempdir().unwrap();
    let driver = Driver::start().unwrap();
    let browser = driver.browser(&dir.path().join("profile"), true).unwrap();
    browser.open(&link).unwrap();
    browser.wait_for("the button", |b| Ok(b.text("form button")? == "Sign in")).unwrap();
    browser.click("form button").unwrap();
    browser.wait_for("the account page", |b| Ok(b.url()?.contains("/account"))).unwrap();
    browser.open(&format!("{page}/")).unwrap();
    browser.wait_for("the held open", |b| Ok(b.text("#queue")?.contains("id_ed25519"))).unwrap();
    browser.screenshot(&artefact("vm-queue.png")).unwrap();
    browser.press("j").unwrap();
    browser.press(key::ENTER).unwrap();
    browser.wait_for("the request", |b| Ok(b.url()?.contains("/holds/"))).unwrap();
    browser.wait_for("its object", |b| Ok(b.text("h1")?.contains("id_ed25519"))).unwrap();
    browser.screenshot(&artefact("vm-request.png")).unwrap();
    // Who approves within a second of opening is marked as hasty.
    sleep(Duration::from_millis(1100));
    browser.press("a").unwrap();
    browser.press("the key is not a real one").unwrap();
    browser.press(key::ENTER).unwrap();
    let approved = ".panel .state.approved, .panel .state.consumed";
    browser.wait_for("approval", |b| Ok(b.count(approved)? > 0)).unwrap();
}
