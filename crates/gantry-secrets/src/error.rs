//! Why a secret is not there: one sentence each, without any value.

use gantry_http::{SetupError, TransportError};
use http::StatusCode;

/// What is answered to a question that is right, and comes at the wrong time.
const LATER: [StatusCode; 3] = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who wrote the job, or set up the store.
    Configuration,
    /// Nobody here: the store, or the way to it.
    Dependency,
}

/// Why a secret is not there.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// What the job says about it cannot work.
    #[error("{0}")]
    Settings(String),
    /// The store is there and has no such secret.
    #[error("{who} has no {what}")]
    Missing {
        /// Who was asked.
        who: String,
        /// What for.
        what: String,
    },
    /// The store said no.
    #[error("{who} answered {wish} with status {status}: {said}")]
    Refused {
        /// Who was asked.
        who: String,
        /// What for.
        wish: &'static str,
        /// Its status.
        status: StatusCode,
        /// Its words, shortened.
        said: String,
    },
    /// There is no answer.
    #[error("{who} cannot be reached")]
    Unreachable {
        /// Who was asked.
        who: String,
        /// Why not.
        #[source]
        source: TransportError,
    },
    /// No connection can be made.
    #[error("{who} cannot be connected to")]
    Setup {
        /// Who was to be asked.
        who: String,
        /// Why not.
        #[source]
        source: SetupError,
    },
    /// The answer is not what such a store says.
    #[error("{who} answered {wish} with something else than expected: {what}")]
    Answer {
        /// Who was asked.
        who: String,
        /// What for.
        wish: &'static str,
        /// What is wrong with the answer, without a value of it.
        what: String,
    },
}

impl SecretError {
    /// Who has to change something.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Settings(_) | Self::Missing { .. } | Self::Setup { .. } => Kind::Configuration,
            Self::Refused { status, .. } if status.is_client_error() && !LATER.contains(status) => Kind::Configuration,
            Self::Refused { .. } | Self::Unreachable { .. } | Self::Answer { .. } => Kind::Dependency,
        }
    }

    /// Whether the store is there and the secret is not.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}
