//! What a simulator is told before it starts. Only values: nothing here opens a file or a socket.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::limits;

/// Settings of one simulated GitLab.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes any free port.
    pub listen: SocketAddr,
    /// URL under which runners and job pods reach the simulator. Without one it is made from the bound address.
    pub external_url: Option<String>,
    /// Repositories to serve: project path (`group/project`, without `.git`) and a work tree or bare repository.
    pub repos: Vec<(String, PathBuf)>,
    /// Authentication token of the runner that exists from the start (`glrt-…`); a random one if absent.
    /// That runner takes every job, whatever its tags.
    pub runner_token: Option<String>,
    /// Registration token for `POST runners`; without one, registration is answered 410 as GitLab does when it is disallowed.
    pub registration_token: Option<String>,
    /// The waits and intervals of the protocol.
    pub timing: Timing,
}

impl Config {
    /// Settings with GitLab's own timing, no repository, and a random runner token.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            external_url: None,
            repos: Vec::new(),
            runner_token: None,
            registration_token: None,
            timing: Timing::default(),
        }
    }
}

/// The waits and intervals of the protocol, to be lowered by tests. The defaults are GitLab's.
#[derive(Clone, Debug)]
pub struct Timing {
    /// How long `jobs/request` is held when nothing changed (at most 50 s; longer values are cut).
    pub long_poll: Duration,
    /// A two-phase job goes back to the queue when no PUT arrives for this long after it was handed out (2 minutes).
    pub acknowledge_within: Duration,
    /// `X-GitLab-Trace-Update-Interval` while somebody watches the log (3 s; whole seconds on the wire, at least 1).
    pub trace_interval_watched: Duration,
    /// The same while nobody watches (60 s).
    pub trace_interval_idle: Duration,
    /// A log counts as watched for this long after it was last read (10 s).
    pub watched_for: Duration,
    /// How long a final PUT is answered 202 while bytes it announces are missing (5 minutes); then it is accepted.
    pub final_wait: Duration,
    /// A running job that is silent for its time-out plus this is dropped (15 minutes).
    pub silence_grace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            long_poll: limits::LONG_POLL,
            acknowledge_within: Duration::from_secs(120),
            trace_interval_watched: Duration::from_secs(3),
            trace_interval_idle: Duration::from_secs(60),
            watched_for: Duration::from_secs(10),
            final_wait: Duration::from_secs(300),
            silence_grace: Duration::from_secs(15 * 60),
        }
    }
}
