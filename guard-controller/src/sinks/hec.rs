//! Splunk HTTP Event Collector, with indexer acknowledgement.
//!
//! <https://docs.splunk.com/Documentation/Splunk/9.4.0/Data/AboutHECIDXAck>: an answer of 200 says
//! that Splunk has received events, an acknowledgement that they are written. Only that moves the
//! cursor.

use super::{
    Deliver, DeliveryError, Rendered,
    http::{Answer, Client, unavailable},
};
use futures::future::BoxFuture;
use hyper::{
    StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// How often acknowledgements are asked for; Splunk recommends not to ask all the time.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Longest wait for an acknowledgement; then the events are sent again, as Splunk recommends
/// (it forgets after 10 minutes).
const ACK_TIMEOUT: Duration = Duration::from_secs(90);

/// Codes of a 400 answer that are about the events: no data, invalid format, event field missing
/// or blank, error in indexed fields. All others are about the token, its index or the channel.
const ABOUT_EVENTS: &[u64] = &[5, 6, 12, 13, 15];

/// Sends events.
pub(super) struct HecSink {
    client: Client,
    authorization: HeaderValue,
    channel: String,
    acknowledge: bool,
    index: Option<String>,
    sourcetype: String,
}

impl HecSink {
    pub(super) fn new(
        client: Client,
        token: &str,
        acknowledge: bool,
        index: Option<String>,
        sourcetype: String,
    ) -> Result<Self, String> {
        if token.is_empty() {
            return Err("token_file: it is empty".into());
        }
        let mut authorization = HeaderValue::from_str(&format!("Splunk {token}"))
            .map_err(|_| "token_file: not a token".to_owned())?;
        authorization.set_sensitive(true);
        // A channel of its own for each run: acknowledgements of an earlier one are not ours.
        let channel = Uuid::new_v4().to_string();
        Ok(Self { client, authorization, channel, acknowledge, index, sourcetype })
    }

    fn headers(&self) -> Result<[(HeaderName, HeaderValue); 3], DeliveryError> {
        let channel = HeaderValue::from_str(&self.channel);
        Ok([
            (AUTHORIZATION, self.authorization.clone()),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (
                HeaderName::from_static("x-splunk-request-channel"),
                channel.map_err(|_| unavailable("the channel cannot be written"))?,
            ),
        ])
    }

    fn body(&self, batch: &[Rendered]) -> String {
        let mut body = String::new();
        for event in batch {
            let mut head = json!({
                "time": format!("{}.{:03}", event.unix_ms / 1000, event.unix_ms % 1000),
                "host": event.host,
                "source": "guard",
                "sourcetype": self.sourcetype,
                "fields": { "guard_index": event.index, "guard_uid": event.uid },
            })
            .to_string();
            // The event is JSON already.
            head.pop();
            body.push_str(&head);
            if let Some(index) = &self.index {
                body.push_str(&format!(",\"index\":{}", Value::from(index.as_str())));
            }
            body.push_str(&format!(",\"event\":{}}}\n", event.json()));
        }
        body
    }

    async fn send(&mut self, batch: &[Rendered]) -> Result<(), DeliveryError> {
        let (headers, body) = (self.headers()?, self.body(batch));
        let answer = self.client.post("/services/collector/event", &headers, body).await?;
        confirmed(&answer)?;
        if !self.acknowledge {
            return Ok(());
        }
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let Some(ack) = said["ackId"].as_u64() else {
            return Err(unavailable(
                "Splunk gave no ackId: enable indexer acknowledgement for this token, or say \
                 `\"acknowledge\": false`",
            ));
        };
        self.acknowledged(ack).await
    }

    async fn acknowledged(&mut self, ack: u64) -> Result<(), DeliveryError> {
        let until = Instant::now() + ACK_TIMEOUT;
        loop {
            let headers = self.headers()?;
            let body = json!({ "acks": [ack] }).to_string();
            let answer = self.client.post("/services/collector/ack", &headers, body).await?;
            if !answer.status.is_success() {
                return Err(unavailable(&format!("asked for acks, {}", answer.status)));
            }
            let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            if said["acks"][ack.to_string()] == true {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(unavailable("Splunk did not acknowledge in 90 s"));
            }
            sleep(ASK_EVERY).await;
        }
    }
}

/// As [`Answer::confirmed`], but a 400 is about the events only if Splunk says so.
fn confirmed(answer: &Answer) -> Result<(), DeliveryError> {
    match answer.confirmed() {
        Err(DeliveryError::Rejected(why)) if answer.status == StatusCode::BAD_REQUEST => {
            let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let about_events = said["code"].as_u64().is_some_and(|c| ABOUT_EVENTS.contains(&c));
            Err(match about_events {
                true => DeliveryError::Rejected(why),
                false => DeliveryError::Unavailable(why),
            })
        }
        other => other,
    }
}

impl Deliver for HecSink {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Rendered],
    ) -> BoxFuture<'a, Result<u64, DeliveryError>> {
        Box::pin(async move { self.send(batch).await.map(|()| 0) })
    }
}
