//! Signed POST requests: <https://www.standardwebhooks.com>, version 1, symmetric.

use super::{
    BATCH_EVENTS_MAX, Deliver, DeliveryError, Rendered,
    http::{Client, unavailable},
};
use crate::clock;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::future::BoxFuture;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use ring::hmac;

/// What the secret starts with.
const PREFIX: &str = "whsec_";

/// Bytes of a secret (Standard Webhooks: 24 to 64).
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// `type` of the body.
const TYPE: &str = "guard.evidence";

/// Sends events.
pub(super) struct WebhookSink {
    client: Client,
    key: hmac::Key,
    batch: usize,
}

impl WebhookSink {
    pub(super) fn new(client: Client, secret: &str, batch: usize) -> Result<Self, String> {
        let bytes = secret.strip_prefix(PREFIX).and_then(|text| BASE64_STANDARD.decode(text).ok());
        let bytes = bytes.filter(|bytes| SECRET_BYTES.contains(&bytes.len())).ok_or(
            "secret_file: expected `whsec_` and base64 of 24 to 64 bytes; make one with: \
             echo whsec_$(openssl rand -base64 32)",
        )?;
        if !(1..=BATCH_EVENTS_MAX).contains(&batch) {
            return Err(format!("batch: expected 1 to {BATCH_EVENTS_MAX}"));
        }
        Ok(Self { client, key: hmac::Key::new(hmac::HMAC_SHA256, &bytes), batch })
    }

    async fn send(&mut self, events: &[Rendered]) -> Result<(), DeliveryError> {
        let Some(first) = events.first() else { return Ok(()) };
        let id = match events.len() {
            1 => first.uid.clone(),
            count => format!("{}-{count}", first.uid),
        };
        let data: Vec<String> = events.iter().map(Rendered::json).collect();
        let body = format!(
            "{{\"type\":\"{TYPE}\",\"timestamp\":\"{}\",\"data\":[{}]}}",
            rfc3339(first.unix_ms),
            data.join(",")
        );
        let seconds = (clock::unix_ms() / 1000).to_string();
        let signature = sign(&self.key, &id, &seconds, &body);
        let header = |name, value: &str| {
            let value = HeaderValue::from_str(value);
            let value = value.map_err(|_| unavailable("a header cannot be written"))?;
            Ok::<_, DeliveryError>((HeaderName::from_static(name), value))
        };
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            header("webhook-id", &id)?,
            header("webhook-timestamp", &seconds)?,
            header("webhook-signature", &signature)?,
        ];
        self.client.post("", &headers, body).await?.confirmed()
    }
}

impl Deliver for WebhookSink {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Rendered],
    ) -> BoxFuture<'a, Result<u64, DeliveryError>> {
        Box::pin(async move {
            for events in batch.chunks(self.batch) {
                self.send(events).await?;
            }
            Ok(0)
        })
    }
}

/// `v1,` and base64 of HMAC-SHA-256 over `id.timestamp.body`.
fn sign(key: &hmac::Key, id: &str, seconds: &str, body: &str) -> String {
    let tag = hmac::sign(key, format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(tag))
}

fn rfc3339(unix_ms: u64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    let text =
        time.ok().and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification and its libraries' tests.
    #[test]
    fn the_specifications_own_example_gets_its_signature() {
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let signature =
            sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
