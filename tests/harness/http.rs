//! HTTP to the simulated GitLab and to the process under test.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

/// Longer than any answer takes.
const LIMIT: Duration = Duration::from_secs(30);

/// A client for what listens on this machine. It trusts nobody's certificate.
///
/// # Errors
/// There is no TLS.
pub fn client() -> anyhow::Result<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let builder = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls);
    builder.timeout(LIMIT).build().context("no HTTP client")
}
