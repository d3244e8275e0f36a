//! HTTP to the simulators and to the process under test.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Longer than any answer takes; a watch is a request of its own kind and has none.
const LIMIT: Duration = Duration::from_secs(30);

/// A client that trusts `ca_pem` only, or nobody at all.
///
/// # Errors
/// The certificate cannot be read.
pub fn client(ca_pem: Option<&str>) -> anyhow::Result<reqwest::Client> {
    builder(ca_pem)?.timeout(LIMIT).build().context("no HTTP client")
}

/// The same for requests that last.
///
/// # Errors
/// The certificate cannot be read.
pub fn patient_client(ca_pem: Option<&str>) -> anyhow::Result<reqwest::Client> {
    builder(ca_pem)?.build().context("no HTTP client")
}

fn builder(ca_pem: Option<&str>) -> anyhow::Result<reqwest::ClientBuilder> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.unwrap_or_default().as_bytes()) {
        roots.add(certificate.context("not a certificate")?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls))
}
