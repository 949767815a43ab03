//! `guard audit search`: entries by what they say, through the controller.

use super::place::when;
use crate::{
    controller::{Reach, visible},
    output,
};
use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::Value;
use std::process::ExitCode;

/// Search evidence; what was written within the last second may not be found yet.
///
/// All filters must match; one that is absent matches anything.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    sudo guard audit search --kind held --outcome rejected --since 2026-11-23T00:00:00Z\n  \
    sudo guard audit search --text /etc/shadow --limit 500 --json | jq '.entries[].record'\n  \
    sudo guard audit search --session 0190a1b2-… --order oldest")]
pub(crate) struct Search {
    #[command(flatten)]
    reach: Reach,
    /// A host's id, or `guard-controller`.
    #[arg(long, value_name = "ID")]
    host: Option<String>,
    /// A session's id.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// A person who acted, or the account that a session acts for.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Guard's name of the record (`decided`, `held`…) or of the action (`exec`, `open`…).
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// The outcome: `allowed`, `blocked`, `delayed`, `approved`, `rejected`…
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// Made then or later: a time like 2026-11-23T22:04:53Z, or ms since 1970.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Made earlier; likewise.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Message, path, command line, address, digest or leaf hash contains this.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Which come first.
    #[arg(long, value_enum, default_value_t = Order::Newest)]
    order: Order,
    /// Only entries with a smaller index: the next page of the newest.
    #[arg(long, value_name = "INDEX")]
    before: Option<u64>,
    /// From this index on: the next page of the oldest.
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
    /// At most this many; 1 to 500.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Order {
    Newest,
    Oldest,
}

impl Search {
    pub(crate) fn execute(&self) -> Result<ExitCode> {
        let path = format!("/api/v1/evidence/search?{}", self.query());
        let found: Value = self.reach.block_on(async |client| client.get(&path).await)?;
        if self.reach.json {
            output::json(&found)?;
        } else {
            output::text(&self.shown(&found))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn query(&self) -> String {
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        let order = match self.order {
            Order::Newest => "newest",
            Order::Oldest => "oldest",
        };
        let fields = [
            ("host", self.host.clone()),
            ("session", self.session.clone()),
            ("user", self.user.clone()),
            ("kind", self.kind.clone()),
            ("outcome", self.outcome.clone()),
            ("since", self.since.clone()),
            ("until", self.until.clone()),
            ("text", self.text.clone()),
            ("order", Some(order.to_owned())),
            ("before", number(self.before)),
            ("from", number(self.from)),
            ("limit", number(Some(self.limit))),
        ];
        let given = fields
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", escaped(&value?))));
        given.collect::<Vec<_>>().join("&")
    }

    fn shown(&self, found: &Value) -> String {
        let none = Vec::new();
        let entries = found["entries"].as_array().unwrap_or(&none);
        let rows: Vec<_> = entries.iter().map(row).collect();
        let mut text = match rows[..] {
            [] => "Nothing is found.\n".to_owned(),
            _ => output::columns(&rows),
        };
        if let Some(next) = found["next"].as_u64() {
            let next = match self.order {
                Order::Newest => format!("--before {next}"),
                Order::Oldest => format!("--from {next}"),
            };
            text.push_str(&format!("There may be more: add {next}\n"));
        }
        text
    }
}

fn row(entry: &Value) -> [String; 4] {
    let ocsf = &entry["ocsf"];
    let text = |value: &Value| visible(value.as_str().unwrap_or_default());
    [
        entry["index"].to_string(),
        ocsf["time"].as_u64().map(when).unwrap_or_default(),
        text(&ocsf["metadata"]["event_code"]),
        text(&ocsf["message"]),
    ]
}

/// A value of a query (RFC 3986, unreserved characters as they are).
fn escaped(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_searched_for_is_one_value_of_the_query() {
        assert_eq!(escaped("/etc/shadow&limit=1 ä"), "%2Fetc%2Fshadow%26limit%3D1%20%C3%A4");
    }
}
