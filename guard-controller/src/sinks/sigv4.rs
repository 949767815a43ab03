//! AWS Signature Version 4 for one request with a body, the way S3 wants it.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>. One request of
//! one kind needs no SDK: the crates that there are bring an HTTP client and a TLS configuration of
//! their own.

use super::target::{zeroizing, zeroizing_if_any};
use ring::{digest, hmac};
use serde::Deserialize;
use std::fmt::Write as _;
use zeroize::Zeroizing;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What requests are signed with: the content of `credentials_file`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    pub(super) access_key_id: String,
    #[serde(deserialize_with = "zeroizing")]
    pub(super) secret_access_key: Zeroizing<String>,
    /// Of temporary credentials.
    #[serde(default, deserialize_with = "zeroizing_if_any")]
    pub(super) session_token: Option<Zeroizing<String>>,
}

/// A request as it is signed.
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    /// As it is sent: encoded.
    pub(super) path: &'a str,
    /// Every header that is signed: lower-case name and value.
    pub(super) headers: Vec<(&'a str, &'a str)>,
    /// SHA-256 of the body, hexadecimal.
    pub(super) body_sha256: &'a str,
}

/// The value of `Authorization`. `time` is `YYYYMMDDTHHMMSSZ`, as in `x-amz-date`.
pub(super) fn authorization(
    request: &Request<'_>,
    credentials: &Credentials,
    region: &str,
    time: &str,
) -> String {
    let mut headers = request.headers.clone();
    headers.sort_unstable();
    let signed: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let signed = signed.join(";");
    let mut canonical = format!("{}\n{}\n\n", request.method, request.path);
    for (name, value) in &headers {
        // Writing to a string cannot fail.
        let _ = writeln!(canonical, "{name}:{}", value.trim());
    }
    let _ = write!(canonical, "\n{signed}\n{}", request.body_sha256);
    let day = time.get(..8).unwrap_or(time);
    let scope = format!("{day}/{region}/s3/aws4_request");
    let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{}", sha256(canonical.as_bytes()));
    let first = format!("AWS4{}", *credentials.secret_access_key);
    let mut key = Zeroizing::new(first.into_bytes());
    for part in [day, region, "s3", "aws4_request"] {
        key = Zeroizing::new(mac(&key, part).as_ref().to_vec());
    }
    let signature = hex::encode(mac(&key, &to_sign));
    let id = &credentials.access_key_id;
    format!("{ALGORITHM} Credential={id}/{scope},SignedHeaders={signed},Signature={signature}")
}

/// SHA-256, hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// A path with everything encoded that S3 wants encoded.
pub(super) fn encoded(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Example: PUT Object" of Amazon's own documentation (see the module).
    #[test]
    fn amazons_own_example_gets_its_signature() {
        let body_sha256 = sha256(b"Welcome to Amazon S3.");
        let path = encoded("/test$file.text");
        let request = Request {
            method: "PUT",
            path: &path,
            headers: vec![
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                ("x-amz-date", "20130524T000000Z"),
                ("x-amz-content-sha256", &body_sha256),
                ("host", "examplebucket.s3.amazonaws.com"),
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            ],
            body_sha256: &body_sha256,
        };
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned();
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: Zeroizing::new(secret),
            session_token: None,
        };
        let header = authorization(&request, &credentials, "us-east-1", "20130524T000000Z");
        let expected = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd";
        assert!(header.ends_with(expected), "{header}");
    }
}
