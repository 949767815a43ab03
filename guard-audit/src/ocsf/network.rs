//! 4001 Network Activity.

use super::{
    Class, OcsfEvent,
    action::{Activity, NETWORK_LISTEN, NETWORK_OPEN, NETWORK_TRAFFIC},
    base::Base,
    disposition::Disposition,
    words::UNKNOWN,
};
use guard_model::{Endpoint, HostId};
use serde_json::{Value, json};

/// A socket is connected, bound, listens or sends.
pub(super) fn activity(
    base: Base,
    activity: Activity,
    endpoint: &Endpoint,
    (socket_type, protocol): (u32, u32),
    disposition: Disposition,
) -> OcsfEvent {
    let listens = activity == NETWORK_LISTEN;
    let mut info = json!({
        "protocol_num": protocol_number(socket_type, protocol),
        "direction_id": if listens { 1 } else { 2 },
        "direction": if listens { "Inbound" } else { "Outbound" },
    });
    if let Some((id, caption)) = version(endpoint) {
        info["protocol_ver_id"] = id.into();
        info["protocol_ver"] = caption.into();
    }
    let side = if listens { "src_endpoint" } else { "dst_endpoint" };
    base.event(Class::NETWORK, activity, disposition)
        .with(side, object(endpoint))
        .with("connection_info", info)
        .unmapped("socket_type", socket_type.into())
        .unmapped("endpoint", endpoint.to_string().into())
}

/// How much a session sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    pub(super) messages: u64,
    pub(super) unasked_max: u64,
    pub(super) bytes: u64,
    pub(super) largest: u64,
}

/// A session sent something to an address, within a minute.
pub(super) fn sent(
    base: Base,
    endpoint: &Endpoint,
    socket: (u32, u32),
    sums: Traffic,
) -> OcsfEvent {
    let Traffic { messages, unasked_max, bytes, largest } = sums;
    activity(base, NETWORK_TRAFFIC, endpoint, socket, Disposition::OBSERVED)
        .with("traffic", json!({ "bytes": bytes, "bytes_out": bytes }))
        // OCSF's `count` is a 32-bit integer.
        .with("count", messages.min(i32::MAX as u64).into())
        .message(&format!("{messages} messages, {bytes} bytes to {endpoint} in a minute"))
        .unmapped("messages", messages.into())
        .unmapped("unasked_max", unasked_max.into())
        .unmapped("largest_bytes", largest.into())
}

/// A host's link to the controller.
pub(super) fn host_link(base: Base, host: HostId, up: bool) -> OcsfEvent {
    let activity = if up { NETWORK_OPEN } else { (2, "Close") };
    let host = host.to_string();
    let message = format!("host {host} {}", if up { "linked" } else { "unlinked" });
    base.event(Class::NETWORK, activity, Disposition::OBSERVED)
        .with("src_endpoint", json!({ "uid": host, "name": "guard-agent" }))
        .with("dst_endpoint", json!({ "name": "guard-controller" }))
        .message(&message)
}

fn object(endpoint: &Endpoint) -> Value {
    match endpoint {
        Endpoint::Inet { ip, port, .. } | Endpoint::Inet6 { ip, port } => {
            json!({ "ip": ip.to_string(), "port": port })
        }
        Endpoint::Unix { path } if path.is_empty() => json!({ "name": UNKNOWN }),
        Endpoint::Unix { path } => json!({ "name": path.to_exact(), "svc_name": "unix" }),
        Endpoint::Abstract { name } => {
            json!({ "name": format!("@{}", name.to_exact()), "svc_name": "unix" })
        }
        Endpoint::Unspec => json!({ "name": "(AF_UNSPEC)" }),
        Endpoint::Family { number } => json!({ "name": format!("family {number}") }),
        Endpoint::Other { number, address_hex } => {
            json!({ "name": format!("family {number}: {address_hex}") })
        }
    }
}

fn version(endpoint: &Endpoint) -> Option<(u8, &'static str)> {
    match endpoint {
        Endpoint::Inet { .. } => Some((4, "Internet Protocol version 4 (IPv4)")),
        Endpoint::Inet6 { .. } => Some((6, "Internet Protocol version 6 (IPv6)")),
        Endpoint::Unix { .. }
        | Endpoint::Abstract { .. }
        | Endpoint::Unspec
        | Endpoint::Family { .. }
        | Endpoint::Other { .. } => None,
    }
}

/// `IPPROTO_*`, from the type of socket where the caller left it to the kernel (socket(2)).
fn protocol_number(socket_type: u32, protocol: u32) -> u32 {
    match (protocol, socket_type) {
        (0, 1) => 6,
        (0, 2) => 17,
        (protocol, _) => protocol,
    }
}
