//! Which host name a request may ask for, and which origin a change may come from.

use super::{WebConfig, problem::Problem};
use axum::http::{HeaderMap, StatusCode, header};
use std::net::IpAddr;

/// Refuses host names that are not ours: a foreign name that resolves to us (DNS rebinding) would
/// make a hostile page same-origin with this one.
pub(crate) fn check_host(config: &WebConfig, headers: &HeaderMap) -> Result<(), Problem> {
    let mut values = headers.get_all(header::HOST).iter();
    let host = values.next().and_then(|value| value.to_str().ok());
    if values.next().is_none() && host.is_some_and(|host| is_ours(config, name_of(host))) {
        return Ok(());
    }
    let detail = "Guard's page is not served under this host name. Use the address that the \
        controller printed, or add the name to its configuration.";
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, "wrong-host", detail))
}

/// Refuses a change that another site started.
///
/// Browsers name the origin of every `POST`; a request that names none is refused too, since only
/// the cookie would speak for it.
pub(crate) fn check_same_origin(config: &WebConfig, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("(unreadable)"));
    let site = text("sec-fetch-site");
    let origin = text("origin");
    let scheme = if config.tls { "https" } else { "http" };
    let own = text("host").map(|host| format!("{scheme}://{host}"));
    let origin_is_own = origin.is_some_and(|origin| own.is_some_and(|own| own == origin));
    let ok = match (site, origin) {
        (Some(site), None) => site == "same-origin",
        (None, Some(_)) => origin_is_own,
        (Some(site), Some(_)) => site == "same-origin" && origin_is_own,
        (None, None) => false,
    };
    if ok {
        Ok(())
    } else {
        Err(Problem::forbidden("This change was not started on Guard's page."))
    }
}

fn is_ours(config: &WebConfig, name: &str) -> bool {
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return address.is_loopback() || config.address == Some(address) || config.names(name);
    }
    config.names(name)
}

/// The host without its port; IPv6 without its brackets.
fn name_of(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |&(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn config() -> WebConfig {
        WebConfig { host_names: vec!["guard.example".into()], ..WebConfig::default() }
    }

    #[test]
    fn only_loopback_and_configured_names_are_served() {
        for host in ["localhost", "LOCALHOST:7443", "127.0.0.1:7443", "[::1]:7443", "guard.example"]
        {
            assert!(check_host(&config(), &headers(&[("host", host)])).is_ok(), "{host}");
        }
        for host in ["evil.example", "guard.example.evil", "10.0.0.1", "localhost.evil:7443", ""] {
            assert!(check_host(&config(), &headers(&[("host", host)])).is_err(), "{host}");
        }
        assert!(check_host(&config(), &headers(&[])).is_err());
        let mut two = headers(&[("host", "localhost")]);
        two.append("host", HeaderValue::from_static("localhost"));
        assert!(check_host(&config(), &two).is_err());
    }

    #[test]
    fn a_change_must_name_our_own_origin() {
        let host = ("host", "localhost:7443");
        let own = ("origin", "http://localhost:7443");
        let same = ("sec-fetch-site", "same-origin");
        for good in [vec![host, own], vec![host, same], vec![host, own, same]] {
            assert!(check_same_origin(&config(), &headers(&good)).is_ok(), "{good:?}");
        }
        for bad in [
            vec![host],
            vec![host, ("origin", "null")],
            vec![host, ("origin", "https://localhost:7443")],
            vec![host, ("origin", "http://localhost:7444")],
            vec![host, ("origin", "http://evil.example"), same],
            vec![host, own, ("sec-fetch-site", "same-site")],
            vec![host, ("sec-fetch-site", "cross-site")],
            vec![host, ("sec-fetch-site", "none")],
        ] {
            assert!(check_same_origin(&config(), &headers(&bad)).is_err(), "{bad:?}");
        }
    }
}
