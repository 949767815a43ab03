//! Kafka: one record an event, keyed by host, so that each host's events stay in order within one
//! partition; confirmed is what all in-sync replicas have (`acks=all`).

use super::{
    Deliver, DeliveryError, Rendered, SinkError, TlsFiles,
    http::{is_loopback, unavailable},
    spec::Sasl,
    target::{secret_bytes, value, zeroizing},
    tls,
};
use chrono::{DateTime, Utc};
use futures::future::{BoxFuture, try_join_all};
use rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder, Credentials, SaslConfig,
        error::{Error, ProtocolError},
        partition::{Compression, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};
use rustls::ClientConfig;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// How long the client library tries by itself before the worker does.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest time from a batch to the confirmation of all of it.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(60);

/// Brokers that may be named to begin with; all others are learned from them.
const BROKERS_MAX: usize = 32;

/// Longest name of a topic (Kafka's own limit).
const TOPIC_BYTES_MAX: usize = 249;

/// What `credentials_file` has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Secret {
    username: String,
    #[serde(deserialize_with = "zeroizing")]
    password: Zeroizing<String>,
}

/// Produces records.
pub(super) struct KafkaSink {
    brokers: Vec<String>,
    topic: String,
    tls: Option<Arc<ClientConfig>>,
    sasl: Option<(Sasl, PathBuf)>,
    open: Option<Open>,
}

/// A cluster that was reached, and the topic's partitions.
struct Open {
    client: Client,
    partitions: Vec<i32>,
    leaders: BTreeMap<i32, PartitionClient>,
}

impl KafkaSink {
    pub(super) fn new(
        sink: &str,
        brokers: &[String],
        topic: &str,
        (files, danger_plaintext): (&TlsFiles, bool),
        sasl: Option<(Sasl, &Path)>,
    ) -> Result<Self, SinkError> {
        let wrong = |problem: &str| value(sink, problem);
        if brokers.is_empty() || brokers.len() > BROKERS_MAX {
            return Err(wrong("brokers: expected 1 to 32 of `HOST:PORT`"));
        }
        let mut local = true;
        for broker in brokers {
            let parts = broker.rsplit_once(':');
            let parts =
                parts.filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            let Some((host, _)) = parts else {
                return Err(wrong(&format!("brokers: `{broker}`: expected `HOST:PORT`")));
            };
            local &= is_loopback(host.trim_start_matches('[').trim_end_matches(']'));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX || !topic.bytes().all(plain) {
            return Err(wrong("topic: expected 1 to 249 of a-z, A-Z, 0-9, `.`, `_`, `-`"));
        }
        // A cluster on this machine has no certificate, unless one is named.
        let in_clear = danger_plaintext || local && *files == TlsFiles::default();
        let tls = if in_clear { None } else { Some(tls::config(sink, files)?) };
        let sasl = sasl.map(|(mechanism, file)| (mechanism, file.to_owned()));
        let (brokers, topic) = (brokers.to_vec(), topic.to_owned());
        let made = Self { brokers, topic, tls, sasl, open: None };
        made.credentials().map_err(|problem| wrong(&problem))?;
        Ok(made)
    }

    fn credentials(&self) -> Result<Option<SaslConfig>, String> {
        let Some((mechanism, file)) = &self.sasl else { return Ok(None) };
        let bytes = secret_bytes(file).map_err(|error| error.to_string())?;
        // Not the message of the JSON error: it may have a part of the secret.
        let expected = r#"expected {"username": …, "password": …}"#;
        let secret: Secret = serde_json::from_slice(&bytes)
            .map_err(|_| format!("{}: {expected}", file.display()))?;
        let credentials = Credentials::new(secret.username, secret.password.to_string());
        Ok(Some(match mechanism {
            Sasl::Plain => SaslConfig::Plain(credentials),
            Sasl::ScramSha256 => SaslConfig::ScramSha256(credentials),
            Sasl::ScramSha512 => SaslConfig::ScramSha512(credentials),
        }))
    }

    async fn connect(&self) -> Result<Open, DeliveryError> {
        let backoff = BackoffConfig { deadline: Some(PATIENCE), ..BackoffConfig::default() };
        let mut builder =
            ClientBuilder::new(self.brokers.clone()).client_id("guard").backoff_config(backoff);
        if let Some(tls) = &self.tls {
            builder = builder.tls_config(Arc::clone(tls));
        }
        if let Some(sasl) = self.credentials().map_err(|problem| unavailable(&problem))? {
            builder = builder.sasl_config(sasl);
        }
        let client = builder.build().await.map_err(|error| failed(&error))?;
        // Asks for the topic by name first: brokers that make topics make it now.
        let first = leader(&client, &self.topic, 0).await?;
        let topics = client.list_topics().await.map_err(|error| failed(&error))?;
        let found = topics.into_iter().find(|topic| topic.name == self.topic);
        let partitions: Vec<i32> = found.into_iter().flat_map(|topic| topic.partitions).collect();
        if partitions.is_empty() {
            return Err(unavailable(&format!("the cluster has no topic `{}`", self.topic)));
        }
        Ok(Open { client, partitions, leaders: BTreeMap::from([(0, first)]) })
    }

    async fn produce(&mut self, batch: &[Rendered]) -> Result<(), DeliveryError> {
        // Put back only when all of the batch was confirmed.
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.connect().await?,
        };
        let mut parts: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
        for event in batch {
            let partition = partition_of(event.host.as_bytes(), &open.partitions);
            parts.entry(partition).or_default().push(record(event));
        }
        for partition in parts.keys() {
            if !open.leaders.contains_key(partition) {
                let made = leader(&open.client, &self.topic, *partition).await?;
                open.leaders.insert(*partition, made);
            }
        }
        let sends = parts.into_iter().filter_map(|(partition, records)| {
            let leader = open.leaders.get(&partition)?;
            Some(leader.produce(records, Compression::NoCompression))
        });
        let sent = try_join_all(sends).await;
        sent.map_err(|error| failed(&error))?;
        self.open = Some(open);
        Ok(())
    }
}

async fn leader(
    client: &Client,
    topic: &str,
    partition: i32,
) -> Result<PartitionClient, DeliveryError> {
    let found = client.partition_client(topic, partition, UnknownTopicHandling::Retry).await;
    found.map_err(|error| failed(&error))
}

fn record(event: &Rendered) -> Record {
    let headers = BTreeMap::from([
        ("guard-index".to_owned(), event.index.to_string().into_bytes()),
        ("guard-uid".to_owned(), event.uid.clone().into_bytes()),
    ]);
    let made = i64::try_from(event.unix_ms).ok().and_then(DateTime::<Utc>::from_timestamp_millis);
    Record {
        key: Some(event.host.clone().into_bytes()),
        value: Some(event.body.clone().into_bytes()),
        headers,
        timestamp: made.unwrap_or_default(),
    }
}

/// What is about the records is refused for good; everything else may be mended over there.
fn failed(error: &Error) -> DeliveryError {
    let about_records = matches!(
        error,
        Error::ServerError {
            protocol_error: ProtocolError::MessageTooLarge
                | ProtocolError::RecordListTooLarge
                | ProtocolError::InvalidRecord,
            ..
        }
    );
    match about_records {
        true => DeliveryError::Rejected(error.to_string()),
        false => DeliveryError::Unavailable(error.to_string()),
    }
}

/// As Kafka's own clients choose: murmur2 of the key.
fn partition_of(key: &[u8], partitions: &[i32]) -> i32 {
    let count = u32::try_from(partitions.len()).unwrap_or(1).max(1);
    let at = (murmur2(key) & 0x7fff_ffff) % count;
    partitions.get(at as usize).copied().unwrap_or_default()
}

/// MurmurHash2 with Kafka's seed (`org.apache.kafka.common.utils.Utils.murmur2`).
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

impl Deliver for KafkaSink {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Rendered],
    ) -> BoxFuture<'a, Result<u64, DeliveryError>> {
        Box::pin(async move {
            match timeout(CONFIRM_TIMEOUT, self.produce(batch)).await {
                Ok(done) => done.map(|()| 0),
                Err(_) => Err(unavailable("the cluster did not confirm in 60 s")),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of Kafka's own test (`UtilsTest.testMurmur2`).
    #[test]
    fn a_key_goes_to_the_partition_that_kafkas_own_clients_choose() {
        for (text, expected) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()), expected.cast_unsigned(), "{text}");
        }
        let partitions = [0, 1, 2, 3];
        for host in ["", "a", "box-1"] {
            let chosen = partition_of(host.as_bytes(), &partitions);
            assert_eq!(chosen, partition_of(host.as_bytes(), &partitions));
            assert!(partitions.contains(&chosen));
        }
    }
}
