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
    runners: usize,
    last_poll: Option<Instant>,
    unreachable: Option<String>,
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

    /// How many runners are configured.
    pub(crate) fn set_runners(&self, runners: usize) {
        self.with(|inner| inner.runners = runners);
    }

    /// GitLab answered a request for a job.
    pub(crate) fn polled(&self) {
        self.with(|inner| inner.last_poll = Some(Instant::now()));
    }

    /// The cluster of a runner can or cannot be used.
    pub(crate) fn set_cluster(&self, problem: Option<String>) {
        self.with(|inner| inner.unreachable = problem);
    }

    /// Why the process is not ready, if it is not.
    pub(crate) fn not_ready(&self) -> Option<String> {
        self.with(|inner| {
            if inner.state != ProcessState::Running {
                return Some(format!("the process is in state {}", inner.state.as_str()));
            }
            if inner.runners == 0 {
                return Some("no runner is configured".to_owned());
            }
            if let Some(problem) = &inner.unreachable {
                return Some(problem.clone());
            }
            match inner.last_poll {
                None => Some("GitLab has not answered a request for a job yet".to_owned()),
                Some(at) if at.elapsed() > POLL_AGE => {
                    Some(format!("GitLab has not answered a request for a job for {} s", at.elapsed().as_secs()))
                }
                Some(_) => None,
            }
        })
    }
}
