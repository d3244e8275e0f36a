//! Verifies servers for whoever has a TLS library of its own: as for GitLab, but without a record
//! of what was verified.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;

use crate::roots::Roots;
use crate::tls::ChainRecorder;

/// Trusts `configured` and nothing else; where nothing is configured, the system's and the bundled
/// authorities.
///
/// # Errors
/// None of them can be used, or the list is empty.
pub fn verifier(
    configured: Option<Vec<CertificateDer<'static>>>,
) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
    let roots = configured.map_or_else(Roots::shared, |certificates| {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates.iter().cloned());
        Arc::new(Roots { certificates, store: Arc::new(store) })
    });
    let verifier = ChainRecorder::new(Arc::clone(&roots.store), None, Vec::new(), roots);
    Ok(Arc::new(verifier.map_err(|error| rustls::Error::General(error.to_string()))?))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::CertificateError;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;
    use crate::tls::is_own_authority;

    /// As `openssl req -x509` makes them.
    fn own_authority(name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn verified(
        trusted: &CertificateDer<'static>,
        shown: &CertificateDer<'_>,
        name: &'static str,
        at: UnixTime,
    ) -> Result<(), rustls::Error> {
        let verifier = verifier(Some(vec![trusted.clone()])).unwrap();
        let name = ServerName::try_from(name).unwrap();
        verifier.verify_server_cert(shown, &[], &name, &[], at).map(drop)
    }

    fn accepts(
        trusted: &CertificateDer<'static>,
        shown: &CertificateDer<'_>,
        name: &'static str,
        at: UnixTime,
    ) -> bool {
        verified(trusted, shown, name, at).is_ok()
    }

    #[test]
    fn a_server_that_is_its_own_authority_is_trusted_where_it_is_configured() {
        let (server, other) = (own_authority("api.test"), own_authority("api.test"));
        let now = UnixTime::now();
        assert!(accepts(&server, &server, "api.test", now));
        let other_name = verified(&server, &server, "other.test", now);
        let is_about_the_name = matches!(
            other_name,
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))
        );
        assert!(is_about_the_name, "the name counts, and is what is wrong: {other_name:?}");
        let stranger = verified(&server, &other, "api.test", now);
        let is_untrusted =
            matches!(&stranger, Err(rustls::Error::InvalidCertificate(problem)) if is_own_authority(problem));
        assert!(is_untrusted, "it is the very certificate: {stranger:?}");
        let late = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1 << 40));
        assert!(!accepts(&server, &server, "api.test", late), "the time counts");
    }

    #[test]
    fn an_empty_list_is_not_the_same_as_none() {
        assert!(verifier(Some(Vec::new())).is_err(), "no other authority takes its place");
        assert!(verifier(None).is_ok());
    }
}
