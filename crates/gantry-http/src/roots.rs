//! The certificate authorities that are trusted where no CA file is configured: the system's and
//! the bundled ones, explicitly, because a container may have neither. Every client of the process
//! uses the same copy, because they are a quarter of a megabyte.

use std::io::ErrorKind;
use std::path::Path;
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
fn system_and_bundled() -> Vec<CertificateDer<'static>> {
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

/// What was said of the added file.
static SAID: Mutex<Option<String>> = Mutex::new(None);

fn added() -> Vec<CertificateDer<'static>> {
    let named = std::env::var_os(ADDED_VARIABLE).filter(|path| !path.is_empty());
    let (found, remark) = added_from(named.as_deref().map(Path::new));
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(remark) = remark.as_ref().filter(|remark| said.as_ref() != Some(remark)) {
        tracing::warn!("{remark}");
    }
    *said = remark;
    found
}

/// What is in the file, and what to say of it. The usual one need not be there.
fn added_from(named: Option<&Path>) -> (Vec<CertificateDer<'static>>, Option<String>) {
    let path = named.unwrap_or(Path::new(ADDED));
    let set_by = named.map(|_| format!(" ({ADDED_VARIABLE})")).unwrap_or_default();
    let failed = |why: String| format!("{}{set_by} {why}: its authorities are not trusted", path.display());
    match std::fs::read(path) {
        Ok(pem) => match of_pem(&pem) {
            (found, 0) if found.is_empty() => (found, Some(failed("holds no certificate in PEM form".to_owned()))),
            (found, 0) => (found, None),
            (found, damaged) => {
                let of = found.len() + damaged;
                let remark = format!("{}{set_by}: {damaged} of {of} certificates cannot be used", path.display());
                (found, Some(remark))
            }
        },
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => (Vec::new(), None),
        Err(error) => (Vec::new(), Some(failed(format!("cannot be read ({error})")))),
    }
}

/// The certificates of PEM text that can verify others, and how many in it cannot. As in Go, a
/// damaged one does not make the others useless.
pub fn of_pem(pem: &[u8]) -> (Vec<CertificateDer<'static>>, usize) {
    let mut damaged = 0;
    let usable = |found: Result<CertificateDer<'static>, _>| {
        let usable = found.ok().filter(is_usable);
        damaged += usize::from(usable.is_none());
        usable
    };
    let found = CertificateDer::pem_slice_iter(pem).filter_map(usable).collect();
    (found, damaged)
}

/// Whether rustls can take it for an authority.
pub fn is_usable(der: &CertificateDer<'_>) -> bool {
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

    #[test]
    fn a_damaged_certificate_leaves_the_others_and_is_said() {
        let good = rcgen::generate_simple_self_signed(["ca.test".to_owned()]).unwrap().cert.pem();
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let garbled = "-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----\n";
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.crt");
        let of = |text: String| {
            std::fs::write(&file, text).unwrap();
            let (found, remark) = added_from(Some(&file));
            (found.len(), remark.unwrap_or_default())
        };
        assert_eq!(of(good.clone()), (1, String::new()));
        let (found, remark) = of(format!("{damaged}{garbled}{good}"));
        assert_eq!(found, 1);
        assert!(remark.ends_with("ca.crt (CA_CERTIFICATES_PATH): 2 of 3 certificates cannot be used"), "{remark}");
        let (found, remark) = of("no certificate".to_owned());
        assert!(found == 0 && remark.contains("holds no certificate in PEM form"), "{remark}");
        let (_, remark) = added_from(Some(&directory.path().join("mistyped")));
        assert!(remark.unwrap().contains("mistyped (CA_CERTIFICATES_PATH) cannot be read (No such file"));
    }
}
