//! Verifies servers for whoever has a TLS library of its own: as for GitLab, but without a record
//! of what was verified.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::roots::Roots;
use crate::tls::is_trusted_server;

/// Trusts `configured` and nothing else; without any, the system's and the bundled authorities.
///
/// # Errors
/// None of them can be used.
pub fn verifier(configured: Vec<CertificateDer<'static>>) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
    let roots = if configured.is_empty() {
        Roots::shared()
    } else {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(configured.iter().cloned());
        Arc::new(Roots { certificates: configured, store: Arc::new(store) })
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots.store), provider)
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    Ok(Arc::new(Verifier { inner, roots }))
}

struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    roots: Arc<Roots>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verified.or_else(|error| {
            let is_trusted = is_trusted_server(&error, (end_entity, server_name), self.roots.certificates.iter());
            if is_trusted { Ok(ServerCertVerified::assertion()) } else { Err(error) }
        })
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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    /// As `openssl req -x509` makes them.
    fn own_authority(name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn accepts(
        trusted: &CertificateDer<'static>,
        shown: &CertificateDer<'_>,
        name: &'static str,
        at: UnixTime,
    ) -> bool {
        let verifier = verifier(vec![trusted.clone()]).unwrap();
        let name = ServerName::try_from(name).unwrap();
        verifier.verify_server_cert(shown, &[], &name, &[], at).is_ok()
    }

    #[test]
    fn a_server_that_is_its_own_authority_is_trusted_where_it_is_configured() {
        let (server, other) = (own_authority("api.test"), own_authority("api.test"));
        let now = UnixTime::now();
        assert!(accepts(&server, &server, "api.test", now));
        assert!(!accepts(&server, &server, "other.test", now), "the name counts");
        assert!(!accepts(&server, &other, "api.test", now), "it is the very certificate");
        let late = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1 << 40));
        assert!(!accepts(&server, &server, "api.test", late), "the time counts");
    }
}
