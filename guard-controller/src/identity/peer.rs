//! From a verified client certificate to the host that it names.

use guard_model::HostId;
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

/// What stands before the host id in the certificate's URI.
pub(super) const URI_PREFIX: &str = "guard://host/";

/// A certificate of our CA that names no host. rustls has checked the chain and the dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPeer {
    /// Not X.509.
    #[error("the client certificate cannot be read")]
    Unreadable,
    /// None, or several: it must be exactly one.
    #[error("the client certificate must name exactly one guard://host/<uuid>")]
    NotAHost,
}

/// The host that a certificate (DER) names in its only URI.
///
/// # Errors
/// [`InvalidPeer`].
pub fn host_of_certificate(der: &[u8]) -> Result<HostId, InvalidPeer> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| InvalidPeer::Unreadable)?;
    let mut names = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(san) = extension.parsed_extension() {
            names.extend(san.general_names.iter());
        }
    }
    let [GeneralName::URI(uri)] = names.as_slice() else { return Err(InvalidPeer::NotAHost) };
    uri.strip_prefix(URI_PREFIX).and_then(|id| id.parse().ok()).ok_or(InvalidPeer::NotAHost)
}
