//! From a socket address, as the kernel holds it, to an endpoint.

use guard_common::hold::{ActionKey, KIND_LISTEN, KIND_SOCKET};
use guard_model::{Endpoint, RawText};
use std::net::{Ipv4Addr, Ipv6Addr};

pub(in crate::kernel) fn endpoint(key: &ActionKey) -> Endpoint {
    let (bytes, len) = key.object_bytes();
    let address = bytes.get(..len).unwrap_or_default();
    let other = |family: u16| Endpoint::Other { number: family, address_hex: hex::encode(address) };
    let &[low, high, ref rest @ ..] = address else { return other(0) };
    let family = u16::from_ne_bytes([low, high]);
    if rest.is_empty() && matches!(key.kind, KIND_SOCKET | KIND_LISTEN) {
        return Endpoint::Family { number: family };
    }
    match i32::from(family) {
        libc::AF_UNSPEC => Endpoint::Unspec,
        libc::AF_INET => match *rest {
            [p0, p1, a, b, c, d, ..] => Endpoint::Inet {
                ip: Ipv4Addr::new(a, b, c, d).into(),
                port: u16::from_be_bytes([p0, p1]),
                mapped: false,
            },
            _ => other(family),
        },
        libc::AF_INET6 => inet6(rest).unwrap_or_else(|| other(family)),
        libc::AF_UNIX => unix(rest),
        _ => other(family),
    }
}

/// `struct sockaddr_in6` after its family: port, flow information, address, scope.
fn inet6(rest: &[u8]) -> Option<Endpoint> {
    let port = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
    let octets: [u8; 16] = rest.get(6..22)?.try_into().ok()?;
    let ip = Ipv6Addr::from(octets);
    Some(match ip.to_ipv4_mapped() {
        Some(v4) => Endpoint::Inet { ip: v4.into(), port, mapped: true },
        None => Endpoint::Inet6 { ip: ip.into(), port },
    })
}

/// `struct sockaddr_un` after its family: a NUL first means the abstract namespace.
fn unix(rest: &[u8]) -> Endpoint {
    match rest {
        [0, name @ ..] => Endpoint::Abstract { name: RawText::new(name) },
        path => {
            let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
            Endpoint::Unix { path: RawText::new(path.get(..end).unwrap_or_default()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::key, *};
    use guard_common::hold::KIND_CONNECT;

    fn connect(object: &[u8]) -> Endpoint {
        endpoint(&key(KIND_CONNECT, object))
    }

    #[test]
    fn every_family_has_an_endpoint() {
        assert_eq!(connect(&[2, 0, 1, 187, 192, 0, 2, 1, 0, 0, 0, 0]).to_string(), "192.0.2.1:443");
        let mut v6 = vec![10, 0, 0, 80, 0, 0, 0, 0];
        v6.extend_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        v6.extend_from_slice(&[0; 4]);
        assert_eq!(connect(&v6).to_string(), "[2001:db8::7]:80");
        assert_eq!(connect(b"\x01\0/run/x\0junk").to_string(), "unix:/run/x");
        assert_eq!(connect(b"\x01\0\0abstract").to_string(), "unix:@abstract");
        assert_eq!(connect(b"\x01\0").to_string(), "unix: (unnamed)");
        assert_eq!(connect(&[0, 0]), Endpoint::Unspec);
        assert!(matches!(connect(&[40, 0, 1, 2]), Endpoint::Other { number: 40, .. }));
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mut v6 = vec![10, 0, 0, 80, 0, 0, 0, 0];
        v6.extend_from_slice(&"::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap().octets());
        let Endpoint::Inet { ip, port, mapped } = connect(&v6) else { panic!("not IPv4") };
        assert_eq!((ip.to_string().as_str(), port, mapped), ("192.0.2.1", 80, true));
    }

    #[test]
    fn a_short_address_is_of_an_unknown_family_never_of_a_guessed_one() {
        assert!(matches!(connect(&[2, 0, 1]), Endpoint::Other { number: 2, .. }));
        assert!(matches!(connect(&[10, 0, 0, 80, 0]), Endpoint::Other { number: 10, .. }));
        assert!(matches!(connect(&[2]), Endpoint::Other { number: 0, .. }));
    }

    #[test]
    fn a_family_alone_is_one_only_where_no_address_is_due() {
        let created = endpoint(&key(KIND_SOCKET, &[17, 0]));
        assert_eq!(created, Endpoint::Family { number: 17 });
        assert!(matches!(connect(&[17, 0]), Endpoint::Other { number: 17, .. }));
    }
}
