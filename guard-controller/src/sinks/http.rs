//! A small HTTP/1.1 client for one receiver: one connection, kept open, opened anew when it ends.
//!
//! No redirects (a receiver that moved is an error that somebody should see), no proxies.

use super::{DeliveryError, Scheme, SinkError, TlsFiles, target::value, tls};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderName, HeaderValue},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::{net::IpAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Longest time to connect, TLS included.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time from a request to its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest answer that is read, bytes: what receivers confirm with is small.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What of an answer's body is shown when it is an error, bytes.
const SHOWN_BYTES_MAX: usize = 200;

/// A receiver.
pub(crate) struct Client {
    host: String,
    port: u16,
    /// `Host` of requests.
    authority: HeaderValue,
    /// Path of the URL, without a `/` at its end.
    base: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    open: Option<SendRequest<Full<Bytes>>>,
}

/// What it answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Client {
    /// For `url`. Nothing is opened yet.
    pub(crate) fn new(
        sink: &str,
        url: &str,
        files: &TlsFiles,
        danger_plaintext: bool,
    ) -> Result<Self, SinkError> {
        let wrong = |problem: &str| value(sink, &format!("url `{url}`: {problem}"));
        let uri: Uri = url.parse().map_err(|_| wrong("not a URL"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(wrong("expected https://…")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| wrong("no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("credentials do not belong into a URL; they have a file"));
        }
        if uri.query().is_some() {
            return Err(wrong("a query is not taken"));
        }
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let authority = HeaderValue::from_str(&authority).map_err(|_| wrong("not a host"))?;
        if scheme == Scheme::Http && !danger_plaintext && !is_loopback(&host) {
            return Err(wrong(
                "evidence and credentials would be sent in the clear; use https, or say \
                 `\"danger_plaintext\": true`",
            ));
        }
        let tls = match scheme {
            Scheme::Http => None,
            Scheme::Https => {
                let name = ServerName::try_from(host.clone()).map_err(|_| wrong("not a host"))?;
                Some((tls::connector(sink, files)?, name))
            }
        };
        let default = if tls.is_some() { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default);
        let base = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { host, port, authority, base, tls, open: None })
    }

    /// Sends a POST to `path` below the URL and reads the answer.
    pub(crate) async fn post(
        &mut self,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: String,
    ) -> Result<Answer, DeliveryError> {
        self.send(Method::POST, path, headers, Bytes::from(body)).await
    }

    /// What requests name as their host.
    pub(super) fn authority(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }

    /// The URL's path, without a `/` at its end.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a request to `path` below the URL and reads the answer.
    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer, DeliveryError> {
        let target = match format!("{}{path}", self.base) {
            target if target.is_empty() => "/".to_owned(),
            target => target,
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().map_err(|_| unavailable("the URL has no path"))?;
        request.headers_mut().insert(header::HOST, self.authority.clone());
        let agent = HeaderValue::from_static(concat!("guard/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(header::USER_AGENT, agent);
        for (name, value) in headers {
            request.headers_mut().insert(name, value.clone());
        }
        // Put back only when the answer was read to its end.
        let mut open = self.connection().await?;
        let answer = timeout(ANSWER_TIMEOUT, exchange(&mut open, request)).await;
        let answer = answer.map_err(|_| unavailable("no answer in 30 s"))??;
        self.open = Some(open);
        Ok(answer)
    }

    async fn connection(&mut self) -> Result<SendRequest<Full<Bytes>>, DeliveryError> {
        if let Some(mut open) = self.open.take()
            && open.ready().await.is_ok()
        {
            return Ok(open);
        }
        let connected = timeout(CONNECT_TIMEOUT, self.connect()).await;
        connected.map_err(|_| unavailable("no connection in 10 s"))?
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, DeliveryError> {
        let to = (self.host.as_str(), self.port);
        let failed = |what: &str, error: &dyn std::error::Error| {
            unavailable(&format!("{what} {}:{}: {error}", self.host, self.port))
        };
        let stream = TcpStream::connect(to).await.map_err(|e| failed("connect to", &e))?;
        // Requests are written whole.
        stream.set_nodelay(true).map_err(|e| failed("connect to", &e))?;
        match &self.tls {
            None => handshake(stream).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await;
                handshake(stream.map_err(|e| failed("TLS with", &e))?).await
            }
        }
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, DeliveryError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let opened = http1::handshake(TokioIo::new(stream)).await;
    let (open, connection) = opened.map_err(|error| unavailable(&format!("HTTP: {error}")))?;
    // It ends when `open` is dropped or the receiver hangs up; then the next request says so.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a receiver's connection ended");
        }
    });
    Ok(open)
}

async fn exchange(
    open: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, DeliveryError> {
    let sent = open.send_request(request).await;
    let (parts, body) = sent.map_err(|error| unavailable(&format!("HTTP: {error}")))?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| unavailable(&format!("the answer cannot be read: {error}")))?;
    Ok(Answer { status: parts.status, body: body.to_bytes() })
}

impl Answer {
    /// Nothing, if it was confirmed.
    pub(super) fn confirmed(&self) -> Result<(), DeliveryError> {
        if self.status.is_success() {
            return Ok(());
        }
        let shown = &self.body[..self.body.len().min(SHOWN_BYTES_MAX)];
        let words = format!("answered {}: {}", self.status, String::from_utf8_lossy(shown));
        // What is wrong with the content stays wrong; everything else may be mended over there.
        Err(match self.status {
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNPROCESSABLE_ENTITY => DeliveryError::Rejected(words),
            _ => DeliveryError::Unavailable(words),
        })
    }
}

pub(super) fn unavailable(why: &str) -> DeliveryError {
    DeliveryError::Unavailable(why.to_owned())
}

/// Whether a host name can only be this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
