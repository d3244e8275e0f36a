//! The server's certificate: made anew at every start and kept in memory only. What GitLab is told
//! with every offer, and trusts for that session alone, is who has signed it: an authority whose
//! key follows from the secret of the fleet: `ticket_key`, else the token that was there at the
//! start. So GitLab trusts the next manager too, when that goes on with the job at the same
//! address; without `ticket_key` no longer once the token has been renewed.

use std::sync::Arc;

use gantry_core::Secret;
use gantry_wire::session::authority_key;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// As long as the reference's (GitLab Runner 19.4): longer than a process lives.
const LIFE: std::time::Duration = std::time::Duration::from_hours(2 * 365 * 24);

/// A clock that is a little behind must not refuse it.
const LEEWAY: std::time::Duration = std::time::Duration::from_hours(1);

/// Tries to make a key of the curve: one number in 2^32 is none.
const ROUNDS: u8 = 3;

/// What stands before the 32 bytes of a private key of the curve P-256 in PKCS #8 (RFC 5208), with
/// an `ECPrivateKey` that leaves out the public one (RFC 5915).
const PKCS8_P256: [u8; 35] = [
    0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x27, 0x30, 0x25, 0x02, 0x01, 0x01, 0x04, 0x20,
];

/// No certificate could be made.
pub(crate) type CertificateError = Box<dyn std::error::Error + Send + Sync>;

/// The authority, as PEM, and what uses a certificate of it for `host`, a name or an address.
/// Without a secret the authority is this process's own. Keys are of the curve P-256: a request for
/// a job may have 32 KiB in all, and every TLS library knows it.
pub(super) fn make(host: &str, secret: Option<&Secret>) -> Result<(String, TlsAcceptor), CertificateError> {
    let (authority, pem) = authority(secret)?;
    let mut params = lasting(vec![host.to_owned()], "session server")?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
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

/// Who signs, and its certificate as PEM. Whoever has the same secret can sign what that verifies.
fn authority(secret: Option<&Secret>) -> Result<(Issuer<'static, KeyPair>, String), CertificateError> {
    let key = match secret {
        Some(secret) => of_secret(secret)?,
        None => KeyPair::generate()?,
    };
    let mut params = lasting(Vec::new(), "session authority")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}

fn of_secret(secret: &Secret) -> Result<KeyPair, CertificateError> {
    let mut error = None;
    for round in 0..ROUNDS {
        let der = [&PKCS8_P256[..], &authority_key(secret, round)].concat();
        match KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ECDSA_P256_SHA256) {
            Ok(key) => return Ok(key),
            Err(why) => error = Some(why),
        }
    }
    Err(error.map_or_else(|| "no key".into(), Into::into))
}

fn lasting(names: Vec<String>, what: &str) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new(names)?;
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "GitLab Runner");
    name.push(DnType::CommonName, what);
    params.distinguished_name = name;
    let now = std::time::SystemTime::now();
    params.not_before = (now - LEEWAY).into();
    params.not_after = (now + LIFE).into();
    Ok(params)
}

#[cfg(test)]
mod tests {
    use rustls::RootCertStore;
    use rustls::pki_types::ServerName;
    use rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Whether somebody who trusts what the first has told connects to the second.
    async fn is_trusted(told: &str, second: TlsAcceptor, host: &'static str) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(told.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (ours, theirs) = tokio::io::duplex(16 << 10);
        let name = ServerName::try_from(host).unwrap();
        let (client, _) = tokio::join!(TlsConnector::from(Arc::new(tls)).connect(name, ours), second.accept(theirs));
        client.is_ok()
    }

    #[tokio::test]
    async fn the_next_manager_of_the_fleet_is_trusted_and_nobody_else() {
        let made = |secret: Option<&str>| make("198.51.100.7", secret.map(Secret::new).as_ref()).unwrap();
        let (told, own) = made(Some("hunter2"));
        assert!(is_trusted(&told, own, "198.51.100.7").await);
        assert!(is_trusted(&told, made(Some("hunter2")).1, "198.51.100.7").await);
        assert!(!is_trusted(&told, made(Some("hunter2")).1, "198.51.100.8").await);
        assert!(!is_trusted(&told, made(Some("hunter3")).1, "198.51.100.7").await);
        assert!(!is_trusted(&told, made(None).1, "198.51.100.7").await);
        let (alone, own) = made(None);
        assert!(is_trusted(&alone, own, "198.51.100.7").await);
        assert!(!is_trusted(&alone, made(None).1, "198.51.100.7").await);
    }
}
