//! The certificate authorities that are trusted where no CA file is configured: the system's and the bundled ones, explicitly, because a
//! container may have neither.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

/// All roots that rustls accepts, as DER. A system store may hold certificates that it does not; those are left out.
pub(crate) fn system_and_bundled() -> Vec<Vec<u8>> {
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "part of the system's certificate store cannot be read");
    }
    let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
    // Most of the system's are bundled too.
    let others = system.certs.iter().filter(|der| !bundled.contains(der));
    others.chain(bundled).filter(|der| is_usable(der)).map(|der| der.to_vec()).collect()
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
