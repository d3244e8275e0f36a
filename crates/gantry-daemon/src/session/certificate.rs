//! The server's certificate: made anew at every start and kept in memory only. What GitLab is told
//! with every offer, and trusts for that session alone, is who has signed it: an authority whose
//! key follows from the secret of the fleet: `ticket_key`, else the token that was there at the
//! start. So GitLab trusts the next manager too, when that goes on with the job at the same
//! address. Where that manager has another authority, because a token was renewed, it finds the key
//! of the first in the job's ticket, and has its own vouched for with that.

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gantry_core::Secret;
use gantry_wire::session::authority_key;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use super::random::random;

/// As long as the reference's (GitLab Runner 19.4): longer than a process lives.
const LIFE: std::time::Duration = std::time::Duration::from_hours(2 * 365 * 24);

/// A clock that is a little behind must not refuse it.
const LEEWAY: std::time::Duration = std::time::Duration::from_hours(1);

/// Authorities of earlier managers that vouch for this one. Each stands for a token that was
/// renewed while jobs ran, and is sent with every greeting.
const VOUCHERS: usize = 4;

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

/// What the server shows, and who has signed that.
pub(super) struct Identity {
    /// What GitLab is told: the authority, as PEM.
    pub(super) pem: String,
    /// The key of the authority, for who goes on with a job.
    pub(super) key: Secret,
    authority: KeyPair,
    shown: Arc<Shown>,
    acceptor: TlsAcceptor,
}

/// The certificate with its key, and behind it a certificate of our authority by each that vouches
/// for it.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Identity {
    /// One for `host`, a name or an address. Without a secret the authority is this process's own.
    /// Keys are of the curve P-256: a request for a job may have 32 KiB in all, and every TLS
    /// library knows it.
    pub(super) fn make(host: &str, secret: Option<&Secret>) -> Result<Self, CertificateError> {
        let (key, authority) = match secret {
            Some(secret) => of_secret(secret)?,
            None => of_secret(&random().map(Secret::new).ok_or("this machine gives no random numbers")?)?,
        };
        let issuer = Issuer::new(authority_params(&authority, 1)?, &authority);
        let pem = authority_params(&authority, 1)?.self_signed(&authority)?.pem();
        let mut params = lasting(vec![host.to_owned()], "session server")?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let own = KeyPair::generate()?;
        let certificate = params.signed_by(&own, &issuer)?;
        let own = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certified = CertifiedKey::from_der(vec![CertificateDer::from(certificate)], own, &provider)?;
        let shown = Arc::new(Shown(RwLock::new(Arc::new(certified))));
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as _);
        // WebSocket upgrades exist in HTTP/1.1 only.
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { pem, key, authority, shown, acceptor: TlsAcceptor::from(Arc::new(tls)) })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// Has who trusts the authority of this key trust ours too.
    pub(super) fn vouched_by(&self, key: &Secret) -> Result<(), CertificateError> {
        if key.is_empty() || *key == self.key {
            return Ok(());
        }
        let theirs = key_pair(&URL_SAFE_NO_PAD.decode(key.expose())?)?;
        let issuer = Issuer::new(authority_params(&theirs, 1)?, &theirs);
        let voucher = authority_params(&self.authority, 0)?.signed_by(&self.authority, &issuer)?;
        let mut shown = self.shown.0.write().unwrap_or_else(PoisonError::into_inner);
        let name = authority_name(&theirs);
        let is_known = |der: &CertificateDer<'_>| contains(der, name.as_bytes());
        let mut chain = shown.cert.clone();
        if chain.iter().skip(1).any(is_known) {
            return Ok(());
        }
        if chain.len() > VOUCHERS {
            chain.remove(1);
        }
        chain.push(CertificateDer::from(voucher));
        *shown = Arc::new(CertifiedKey::new(chain, Arc::clone(&shown.key)));
        Ok(())
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// An authority under which there may be so many others.
fn authority_params(key: &KeyPair, below: u8) -> Result<CertificateParams, CertificateError> {
    let mut params = lasting(Vec::new(), &authority_name(key))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

/// A name of its own, because who verifies looks for an issuer by its name.
fn authority_name(key: &KeyPair) -> String {
    format!("session authority {:08x}", crc32fast::hash(key.der_bytes()))
}

/// The key that follows from a secret: as text, and to sign with. Whoever has the same secret can
/// sign what that verifies.
fn of_secret(secret: &Secret) -> Result<(Secret, KeyPair), CertificateError> {
    let mut error = None;
    for round in 0..ROUNDS {
        let key = authority_key(secret, round);
        match key_pair(&key) {
            Ok(pair) => return Ok((Secret::new(URL_SAFE_NO_PAD.encode(key)), pair)),
            Err(why) => error = Some(why),
        }
    }
    Err(error.unwrap_or_else(|| "no key".into()))
}

fn key_pair(key: &[u8]) -> Result<KeyPair, CertificateError> {
    let der = [&PKCS8_P256[..], key].concat();
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ECDSA_P256_SHA256)?)
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
    async fn is_trusted(told: &str, second: &Identity, host: &'static str) -> bool {
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
        let accepting = second.acceptor();
        let (client, _) = tokio::join!(TlsConnector::from(Arc::new(tls)).connect(name, ours), accepting.accept(theirs));
        client.is_ok()
    }

    fn made(secret: Option<&str>) -> Identity {
        Identity::make("198.51.100.7", secret.map(Secret::new).as_ref()).unwrap()
    }

    #[tokio::test]
    async fn the_next_manager_of_the_fleet_is_trusted_and_nobody_else() {
        let own = made(Some("hunter2"));
        let told = own.pem.as_str();
        assert!(is_trusted(told, &own, "198.51.100.7").await);
        assert!(is_trusted(told, &made(Some("hunter2")), "198.51.100.7").await);
        assert!(!is_trusted(told, &made(Some("hunter2")), "198.51.100.8").await);
        assert!(!is_trusted(told, &made(Some("hunter3")), "198.51.100.7").await);
        assert!(!is_trusted(told, &made(None), "198.51.100.7").await);
        let alone = made(None);
        assert!(is_trusted(&alone.pem, &alone, "198.51.100.7").await);
        assert!(!is_trusted(&alone.pem, &made(None), "198.51.100.7").await);
    }

    #[tokio::test]
    async fn who_has_the_key_of_an_earlier_authority_is_trusted_too() {
        let (first, second, third) = (made(Some("hunter2")), made(Some("hunter3")), made(Some("hunter4")));
        assert!(!is_trusted(&first.pem, &second, "198.51.100.7").await);
        for _ in 0..2 {
            second.vouched_by(&first.key).unwrap();
            second.vouched_by(&third.key).unwrap();
        }
        second.vouched_by(&Secret::default()).unwrap();
        assert!(second.vouched_by(&"no key".into()).is_err());
        for told in [&first, &second, &third] {
            assert!(is_trusted(&told.pem, &second, "198.51.100.7").await);
        }
        assert!(!is_trusted(&first.pem, &second, "198.51.100.8").await);
        assert!(!is_trusted(&second.pem, &first, "198.51.100.7").await, "it goes one way");
        // They are sent each time, so only the newest are.
        for number in 0..6 {
            second.vouched_by(&made(Some(&format!("other {number}"))).key).unwrap();
        }
        assert_eq!(second.shown.0.read().unwrap().cert.len(), 1 + VOUCHERS);
        assert!(is_trusted(&made(Some("other 5")).pem, &second, "198.51.100.7").await);
        assert!(!is_trusted(&first.pem, &second, "198.51.100.7").await);
    }
}
