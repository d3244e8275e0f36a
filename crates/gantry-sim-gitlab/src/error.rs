//! Why a simulator cannot start or go on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A simulated GitLab could not start, or its listener failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another program listens there already.
    #[error("{addr} is already in use: stop the other program or choose another address")]
    AddressInUse {
        /// The address asked for.
        addr: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A project path that cannot be part of a URL, or that is given twice.
    #[error("bad project path {name:?}: {what}")]
    ProjectPath {
        /// The path as given.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The directory is not a git repository that can be read.
    #[error("project {name}: {} is not a git repository that can be read: {what}", path.display())]
    Repository {
        /// The project's path.
        name: String,
        /// The directory given for it.
        path: PathBuf,
        /// What `git` said.
        what: String,
    },
    /// `git` or its HTTP back end is missing.
    #[error("cannot use git: {what}; install git with git-http-backend")]
    Git {
        /// What was tried and what came of it.
        what: String,
    },
    /// The directory for artifacts cannot be made.
    #[error("cannot make a temporary directory for artifacts")]
    Storage(#[source] io::Error),
    /// Serving failed.
    #[error("serving failed")]
    Serve(#[source] io::Error),
}
