//! Syslog over TLS: RFC 5424 messages in RFC 5425's octet-counted frames.
//!
//! The protocol has no acknowledgement. A batch counts as delivered when it was written, the
//! receiver has not hung up for [`SETTLE`] after, and (over TLS) the connection was not reset: what
//! a receiver had taken and not stored when it died is lost, and nobody can count it.

use super::{
    Deliver, DeliveryError, Rendered, SinkError, TlsFiles,
    http::{CONNECT_TIMEOUT, is_loopback, unavailable},
    target::value,
    tls,
};
use futures::future::BoxFuture;
use rustls::pki_types::ServerName;
use std::time::Duration;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How long after a batch the connection must still be there: many times a local network's way
/// there and back, so that the hang-up of a receiver that died while we wrote has arrived.
const SETTLE: Duration = Duration::from_millis(200);

/// Longest write of one batch; a receiver that does not read blocks it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Port of syslog over TLS (RFC 5425, 4.1).
const PORT: u16 = 6514;

/// Facility 13, log audit (RFC 5424, table 1).
const FACILITY: u64 = 13;

/// Longest host name in a message, characters (RFC 5424, 6).
const HOSTNAME_MAX: usize = 255;

/// Milliseconds are what the log has.
const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// Sends events.
pub(super) struct SyslogSink {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    open: Option<Box<dyn Stream>>,
}

impl SyslogSink {
    pub(super) fn new(
        sink: &str,
        address: &str,
        files: &TlsFiles,
        plaintext: bool,
    ) -> Result<Self, SinkError> {
        let wrong = |problem: &str| value(sink, &format!("address `{address}`: {problem}"));
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong("expected HOST or HOST:PORT"))?)
            }
            _ => (address, PORT),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong("expected HOST or HOST:PORT"));
        }
        let tls = if plaintext && is_loopback(&host) {
            None
        } else if plaintext {
            return Err(wrong("`plaintext` is for a relay on this machine only"));
        } else {
            let name = ServerName::try_from(host.clone()).map_err(|_| wrong("not a host"))?;
            Some((tls::connector(sink, files)?, name))
        };
        Ok(Self { host, port, tls, open: None })
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, DeliveryError> {
        let failed = |error: &dyn std::error::Error| {
            unavailable(&format!("connect to {}:{}: {error}", self.host, self.port))
        };
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| failed(&error))?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                Ok(Box::new(stream.map_err(|error| failed(&error))?))
            }
        }
    }

    async fn send(&mut self, batch: &[Rendered]) -> Result<(), DeliveryError> {
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => match timeout(CONNECT_TIMEOUT, self.connect()).await {
                Ok(stream) => stream?,
                Err(_) => return Err(unavailable("no connection in 10 s")),
            },
        };
        let frames: Vec<u8> = batch.iter().flat_map(|event| frame(event).into_bytes()).collect();
        let written = timeout(WRITE_TIMEOUT, async {
            stream.write_all(&frames).await?;
            stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(unavailable(&format!("write: {error}"))),
            Err(_) => return Err(unavailable("the receiver does not read")),
        }
        // Receivers say nothing; so anything that comes is the end or an error.
        let mut said = [0; 64];
        match timeout(SETTLE, stream.read(&mut said)).await {
            Err(_) => {
                self.open = Some(stream);
                Ok(())
            }
            Ok(Ok(0)) => Err(unavailable("the receiver hung up")),
            Ok(Ok(_)) => Err(unavailable("the receiver answered: it does not speak syslog")),
            Ok(Err(error)) => Err(unavailable(&format!("the receiver hung up: {error}"))),
        }
    }
}

impl Deliver for SyslogSink {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Rendered],
    ) -> BoxFuture<'a, Result<u64, DeliveryError>> {
        Box::pin(async move { self.send(batch).await.map(|()| 0) })
    }
}

/// `LENGTH SP MESSAGE`.
fn frame(event: &Rendered) -> String {
    let message = message(event);
    format!("{} {message}", message.len())
}

/// RFC 5424: `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG`.
fn message(event: &Rendered) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(event.unix_ms) * 1_000_000);
    let time = at.ok().and_then(|at| at.format(TIMESTAMP).ok()).unwrap_or_else(|| "-".into());
    format!(
        "<{}>1 {time} {} guard - {} - \u{feff}{}",
        FACILITY * 8 + severity(event.severity),
        printable(&event.host, HOSTNAME_MAX),
        printable(&event.code, 32),
        event.body,
    )
}

/// OCSF's severity as syslog's: informational 6, notice 5, warning 4, error 3, critical 2.
const fn severity(ocsf: u64) -> u64 {
    match ocsf {
        2 => 5,
        3 => 4,
        4 => 3,
        5 | 6 => 2,
        _ => 6,
    }
}

/// A field of the head: visible ASCII, or `-` for nothing.
fn printable(text: &str, max: usize) -> String {
    let text: String = text.chars().filter(char::is_ascii_graphic).take(max).collect();
    if text.is_empty() { "-".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_as_rfc_5424_says_whatever_the_host_is_called() {
        let event = Rendered {
            index: 7,
            uid: "ab".into(),
            unix_ms: 1_066_515_315_003,
            severity: 3,
            host: "my host\n\"ü".into(),
            code: "decided".into(),
            body: "{\"a\":\"ü\"}".into(),
            is_json: true,
        };
        let expected = "<108>1 2003-10-18T22:15:15.003Z myhost\" guard - decided \
                        - \u{feff}{\"a\":\"ü\"}";
        assert_eq!(message(&event), expected);
        assert_eq!(frame(&event), format!("{} {expected}", expected.len()));
    }
}
