//! Why no connections can be made, whatever the server does.

use std::path::PathBuf;

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
