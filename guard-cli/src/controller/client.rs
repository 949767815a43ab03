//! A small REST client: HTTP/1.1 with a bearer token, bounded in size and time.

use super::{Reach, credentials::Credentials};
use anyhow::{Context as _, Result, bail};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::{net::IpAddr, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// Largest answer, bytes: a page of 500 requests with long arguments fits.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Longest wait for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);

const NOT_OUR_API: &str = "the controller answered something that is not its API";

/// The controller's REST API.
pub(crate) struct Client {
    authority: String,
    token: String,
}

/// RFC 9457, as far as people read it.
#[derive(Deserialize)]
struct Problem {
    detail: String,
}

impl Client {
    pub(crate) fn new(reach: &Reach) -> Result<Self> {
        let Credentials { url, token } = match (&reach.url, &reach.token) {
            (Some(url), Some(token)) => Credentials { url: url.clone(), token: token.clone() },
            _ => Credentials::read(&reach.state)?,
        };
        Ok(Self { authority: authority(&url, reach.danger_plain_http)?, token })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let body = self.ask(Method::GET, path, String::new()).await?;
        serde_json::from_slice(&body).context(NOT_OUR_API)
    }

    /// An answer that is no JSON.
    pub(crate) async fn get_text(&self, path: &str) -> Result<String> {
        let body = self.ask(Method::GET, path, String::new()).await?;
        String::from_utf8(body.to_vec()).context(NOT_OUR_API)
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let body = self.ask(Method::POST, path, body.to_string()).await?;
        serde_json::from_slice(&body).context(NOT_OUR_API)
    }

    /// A change whose answer has no body.
    pub(crate) async fn tell(&self, path: &str, body: &Value) -> Result<()> {
        self.ask(Method::POST, path, body.to_string()).await.map(drop)
    }

    /// An answer that goes on.
    pub(crate) async fn stream(&self, path: &str) -> Result<Incoming> {
        let response = self.send(Method::GET, path, String::new()).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        Err(refusal(response).await)
    }

    async fn ask(&self, method: Method, path: &str, text: String) -> Result<Bytes> {
        let response = self.send(method, path, text).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        body(response).await
    }

    async fn send(&self, method: Method, path: &str, body: String) -> Result<Response<Incoming>> {
        let answer = timeout(ANSWER_TIME, self.exchange(method, path, body));
        answer.await.with_context(|| format!("{} did not answer in time", self.authority))?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Response<Incoming>> {
        let stream = TcpStream::connect(&self.authority).await.with_context(|| {
            format!("no controller on {}: is `guard up` running?", self.authority)
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .body(Full::new(Bytes::from(body)))
            .context("the token or the address has characters that HTTP does not carry")?;
        Ok(sender.send_request(request).await?)
    }
}

/// What the controller says of why not.
async fn refusal(response: Response<Incoming>) -> anyhow::Error {
    let status = response.status();
    let problem = body(response).await.ok();
    let problem = problem.and_then(|body| serde_json::from_slice::<Problem>(&body).ok());
    match (problem, status) {
        (Some(problem), _) => anyhow::anyhow!("{}", visible(&problem.detail)),
        (None, StatusCode::UNAUTHORIZED) => anyhow::anyhow!("the token is not accepted (any more)"),
        (None, status) => anyhow::anyhow!("the controller answered {status}"),
    }
}

async fn body(response: Response<Incoming>) -> Result<Bytes> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
    let body = timeout(ANSWER_TIME, body).await.context("the answer did not end in time")?;
    let body = body.map_err(|error| anyhow::anyhow!("the answer was cut: {error}"))?;
    Ok(body.to_bytes())
}

/// Text from the network on a terminal.
pub(crate) fn visible(text: &str) -> String {
    guard_model::RawText::from(text).visible()
}

/// `HOST:PORT` of an address that a token may be sent to.
fn authority(url: &str, danger_plain_http: bool) -> Result<String> {
    let expected = "expected http://HOST:PORT";
    let uri: Uri = url.parse().with_context(|| format!("`{url}`: {expected}"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => bail!(
            "`{url}`: https is not supported here yet; use a tunnel \
             (ssh -L 7443:127.0.0.1:7443 HOST) and --url http://127.0.0.1:7443"
        ),
        _ => bail!("`{url}`: {expected}"),
    }
    let host = uri.host().with_context(|| format!("`{url}`: {expected}"))?;
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let loopback = host == "localhost" || address.is_ok_and(|ip| ip.is_loopback());
    if !loopback && !danger_plain_http {
        bail!(
            "`{url}` is another host, and the token would be sent unencrypted: use a tunnel \
             (ssh -L 7443:127.0.0.1:7443 {host}), or add --danger-plain-http"
        );
    }
    Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_unencrypted_to_this_machine_only() {
        for url in ["http://127.0.0.1:7443", "http://localhost:7443/", "http://[::1]:7443"] {
            assert!(authority(url, false).unwrap().ends_with(":7443"), "{url}");
        }
        let refused = |url| authority(url, false).unwrap_err().to_string();
        for url in ["http://10.0.0.1:7443", "http://guard.example", "http://localhost.example:1"] {
            assert!(refused(url).contains("unencrypted"), "{url}");
            assert!(authority(url, true).is_ok(), "{url}");
        }
        assert!(refused("https://127.0.0.1:7443").contains("tunnel"));
        for url in ["127.0.0.1:7443", "ftp://127.0.0.1", "", "http://"] {
            assert!(refused(url).contains("expected http://"), "{url}");
        }
    }
}
