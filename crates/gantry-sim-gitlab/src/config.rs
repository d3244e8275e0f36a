//! What a simulator is told before it starts. Only values: nothing here opens a file or a socket.
//! [`Timing`] are the waits and intervals of the protocol, [`Settings`] what the administrator of a
//! GitLab sets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::limits;

/// Settings of one simulated GitLab.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes any free port.
    pub listen: SocketAddr,
    /// URL under which runners and job pods reach the simulator. Without one it is made from the
    /// bound address.
    pub external_url: Option<String>,
    /// The same for who does not know the port yet: a name or an address, as it stands in a URL.
    pub external_host: Option<String>,
    /// Repositories to serve: project path (`group/project`, without `.git`) and a work tree or
    /// bare repository.
    pub repos: Vec<(String, PathBuf)>,
    /// Whether the page and everything under `/sim/` are there for other machines too. Runners, git
    /// and artifacts always are.
    pub people_elsewhere: bool,
    /// Variables of projects, as their settings have them; every pipeline of the project gets them.
    pub variables: Vec<ProjectVariable>,
    /// What on this machine stands for what files include from elsewhere: the path of another
    /// project and a directory, or a URL and a file.
    pub includes: Vec<(String, PathBuf)>,
    /// Authentication token of the runner that exists from the start (`glrt-…`); a random one if
    /// absent. That runner takes every job, whatever its tags.
    pub runner_token: Option<String>,
    /// Registration token for `POST runners`; without one, registration is answered 410 as GitLab
    /// does when it is disallowed.
    pub registration_token: Option<String>,
    /// Where artifacts are kept, in a directory of their own that goes with the simulator. Without
    /// one: among the system's temporary files.
    pub artifact_dir: Option<PathBuf>,
    /// The waits and intervals of the protocol.
    pub timing: Timing,
    /// What the administrator of a GitLab sets.
    pub settings: Settings,
}

impl Config {
    /// Settings with GitLab's own timing, no repository, and a random runner token.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            external_url: None,
            external_host: None,
            repos: Vec::new(),
            people_elsewhere: true,
            variables: Vec::new(),
            includes: Vec::new(),
            runner_token: None,
            registration_token: None,
            artifact_dir: None,
            timing: Timing::default(),
            settings: Settings::default(),
        }
    }
}

/// A variable in the settings of a project.
#[derive(Clone, Debug)]
pub struct ProjectVariable {
    /// The project's path.
    pub project: String,
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
    /// Whether runners hide the value in logs.
    pub masked: bool,
}

/// The waits and intervals of the protocol, to be lowered by tests. The defaults are GitLab's.
#[derive(Clone, Debug)]
pub struct Timing {
    /// How long `jobs/request` is held when nothing changed (at most 50 s; longer values are cut).
    pub long_poll: Duration,
    /// A two-phase job is dropped and queued again when no PUT arrives for this long after it was
    /// handed out (2 minutes).
    pub acknowledge_within: Duration,
    /// `X-GitLab-Trace-Update-Interval` while somebody watches the log (3 s; whole seconds on the
    /// wire, at least 1).
    pub trace_interval_watched: Duration,
    /// The same while nobody watches (60 s).
    pub trace_interval_idle: Duration,
    /// A log counts as watched for this long after it was last read (10 s).
    pub watched_for: Duration,
    /// How long a final PUT is answered 202 while bytes it announces are missing (5 minutes); then
    /// it is accepted.
    pub final_wait: Duration,
    /// A running or canceling job without a noted sign of life for this long is dropped (30
    /// minutes).
    pub silence: Duration,
    /// Signs of life are noted only this often (15 minutes), so that silence ends a job after 15 to
    /// 30 minutes.
    pub note_every: Duration,
    /// A job is dropped when it runs longer than its time-out and this (15 minutes), whatever its
    /// runner says.
    pub overtime: Duration,
    /// A job's token outlives the job's time-out by this much (5 minutes).
    pub token_leeway: Duration,
    /// A job that no runner could take is dropped after this long in the queue (1 hour).
    pub pending_unmatched: Duration,
    /// A job that a runner could take, but none did, is dropped after this long in the queue (24
    /// hours).
    pub pending_matched: Duration,
    /// How long stored log bytes are on their way to their final place (0 s). A final PUT with a
    /// checksum is answered 202 until they have arrived, as GitLab with incremental logging does.
    pub log_flush: Duration,
    /// How long a PATCH holds the lock of its log (0 s). Another one meanwhile is answered 409.
    pub log_write: Duration,
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
            silence: Duration::from_secs(30 * 60),
            note_every: Duration::from_secs(15 * 60),
            overtime: Duration::from_secs(15 * 60),
            token_leeway: Duration::from_secs(5 * 60),
            pending_unmatched: Duration::from_secs(3600),
            pending_matched: Duration::from_secs(24 * 3600),
            log_flush: Duration::ZERO,
            log_write: Duration::ZERO,
        }
    }
}

/// What the administrator of a GitLab sets. The defaults are those of a new GitLab.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Requests per minute; 0 is no limit.
    pub rate_limits: RateLimits,
    /// Largest log of one job in bytes; a job with a larger one is dropped.
    pub log_limit: u64,
    /// Largest artifact in bytes; larger ones are answered 413.
    pub artifact_limit: u64,
    /// Whether artifacts may be uploaded; if not, uploads are answered 405.
    pub artifacts: bool,
    /// Artifacts lie in an object storage: downloads with `direct_download=true` are answered 302.
    pub object_storage: bool,
    /// A final PUT whose checksum does not fit is answered 412 and the log is emptied, for runners
    /// with `trace_reset`. Older versions of GitLab did so; newer ones accept and only note it.
    pub reset_broken_logs: bool,
    /// Runner tokens expire after this long; `None` is never.
    pub runner_token_lifetime: Option<Duration>,
    /// Personal access token of an administrator, for `POST
    /// runners/<id>/reset_authentication_token`.
    pub access_token: Option<String>,
    /// Job token allowlists. A project's own jobs may always clone it.
    pub token_access: Vec<TokenAccess>,
    /// Access tokens of people or projects, whatever the user name beside them.
    pub clone_tokens: Vec<CloneToken>,
}

/// An entry of a job token allowlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenAccess {
    /// What may be cloned.
    pub project: String,
    /// The project whose jobs may clone it.
    pub by: String,
}

/// An access token for one project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloneToken {
    /// The token.
    pub token: String,
    /// What may be cloned with it.
    pub project: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rate_limits: RateLimits::default(),
            log_limit: limits::TRACE,
            artifact_limit: limits::ARTIFACT,
            artifacts: true,
            object_storage: false,
            reset_broken_logs: false,
            runner_token_lifetime: None,
            access_token: None,
            token_access: Vec::new(),
            clone_tokens: Vec::new(),
        }
    }
}

/// Requests per minute that are answered; more are answered 429. 0 is no limit. The defaults are
/// GitLab's.
#[derive(Clone, Copy, Debug)]
pub struct RateLimits {
    /// `POST jobs/request`, for each runner token (2000).
    pub job_requests: u32,
    /// `PATCH jobs/<id>/trace`, for each job token (200).
    pub log_patches: u32,
    /// Everything else under `jobs/`, for each job token (200).
    pub job_updates: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { job_requests: 2000, log_patches: 200, job_updates: 200 }
    }
}
