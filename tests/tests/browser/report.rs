//! What an auditor gets: a bundle, unpacked by the system's own `tar`, its page in a real Chromium.

use crate::{
    artefact,
    fake::{Fake, connect},
    nothing_violated,
};
use guard_audit::{
    Event, HoldScope,
    log::{Dir, NOT_PROVEN, PROVEN, checkpoint, verify_bundle, write_bundle},
};
use guard_tests::webdriver::Driver;
use std::{fs, io::BufReader, process::Command, sync::Arc};

/// Words of a person, who may be malicious too.
const REASON: &str = "the mirror <script>window.owned=1</script>";

#[test]
fn a_bundles_report_is_opened_and_says_what_is_proven_and_what_never_is() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::start(dir.path());
    let controller = fake.controller();
    fake.evidence();
    let hold = fake.hold(1, connect("203.0.113.9", 443));
    fake.person_decided(9, hold, REASON);
    let policy = |text: &str| Event::policy_loaded(text, [("team.cedar", text)].into_iter());
    fake.record(10, policy("permit (principal, action, resource);\n// tab\tand <b>bold</b>\n"));
    fake.record(11, policy("forbid (principal, action, resource);\n// tab\tand <b>bold</b>\n"));
    let secret = Event::Lost { counter: "a-secret".into(), count: 1 };
    let at = fake.wait(async {
        controller.audit(secret).await.unwrap();
        let scope = HoldScope { class: Some("held".into()), ..HoldScope::default() };
        controller.set_legal_hold(scope, "matter 97", "root").await.unwrap();
        // Setting a hold has moved everything before it into the log.
        checkpoint(&Dir::new(controller.log_dir())).unwrap().head.size - 2
    });
    fake.wait(controller.erase_evidence(at, "ticket 97", "root")).unwrap();
    let log = Arc::new(Dir::new(controller.log_dir()));
    let size = checkpoint(&*log).unwrap().head.size;
    let bundle = dir.path().join("bundle.tar");
    write_bundle(&log, (0, size), fs::File::create(&bundle).unwrap()).unwrap();
    let key = controller.log_key().unwrap();
    let read = BufReader::new(fs::File::open(&bundle).unwrap());
    let report = verify_bundle(read, &[key], &[]);
    assert_eq!((report.problems.lines, report.entries, report.erased), (Vec::new(), size, 1));

    let folder = dir.path().join("unpacked");
    fs::create_dir(&folder).unwrap();
    let mut tar = Command::new("tar");
    let unpacked = tar.arg("-xf").arg(&bundle).arg("-C").arg(&folder).status().unwrap();
    assert!(unpacked.success());
    let driver = Driver::start().unwrap();
    let browser = driver.browser(&dir.path().join("profile"), true).unwrap();
    browser.open(&format!("file://{}", folder.join("report.html").display())).unwrap();
    let page = browser.text("body").unwrap();
    let last = size - 1;
    assert!(
        browser.text("h1").unwrap().starts_with(&format!("Evidence 0 to {last} of guard/log/"))
    );
    for line in PROVEN.iter().chain(&NOT_PROVEN) {
        assert!(page.contains(line), "{line}");
    }
    for (expected, why) in [
        (REASON, "the decision, with the words as they are"),
        ("ticket 97", "the erasure"),
        ("matter 97", "the legal hold"),
        ("Policies: 3", "the controller's policy and the host's"),
        ("Changes of policies: 1", "how the host's changed"),
        ("- permit (principal, action, resource);\n+ forbid (principal", "line by line"),
        ("NIST 800-53", "controls"),
        ("guard audit verify", "how to verify"),
    ] {
        assert!(page.contains(expected), "{why}: {page}");
    }
    assert_eq!(browser.run("return window.owned === undefined").unwrap(), true);
    // A page that needs nothing from anywhere.
    let outside = "return performance.getEntriesByType('resource').length";
    assert_eq!(browser.run(outside).unwrap(), 0);
    browser.resize(1100, 1900).unwrap();
    browser.screenshot(&artefact("report.png")).unwrap();
    nothing_violated(&browser);
}
