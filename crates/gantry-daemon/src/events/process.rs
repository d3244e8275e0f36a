//! What is said about the process itself: its configuration, the runners that work by it, and its
//! end. Words that operators may search for are those of GitLab Runner 19.4.

use std::path::Path;

use gantry_core::error_chain::chain;

use crate::config_file::ConfigError;
use crate::events::Said;
use crate::metrics::Metrics;

/// The configuration file is gone.
pub(crate) struct ConfigGone<'a>(pub(crate) &'a Path);

impl Said for ConfigGone<'_> {
    fn log(&self) {
        tracing::warn!("config file {} is gone: what it said stays in force until it is back", self.0.display());
    }
}

/// It is back, and says the same.
pub(crate) struct ConfigBack<'a>(pub(crate) &'a Path);

impl Said for ConfigBack<'_> {
    fn log(&self) {
        tracing::info!("config file {} is back, as it was", self.0.display());
    }
}

/// A configuration is in force.
pub(crate) struct ConfigLoaded {
    /// There is no file yet, so that only defaults are.
    pub(crate) waits: bool,
    pub(crate) runners: usize,
    pub(crate) unusable: usize,
    pub(crate) concurrent: u32,
}

impl ConfigLoaded {
    /// Says it, in the log and as a count.
    pub(crate) fn tell(&self, metrics: &Metrics) {
        let Self { waits, runners, unusable, concurrent } = *self;
        metrics.config_loaded.inc();
        metrics.show_places(concurrent);
        if !waits {
            tracing::info!(runners, unusable, concurrent, "Configuration loaded");
        }
    }
}

/// A configuration cannot be used.
pub(crate) struct ConfigRefused<'a> {
    /// There is no other one, and this one is waited for.
    pub(crate) waits: bool,
    pub(crate) error: &'a ConfigError,
}

impl ConfigRefused<'_> {
    /// Says it, in the log and as a count.
    pub(crate) fn tell(&self, metrics: &Metrics) {
        metrics.config_errors.inc();
        let then = if self.waits { "it is waited for" } else { "the old one stays in force" };
        tracing::error!("Failed to load config, {then}: {}", chain(self.error));
    }
}

/// A runner asks for jobs from now on.
pub(crate) struct PollingBegins<'a> {
    pub(crate) runner: &'a str,
    pub(crate) url: &'a str,
    pub(crate) workers: u32,
}

impl Said for PollingBegins<'_> {
    fn log(&self) {
        let Self { runner, url, workers } = self;
        tracing::info!(runner, url, workers, "polling");
    }
}

/// A runner asks for no more jobs.
pub(crate) struct PollingEnds<'a> {
    pub(crate) runner: &'a str,
    /// The entry's name.
    pub(crate) name: &'a str,
}

impl Said for PollingEnds<'_> {
    fn log(&self) {
        let Self { runner, name } = self;
        tracing::info!(runner, runner_name = name, "polling ends: the entry has changed or is gone");
    }
}

/// A runner cannot work.
pub(crate) struct RunnerUnusable<'a> {
    /// The entry's name.
    pub(crate) name: &'a str,
    pub(crate) problem: &'a str,
}

impl Said for RunnerUnusable<'_> {
    fn log(&self) {
        let Self { name, problem } = self;
        tracing::error!("runner {name:?} cannot work: {problem}");
    }
}

/// `listen_address` has changed: what becomes of the metrics server.
pub(crate) enum ListenChanged<'a> {
    /// It moves there.
    Moves(&'a str),
    /// It moves when the process starts next.
    MovesLater,
    /// It cannot be there.
    Stays(&'a dyn std::error::Error),
}

impl Said for ListenChanged<'_> {
    fn log(&self) {
        match self {
            Self::Moves(address) => {
                tracing::info!("listen_address has changed: the metrics server moves to {address}");
            }
            Self::MovesLater => {
                tracing::warn!("listen_address has changed: the metrics server moves at the next start");
            }
            Self::Stays(error) => tracing::error!(
                "listen_address has changed, but the metrics server stays where it is until the next start: {}",
                chain(*error)
            ),
        }
    }
}

/// The process was told to end, and does so in this way.
pub(crate) enum ShutdownBegins<'a> {
    /// Jobs may end first.
    Graceful,
    /// Jobs are left to the next manager.
    HandOver { signal: &'a str, limit_s: u64 },
    /// Jobs end.
    Forceful { signal: &'a str, limit_s: u64 },
}

impl Said for ShutdownBegins<'_> {
    fn log(&self) {
        match *self {
            Self::Graceful => tracing::warn!("Starting graceful shutdown, waiting for builds to finish"),
            Self::HandOver { signal, limit_s } => tracing::warn!(
                StopSignal = signal,
                "shutdown-timeout" = limit_s,
                "Starting hand-over: running jobs go on in their pods, and the next manager of the fleet takes them over"
            ),
            Self::Forceful { signal, limit_s } => {
                tracing::warn!(StopSignal = signal, "shutdown-timeout" = limit_s, "Starting forceful shutdown");
            }
        }
    }
}

/// A process that ends was told to read its configuration.
pub(crate) struct ReloadIgnored;

impl Said for ReloadIgnored {
    fn log(&self) {
        tracing::warn!("SIGHUP has no effect: the process takes no new jobs");
    }
}

/// The process ends although so many jobs have not.
pub(crate) struct ShutdownTimedOut(pub(crate) usize);

impl Said for ShutdownTimedOut {
    fn log(&self) {
        tracing::error!(running = self.0, "shutdown timed out: jobs are left behind");
    }
}

/// The process ends at once.
pub(crate) struct ShutdownForced;

impl Said for ShutdownForced {
    fn log(&self) {
        tracing::error!("a second signal: jobs are left behind");
    }
}

/// The process has ended in order.
pub(crate) struct WorkersStopped;

impl Said for WorkersStopped {
    fn log(&self) {
        tracing::info!("All workers stopped.");
        tracing::info!("Can exit now!");
    }
}
