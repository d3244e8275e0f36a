//! Why no client of a GitLab instance can be made.

use gantry_http::SetupError;

/// Why no client can be made. In the reference this is the class −100: it counts as unhealthy.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not a URL.
    #[error("{url:?} is not a URL that a GitLab instance can have; write https://<host> or http://<host>")]
    Url {
        /// As configured, without user info.
        url: String,
    },
    /// Another scheme than http and https.
    #[error("the GitLab URL has the scheme {scheme:?}; only http and https are possible")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// No connection can be made, because of files, proxy or TLS.
    #[error(transparent)]
    Setup(#[from] SetupError),
}
