//! Why nothing can be signed.

use gantry_http::{SetupError, TransportError};

/// Why nothing can be signed. Messages name settings of `[runners.cache]`, and no secret.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The settings are not enough, or contradict each other.
    #[error("{0}")]
    Settings(String),
    /// Nobody gives us credentials.
    #[error("no credentials were found: {0}")]
    NoCredentials(String),
    /// Whoever gives credentials, or knows the bucket, does not answer.
    #[error("{who} does not answer")]
    Unreachable {
        /// Who was asked.
        who: String,
        /// Why not.
        #[source]
        source: TransportError,
    },
    /// The same, refusing.
    #[error("{who} refused: {said}")]
    Refused {
        /// Who was asked.
        who: String,
        /// In its words.
        said: String,
    },
    /// A file with credentials cannot be read.
    #[error("{path} cannot be read")]
    File {
        /// The file.
        path: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// No connections can be made.
    #[error(transparent)]
    Setup(#[from] SetupError),
}
