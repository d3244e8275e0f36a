//! TLS towards a server: which certificates are trusted, and which ones proved the server's
//! identity.
//!
//! Roots are the system's, the bundled Mozilla ones, and the configured CA, together: a container
//! without certificates, or with one CA mounted over its certificate directory, must still reach
//! it. There is deliberately no way to switch verification off.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use gantry_core::{ClientIdentity, Secret};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::roots::Roots;
use crate::setup_error::SetupError;

/// PEM text, and where it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Pem {
    /// A key is a secret.
    text: Secret,
    name: String,
}

impl Pem {
    pub(crate) fn new(text: String, name: String) -> Self {
        Self { text: Secret::new(text), name }
    }

    pub(crate) fn text(&self) -> &str {
        self.text.expose()
    }

    /// The setting and the file, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// Certificates and key from the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) ca: Option<Pem>,
    pub(crate) cert: Option<Pem>,
    pub(crate) key: Option<Pem>,
}

impl Identity {
    /// Certificate and key of the client, if there are both.
    pub(crate) fn client(&self) -> Option<ClientIdentity> {
        let (cert, key) = (self.cert.as_ref()?, self.key.as_ref()?);
        Some(ClientIdentity { cert_pem: cert.text().to_owned(), key_pem: Secret::new(key.text()) })
    }
}

/// A TLS configuration and the record of what it verified.
pub(crate) struct Tls {
    pub(crate) config: ClientConfig,
    pub(crate) chain: Arc<ChainRecorder>,
}

/// TLS for connections to `host`, whose chain is recorded.
pub(crate) fn configure(host: &str, identity: &Identity) -> Result<Tls, SetupError> {
    let failed = |what: String| SetupError::Tls { what };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let own = own_certificates(identity.ca.as_ref());
    let roots = Roots::shared();

    let recorder = ChainRecorder::new(roots.with(&own), ServerName::try_from(host.to_owned()).ok(), own, roots);
    let chain = Arc::new(recorder.map_err(|error| failed(error.to_string()))?);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&chain) as Arc<dyn ServerCertVerifier>);
    let mut config = match client_pair(identity) {
        Some(Pair { certs, key, names: (cert, key_name) }) => {
            builder.with_client_auth_cert(certs, key).map_err(|error| {
                failed(match error {
                    rustls::Error::InconsistentKeys(_) => {
                        format!("the key in {key_name} does not belong to the certificate in {cert}")
                    }
                    error => {
                        format!("the client certificate in {cert} cannot be used with the key in {key_name}: {error}")
                    }
                })
            })?
        }
        None => builder.with_no_client_auth(),
    };
    // Only what the reference speaks: some proxies in front of GitLab announce HTTP/2 and then
    // break long polls.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls { config, chain })
}

fn own_certificates(pem: Option<&Pem>) -> Vec<CertificateDer<'static>> {
    let Some(pem) = pem else { return Vec::new() };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.text().as_bytes()).filter_map(Result::ok).collect();
    if certificates.is_empty() {
        tracing::warn!("{} holds no certificate in PEM form and is not used", pem.name());
    }
    certificates
}

/// Whether `pem` holds at least one certificate.
pub fn has_certificate(pem: &str) -> bool {
    CertificateDer::pem_slice_iter(pem.as_bytes()).any(|certificate| certificate.is_ok())
}

/// A client certificate and its key.
struct Pair<'a> {
    certs: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    names: (&'a str, &'a str),
}

/// The client certificate, if it is complete and readable; as in the reference a broken one is
/// logged and not used.
fn client_pair(identity: &Identity) -> Option<Pair<'_>> {
    let (cert, key) = match (&identity.cert, &identity.key) {
        (Some(cert), Some(key)) => (cert, key),
        (Some(alone), None) | (None, Some(alone)) => {
            tracing::warn!("{} is not used: a client certificate needs tls-cert-file and tls-key-file", alone.name());
            return None;
        }
        (None, None) => return None,
    };
    let certs: Vec<_> = CertificateDer::pem_slice_iter(cert.text().as_bytes()).filter_map(Result::ok).collect();
    if certs.is_empty() {
        tracing::warn!("{} holds no certificate in PEM form; the client certificate is not used", cert.name());
        return None;
    }
    let Ok(private) = PrivateKeyDer::from_pem_slice(key.text().as_bytes()) else {
        tracing::warn!("{} holds no key in PEM form; the client certificate is not used", key.name());
        return None;
    };
    Some(Pair { certs, key: private, names: (cert.name(), key.name()) })
}

/// Verifies as usual and remembers the chain that the host proved itself with: others may have to
/// trust it without our roots.
pub(crate) struct ChainRecorder {
    inner: Arc<WebPkiServerVerifier>,
    /// Whose chain is remembered.
    host: Option<ServerName<'static>>,
    own: Vec<CertificateDer<'static>>,
    roots: Arc<Roots>,
    verified: Mutex<Vec<CertificateDer<'static>>>,
}

impl ChainRecorder {
    /// Trusts `store`, which `own` and `roots` are in.
    pub(crate) fn new(
        store: Arc<RootCertStore>,
        host: Option<ServerName<'static>>,
        own: Vec<CertificateDer<'static>>,
        roots: Arc<Roots>,
    ) -> Result<Self, VerifierBuilderError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let inner = WebPkiServerVerifier::builder_with_provider(store, provider).build()?;
        Ok(Self { inner, host, own, roots, verified: Mutex::default() })
    }

    /// PEM of the latest verified chain, server first, root last; nothing before the first
    /// connection.
    pub(crate) fn pem(&self) -> Option<String> {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (!verified.is_empty()).then(|| verified.iter().map(|certificate| to_pem(certificate)).collect())
    }

    /// Whether the latest verified chain will be good after that time; nothing before the first
    /// connection.
    pub(crate) fn is_good_for(&self, time: Duration) -> Option<bool> {
        let chain = self.verified.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (server, others) = chain.split_first()?;
        let name = self.host.as_ref()?;
        let later = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs()) + time);
        let verified = self.inner.verify_server_cert(server, others, name, &[], later);
        Some(match verified {
            Ok(_) => true,
            Err(error) => self.unless_configured(error, server, name).is_ok(),
        })
    }

    /// The server's certificate, then from what it sent and from the roots always the issuer of the
    /// one before.
    fn chain(&self, end_entity: &CertificateDer<'_>, sent: &[CertificateDer<'_>]) -> Vec<CertificateDer<'static>> {
        let mut chain = vec![end_entity.clone().into_owned()];
        let candidates: Vec<_> = sent.iter().chain(&self.own).chain(&self.roots.certificates).collect();
        // Each certificate at most once, so this ends.
        while let Some(issuer) = chain.last().and_then(issuer_of) {
            let next =
                candidates.iter().find(|certificate| subject_of(certificate).as_deref() == Some(issuer.as_slice()));
            match next {
                Some(certificate) if !chain.iter().any(|known| *known == **certificate) => {
                    chain.push((**certificate).clone().into_owned());
                }
                _ => break,
            }
        }
        chain
    }

    /// A server certificate that is also its own CA, as `openssl req -x509` makes them, is refused
    /// by the library even if it is trusted as a CA; Go accepts it, and many servers have one.
    /// Trust is explicit here: the very certificate is among the trusted ones. Its validity was
    /// checked before this error, its signature over the handshake is checked after; so the name
    /// remains, and is all that can be wrong.
    fn unless_configured(
        &self,
        error: rustls::Error,
        end_entity: &CertificateDer<'_>,
        name: &ServerName<'_>,
    ) -> Result<(), rustls::Error> {
        let is_refused_as_authority =
            matches!(&error, rustls::Error::InvalidCertificate(problem) if is_own_authority(problem));
        let is_configured = || self.own.iter().chain(&self.roots.certificates).any(|root| root == end_entity);
        if !is_refused_as_authority || !is_configured() {
            return Err(error);
        }
        rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)
    }
}

/// Whether a server's certificate was refused because it is its own authority, and not a trusted
/// one. The library tells this as one of several errors that it has no name for.
pub fn is_own_authority(problem: &CertificateError) -> bool {
    let CertificateError::Other(other) = problem else { return false };
    other.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

fn issuer_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    webpki::EndEntityCert::try_from(certificate).ok().map(|parsed| parsed.issuer().to_vec())
}

fn subject_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    webpki::anchor_from_trusted_cert(certificate).ok().map(|anchor| anchor.subject.to_vec())
}

fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

impl fmt::Debug for ChainRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainRecorder").field("host", &self.host).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for ChainRecorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .or_else(|error| {
                self.unless_configured(error, end_entity, server_name).map(|()| ServerCertVerified::assertion())
            })?;
        // Not that of a proxy or of object storage.
        if self.host.as_ref() == Some(server_name) {
            let chain = self.chain(end_entity, intermediates);
            *self.verified.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
