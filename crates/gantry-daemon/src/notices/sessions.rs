//! What is said about people in jobs: their terminals, and the ports that they look at.

use std::error::Error;
use std::time::Duration;

use gantry_core::error_chain::chain;
use gantry_kube::ApiError;

use crate::notices::Notice;

/// Somebody is in a job's terminal.
pub(crate) struct TerminalOpened;

impl Notice for TerminalOpened {
    fn say(&self) {
        tracing::info!("A terminal of the job is open");
    }
}

/// Nobody is any more, after so long.
pub(crate) struct TerminalClosed(pub(crate) Duration);

impl Notice for TerminalClosed {
    fn say(&self) {
        tracing::info!(seconds = self.0.as_secs(), "The terminal is closed");
    }
}

/// A job has run, and waits for whoever is in its terminal, at most so long.
pub(crate) struct TerminalLingers(pub(crate) Duration);

impl Notice for TerminalLingers {
    fn say(&self) {
        tracing::info!(
            limit = self.0.as_secs(),
            "The job's stages are over, and somebody is in its terminal: the job ends when the terminal does"
        );
    }
}

/// It has waited so long, and whoever is there has to leave.
pub(crate) struct TerminalTimedOut(pub(crate) Duration);

impl Notice for TerminalTimedOut {
    fn say(&self) {
        tracing::info!(limit = self.0.as_secs(), "Terminal session timed out");
    }
}

/// GitLab was told of another authority with a job, and will not trust this manager.
pub(crate) struct SessionUntrusted<'a>(pub(crate) &'a (dyn Error + 'static));

impl Notice for SessionUntrusted<'_> {
    fn say(&self) {
        tracing::warn!(error = chain(self.0), "GitLab will not trust the session server for this job");
    }
}

/// A terminal could not be opened.
pub(crate) struct TerminalRefused<'a> {
    pub(crate) pod: &'a str,
    pub(crate) error: &'a ApiError,
}

impl Notice for TerminalRefused<'_> {
    fn say(&self) {
        let Self { pod, error } = self;
        tracing::warn!("a terminal in pod {pod} could not be opened: {}", error.message);
    }
}

/// Whoever wanted a terminal was gone before it was there.
pub(crate) struct TerminalUnused<'a>(pub(crate) &'a hyper::Error);

impl Notice for TerminalUnused<'_> {
    fn say(&self) {
        tracing::warn!(error = %self.0, "a terminal ended before it began");
    }
}

/// A port of a job could not be reached.
pub(crate) struct PortUnreachable<'a> {
    pub(crate) port: u16,
    pub(crate) pod: &'a str,
    pub(crate) error: &'a ApiError,
}

impl Notice for PortUnreachable<'_> {
    fn say(&self) {
        let Self { port, pod, error } = self;
        tracing::warn!("port {port} of pod {pod} could not be reached: {}", error.message);
    }
}

/// A server of ours cannot take connections.
pub(crate) struct ConnectionsRefused<'a> {
    /// Its name.
    pub(crate) server: &'a str,
    pub(crate) error: &'a std::io::Error,
}

impl Notice for ConnectionsRefused<'_> {
    fn say(&self) {
        let Self { server, error } = self;
        tracing::warn!("the {server} cannot take a connection: {}", chain(*error));
    }
}

/// `[session_server]` has changed.
pub(crate) struct SessionServerChanged;

impl Notice for SessionServerChanged {
    fn say(&self) {
        tracing::warn!("[session_server] has changed: where sessions are served changes at the next start");
    }
}
