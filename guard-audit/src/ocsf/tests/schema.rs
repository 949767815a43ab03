//! The schemas, and what is wrong with an event.

use super::OcsfEvent;
use jsonschema::Validator;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) struct Schemas {
    pub(super) version: String,
    classes: BTreeMap<u64, Validator>,
}

impl Schemas {
    pub(super) fn load() -> Self {
        let text = include_str!("../../../tests/ocsf/schemas.json");
        let all: Value = serde_json::from_str(text).unwrap();
        let defs = &all["$defs"];
        let classes = all["classes"].as_object().unwrap().iter().map(|(uid, schema)| {
            let mut schema = schema.clone();
            schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
            schema["$defs"] = defs.clone();
            (uid.parse().unwrap(), jsonschema::validator_for(&schema).unwrap())
        });
        Self { version: all["version"].as_str().unwrap().to_owned(), classes: classes.collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.classes.len()
    }

    pub(super) fn errors(&self, event: &OcsfEvent) -> Vec<String> {
        let class = event.number("class_uid").unwrap();
        let value = serde_json::to_value(event).unwrap();
        let Some(validator) = self.classes.get(&class) else {
            return vec![format!("class {class} has no schema")];
        };
        let code = event.text("metadata.event_code").unwrap_or_default();
        validator
            .iter_errors(&value)
            .map(|error| format!("{code} ({class}) at {}: {error}", error.instance_path()))
            .collect()
    }
}

#[test]
fn the_schemas_are_of_the_version_that_events_name() {
    let schemas = Schemas::load();
    assert_eq!(schemas.version, super::super::SCHEMA_VERSION);
    let classes: Vec<u64> =
        super::super::CLASSES.iter().map(|class| u64::from(class.uid)).collect();
    assert_eq!(schemas.classes.keys().copied().collect::<Vec<_>>(), classes);
}
