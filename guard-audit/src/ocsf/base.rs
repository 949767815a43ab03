//! What every event has: class, time, product, device, and the place in the log.

use super::{
    Context,
    disposition::{Disposition, Severity},
    words,
};
use crate::Record;
use guard_model::HoldId;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Version of OCSF.
pub const SCHEMA_VERSION: &str = "1.8.0";

/// Name under which the vendor and the product stand.
const PRODUCT: &str = "Guard";

/// An OCSF class that Guard writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// `class_uid`; its thousands are the category.
    pub uid: u32,
    /// `class_name`.
    pub name: &'static str,
    /// `category_name`.
    pub category: &'static str,
}

macro_rules! classes {
    ($($name:ident = $uid:literal, $caption:literal, $category:literal;)*) => {
        impl Class { $(pub(super) const $name: Self =
            Self { uid: $uid, name: $caption, category: $category };)* }
        /// All of them.
        pub const CLASSES: &[Class] = &[$(Class::$name),*];
    };
}

classes! {
    FILE = 1001, "File System Activity", "System Activity";
    KERNEL_EXTENSION = 1002, "Kernel Extension Activity", "System Activity";
    KERNEL = 1003, "Kernel Activity", "System Activity";
    MODULE = 1005, "Module Activity", "System Activity";
    PROCESS = 1007, "Process Activity", "System Activity";
    EVENT_LOG = 1008, "Event Log Activity", "System Activity";
    FINDING = 2004, "Detection Finding", "Findings";
    AUTHENTICATION = 3002, "Authentication", "Identity & Access Management";
    ENTITY = 3004, "Entity Management", "Identity & Access Management";
    NETWORK = 4001, "Network Activity", "Network Activity";
    LIFECYCLE = 6002, "Application Lifecycle", "Application Activity";
    API = 6003, "API Activity", "Application Activity";
}

/// A finished event: a JSON object that validates against its class's schema.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct OcsfEvent(Map<String, Value>);

impl OcsfEvent {
    /// The object.
    #[must_use]
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The value at `path`, parts separated by `.`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let first = self.0.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }

    /// The text at `path`.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.as_str()
    }

    /// The number at `path`.
    #[must_use]
    pub fn number(&self, path: &str) -> Option<u64> {
        self.get(path)?.as_u64()
    }

    pub(super) fn with(mut self, key: &str, value: Value) -> Self {
        self.0.insert(key.to_owned(), value);
        self
    }

    /// One line for people.
    pub(super) fn message(self, text: &str) -> Self {
        self.with("message", text.into())
    }

    /// Why it is so.
    pub(super) fn detail(self, text: &str) -> Self {
        if text.is_empty() { self } else { self.with("status_detail", text.into()) }
    }

    /// The hold that it belongs to.
    pub(super) fn correlated(mut self, hold: Option<HoldId>) -> Self {
        if let (Some(hold), Some(metadata)) = (hold, self.0.get_mut("metadata")) {
            metadata["correlation_uid"] = hold.to_string().into();
        }
        self
    }

    /// Adds to what has no place in OCSF.
    pub(super) fn unmapped(mut self, key: &str, value: Value) -> Self {
        if let Some(unmapped) = self.0.get_mut("unmapped") {
            unmapped[key] = value;
        }
        self
    }

    /// Who decided, in their words.
    pub(super) fn decided_by(self, by: &str, reason: &str) -> Self {
        let event = self.detail(reason);
        if by.is_empty() { event } else { event.unmapped("decided_by", by.into()) }
    }

    pub(super) fn severity(self, severity: Severity) -> Self {
        self.with("severity_id", severity.id().into()).with("severity", severity.caption().into())
    }
}

/// What is known before the class is.
pub(super) struct Base {
    metadata: Value,
    device: Value,
    unmapped: Value,
    time: u64,
    pub(super) session: Option<String>,
}

impl Base {
    pub(super) fn new(record: &Record, context: &Context<'_>) -> Self {
        let mut base = Self::without_record(context);
        base.metadata["event_code"] = event_code(record).into();
        base.device["uid"] = record.host.to_string().into();
        base.device["boot_uid"] = record.boot.to_string().into();
        base.time = record.unix_ms;
        base.unmapped = json!({
            "host_sequence": record.sequence,
            "boottime_ns": record.boottime_ns,
        });
        base.session = record.session.map(|session| session.to_string());
        if let Some(session) = &base.session {
            base.unmapped["session_uid"] = session.as_str().into();
        }
        base
    }

    /// For an entry whose record is gone.
    pub(super) fn without_record(context: &Context<'_>) -> Self {
        let mut device = json!({
            "type_id": 0,
            "type": "Unknown",
            "os": { "name": "Linux", "type_id": 200, "type": "Linux" },
        });
        // Not `hostname`: a host may call itself what is no DNS name.
        device["name"] = context.hostname.unwrap_or("(unknown)").into();
        let metadata = json!({
            "version": SCHEMA_VERSION,
            "profiles": ["host", "security_control"],
            "product": {
                "name": PRODUCT,
                "vendor_name": PRODUCT,
                "version": env!("CARGO_PKG_VERSION"),
            },
            "uid": words::hex(&context.leaf_hash),
            "sequence": context.index,
            "log_name": words::LOG_NAME,
        });
        Self { metadata, device, unmapped: json!({}), time: 0, session: None }
    }

    /// The event of `class` with `activity` (id and caption) and what became of it.
    pub(super) fn event(
        self,
        class: Class,
        activity: (u32, &str),
        disposition: Disposition,
    ) -> OcsfEvent {
        let (activity_id, activity_name) = activity;
        let fields = json!({
            "category_uid": class.uid / 1000,
            "category_name": class.category,
            "class_uid": class.uid,
            "class_name": class.name,
            "activity_id": activity_id,
            "activity_name": activity_name,
            "type_uid": u64::from(class.uid) * 100 + u64::from(activity_id),
            "type_name": format!("{}: {activity_name}", class.name),
            "time": self.time,
            "severity_id": disposition.severity.id(),
            "severity": disposition.severity.caption(),
            "action_id": disposition.action.0,
            "action": disposition.action.1,
            "disposition_id": disposition.disposition.0,
            "disposition": disposition.disposition.1,
            "status_id": disposition.status.0,
            "status": disposition.status.1,
            "metadata": self.metadata,
            "device": self.device,
            "unmapped": self.unmapped,
        });
        match fields {
            Value::Object(fields) => OcsfEvent(fields),
            _ => OcsfEvent(Map::new()),
        }
    }
}

/// The record's own name for what happened: `decided`, `held`, `outcome`…
fn event_code(record: &Record) -> String {
    match serde_json::to_value(&record.event) {
        Ok(Value::Object(mut fields)) => match fields.remove("event") {
            Some(Value::String(name)) => name,
            _ => String::new(),
        },
        _ => String::new(),
    }
}
