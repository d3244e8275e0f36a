//! The certificate authorities that are trusted where no CA file is configured: the system's and the bundled ones, explicitly, because a
//! container may have neither.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

/// All roots that rustls accepts, as DER. A system store may hold certificates that it does not; those are left out. What cannot be read of
/// the system's is not there; the bundled ones always are.
pub fn system_and_bundled() -> Vec<CertificateDer<'static>> {
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "part of the system's certificate store cannot be read");
    }
    system.certs.iter().chain(webpki_root_certs::TLS_SERVER_ROOT_CERTS).filter(|der| is_usable(der)).cloned().collect()
}

fn is_usable(der: &CertificateDer<'_>) -> bool {
    RootCertStore::empty().add(der.clone()).is_ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_are_roots_even_without_a_system_store() {
        assert!(super::system_and_bundled().len() >= webpki_root_certs::TLS_SERVER_ROOT_CERTS.len() / 2);
    }
}
