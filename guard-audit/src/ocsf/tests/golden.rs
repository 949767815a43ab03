//! ECS and CEF of known events, as files. `GUARD_BLESS=1` writes them anew; review the difference.

use super::samples::{context, events, held, record, table};
use crate::{cef, ecs, ocsf};
use std::{fs, path::Path};

fn check(name: &str, got: &str) {
    let got = got.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ocsf").join(name);
    if std::env::var_os("GUARD_BLESS").is_some() {
        fs::write(&path, &got).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap();
    for (number, (wanted, got)) in wanted.lines().zip(got.lines()).enumerate() {
        assert_eq!(wanted, got, "{name}:{}", number + 1);
    }
    assert_eq!(wanted.lines().count(), got.lines().count(), "{name}");
}

fn mapped() -> Vec<ocsf::OcsfEvent> {
    let held = held(super::samples::connect());
    let table = table().into_iter().map(|(event, _)| event);
    let all = table.chain(events().into_iter().take(27));
    all.map(|event| ocsf::event(&record(event), &context(Some(&held)))).collect()
}

#[test]
fn ecs_is_as_in_the_golden_file() {
    check("ecs.ndjson", &lines(mapped().iter().map(|e| ecs::document(e).to_string())));
}

#[test]
fn cef_is_as_in_the_golden_file() {
    check("cef.txt", &lines(mapped().iter().map(cef::line)));
}

fn lines(all: impl Iterator<Item = String>) -> String {
    all.map(|line| line + "\n").collect()
}
