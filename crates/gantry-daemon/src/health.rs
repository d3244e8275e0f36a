//! Whether the process does what it is there for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Without any answer of GitLab to a request for a job in this time the process is not ready: longer than GitLab holds one request.
const POLL_AGE: Duration = Duration::from_secs(180);

/// What the process is doing (GitLab Runner 19.4, `/debug/process/state`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ProcessState {
    /// Not yet polling.
    #[default]
    Starting,
    /// Polling.
    Running,
    /// No new jobs; the running ones may end.
    GracefulShutdown,
    /// Running jobs are being ended.
    ForcefulShutdown,
}

impl ProcessState {
    /// The word that is shown.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::GracefulShutdown => "graceful-shutdown",
            Self::ForcefulShutdown => "forceful-shutdown",
        }
    }
}

/// The health of the process. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    state: ProcessState,
    /// Runners that ask for jobs.
    working: usize,
    /// Why others do not, one sentence each.
    problems: Vec<String>,
    last_poll: Option<Instant>,
}

impl Health {
    fn with<T>(&self, read: impl FnOnce(&mut Inner) -> T) -> T {
        read(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_state(&self, state: ProcessState) {
        self.with(|inner| inner.state = state);
    }

    pub(crate) fn state(&self) -> ProcessState {
        self.with(|inner| inner.state)
    }

    /// How many runners ask for jobs, and why those do not that should.
    pub(crate) fn set_runners(&self, working: usize, problems: Vec<String>) {
        self.with(|inner| (inner.working, inner.problems) = (working, problems));
    }

    /// GitLab answered a request for a job.
    pub(crate) fn polled(&self) {
        self.with(|inner| inner.last_poll = Some(Instant::now()));
    }

    /// What to show to who asks whether the process is ready; an error if it is not. One runner that works is enough: the others' problems
    /// are shown in both cases.
    pub(crate) fn readiness(&self) -> Result<String, String> {
        self.with(|inner| {
            let lines = |first: String| [&[first], inner.problems.as_slice()].concat().join("\n");
            if inner.state != ProcessState::Running {
                return Err(format!("the process is in state {}", inner.state.as_str()));
            }
            if inner.working == 0 {
                let first = if inner.problems.is_empty() { "no runner is configured" } else { "no runner can work" };
                return Err(lines(first.to_owned()));
            }
            match inner.last_poll {
                None => Err(lines("GitLab has not answered a request for a job yet".to_owned())),
                Some(at) if at.elapsed() > POLL_AGE => {
                    Err(lines(format!("GitLab has not answered a request for a job for {} s", at.elapsed().as_secs())))
                }
                Some(_) => Ok(lines("ready".to_owned())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_runner_that_works_is_enough() {
        let health = Health::default();
        assert_eq!(health.readiness(), Err("the process is in state starting".to_owned()));
        health.set_state(ProcessState::Running);
        assert_eq!(health.readiness(), Err("no runner is configured".to_owned()));
        health.set_runners(0, vec!["a: is missing".to_owned()]);
        assert_eq!(health.readiness(), Err("no runner can work\na: is missing".to_owned()));
        health.set_runners(1, vec!["a: is missing".to_owned()]);
        assert!(health.readiness().is_err(), "not before GitLab has answered");
        health.polled();
        assert_eq!(health.readiness(), Ok("ready\na: is missing".to_owned()));
        tokio::time::advance(POLL_AGE + Duration::from_secs(1)).await;
        assert!(health.readiness().unwrap_err().starts_with("GitLab has not answered a request for a job for 181 s"));
    }
}
