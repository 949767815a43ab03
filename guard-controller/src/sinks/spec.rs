//! What a sink is configured with.

use super::{SINKS_MAX, SinkError};
use serde::Deserialize;
use std::{collections::HashSet, fs, path::Path, path::PathBuf};

/// Longest name of a sink, bytes: it is a label of metrics.
const NAME_BYTES_MAX: usize = 64;

/// Largest file of sinks, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The file of `--sinks`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinksFile {
    /// All of them.
    pub sinks: Vec<SinkSpec>,
}

/// One sink.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SinkSpec {
    /// Its name, and its cursor's: another name starts anew.
    pub name: String,
    /// How events are written.
    #[serde(default)]
    pub format: Format,
    /// Where a new sink starts.
    #[serde(default)]
    pub start: Start,
    /// Only these records, by Guard's name (`held`, `person_decided`…); empty: all. With a
    /// filter, `metadata.sequence` has gaps by intention.
    #[serde(default)]
    pub only: Vec<String>,
    /// Where to.
    pub to: Target,
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// OCSF 1.8.0, JSON.
    #[default]
    Ocsf,
    /// Elastic Common Schema, JSON.
    Ecs,
    /// ArcSight CEF, a line.
    Cef,
}

impl Format {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ocsf => "ocsf",
            Self::Ecs => "ecs",
            Self::Cef => "cef",
        }
    }
}

/// Where a new sink starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the first entry of the log.
    #[default]
    Beginning,
    /// With the first entry after the sink was made.
    Now,
}

/// Files for TLS, PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFiles {
    /// Certificates of authorities that may have signed the receiver's; without it, the system's.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, if the receiver asks for one.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

/// Where to.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// A file, one event a line. It is opened anew when it was renamed (logrotate).
    File {
        /// Which.
        path: PathBuf,
    },
    /// Standard output, one event a line.
    Stdout {},
    /// POST requests signed by <https://www.standardwebhooks.com>.
    Webhook {
        /// Where to.
        url: String,
        /// File with the secret, `whsec_` and base64.
        secret_file: PathBuf,
        /// Events in one request; 1 lets a receiver tell repetitions by `webhook-id`.
        #[serde(default = "one")]
        batch: usize,
        /// Certificates.
        #[serde(default)]
        tls: TlsFiles,
        /// Sends in the clear.
        #[serde(default)]
        danger_plaintext: bool,
    },
    /// Splunk HTTP Event Collector.
    SplunkHec {
        /// Its base, for example `https://splunk.example.org:8088`.
        url: String,
        /// File with the token.
        token_file: PathBuf,
        /// Waits for the indexer's acknowledgement; the token must have it enabled.
        #[serde(default = "yes")]
        acknowledge: bool,
        /// Index; the token's default without it.
        #[serde(default)]
        index: Option<String>,
        /// Source type; `guard:<format>` without it.
        #[serde(default)]
        sourcetype: Option<String>,
        /// Certificates.
        #[serde(default)]
        tls: TlsFiles,
        /// Sends in the clear.
        #[serde(default)]
        danger_plaintext: bool,
    },
    /// OpenTelemetry logs, OTLP/HTTP with JSON.
    Otlp {
        /// Its base, without `/v1/logs`.
        url: String,
        /// File with one more header, `Name: value`.
        #[serde(default)]
        header_file: Option<PathBuf>,
        /// Certificates.
        #[serde(default)]
        tls: TlsFiles,
        /// Sends in the clear.
        #[serde(default)]
        danger_plaintext: bool,
    },
    /// A topic of a Kafka cluster.
    Kafka {
        /// Some of its brokers, `HOST:PORT`; the others are learned from them.
        brokers: Vec<String>,
        /// The topic.
        topic: String,
        /// How to sign in, if the cluster wants it.
        #[serde(default)]
        sasl: Option<Sasl>,
        /// File with `{"username": …, "password": …}` for it.
        #[serde(default)]
        credentials_file: Option<PathBuf>,
        /// Certificates.
        #[serde(default)]
        tls: TlsFiles,
        /// Sends in the clear, to other machines too.
        #[serde(default)]
        danger_plaintext: bool,
    },
    /// Objects in an S3-compatible store.
    S3 {
        /// The bucket: `https://s3.eu-central-1.amazonaws.com/BUCKET`, or with the bucket in the
        /// host's name.
        url: String,
        /// The region that requests are signed for; stores without regions take `us-east-1`.
        #[serde(default = "us_east_1")]
        region: String,
        /// What names of objects begin with, for example `guard/`.
        #[serde(default)]
        prefix: String,
        /// File with `{"access_key_id": …, "secret_access_key": …, "session_token": …}`; read at
        /// each delivery.
        credentials_file: PathBuf,
        /// Longest time that an event waits for others of its object, s.
        #[serde(default = "one_minute")]
        max_age_s: u64,
        /// Certificates.
        #[serde(default)]
        tls: TlsFiles,
        /// Sends in the clear.
        #[serde(default)]
        danger_plaintext: bool,
    },
    /// Syslog (RFC 5424) over TLS (RFC 5425).
    Syslog {
        /// `HOST` or `HOST:PORT`; port 6514 without it.
        address: String,
        /// Certificates.
        #[serde(default)]
        tls: TlsFiles,
        /// TCP without TLS, to a relay on this machine only.
        #[serde(default)]
        plaintext: bool,
    },
}

/// How to sign in at a Kafka cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sasl {
    /// The password as it is: within TLS.
    Plain,
    /// SCRAM-SHA-256 (RFC 7677).
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// SCRAM-SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

/// A scheme of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// TLS.
    Https,
}

const fn one() -> usize {
    1
}

const fn yes() -> bool {
    true
}

const fn one_minute() -> u64 {
    60
}

fn us_east_1() -> String {
    "us-east-1".into()
}

impl Target {
    /// What kind it is, and where to, for people: no secrets.
    #[must_use]
    pub fn describe(&self) -> (&'static str, String) {
        match self {
            Self::File { path } => ("file", path.display().to_string()),
            Self::Stdout {} => ("stdout", String::new()),
            Self::Webhook { url, .. } => ("webhook", url.clone()),
            Self::SplunkHec { url, .. } => ("splunk_hec", url.clone()),
            Self::Otlp { url, .. } => ("otlp", url.clone()),
            Self::Kafka { brokers, topic, .. } => {
                ("kafka", format!("{}/{topic}", brokers.join(",")))
            }
            Self::S3 { url, .. } => ("s3", url.clone()),
            Self::Syslog { address, .. } => ("syslog", address.clone()),
        }
    }
}

impl SinksFile {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// [`SinkError`] names line and column, or the sink and its field.
    pub fn load(path: &Path) -> Result<Vec<SinkSpec>, SinkError> {
        let name = path.display().to_string();
        let failed = |source| SinkError::File {
            path: name.clone(),
            doing: "the file of sinks cannot be read",
            source,
        };
        if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
            let problem = format!("larger than {FILE_BYTES_MAX} bytes");
            return Err(failed(std::io::Error::other(problem)));
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        let file: Self = serde_json::from_str(&text)
            .map_err(|source| SinkError::Syntax { path: name.clone(), source })?;
        check(&file.sinks)?;
        Ok(file.sinks)
    }
}

/// Checks what can be checked without touching a file.
pub(super) fn check(sinks: &[SinkSpec]) -> Result<(), SinkError> {
    if sinks.len() > SINKS_MAX {
        return Err(SinkError::TooMany(sinks.len()));
    }
    let mut names = HashSet::new();
    for sink in sinks {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        if sink.name.is_empty() || sink.name.len() > NAME_BYTES_MAX || !sink.name.chars().all(plain)
        {
            let problem = "name: expected 1 to 64 of a-z, 0-9, `-`, `_`, `.`".into();
            return Err(SinkError::Value { sink: sink.name.clone(), problem });
        }
        if !names.insert(&sink.name) {
            return Err(SinkError::Twice(sink.name.clone()));
        }
    }
    Ok(())
}
