//! Why the simulator could not start or go on. Errors answered to API clients are
//! `api::status::ApiError`, never these.

use std::{io, net::SocketAddr, path::PathBuf};

/// What stopped the simulated cluster from starting or running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The listening address is taken by another process.
    #[error("cannot listen on {addr}: the port is in use; choose another port or stop the program that holds it")]
    PortInUse {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// The listening socket could not be opened for another reason.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address that was asked for.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The certificates could not be made.
    #[error("cannot make the cluster's certificates")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A file or directory could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No containers can be run here.
    #[error("cannot run containers on this machine")]
    Containers(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An object asked for through the embedding interface was refused.
    #[error("the simulated API server refused the object: {0}")]
    Refused(String),
}
