//! The authorities that are trusted whatever is configured: the system's and the bundled ones. Every client of the process uses the same copy,
//! because they are a quarter of a megabyte.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

/// Those in use now. They are read anew for the first client after all others are gone, or have been replaced.
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
        let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
        // Whatever cannot be read of the system's certificates is not there; the bundled ones always are. Most of the system's are the same.
        let mut certificates = rustls_native_certs::load_native_certs().certs;
        certificates.retain(|certificate| !bundled.contains(certificate));
        certificates.extend(bundled.iter().cloned());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_share_what_they_all_trust() {
        let one = Roots::shared();
        assert!(Arc::ptr_eq(&one.with(&[]), &Roots::shared().with(&[])));
        assert!(one.store.len() >= webpki_root_certs::TLS_SERVER_ROOT_CERTS.len());
        let own = rcgen::generate_simple_self_signed(["gitlab.test".to_owned()]).unwrap().cert.der().clone();
        assert_eq!(one.with(&[own]).len(), one.store.len() + 1);
    }
}
