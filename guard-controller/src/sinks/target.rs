//! From a sink's configuration to what delivers.

use super::{
    Deliver, Format, SinkError, SinkSpec, Target,
    file::{FileSink, StdoutSink},
    hec::HecSink,
    http::Client,
    kafka::KafkaSink,
    otlp::OtlpSink,
    s3::S3Sink,
    syslog::SyslogSink,
    webhook::WebhookSink,
};
use serde::{Deserialize as _, Deserializer};
use std::{fs, path::Path};
use zeroize::Zeroizing;

/// Largest secret in a file, bytes.
const SECRET_BYTES_MAX: u64 = 4096;

/// Opens a sink; no receiver is spoken to yet.
pub(super) fn open(spec: &SinkSpec) -> Result<Box<dyn Deliver>, SinkError> {
    let sink = spec.name.as_str();
    Ok(match &spec.to {
        Target::File { path } => Box::new(FileSink::new(path)),
        Target::Stdout {} => Box::new(StdoutSink::default()),
        Target::Webhook { url, secret_file, batch, tls, danger_plaintext } => {
            let client = Client::new(sink, url, tls, *danger_plaintext)?;
            let secret = secret(secret_file)?;
            Box::new(WebhookSink::new(client, &secret, *batch).map_err(|p| value(sink, &p))?)
        }
        Target::SplunkHec {
            url,
            token_file,
            acknowledge,
            index,
            sourcetype,
            tls,
            danger_plaintext,
        } => {
            let client = Client::new(sink, url, tls, *danger_plaintext)?;
            let sourcetype = match sourcetype {
                Some(sourcetype) => sourcetype.clone(),
                None => format!("guard:{}", spec.format.name()),
            };
            let token = secret(token_file)?;
            let hec = HecSink::new(client, &token, *acknowledge, index.clone(), sourcetype);
            Box::new(hec.map_err(|p| value(sink, &p))?)
        }
        Target::Otlp { url, header_file, tls, danger_plaintext } => {
            let client = Client::new(sink, url, tls, *danger_plaintext)?;
            let header = header_file.as_deref().map(secret).transpose()?.unwrap_or_default();
            Box::new(OtlpSink::new(client, &header).map_err(|p| value(sink, &p))?)
        }
        Target::Kafka { brokers, topic, sasl, credentials_file, tls, danger_plaintext } => {
            let sasl = match (sasl, credentials_file) {
                (Some(sasl), Some(file)) => Some((*sasl, file.as_path())),
                (None, None) => None,
                _ => return Err(value(sink, "`sasl` and `credentials_file` go together")),
            };
            Box::new(KafkaSink::new(sink, brokers, topic, (tls, *danger_plaintext), sasl)?)
        }
        Target::S3 { url, region, prefix, credentials_file, max_age_s, tls, danger_plaintext } => {
            let client = Client::new(sink, url, tls, *danger_plaintext)?;
            let (file, place) = (credentials_file.clone(), (region.as_str(), prefix.as_str()));
            let is_json = spec.format != Format::Cef;
            Box::new(S3Sink::new(sink, client, file, place, *max_age_s, is_json)?)
        }
        Target::Syslog { address, tls, plaintext } => {
            Box::new(SyslogSink::new(sink, address, tls, *plaintext)?)
        }
    })
}

/// A value of `sink` is not what was expected.
pub(super) fn value(sink: &str, problem: &str) -> SinkError {
    SinkError::Value { sink: sink.to_owned(), problem: problem.to_owned() }
}

/// The first line of a file.
pub(super) fn secret(path: &Path) -> Result<Zeroizing<String>, SinkError> {
    let bytes = secret_bytes(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| SinkError::File {
        path: path.display().to_string(),
        doing: "the secret cannot be read",
        source: std::io::Error::other("it is not UTF-8"),
    })?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().trim().to_owned()))
}

/// All of a file.
pub(super) fn secret_bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, SinkError> {
    let failed = |source| SinkError::File {
        path: path.display().to_string(),
        doing: "the secret cannot be read",
        source,
    };
    if fs::metadata(path).map_err(failed)?.len() > SECRET_BYTES_MAX {
        return Err(failed(std::io::Error::other(format!("over {SECRET_BYTES_MAX} bytes"))));
    }
    Ok(Zeroizing::new(fs::read(path).map_err(failed)?))
}

/// A string of a JSON file that does not stay in memory.
pub(super) fn zeroizing<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

/// Likewise, or none.
pub(super) fn zeroizing_if_any<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Zeroizing<String>>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(Zeroizing::new))
}
