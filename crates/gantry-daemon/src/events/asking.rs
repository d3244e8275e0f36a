//! What is said while GitLab is asked for jobs, before there is one. Words that operators may
//! search for are those of GitLab Runner 19.4.

use std::time::Duration;

use gantry_core::error_chain::chain;
use gantry_gitlab::CallError;

use crate::events::Said;
use crate::hold::Hold;
use crate::metrics::{Metrics, RunnerLabels, of};

/// GitLab has handed out a job.
pub(crate) struct JobReceived<'a> {
    pub(crate) runner: &'a str,
    pub(crate) job: i64,
    /// GitLab's name for the request, by which its own log can be searched.
    pub(crate) correlation_id: &'a str,
}

impl Said for JobReceived<'_> {
    fn log(&self) {
        let Self { runner, job, correlation_id } = self;
        tracing::info!(job, runner, correlation_id, "Checking for jobs... received");
    }
}

/// GitLab has no job.
pub(crate) struct NothingReceived<'a>(pub(crate) &'a str);

impl Said for NothingReceived<'_> {
    fn log(&self) {
        tracing::debug!(runner = self.0, "Checking for jobs... nothing");
    }
}

/// A request for a job was under way for too long when its runner had ended.
pub(crate) struct RequestGivenUp<'a>(pub(crate) &'a str);

impl Said for RequestGivenUp<'_> {
    fn log(&self) {
        tracing::warn!(
            runner = self.0,
            "a request for a job was given up, which GitLab has not answered since the entry changed: a job that it has handed \
             out meanwhile fails there after two minutes"
        );
    }
}

/// GitLab does not know the token.
pub(crate) struct TokenRefused<'a> {
    pub(crate) runner: &'a str,
    /// The entry's name.
    pub(crate) name: &'a str,
    /// GitLab's words.
    pub(crate) message: &'a str,
}

impl Said for TokenRefused<'_> {
    fn log(&self) {
        let Self { runner, name, message } = self;
        tracing::error!(
            runner,
            status = 403,
            "Checking for jobs... forbidden: {message}; GitLab refuses the token of runner {name:?}: it was removed there, or its token \
             was reset (one that is paused gets no jobs, but no refusal). Write its new token into the config"
        );
    }

    fn count(&self, metrics: &Metrics, runner: &RunnerLabels) {
        metrics.token_refused.with_label_values(&of(runner)).set(1);
    }
}

/// GitLab is in maintenance.
pub(crate) struct GitlabUnavailable<'a> {
    pub(crate) runner: &'a str,
    /// GitLab's words.
    pub(crate) message: &'a str,
}

impl Said for GitlabUnavailable<'_> {
    fn log(&self) {
        let Self { runner, message } = self;
        tracing::warn!(runner, "Checking for jobs... GitLab instance currently unavailable: {message}");
    }
}

/// GitLab could not be asked, or has answered otherwise.
pub(crate) struct RequestFailed<'a> {
    pub(crate) runner: &'a str,
    pub(crate) error: &'a CallError,
}

impl Said for RequestFailed<'_> {
    fn log(&self) {
        let Self { runner, error } = self;
        tracing::warn!(runner, status = error.status(), "Checking for jobs... failed: {}", chain(error));
    }
}

/// GitLab has refused so often that it is left alone for a while.
pub(crate) struct RunnerUnhealthy<'a> {
    pub(crate) runner: &'a str,
    pub(crate) failures: u32,
    pub(crate) limit: u32,
    pub(crate) pause: Duration,
}

impl Said for RunnerUnhealthy<'_> {
    fn log(&self) {
        let Self { runner, failures, limit, pause } = self;
        tracing::error!(
            unhealthy_requests = failures,
            unhealthy_requests_limit = limit,
            "Runner \"{runner}\" is unhealthy and will be disabled for {} seconds!",
            pause.as_secs()
        );
    }
}

/// Why no job is asked for has changed; `None`: jobs are asked for again.
pub(crate) struct HoldChanged<'a>(pub(crate) Option<&'a Hold>);

impl HoldChanged<'_> {
    /// Says it, in the log for people and as a metric for alarms.
    pub(crate) fn tell(&self, metrics: &Metrics, labels: &RunnerLabels) {
        let runner = labels.runner.as_str();
        if let Some(hold) = self.0 {
            tracing::warn!(runner, reason = hold.kind.as_str(), "No jobs are asked for: {hold}");
        } else {
            tracing::info!(runner, "Jobs are asked for again");
        }
        metrics.show_hold(labels, self.0.map(|hold| hold.kind));
    }
}
