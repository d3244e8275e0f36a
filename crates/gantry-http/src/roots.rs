//! The certificate authorities that are trusted where no CA file is configured: the system's and
//! the bundled ones, explicitly, because a container may have neither. Every client of the process
//! uses the same copy, because they are a quarter of a megabyte.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Those in use now. They are read anew for the first client after all others are gone, or have
/// been replaced.
static IN_USE: Mutex<Weak<Roots>> = Mutex::new(Weak::new());

/// The certificates, and what is needed of them to verify others.
pub(crate) struct Roots {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) store: Arc<RootCertStore>,
}

impl Roots {
    pub(crate) fn shared() -> Arc<Self> {
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.upgrade().unwrap_or_else(|| {
            let roots = Arc::new(Self::read());
            *in_use = Arc::downgrade(&roots);
            roots
        })
    }

    fn read() -> Self {
        let certificates = system_and_bundled();
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates.iter().cloned());
        Self { certificates, store: Arc::new(store) }
    }

    /// What verifies with these and with `own`.
    pub(crate) fn with(&self, own: &[CertificateDer<'static>]) -> Arc<RootCertStore> {
        if own.is_empty() {
            return Arc::clone(&self.store);
        }
        let mut store = RootCertStore::clone(&self.store);
        store.add_parsable_certificates(own.iter().cloned());
        Arc::new(store)
    }
}

/// All roots that rustls accepts, as DER. A system store may hold certificates that it does not;
/// those are left out. What cannot be read of the system's is not there; the bundled ones always
/// are.
pub fn system_and_bundled() -> Vec<CertificateDer<'static>> {
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "part of the system's certificate store cannot be read");
    }
    let added = added();
    let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
    // Most of the system's are bundled too.
    let others = system.certs.iter().filter(|der| !bundled.contains(der));
    added.iter().chain(others).chain(bundled).filter(|der| is_usable(der)).cloned().collect()
}

/// What GitLab's image adds to its system's store when it starts: the file that this variable
/// names, or the usual one.
pub const ADDED_VARIABLE: &str = "CA_CERTIFICATES_PATH";
/// The usual one.
pub const ADDED: &str = "/etc/gitlab-runner/certs/ca.crt";

fn added() -> Vec<CertificateDer<'static>> {
    let named = std::env::var_os(ADDED_VARIABLE).filter(|path| !path.is_empty());
    let path = named.unwrap_or_else(|| ADDED.into());
    let Ok(pem) = std::fs::read(&path) else { return Vec::new() };
    CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect()
}

fn is_usable(der: &CertificateDer<'_>) -> bool {
    RootCertStore::empty().add(der.clone()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_roots_even_without_a_system_store() {
        assert!(system_and_bundled().len() >= webpki_root_certs::TLS_SERVER_ROOT_CERTS.len() / 2);
    }

    #[test]
    fn clients_share_what_they_all_trust() {
        let one = Roots::shared();
        assert!(Arc::ptr_eq(&one.with(&[]), &Roots::shared().with(&[])));
        let own = rcgen::generate_simple_self_signed(["gitlab.test".to_owned()]).unwrap().cert.der().clone();
        assert_eq!(one.with(&[own]).len(), one.store.len() + 1);
    }
}
