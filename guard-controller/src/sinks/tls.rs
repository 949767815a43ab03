//! TLS towards receivers.

use super::{SinkError, TlsFiles, target::value};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_rustls::TlsConnector;

/// Where systems keep the certificates of authorities: Debian, Fedora, Alpine.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// A connector that trusts what `files` say, or the system.
pub(super) fn connector(sink: &str, files: &TlsFiles) -> Result<TlsConnector, SinkError> {
    Ok(TlsConnector::from(config(sink, files)?))
}

/// A configuration that trusts what `files` say, or the system.
pub(super) fn config(sink: &str, files: &TlsFiles) -> Result<Arc<ClientConfig>, SinkError> {
    let roots = match &files.ca_file {
        Some(path) => path.clone(),
        None => system_roots(sink)?,
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates(&roots)?);
    if store.is_empty() {
        return Err(value(sink, &format!("{}: no certificate in it", roots.display())));
    }
    let refused = |error: rustls::Error| value(sink, &format!("TLS: {error}"));
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_root_certificates(store);
    let config = match (&files.cert_file, &files.key_file) {
        (Some(cert), Some(key)) => {
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| failed(key, &error))?;
            builder.with_client_auth_cert(certificates(cert)?, key).map_err(refused)?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(value(sink, "tls: `cert_file` and `key_file` go together")),
    };
    Ok(Arc::new(config))
}

fn system_roots(sink: &str) -> Result<PathBuf, SinkError> {
    let found = SYSTEM_ROOTS.iter().map(PathBuf::from).find(|path| path.exists());
    let missing = "this system has no file of certificate authorities (install \
                   `ca-certificates`), and `tls.ca_file` names none";
    found.ok_or_else(|| value(sink, missing))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SinkError> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| failed(path, &error))?;
    read.collect::<Result<_, _>>().map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &rustls::pki_types::pem::Error) -> SinkError {
    SinkError::File {
        path: path.display().to_string(),
        doing: "cannot be read as PEM",
        source: io::Error::other(error.to_string()),
    }
}
