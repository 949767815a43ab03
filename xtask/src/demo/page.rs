//! A browser's part in the page: signs in by link, keeps the cookie, sends the CSRF token.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

/// Most of a response that is read, bytes.
const RESPONSE_BYTES_MAX: u64 = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

/// The page on a port of 127.0.0.1.
pub(crate) struct Page {
    port: u16,
    cookie: String,
    csrf: String,
}

struct Response {
    status: u16,
    head: String,
    body: String,
}

impl Page {
    /// Signs in with the one-time link's path and query.
    pub(crate) fn sign_in(port: u16, link: &str) -> Result<Self> {
        let mut page = Self { port, cookie: String::new(), csrf: String::new() };
        let shown = page.request("GET", link, None)?;
        if shown.status != 200 {
            bail!("the sign-in link shows status {}", shown.status);
        }
        let (_, query) = link.split_once('?').context("the sign-in link has no token")?;
        let form = ("application/x-www-form-urlencoded", query);
        let signed = page.request("POST", "/sign-in/link", Some(form))?;
        let set_cookie = signed.head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("set-cookie").then(|| value.trim())
        });
        let cookie = set_cookie.and_then(|value| value.split(';').next());
        let cookie = cookie.with_context(|| format!("sign-in: status {}", signed.status))?;
        cookie.clone_into(&mut page.cookie);
        let account = page.request("GET", "/account", None)?.body;
        page.csrf = field(&account, "csrf").context("no CSRF token in the page")?;
        Ok(page)
    }

    /// The page of one hold, as a person opens it before deciding.
    pub(crate) fn open(&self, id: &str) -> Result<String> {
        let response = self.request("GET", &format!("/holds/{id}"), None)?;
        if response.status != 200 {
            bail!("/holds/{id}: status {}", response.status);
        }
        Ok(response.body)
    }

    /// Holds that wait.
    pub(crate) fn open_holds(&self) -> Result<Vec<Value>> {
        let path = "/api/v1/holds?state=open";
        let response = self.request("GET", path, None)?;
        let page: Value = serde_json::from_str(&response.body)
            .with_context(|| format!("{path}: status {}", response.status))?;
        Ok(page.get("holds").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Decides.
    pub(crate) fn decide(&self, id: &str, approve: bool, reason: &str) -> Result<()> {
        let verdict = if approve { "allow" } else { "deny" };
        let body = serde_json::json!({ "verdict": verdict, "reason": reason }).to_string();
        let path = format!("/api/v1/holds/{id}/decision");
        let response = self.request("POST", &path, Some(("application/json", &body)))?;
        if response.status != 200 {
            bail!("{path}: status {}: {}", response.status, response.body.trim());
        }
        Ok(())
    }

    fn request(&self, method: &str, path: &str, body: Option<(&str, &str)>) -> Result<Response> {
        let what = || format!("{method} http://127.0.0.1:{}{path}", self.port);
        let own = format!("127.0.0.1:{}", self.port);
        // 1.0: the body ends with the connection, never in chunks.
        let mut text = format!("{method} {path} HTTP/1.0\r\nHost: {own}\r\n");
        if !self.cookie.is_empty() {
            text += &format!("Cookie: {}\r\n", self.cookie);
        }
        if let Some((kind, body)) = body {
            text += &format!("Origin: http://{own}\r\nX-CSRF-Token: {}\r\n", self.csrf);
            text += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        text += body.map_or("", |(_, body)| body);
        let send = || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.write_all(text.as_bytes())?;
            let mut response = String::new();
            stream.take(RESPONSE_BYTES_MAX).read_to_string(&mut response)?;
            std::io::Result::Ok(response)
        };
        let response = send().with_context(what)?;
        parse(&response).with_context(what)
    }
}

fn parse(response: &str) -> Result<Response> {
    let (head, body) = response.split_once("\r\n\r\n").context("not an HTTP response")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.context("no HTTP status")?;
    Ok(Response { status, head: head.to_owned(), body: body.to_owned() })
}

/// The value of a form's hidden field.
fn field(html: &str, name: &str) -> Option<String> {
    let at = html.find(&format!("name=\"{name}\" value=\""))?;
    let value = html.get(at..)?.split_once("value=\"")?.1;
    value.split('"').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_field_is_found() {
        let html = r#"<form><input type="hidden" name="csrf" value="abc-1"><button>"#;
        assert_eq!(field(html, "csrf").as_deref(), Some("abc-1"));
        assert_eq!(field(html, "other"), None);
    }

    #[test]
    fn a_response_is_split() {
        let response = parse("HTTP/1.0 303 See Other\r\nSet-Cookie: a=b\r\n\r\nx").ok();
        let response = response.map(|it| (it.status, it.body));
        assert_eq!(response, Some((303, "x".to_owned())));
        assert!(parse("garbage").is_err());
    }
}
