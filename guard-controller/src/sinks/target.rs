//! From a sink's configuration to what delivers.

use super::{
    Deliver, SinkError, SinkSpec, Target,
    file::{FileSink, StdoutSink},
    hec::HecSink,
    http::Client,
    otlp::OtlpSink,
    syslog::SyslogSink,
    webhook::WebhookSink,
};
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
    let failed = |source| SinkError::File {
        path: path.display().to_string(),
        doing: "the secret cannot be read",
        source,
    };
    if fs::metadata(path).map_err(failed)?.len() > SECRET_BYTES_MAX {
        return Err(failed(std::io::Error::other(format!("over {SECRET_BYTES_MAX} bytes"))));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().trim().to_owned()))
}
