//! The typed settings: what the rest of the program sees of a `config.toml`. Every value is checked and every default is applied; nothing
//! here reads text. Runners are in [`runner`], their pods in [`kubernetes`].

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use gantry_core::Secret;

use crate::problem::{Problem, UnusableRunner};

pub mod affinity;
pub mod cache;
pub mod kubernetes;
pub mod pod;
pub mod runner;
pub mod security;
pub mod volumes;

pub use kubernetes::{ContainerResources, Gates, KubernetesSettings, PullPolicy, ResourceSettings, Resources};
pub use runner::{RunnerSettings, Shell};
pub use security::{ContainerSecurityContext, PodSecurityContext};

/// A file that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What it says, without the entries that cannot be used.
    pub settings: Settings,
    /// Entries that cannot be used, in the order of the file.
    pub unusable: Vec<UnusableRunner>,
    /// What in it has no effect, or not the expected one, in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Everything a `config.toml` says. Names and defaults are those of GitLab Runner 19.4 except for [`GantrySettings`].
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `concurrent`: jobs of all runners together, and simultaneous polls. Default 1.
    pub concurrent: NonZeroU32,
    /// `check_interval`: time between two polls of one runner. Default 3 s.
    pub check_interval: Duration,
    /// `listen_address`: of the metrics server; `None` where the file says nothing.
    pub listen_address: Option<String>,
    /// `log_level` and `log_format`.
    pub log: LogSettings,
    /// `shutdown_timeout`: how long a forced shutdown may take. Default 30 s.
    pub shutdown_timeout: Duration,
    /// `connection_max_age`: after how long connections to GitLab are made anew; zero keeps them. Default 15 min.
    pub connection_max_age: Duration,
    /// `[labels]`, as written; those of a runner are merged into [`RunnerSettings::labels`].
    pub labels: BTreeMap<String, String>,
    /// `sentry_dsn`, where errors would be reported. Kept, not used.
    pub sentry_dsn: Option<Secret>,
    /// `[session_server]`.
    pub session_server: SessionServer,
    /// `[[runners]]` that can be used, in the order of the file.
    pub runners: Vec<RunnerSettings>,
    /// `[gantry]`: what the reference does not have.
    pub gantry: GantrySettings,
}

/// How log lines are to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// `log_level`; `None` where the file says nothing.
    pub level: Option<LogLevel>,
    /// `log_format`; `None` where the file says nothing.
    pub format: Option<LogFormat>,
}

/// `log_level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// What helps to find a fault.
    Debug,
    /// The default.
    Info,
    /// Only what deserves attention.
    Warn,
    /// Only what failed.
    Error,
    /// Only what ends the process.
    Fatal,
    /// Only what ends the process by a fault of its own.
    Panic,
}

/// `log_format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, with colours.
    Runner,
    /// `key=value` text.
    Text,
    /// One JSON object per line.
    Json,
}

/// `[session_server]`: interactive terminals and service proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionServer {
    /// `host:port`; `None` turns the server off.
    pub listen_address: Option<String>,
    /// What GitLab is told; `None` means the listen address.
    pub advertise_address: Option<String>,
    /// How long a job may wait for its session to end. Default 1800 s.
    pub session_timeout: Duration,
}

/// `[gantry]`: settings that only this runner has. The reference ignores the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GantrySettings {
    /// `fleet`: managers with the same name adopt each other's jobs; `None` means GitLab URL and namespace.
    pub fleet: Option<String>,
    /// `on_terminate`: what SIGTERM does to running jobs. Default: they go on and are handed over.
    pub on_terminate: OnTerminate,
    /// `ticket_key`: what job tickets on pods are sealed with; `None` means a key derived from a token.
    pub ticket_key: Option<Secret>,
    /// `self_report_after`: silence of all relays after which a pod reports to GitLab by itself. Default 2 min.
    pub self_report_after: Duration,
    /// `abandon_after`: silence of relays and GitLab after which a pod ends its script. Default 25 min.
    pub abandon_after: Duration,
}

/// What SIGTERM does to running jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTerminate {
    /// Leave the pods alone: another manager goes on with them.
    #[default]
    HandOver,
    /// End the jobs, as the reference does.
    Abort,
}
