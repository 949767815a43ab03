//! Every variant against OCSF's own schemas, and the golden files of ECS and CEF.

mod golden;
pub(crate) mod samples;
mod schema;

use super::{
    Context, HeldAction, OcsfEvent,
    action::{self, Subject},
    base::Base,
    disposition::Disposition,
    event, needs, process,
};
use crate::{Event, Record};
use guard_model::Action;
use proptest::prelude::*;
use samples::{actions, context, events, file, held, record, text};
use schema::Schemas;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Names of all variants of an internally tagged enum, from serde's own error message.
fn variants_of<T: serde::de::DeserializeOwned>(tag: &str) -> BTreeSet<String> {
    let Err(error) = serde_json::from_value::<T>(json!({ tag: "?" })) else {
        panic!("no variants")
    };
    let error = error.to_string();
    let names: BTreeSet<String> = error.split('`').skip(3).step_by(2).map(str::to_owned).collect();
    assert!(names.len() > 2, "{error}");
    names
}

fn mapped(event_of: &Event) -> Vec<OcsfEvent> {
    let record = record(event_of.clone());
    let mut out = vec![event(&record, &context(None))];
    if needs(&record).is_some() {
        for action in actions() {
            out.push(event(&record, &context(Some(&held(action)))));
        }
    }
    out
}

#[test]
fn every_variant_of_event_and_action_is_a_valid_ocsf_event() {
    let schemas = Schemas::load();
    let (mut sampled, mut names) = (BTreeSet::new(), BTreeSet::new());
    let (mut count, mut errors) = (0, Vec::new());
    for sample in events() {
        for event in mapped(&sample) {
            count += 1;
            sampled.insert(event.text("metadata.event_code").unwrap().to_owned());
            names.extend(event.text("unmapped.action").map(str::to_owned));
            errors.extend(schemas.errors(&event));
        }
    }
    println!(
        "OCSF {}: {} variants of Event, {} kinds of action: {count} events validated against {} \
         classes, errors {}",
        schemas.version,
        sampled.len(),
        names.len(),
        schemas.len(),
        errors.len()
    );
    assert!(errors.is_empty(), "{errors:#?}");
    assert_eq!(sampled, variants_of::<Event>("event"), "each variant of Event needs a sample");
    let variant = |action: &Action| {
        serde_json::to_value(action).unwrap()["action"].as_str().unwrap().to_owned()
    };
    let acted: BTreeSet<_> = actions().iter().map(variant).collect();
    assert_eq!(acted, variants_of::<Action>("action"), "each Action needs a sample");
    for action in actions() {
        assert!(names.contains(action.name()), "{} is in no event", action.name());
    }
}

#[test]
fn every_subject_is_a_valid_event_of_its_class() {
    let schemas = Schemas::load();
    let (file, program) = (file("/usr/bin/x"), samples::program("/usr/bin/x"));
    let endpoint = samples::endpoints().remove(0);
    let (socket_type, protocol) = (1, 0);
    let mut subjects = vec![
        Subject::Program { program: &program, argv: &[] },
        Subject::Code { file: &file },
        Subject::KernelModule { file: &file },
        Subject::Kernel { operation: "mount", object: "/mnt" },
    ];
    for activity in [
        action::PROCESS_TERMINATE,
        action::PROCESS_OPEN,
        action::PROCESS_INJECT,
        action::PROCESS_SET_USER_ID,
        action::PROCESS_SIGNAL,
    ] {
        subjects.push(Subject::Process { activity, target_pid: 1 });
    }
    for activity in [
        action::FILE_CREATE,
        action::FILE_UPDATE,
        action::FILE_DELETE,
        action::FILE_RENAME,
        action::FILE_SET_ATTRIBUTES,
        action::FILE_SET_SECURITY,
        action::FILE_MOUNT,
        action::FILE_UNMOUNT,
        action::FILE_OPEN,
        action::FILE_LINK,
    ] {
        subjects.push(Subject::File { activity, file: &file, result: Some(&file) });
    }
    for activity in [action::NETWORK_OPEN, action::NETWORK_TRAFFIC, action::NETWORK_LISTEN] {
        let endpoint = &endpoint;
        subjects.push(Subject::Network { activity, endpoint, socket_type, protocol });
    }
    for subject in subjects {
        let record = record(Event::SessionEnded {});
        let actor = process::actor_of_pid(7, 7, None);
        let base = Base::new(&record, &context(None));
        let event = action::of_subject(base, subject, actor, Disposition::ALLOWED);
        assert_eq!(schemas.errors(&event), Vec::<String>::new(), "{subject:?}");
    }
}

#[test]
fn the_schemas_refuse_what_is_not_ocsf() {
    let schemas = Schemas::load();
    let good = mapped(&events().remove(0)).remove(0);
    assert!(schemas.errors(&good).is_empty());
    for broken in [
        good.clone().with("not_an_attribute", 1.into()),
        good.clone().with("activity_id", 98.into()),
        good.clone().with("type_uid", 1.into()),
        good.clone().with("metadata", json!({ "version": "1.8.0" })),
        good.clone().with("time", "yesterday".into()),
        good.clone().with("device", json!({ "type_id": 0 })),
    ] {
        assert!(!schemas.errors(&broken).is_empty(), "{broken:?}");
    }
}

#[test]
fn dispositions_are_those_of_the_design() {
    let of = |event: &Event, held: Option<&HeldAction>| {
        let event = super::event(&record(event.clone()), &context(held));
        ["class_uid", "activity_id", "action_id", "disposition_id", "status_id"]
            .map(|key| event.number(key).unwrap())
    };
    let held = held(samples::connect());
    for (event, wanted) in samples::table() {
        assert_eq!(of(&event, Some(&held)), wanted, "{event:?}");
    }
}

#[test]
fn an_event_carries_its_place_in_the_log_and_its_hold() {
    let event = event(&record(samples::held_event()), &context(None));
    assert_eq!(event.number("metadata.sequence"), Some(samples::INDEX));
    assert_eq!(event.text("metadata.uid"), Some("07".repeat(32).as_str()));
    assert_eq!(event.text("metadata.correlation_uid").unwrap(), samples::hold_id().to_string());
    assert_eq!(event.text("action"), Some("Held"));
    assert_eq!(event.text("status"), Some("Pending"));
}

#[test]
fn an_erased_entry_keeps_its_place() {
    let entry = crate::LogEntry { index: samples::INDEX, leaf_hash: [7; 32], record: None };
    let event = super::entry(&entry, None, None);
    assert_eq!(Schemas::load().errors(&event), Vec::<String>::new());
    assert_eq!(event.number("metadata.sequence"), Some(samples::INDEX));
    assert_eq!(event.number("class_uid"), Some(1008));
}

/// Replaces every text in a record that is not one of its own words by `text`.
fn with_text(value: &mut Value, text: &str) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let free = ["path", "comm", "exe", "cwd", "cgroup", "name", "principal", "reason"];
                let free = free.contains(&key.as_str()) && value.is_string();
                let list = ["argv", "cmdline", "command"].contains(&key.as_str());
                if free {
                    *value = text.into();
                } else if list {
                    *value = json!([text, text]);
                } else {
                    with_text(value, text);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| with_text(item, text)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_session_writes_the_event_is_valid_and_its_lines_are_one_line(
        bytes in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let schemas = Schemas::load();
        let exact = text(&bytes).to_exact();
        for sample in events() {
            let mut value = serde_json::to_value(record(sample)).unwrap();
            with_text(&mut value, &exact);
            let record: Record = serde_json::from_value(value).unwrap();
            let event = event(&record, &context(None));
            prop_assert_eq!(schemas.errors(&event), Vec::<String>::new());
            let cef = crate::cef::line(&event);
            prop_assert!(!cef.chars().any(char::is_control), "{:?}", cef);
            prop_assert_eq!(unescaped_bars(&cef), 7);
            prop_assert!(crate::ecs::document(&event)["@timestamp"].is_string());
        }
    }
}

/// A CEF head has exactly seven.
fn unescaped_bars(line: &str) -> usize {
    let head = line.split(" rt=").next().unwrap_or(line).split("|rt=").next().unwrap_or(line);
    let mut escaped = false;
    let mut bars = 1; // The one that the split above took.
    for char in head.chars() {
        bars += usize::from(char == '|' && !escaped);
        escaped = char == '\\' && !escaped;
    }
    bars
}

#[test]
fn context_defaults_are_honest() {
    let event = event(&record(Event::SessionEnded {}), &Context::default());
    assert_eq!(event.text("device.name"), Some("(unknown)"));
}
