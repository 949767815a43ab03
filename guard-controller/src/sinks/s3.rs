//! Objects in an S3-compatible store: newline-delimited events, named by the first and the last
//! entry, so that a repeated object is the same object.

use super::{
    BatchBounds, Deliver, DeliveryError, Rendered, SinkError,
    http::{Client, unavailable},
    sigv4::{Credentials, Request, authorization, encoded, sha256},
    target::{secret_bytes, value},
};
use crate::clock;
use futures::future::BoxFuture;
use hyper::{
    Method, StatusCode,
    body::Bytes,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use std::{path::PathBuf, time::Duration};
use time::{OffsetDateTime, macros::format_description};

/// Events in one object.
const OBJECT_EVENTS_MAX: usize = 10_000;

/// Bytes of one object's events; one larger event is an object of its own. It is held in memory, and
/// it has to arrive within the time for an answer (30 s).
const OBJECT_BYTES_MAX: usize = 4 << 20;

/// Longest time that an event may wait for others of its object, s.
const AGE_S_MAX: u64 = 3600;

/// Longest prefix of a name, bytes: a name has at most 1,024.
const PREFIX_BYTES_MAX: usize = 900;

/// Puts objects.
pub(super) struct S3Sink {
    client: Client,
    credentials_file: PathBuf,
    region: String,
    prefix: String,
    extension: &'static str,
    age: Duration,
}

impl S3Sink {
    pub(super) fn new(
        sink: &str,
        client: Client,
        credentials_file: PathBuf,
        (region, prefix): (&str, &str),
        max_age_s: u64,
        is_json: bool,
    ) -> Result<Self, SinkError> {
        let wrong = |problem: &str| value(sink, problem);
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if region.is_empty() || !plain(region) {
            return Err(wrong("region: expected a name such as eu-central-1"));
        }
        if prefix.len() > PREFIX_BYTES_MAX || prefix.starts_with('/') {
            return Err(wrong("prefix: expected at most 900 bytes that do not begin with `/`"));
        }
        if !(1..=AGE_S_MAX).contains(&max_age_s) {
            return Err(wrong("max_age_s: expected 1 to 3600"));
        }
        let made = Self {
            client,
            credentials_file,
            region: region.into(),
            prefix: prefix.into(),
            extension: if is_json { "ndjson" } else { "cef" },
            age: Duration::from_secs(max_age_s),
        };
        made.credentials().map_err(|problem| wrong(&problem))?;
        Ok(made)
    }

    /// Read at each delivery: temporary credentials are replaced in place.
    fn credentials(&self) -> Result<Credentials, String> {
        let bytes = secret_bytes(&self.credentials_file).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}: {}", cause.unwrap_or_default())
        })?;
        serde_json::from_slice(&bytes).map_err(|error| {
            // Where, and not what: the message of a JSON error may have a part of the secret.
            let at = (error.line(), error.column());
            format!(
                "{}: line {}, column {}: expected {{\"access_key_id\": …, \
                 \"secret_access_key\": …}}",
                self.credentials_file.display(),
                at.0,
                at.1
            )
        })
    }

    async fn put(&mut self, batch: &[Rendered]) -> Result<(), DeliveryError> {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(()) };
        let name =
            format!("{}{:020}-{:020}.{}", self.prefix, first.index, last.index, self.extension);
        let mut body = Vec::with_capacity(batch.iter().map(|event| event.body.len() + 1).sum());
        for event in batch {
            body.extend_from_slice(event.body.as_bytes());
            body.push(b'\n');
        }
        let credentials = self.credentials().map_err(|problem| unavailable(&problem))?;
        let (path, time) = (encoded(&format!("/{name}")), amz_date());
        let (body_sha256, host) = (sha256(&body), self.client.authority().to_owned());
        let mut signed = vec![
            ("content-type", "application/x-ndjson"),
            ("host", host.as_str()),
            ("x-amz-content-sha256", body_sha256.as_str()),
            ("x-amz-date", time.as_str()),
        ];
        if let Some(token) = &credentials.session_token {
            signed.push(("x-amz-security-token", token.as_str()));
        }
        let request = Request {
            method: "PUT",
            path: &format!("{}{path}", self.client.base()),
            headers: signed.clone(),
            body_sha256: &body_sha256,
        };
        let authorization = authorization(&request, &credentials, &self.region, &time);
        let mut headers = Vec::with_capacity(signed.len());
        for (name, value) in signed.into_iter().filter(|(name, _)| *name != "host") {
            headers.push((HeaderName::from_static(name), header(value)?));
        }
        debug_assert!(headers.iter().any(|(name, _)| name == CONTENT_TYPE));
        headers.push((AUTHORIZATION, header(&authorization)?));
        let answer = self.client.send(Method::PUT, &path, &headers, Bytes::from(body)).await?;
        match answer.confirmed() {
            // No object is refused for what events say; a 400 is about credentials, clocks and
            // buckets. Only too much at once is about this object.
            Err(DeliveryError::Rejected(why)) if answer.status != StatusCode::PAYLOAD_TOO_LARGE => {
                Err(DeliveryError::Unavailable(why))
            }
            other => other,
        }
    }
}

fn header(value: &str) -> Result<HeaderValue, DeliveryError> {
    let mut value =
        HeaderValue::from_str(value).map_err(|_| unavailable("a header cannot be written"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Now, as `x-amz-date` has it.
fn amz_date() -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let now = i64::try_from(clock::unix_ms() / 1000).unwrap_or_default();
    let now = OffsetDateTime::from_unix_timestamp(now).ok();
    now.and_then(|now| now.format(format).ok()).unwrap_or_default()
}

impl Deliver for S3Sink {
    fn bounds(&self) -> BatchBounds {
        BatchBounds {
            events: OBJECT_EVENTS_MAX,
            bytes: OBJECT_BYTES_MAX,
            age: self.age,
            named: true,
        }
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Rendered],
    ) -> BoxFuture<'a, Result<u64, DeliveryError>> {
        Box::pin(async move { self.put(batch).await.map(|()| 0) })
    }
}
