//! The certificate authority: signs for hosts (short-lived) and for this controller's gRPC server.

use super::{IdentityError, keyfile, peer::URI_PREFIX};
use crate::clock;
use guard_model::HostId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

/// How long a host's certificate is good for, ms: guard-agent renews well before.
pub const HOST_CERTIFICATE_TTL_MS: u64 = 24 * 3600 * 1000;

/// Certificates begin this long ago: clocks differ.
const BACKDATED: Duration = Duration::minutes(10);

/// The server's certificate is made anew at each start; this is longer than a process runs.
const SERVER_TTL: Duration = Duration::days(2 * 365);

/// The CA's own: hosts pin it, so it outlives everything else.
const CA_TTL: Duration = Duration::days(10 * 365);

/// A longer certificate request than this is not parsed, bytes.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// The CA of one controller.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    certificate_der: Vec<u8>,
}

/// What the gRPC server shows.
pub struct ServerIdentity {
    /// Certificate.
    pub certificate_pem: String,
    /// Its key, never stored.
    pub key_pem: Zeroizing<String>,
}

/// A host's new certificate.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    /// PEM.
    pub certificate_pem: String,
    /// ms since 1970.
    pub expires_unix_ms: u64,
}

impl Authority {
    /// Loads the CA from `dir`, or makes it.
    ///
    /// # Errors
    /// A file cannot be read or written, or holds no CA.
    pub fn load_or_create(dir: &Path) -> Result<Self, IdentityError> {
        // Key and certificate are one file, so that there is no crash between them.
        let path = dir.join("ca.pem");
        let text = keyfile::load_or_create(&path, new_authority)?;
        let content = |problem: &dyn ToString| IdentityError::Content {
            path: path.clone(),
            problem: problem.to_string(),
        };
        let split = text.find("-----BEGIN CERTIFICATE-----");
        let (key_pem, certificate_pem) =
            text.split_at(split.ok_or_else(|| content(&"it has no certificate"))?);
        let key = KeyPair::from_pem(key_pem).map_err(|error| content(&error))?;
        let certificate_der = der_of(certificate_pem).map_err(|error| content(&error))?;
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key).map_err(|e| content(&e))?;
        Ok(Self { issuer, certificate_pem: certificate_pem.to_owned(), certificate_der })
    }

    /// The CA's certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// SHA-256 of the CA's certificate (DER), hexadecimal: what a host pins when it joins.
    #[must_use]
    pub fn pin(&self) -> String {
        hex::encode(Sha256::digest(&self.certificate_der))
    }

    /// A certificate for this controller's gRPC server, good for `names` and for loopback.
    ///
    /// # Errors
    /// A name is not one.
    pub fn server_identity(&self, names: &[String]) -> Result<ServerIdentity, IdentityError> {
        let subject = || "the gRPC server".to_owned();
        let failed = |source| IdentityError::Certificate { subject: subject(), source };
        let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let all: Vec<String> = loopback.iter().chain(names).cloned().collect();
        let mut params = CertificateParams::new(all).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, "guard-controller");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        set_validity(&mut params, SERVER_TTL);
        let key = KeyPair::generate().map_err(IdentityError::Random)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(ServerIdentity {
            // The whole chain: a host that joins pins the CA's hash and has yet to see the CA.
            certificate_pem: format!("{}{}", certificate.pem(), self.certificate_pem),
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// A certificate for `host`. Of the request only the public key counts; its signature proves
    /// that the host has the private one.
    ///
    /// # Errors
    /// The request is not one.
    pub fn issue(&self, host: HostId, csr_pem: &str) -> Result<IssuedCertificate, IdentityError> {
        if csr_pem.len() > REQUEST_BYTES_MAX {
            return Err(IdentityError::Request(rcgen::Error::CouldNotParseCertificationRequest));
        }
        let mut request =
            CertificateSigningRequestParams::from_pem(csr_pem).map_err(IdentityError::Request)?;
        let failed =
            |source| IdentityError::Certificate { subject: format!("host {host}"), source };
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, host.to_string());
        let uri = format!("{URI_PREFIX}{host}");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(failed)?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let ttl_ms = i64::try_from(HOST_CERTIFICATE_TTL_MS).unwrap_or(i64::MAX);
        set_validity(&mut params, Duration::milliseconds(ttl_ms));
        request.params = params;
        let certificate = request.signed_by(&self.issuer).map_err(failed)?;
        Ok(IssuedCertificate {
            certificate_pem: certificate.pem(),
            expires_unix_ms: clock::unix_ms() + HOST_CERTIFICATE_TTL_MS,
        })
    }
}

fn new_authority() -> Result<Zeroizing<String>, IdentityError> {
    let key = KeyPair::generate().map_err(IdentityError::Random)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Guard controller CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, CA_TTL);
    let certificate = params
        .self_signed(&key)
        .map_err(|source| IdentityError::Certificate { subject: "the CA".into(), source })?;
    let key_pem = Zeroizing::new(key.serialize_pem());
    Ok(Zeroizing::new(format!("{}{}", *key_pem, certificate.pem())))
}

fn set_validity(params: &mut CertificateParams, ttl: Duration) {
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATED;
    params.not_after = now + ttl;
}

fn der_of(certificate_pem: &str) -> Result<Vec<u8>, String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes())
        .map_err(|error| error.to_string())?;
    Ok(pem.contents)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{InvalidPeer, host_of_certificate};
    use uuid::Uuid;

    fn csr(alt_name: &str) -> String {
        let params = CertificateParams::new(vec![alt_name.to_owned()]).unwrap();
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    #[test]
    fn the_ca_survives_a_restart_and_a_host_gets_only_its_own_name() {
        let dir = tempfile::tempdir().unwrap();
        let pin = Authority::load_or_create(dir.path()).unwrap().pin();
        let authority = Authority::load_or_create(dir.path()).unwrap();
        assert_eq!(authority.pin(), pin);
        let host = HostId(Uuid::from_u128(7));
        // The host asks for a name that is not its own: it is not asked.
        let issued = authority.issue(host, &csr("controller.example")).unwrap();
        let der = der_of(&issued.certificate_pem).unwrap();
        assert_eq!(host_of_certificate(&der), Ok(host));
    }

    #[test]
    fn a_certificate_that_names_no_host_is_no_host() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(dir.path()).unwrap();
        let server = authority.server_identity(&["guard.example".into()]).unwrap();
        let der = der_of(&server.certificate_pem).unwrap();
        assert_eq!(host_of_certificate(&der), Err(InvalidPeer::NotAHost));
        assert_eq!(host_of_certificate(b"junk"), Err(InvalidPeer::Unreadable));
    }

    #[test]
    fn a_request_with_a_flipped_bit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(dir.path()).unwrap();
        let request = csr("x.example");
        let bad = request.replacen('A', "B", 3);
        assert_ne!(request, bad);
        assert!(authority.issue(HostId(Uuid::from_u128(1)), &bad).is_err());
        assert!(authority.issue(HostId(Uuid::from_u128(1)), &"A".repeat(20_000)).is_err());
    }
}
