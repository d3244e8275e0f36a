//! The typed settings: what the rest of the program sees of a `config.toml`, and the one
//! declaration of each of its keys (`declare.rs` says how). Every value is checked and every
//! default is applied. Runners are in [`runner`], their pods in [`kubernetes`].

use core::net::Ipv6Addr;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use gantry_core::{Secret, variables};

use crate::declare::table;
use crate::key::Form;
use crate::kinds::{Meanings, anything, custom, duration_or, group, seconds, secret, table, text, word, word_or_first};
use crate::problem::{Problem, Severity, UnusableRunner};
use crate::section::Section;

pub mod affinity;
pub mod cache;
mod entries;
mod idle;
pub mod kubernetes;
mod labels;
pub mod pod;
pub mod resources;
pub mod runner;
pub mod security;
pub mod volumes;

pub use kubernetes::{Gates, KubernetesSettings, PullPolicy};
pub use resources::{ContainerResources, ResourceSettings, Resources};
pub use runner::{GitMirror, RunnerSettings, Shell};
pub use security::{ContainerSecurityContext, PodSecurityContext};

/// `shutdown_timeout` of a file that says none.
const SHUTDOWN: Duration = Duration::from_secs(30);

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

table! {
    /// Everything a `config.toml` says. Names and defaults are those of GitLab Runner 19.4 except
    /// for [`GantrySettings`].
    #[derive(Clone, Debug, PartialEq)]
    pub struct Settings {
        /// Jobs of all runners at once.
        concurrent: NonZeroU32 = custom("concurrent", Form::FromOne, "1", concurrent);
        /// Seconds between two requests of a runner for jobs.
        check_interval: Duration = seconds("check_interval", 3);
        /// Where metrics and health are served, such as `:9252`. `--listen-address` and
        /// `LISTEN_ADDRESS` beat it; without any of them it is `:9100`.
        listen_address: Option<String> = custom("listen_address", Form::Text, "", listen_address);
        /// How log lines are to be.
        log: LogSettings = group();
        /// Seconds that a forced shutdown may take.
        shutdown_timeout: Duration = seconds("shutdown_timeout", SHUTDOWN.as_secs());
        /// Age at which connections to GitLab are made anew; 0 keeps them.
        connection_max_age: Duration = custom("connection_max_age", Form::DurationFromZero, "15m0s", |section, key| {
            section.duration(key).unwrap_or(Duration::from_mins(15))
        });
        /// Labels of this runner manager, which GitLab is told with every request for a job; those
        /// of an entry are added.
        labels: BTreeMap<String, String> = custom("labels", Form::TextMap, "", labels::read);
        /// Where errors are reported.
        sentry_dsn: Option<Secret> = secret("sentry_dsn").never("errors are in the log only");
        /// Interactive terminals and proxies to services.
        session_server: SessionServer = table("session_server");
        /// The runners: one entry for each token.
        runners: Vec<RunnerSettings> = entries::entries("runners");
        /// Settings that only this runner has; GitLab Runner ignores the table.
        gantry: GantrySettings = table("gantry");
    }
    unread {
        /// The user that jobs of the shell executor run as.
        text("user").never("jobs run in pods, as the users that their pods say");
        /// Machines of the executor docker+machine.
        anything("machine").other_executor();
        /// A log of finished jobs.
        anything("experimental").never("no usage log is written; metrics count jobs and their times");
    }
}

table! {
    /// How log lines are to be.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LogSettings {
        /// The least severe lines to show; without it those from info. `--log-level` and
        /// `LOG_LEVEL` beat it.
        level: Option<LogLevel> = word("log_level", &LOG_LEVELS);
        /// How lines look: `runner` for people, with colours, `text` as `key=value`, `json` with an
        /// object per line; without it as for people. `--log-format` and `LOG_FORMAT` beat it.
        format: Option<LogFormat> = word("log_format", &LOG_FORMATS);
    }
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

const LOG_LEVELS: [(&str, LogLevel); 8] = [
    ("trace", LogLevel::Trace),
    ("debug", LogLevel::Debug),
    ("info", LogLevel::Info),
    ("warn", LogLevel::Warn),
    ("warning", LogLevel::Warn),
    ("error", LogLevel::Error),
    ("fatal", LogLevel::Fatal),
    ("panic", LogLevel::Panic),
];

impl LogLevel {
    /// The level of this name, as the file and the command line have it.
    pub fn named(name: &str) -> Option<Self> {
        LOG_LEVELS.into_iter().find_map(|(known, level)| known.eq_ignore_ascii_case(name).then_some(level))
    }
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

const LOG_FORMATS: [(&str, LogFormat); 3] =
    [("runner", LogFormat::Runner), ("text", LogFormat::Text), ("json", LogFormat::Json)];

impl LogFormat {
    /// The format of this name, as the file and the command line have it.
    pub fn named(name: &str) -> Option<Self> {
        LOG_FORMATS.into_iter().find_map(|(known, format)| known.eq_ignore_ascii_case(name).then_some(format))
    }
}

table! {
    /// `[session_server]`: interactive terminals and service proxies.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SessionServer {
        /// Where sessions are served, as `host:port`; without it they are off.
        listen_address: Option<String> = custom("listen_address", Form::Text, "", listen_address);
        /// What GitLab is told of it, as `host:port`; without it the same. Variables of the
        /// manager's environment are expanded, so that each replica can name itself, as in
        /// `$POD_IP:8093`.
        advertise_address: Option<String> = custom("advertise_address", Form::Text, "", advertise_address);
        /// Seconds that a job whose stages are over waits for people in its terminal.
        session_timeout: Duration = seconds("session_timeout", 1800);
    }
}

table! {
    /// `[gantry]`: settings that only this runner has. The reference ignores the table.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct GantrySettings {
        /// Managers of the same fleet adopt each other's jobs; without it those with the same
        /// GitLab and namespace.
        fleet: Option<String> = text("fleet");
        /// Jobs of the fleet at once, of all its managers together, in each namespace; without it
        /// there is no bound.
        fleet_concurrent: Option<NonZeroU32> = custom("fleet_concurrent", Form::Positive, "", |section, key| {
            section.positive(key).and_then(NonZeroU32::new)
        });
        /// What SIGTERM does to running jobs: `hand-over` leaves them running, `abort` ends them,
        /// as GitLab Runner does.
        on_terminate: OnTerminate = word_or_first("on_terminate", ON_TERMINATE);
        /// What job tickets on pods are sealed with, and what certificates of the session server
        /// follow from; without it a token: when that is renewed, tickets are sealed anew, if the
        /// runner may `patch` pods.
        ticket_key: Option<Secret> = secret("ticket_key");
        /// Silence of all managers after which a pod reports to GitLab by itself.
        self_report_after: Duration = duration_or("self_report_after", Duration::from_mins(2));
        /// Silence of all managers and of GitLab after which a pod ends its script.
        abandon_after: Duration = duration_or("abandon_after", Duration::from_mins(25));
    }
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

const ON_TERMINATE: Meanings<OnTerminate> = &[("hand-over", OnTerminate::HandOver), ("abort", OnTerminate::Abort)];

fn concurrent(root: &Section<'_>, key: &'static str) -> NonZeroU32 {
    match root.int(key) {
        None => NonZeroU32::MIN,
        Some(value) => u32::try_from(value).ok().and_then(NonZeroU32::new).unwrap_or_else(|| {
            root.problem(Severity::Error, key, format!("must be from 1 to {}, not {value}", u32::MAX));
            NonZeroU32::MIN
        }),
    }
}

fn listen_address(section: &Section<'_>, key: &'static str) -> Option<String> {
    let address = section.text(key)?;
    if address.bytes().all(|byte| byte.is_ascii_digit()) {
        section.problem(Severity::Error, key, format!("{address:?} is no address: write \":{address}\" for this port"));
    }
    Some(address)
}

/// An IPv6 address with a port as a URL needs it: what a pod is told as its own has no brackets.
fn in_brackets(address: String) -> String {
    match address.rsplit_once(':') {
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => format!("[{host}]:{port}"),
        _ => address,
    }
}

fn advertise_address(section: &Section<'_>, key: &'static str) -> Option<String> {
    let written = section.text(key).filter(|address| !address.is_empty())?;
    if section.text("listen_address").is_none() {
        let message = "has no effect: listen_address is not set, and without it there are no sessions";
        section.problem(Severity::Warning, key, message);
    }
    let address = in_brackets(variables::expand(&written, section.report.env));
    if address.contains("://") {
        section.problem(Severity::Error, key, "must be host:port without a scheme");
    } else if address.is_empty() || address.starts_with(':') {
        section.problem(
            Severity::Error,
            key,
            format!("{written:?} names no host that GitLab could reach: write host:port"),
        );
    }
    Some(address)
}
