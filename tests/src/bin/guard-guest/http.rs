//! A client for the controller's REST API: loopback, one request a connection.

use crate::Trouble;
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// Most of a response that is read, bytes.
const RESPONSE_BYTES_MAX: u64 = 64 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where the API is, and with which token.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) addr: SocketAddr,
    pub(crate) token: String,
}

impl Api {
    /// An open stream of the controller's changes, after the response's head. HTTP/1.0, so that it comes
    /// without chunks around it.
    pub(crate) fn changes(&self, patience: Duration) -> Result<BufReader<TcpStream>, Trouble> {
        let path = "/api/v1/events";
        let head = format!(
            "GET {path} HTTP/1.0\r\nHost: {}\r\nAccept: text/event-stream\r\n\
             Authorization: Bearer {}\r\n\r\n",
            self.addr, self.token
        );
        let failed = |error: std::io::Error| format!("GET {path}: {error}");
        let mut stream = TcpStream::connect_timeout(&self.addr, TIMEOUT).map_err(failed)?;
        stream.set_read_timeout(Some(patience)).map_err(failed)?;
        stream.write_all(head.as_bytes()).map_err(failed)?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).map_err(failed)?;
        if line.split(' ').nth(1) != Some("200") {
            return Err(format!("GET {path}: {}", line.trim()));
        }
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).map_err(failed)?;
        }
        Ok(reader)
    }

    /// The status and the body of a request.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Vec<u8>), Trouble> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAccept: application/json\r\n",
            self.addr
        );
        if !self.token.is_empty() {
            head += &format!("Authorization: Bearer {}\r\n", self.token);
        }
        if !body.is_empty() {
            head +=
                &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        }
        let failed = |error: std::io::Error| format!("{method} {path}: {error}");
        let mut stream = TcpStream::connect_timeout(&self.addr, TIMEOUT).map_err(failed)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).map_err(failed)?;
        let mut response = Vec::new();
        stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut response).map_err(failed)?;
        split(&response).ok_or_else(|| format!("{method} {path}: not an HTTP response"))
    }

    /// The JSON of a successful GET.
    pub(crate) fn get(&self, path: &str) -> Result<Value, Trouble> {
        let (status, body) = self.request("GET", path, None)?;
        parse("GET", path, status, &body)
    }

    /// The JSON of a successful POST.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        let (status, answer) = self.request("POST", path, Some(body))?;
        parse("POST", path, status, &answer)
    }
}

fn parse(method: &str, path: &str, status: u16, body: &[u8]) -> Result<Value, Trouble> {
    if !(200..300).contains(&status) {
        let said = String::from_utf8_lossy(body);
        return Err(format!("{method} {path}: status {status}: {}", said.trim()));
    }
    serde_json::from_slice(body).map_err(|error| format!("{method} {path}: {error}"))
}

fn split(response: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = response.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = (response.get(..end)?, response.get(end + 4..)?);
    let head = String::from_utf8_lossy(head);
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Some((status, if chunked { unchunk(body)? } else { body.to_vec() }))
}

/// RFC 9112, 7.1.
fn unchunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(body.get(..end)?).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(whole);
        }
        let from = end + 2;
        whole.extend_from_slice(body.get(from..from + size)?);
        body = body.get(from + size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_plain_and_a_chunked_body_are_the_same() {
        let plain = split(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        let chunked = split(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        );
        assert_eq!(plain, Some((200, b"hello".to_vec())));
        assert_eq!(chunked, plain);
    }

    #[test]
    fn what_is_no_response_is_none() {
        assert_eq!(split(b"garbage"), None);
        assert_eq!(split(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), None);
    }
}
