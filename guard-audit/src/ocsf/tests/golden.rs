//! ECS and CEF of known events, as files. `GUARD_BLESS=1` writes them anew; review the difference.

use super::samples::{context, events, held, record, table};
use crate::{Event, cef, ecs, ocsf};
use guard_model::{Tier, Verdict};
use std::{collections::BTreeSet, fs, path::Path};

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

/// Each row of the design's table, every event, and every action: held, blocked and denied.
fn mapped() -> Vec<ocsf::OcsfEvent> {
    let held = held(super::samples::connect());
    let known = table().into_iter().map(|(event, _)| event).chain(events());
    let mut seen = Vec::new();
    for event in known {
        // Once each; of decisions about an action, one is enough.
        let of_table = seen.len() < table().len();
        let denied =
            |tier: &Tier, verdict: &Verdict| (*tier, *verdict) == (Tier::Agent, Verdict::Deny);
        let wanted = match &event {
            Event::Decided { tier, verdict, .. } => of_table || denied(tier, verdict),
            _ => true,
        };
        if wanted && !seen.contains(&event) {
            seen.push(event);
        }
    }
    seen.into_iter().map(|e| ocsf::event(&record(e), &context(Some(&held)))).collect()
}

#[test]
fn the_golden_files_have_every_variant_and_every_action() {
    let of = |name: &str| -> BTreeSet<String> {
        mapped().iter().filter_map(|e| Some(e.text(name)?.to_owned())).collect()
    };
    assert_eq!(of("metadata.event_code"), super::variants_of::<Event>("event"));
    let actions = of("unmapped.action");
    for action in super::actions() {
        assert!(actions.contains(action.name()), "{}", action.name());
    }
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
