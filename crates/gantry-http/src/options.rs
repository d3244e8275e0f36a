//! How connections are made, and why none can be.

use std::path::PathBuf;
use std::time::Duration;

use gantry_core::proxy::Proxies;

use crate::certificates::TlsFiles;
use crate::limits;

/// How connections to a server are made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Certificates to trust beside the system's and the bundled ones, as PEM text, for who has no files. Text without a certificate is
    /// ignored with a warning.
    pub ca_pem: Option<String>,
    /// Files with certificates and keys; a change is noticed and used with the next request.
    pub files: TlsFiles,
    /// Proxy for the requests.
    pub proxy: ProxySettings,
    /// Connections are not kept longer than this; zero means for ever.
    pub connection_max_age: Duration,
}

impl Default for Options {
    /// No own CA, proxy from the environment, connections kept for 15 minutes.
    fn default() -> Self {
        Self {
            ca_pem: None,
            files: TlsFiles::default(),
            proxy: ProxySettings::Environment,
            connection_max_age: limits::CONNECTION_MAX_AGE,
        }
    }
}

/// Which proxy to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProxySettings {
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` of this process.
    #[default]
    Environment,
    /// Given ones, for an agent whose own environment is not the manager's.
    Given(Proxies),
    /// None at all.
    Direct,
}

/// Why no connections can be made, whatever the server does.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A file cannot be read.
    #[error("{key} {path} cannot be read", path = path.display())]
    File {
        /// The setting that names it, or would.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A proxy cannot be used.
    #[error("the proxy for {scheme} URLs is not the URL of a proxy; write http://host:port")]
    Proxy {
        /// Which one. Its text may hold a password.
        scheme: &'static str,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {what}")]
    Tls {
        /// What is wrong.
        what: String,
    },
    /// The HTTP library refuses its settings.
    #[error("no HTTP client can be made")]
    Library(#[source] Box<dyn std::error::Error + Send + Sync>),
}
