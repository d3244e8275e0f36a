//! The server's certificate: signed by itself, made anew at every start and kept in memory only.
//! GitLab is told it with every offer and trusts it for that session alone.

use std::sync::Arc;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// As long as the reference's (GitLab Runner 19.4): longer than a process lives.
const LIFE: std::time::Duration = std::time::Duration::from_hours(2 * 365 * 24);

/// A clock that is a little behind must not refuse it.
const LEEWAY: std::time::Duration = std::time::Duration::from_hours(1);

/// No certificate could be made.
pub(crate) type CertificateError = Box<dyn std::error::Error + Send + Sync>;

/// A certificate for `host`, a name or an address, as PEM, and what uses it. Its key is of the
/// curve P-256: a request for a job may have 32 KiB in all, and every TLS library knows it.
pub(super) fn make(host: &str) -> Result<(String, TlsAcceptor), CertificateError> {
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name.push(DnType::OrganizationName, "GitLab Runner");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = std::time::SystemTime::now();
    params.not_before = (now - LEEWAY).into();
    params.not_after = (now + LIFE).into();
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let pem = certificate.pem();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(certificate)], key)?;
    // WebSocket upgrades exist in HTTP/1.1 only.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((pem, TlsAcceptor::from(Arc::new(tls))))
}
