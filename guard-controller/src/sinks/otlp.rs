//! OpenTelemetry logs: OTLP/HTTP 1.x with JSON (<https://opentelemetry.io/docs/specs/otlp/>).

use super::{
    Deliver, DeliveryError, Rendered,
    http::{Client, unavailable},
};
use futures::future::BoxFuture;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::{Value, json};

/// Sends events.
pub(super) struct OtlpSink {
    client: Client,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl OtlpSink {
    /// `header` is one more header, `Name: value`, or empty.
    pub(super) fn new(client: Client, header: &str) -> Result<Self, String> {
        let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        if !header.is_empty() {
            let wrong = || "header_file: expected a line `Name: value`".to_owned();
            let (name, value) = header.split_once(':').ok_or_else(wrong)?;
            let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
            let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        Ok(Self { client, headers })
    }

    async fn send(&mut self, batch: &[Rendered]) -> Result<u64, DeliveryError> {
        let answer = self.client.post("/v1/logs", &self.headers, body(batch)).await?;
        answer.confirmed()?;
        if answer.body.is_empty() {
            return Ok(0);
        }
        let said: Value = serde_json::from_slice(&answer.body)
            .map_err(|_| unavailable("the answer is no OTLP/JSON: is this the right address?"))?;
        let partial = &said["partialSuccess"];
        // 64-bit integers are strings in protobuf's JSON; some receivers send numbers.
        let rejected = &partial["rejectedLogRecords"];
        let count = rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0);
        if count > 0 {
            tracing::error!(count, "OTLP receiver refused records: {}", partial["errorMessage"]);
        }
        Ok(count.min(batch.len() as u64))
    }
}

impl Deliver for OtlpSink {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Rendered],
    ) -> BoxFuture<'a, Result<u64, DeliveryError>> {
        Box::pin(self.send(batch))
    }
}

/// `ExportLogsServiceRequest`: one resource for each run of events of one host.
fn body(batch: &[Rendered]) -> String {
    let resources: Vec<Value> = batch
        .chunk_by(|one, next| one.host == next.host)
        .map(|events| {
            let host = events.first().map(|event| event.host.as_str()).unwrap_or_default();
            json!({
                "resource": { "attributes": [
                    attribute("service.name", "guard"),
                    attribute("host.name", host),
                ] },
                "scopeLogs": [{
                    "scope": { "name": "guard.evidence", "version": env!("CARGO_PKG_VERSION") },
                    "logRecords": events.iter().map(record).collect::<Vec<_>>(),
                }],
            })
        })
        .collect();
    json!({ "resourceLogs": resources }).to_string()
}

fn record(event: &Rendered) -> Value {
    let (number, text) = severity(event.severity);
    let nanos = event.unix_ms.saturating_mul(1_000_000).to_string();
    json!({
        "timeUnixNano": nanos,
        "observedTimeUnixNano": nanos,
        "severityNumber": number,
        "severityText": text,
        "body": { "stringValue": event.body },
        "attributes": [
            attribute("event.name", &event.code),
            attribute("guard.uid", &event.uid),
            { "key": "guard.index", "value": { "intValue": event.index.to_string() } },
        ],
    })
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// OCSF's severity as `SeverityNumber`.
const fn severity(ocsf: u64) -> (u8, &'static str) {
    match ocsf {
        2 => (10, "INFO2"),
        3 => (13, "WARN"),
        4 => (17, "ERROR"),
        5 | 6 => (21, "FATAL"),
        _ => (9, "INFO"),
    }
}
