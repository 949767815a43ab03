//! TLS towards the controller: a CA pinned by hash before there is an identity, mutual TLS after.

use super::identity::Identity;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use sha2::{Digest as _, Sha256};
use std::{sync::Arc, time::Duration};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

/// Longest wait for TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a silent connection is probed …
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// … and how long it may stay silent then.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// SHA-256 of the controller's CA certificate (DER): what an operator carries to a new host, with
/// the join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaPin(pub [u8; 32]);

/// A pin that cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("a CA pin is the SHA-256 of the CA certificate, 64 hexadecimal digits: {0}")]
pub struct InvalidPin(#[from] hex::FromHexError);

impl std::str::FromStr for CaPin {
    type Err = InvalidPin;
    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        let mut pin = [0; 32];
        hex::decode_to_slice(text.trim(), &mut pin)?;
        Ok(Self(pin))
    }
}

/// A controller's address that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("controller {url}: {why}; expected https://HOST:PORT")]
pub struct InvalidUrl {
    /// As given.
    pub url: String,
    /// What is wrong.
    pub why: String,
}

/// An endpoint that accepts only a server whose chain contains the pinned CA.
///
/// # Errors
/// [`InvalidUrl`].
pub fn pinned(url: &str, pin: CaPin) -> Result<Endpoint, InvalidUrl> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(PinnedCa { pin, provider });
    endpoint(url)?
        .tls_config_with_verifier(ClientTlsConfig::new(), verifier)
        .map_err(|error| invalid(url, &error))
}

/// An endpoint with this host's certificate that trusts only its controller's CA.
///
/// # Errors
/// [`InvalidUrl`], also for an identity that TLS cannot use.
pub fn mutual(url: &str, identity: &Identity) -> Result<Endpoint, InvalidUrl> {
    let own = tonic::transport::Identity::from_pem(&identity.certificate_pem, &*identity.key_pem);
    let ca = Certificate::from_pem(&identity.ca_pem);
    endpoint(url)?
        .tls_config(ClientTlsConfig::new().ca_certificate(ca).identity(own))
        .map_err(|error| invalid(url, &error))
}

fn endpoint(url: &str) -> Result<Endpoint, InvalidUrl> {
    if !url.starts_with("https://") {
        return Err(invalid(url, &"it is not https"));
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| invalid(url, &error))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PROBE_INTERVAL)
        .keep_alive_timeout(PROBE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true))
}

fn invalid(url: &str, why: &dyn std::fmt::Display) -> InvalidUrl {
    InvalidUrl { url: url.to_owned(), why: why.to_string() }
}

/// Trusts exactly one CA, known by its hash, and everything else as WebPKI does.
#[derive(Debug)]
struct PinnedCa {
    pin: CaPin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_pinned =
            |ca: &&CertificateDer<'_>| <[u8; 32]>::from(Sha256::digest(ca)) == self.pin.0;
        let Some(ca) = intermediates.iter().find(is_pinned) else {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let inner =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
