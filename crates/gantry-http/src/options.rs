//! How connections are made.

use std::time::Duration;

use gantry_core::ClientIdentity;
use gantry_core::proxy::Proxies;

use crate::certificates::TlsFiles;
use crate::limits;

/// How connections to a server are made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Certificates to trust beside the system's and the bundled ones, as PEM text, for who has no
    /// files. Text without a certificate is ignored with a warning.
    pub ca_pem: Option<String>,
    /// The client's certificate and key, for who has no files.
    pub identity: Option<ClientIdentity>,
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
            identity: None,
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
