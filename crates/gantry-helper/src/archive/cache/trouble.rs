//! Why a cache is not restored or saved.

use std::io;

use gantry_http::{SetupError, TransportError};

use crate::archive::pack::PackError;
use crate::archive::unpack::UnpackError;

/// Why a cache is not restored or saved.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheTrouble {
    /// There is no cache of that key.
    #[error("there is no such cache yet")]
    Missing,
    /// The store says no, in words that say what helps.
    #[error("{0}")]
    Refused(String),
    /// The store has trouble of its own.
    #[error("{0}")]
    Store(String),
    /// The job goes on without caches.
    #[error("nobody wants it any more")]
    Unwanted,
    /// The store is not reached.
    #[error("{store} cannot be reached")]
    Unreachable {
        store: String,
        #[source]
        source: TransportError,
    },
    /// The store is too slow.
    #[error("{store} took longer than {minutes} minutes: CACHE_REQUEST_TIMEOUT gives it more")]
    TooSlow { store: String, minutes: u64 },
    /// The archive is larger than it may be.
    #[error("the archive is larger than {0} bytes")]
    TooLarge(u64),
    /// Whoever packs has stopped, and says why elsewhere.
    #[error("the archive broke off")]
    Packing,
    /// What came changed while it came.
    #[error("the cache was replaced while it was downloaded")]
    Changed,
    /// A signed request that is none.
    #[error("the runner sent a link that is no URL")]
    Link,
    #[error(transparent)]
    Setup(SetupError),
    #[error("a temporary file cannot be used in {directory}; is the node short of disk?")]
    Scratch {
        directory: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "the project directory {path} is {what} now: the job has replaced it, and nothing that it leads to is cached"
    )]
    Replaced { path: String, what: &'static str },
    #[error("the project directory cannot be used")]
    Project(#[source] io::Error),
    #[error("the cache file {path} cannot be used")]
    File {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("{0}")]
    Volume(String),
    #[error("the files cannot be packed")]
    Pack(#[from] PackError),
    #[error("it cannot be unpacked")]
    Unpack(#[from] UnpackError),
    #[error("the files cannot be put into the project directory")]
    Publish(#[source] io::Error),
    #[error("its thread has ended")]
    Thread(#[source] io::Error),
}
