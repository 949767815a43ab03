//! The gRPC server for guard-agents: mutual TLS, bounded in connections, streams, sizes and time.
//!
//! A host is its certificate, never a field. [`enrolment`] is the only service that a client
//! without a certificate reaches; [`host`] serves linked hosts; [`links`] knows which are linked
//! now.

mod connection;
mod enrolment;
mod host;
pub mod links;

use crate::{Controller, identity::ServerIdentity};
use guard_proto::{
    MESSAGE_BYTES_MAX,
    v1::{enrolment_server::EnrolmentServer, host_server::HostServer},
};
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::transport::{Certificate, Error, Identity, Server, ServerTlsConfig, server::Router};

/// An enrolment or renewal: a token, a certificate request, a name.
const ENROL_BYTES_MAX: usize = 64 << 10;

/// Streams of one connection: one link, and a renewal beside it.
const STREAMS_PER_CONNECTION: u32 = 8;

/// A peer that says nothing in the TLS handshake holds a connection no longer than this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A dead peer is noticed after these two together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Header lists of gRPC are small, bytes.
const HEADERS_BYTES_MAX: u32 = 16 << 10;

/// Sets the server up with this controller's CA.
///
/// # Errors
/// A certificate does not fit its key.
pub fn server(controller: Controller, identity: &ServerIdentity) -> Result<Router, Error> {
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&identity.certificate_pem, identity.key_pem.as_str()))
        .client_ca_root(Certificate::from_pem(controller.ca_pem()))
        // Enrolment has no certificate yet; `host` refuses whoever shows none.
        .client_auth_optional(true)
        .timeout(HANDSHAKE_TIMEOUT);
    let enrolment = EnrolmentServer::new(enrolment::Service::new(controller.clone()))
        .max_decoding_message_size(ENROL_BYTES_MAX);
    let host = HostServer::new(host::Service::new(controller))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let router = Server::builder()
        .tls_config(tls)?
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .add_service(enrolment)
        .add_service(host);
    Ok(router)
}

/// Serves until `stop` completes.
pub async fn serve(
    router: Router,
    listener: TcpListener,
    connections_max: usize,
    stop: impl Future<Output = ()>,
) -> &'static str {
    let incoming = connection::incoming(listener, connections_max);
    if let Err(error) = router.serve_with_incoming_shutdown(incoming, stop).await {
        tracing::error!(%error, "gRPC server");
    }
    "the gRPC server"
}
