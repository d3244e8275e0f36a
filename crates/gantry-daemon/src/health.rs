//! Whether the process does what it is there for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::RunnerLabels;

/// Without any answer of GitLab to requests for a job in this time the process is not ready: longer
/// than GitLab holds one request.
const POLL_AGE: Duration = Duration::from_secs(180);

/// A process that has not asked for a job so long after its start does not, because all its places
/// are taken by jobs of the manager before it.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

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
    /// Runners whose tokens GitLab refuses. A paused runner is not among them: it is told that
    /// there is no job.
    refused: BTreeSet<RunnerLabels>,
    /// Since when it works.
    running: Option<Instant>,
    /// GitLab has answered a request for a job.
    answered: bool,
    /// Since when requests are without an answer; nothing while all were answered, or where none
    /// are made, for want of places.
    unanswered: Option<Instant>,
    /// Workers that ask, or rest before they ask again.
    asking: usize,
    /// Names of runners that take no jobs before a trial pod has started, and what keeps each from
    /// that; nothing once one has.
    proofs: BTreeMap<String, Option<String>>,
}

/// A worker that asks for jobs, or rests before it asks again. Whoever waits for something else
/// than GitLab drops it: where none is left, nothing is without an answer.
pub(crate) struct Asking(Health);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.with(|inner| {
            inner.asking -= 1;
            if inner.asking == 0 {
                inner.unanswered = None;
            }
        });
    }
}

impl Health {
    fn with<T>(&self, read: impl FnOnce(&mut Inner) -> T) -> T {
        read(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_state(&self, state: ProcessState) {
        self.with(|inner| {
            inner.state = state;
            inner.running = inner.running.or((state == ProcessState::Running).then(Instant::now));
        });
    }

    pub(crate) fn state(&self) -> ProcessState {
        self.with(|inner| inner.state)
    }

    /// How many runners ask for jobs, and why those do not that should.
    pub(crate) fn set_runners(&self, working: usize, problems: Vec<String>) {
        self.with(|inner| (inner.working, inner.problems) = (working, problems));
    }

    /// GitLab is asked for a job.
    pub(crate) fn asks(&self) -> Asking {
        self.with(|inner| {
            inner.asking += 1;
            inner.unanswered = inner.unanswered.or_else(|| Some(Instant::now()));
        });
        Asking(self.clone())
    }

    /// GitLab answered, whatever it said and to whomever.
    pub(crate) fn answered(&self) {
        self.with(|inner| inner.unanswered = None);
    }

    /// For how long requests for a job have had no answer.
    pub(crate) fn unanswered_for(&self) -> Duration {
        self.with(|inner| inner.unanswered.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// GitLab answered a request of this runner for a job.
    pub(crate) fn polled(&self, runner: &RunnerLabels) {
        self.with(|inner| {
            (inner.answered, inner.unanswered) = (true, None);
            inner.refused.remove(runner);
        });
    }

    /// GitLab refused the token of this runner.
    pub(crate) fn refused(&self, runner: &RunnerLabels) {
        self.with(|inner| {
            inner.unanswered = None;
            inner.refused.insert(runner.clone());
        });
    }

    /// A runner takes no jobs before a trial pod has started.
    pub(crate) fn unproven(&self, runner: &str, why: &str) {
        self.with(|inner| inner.proofs.insert(runner.to_owned(), Some(why.to_owned())));
    }

    /// A trial pod of this runner has started.
    pub(crate) fn proven(&self, runner: &str) {
        self.with(|inner| inner.proofs.insert(runner.to_owned(), None));
    }

    /// Whether one has.
    pub(crate) fn is_proven(&self, runner: &str) -> bool {
        self.with(|inner| inner.proofs.get(runner).is_some_and(Option::is_none))
    }

    /// Forgets what is known of runners that are not there any more.
    pub(crate) fn keep_only(&self, runners: &BTreeSet<RunnerLabels>) {
        self.with(|inner| {
            inner.refused.retain(|refused| runners.contains(refused));
            inner.proofs.retain(|name, _| runners.iter().any(|runner| runner.name == *name));
        });
    }

    /// What to show to who asks whether the process is ready; an error if it is not. One runner
    /// that works is enough: the others' problems are shown in both cases.
    pub(crate) fn readiness(&self) -> Result<String, String> {
        self.with(|inner| {
            let refused = inner.refused.iter().map(|RunnerLabels { name, .. }| {
                format!("GitLab refuses the token of runner {name:?}: the runner was removed there, or its token reset")
            });
            let unproven = inner.proofs.iter().filter_map(|(name, why)| {
                Some(format!("runner {name:?} takes no jobs, as boot_verify demands: {}", why.as_ref()?))
            });
            let unproven: Vec<String> = unproven.collect();
            let is_pending = !unproven.is_empty();
            let problems: Vec<String> = inner.problems.iter().cloned().chain(unproven).chain(refused).collect();
            let lines = |first: String| [&[first], problems.as_slice()].concat().join("\n");
            if inner.state != ProcessState::Running {
                return Err(format!("the process is in state {}", inner.state.as_str()));
            }
            if inner.working == 0 {
                let first = if inner.problems.is_empty() { "no runner is configured" } else { "no runner can work" };
                return Err(lines(first.to_owned()));
            }
            if is_pending {
                return Err(lines("boot-verify pending".to_owned()));
            }
            if inner.refused.len() >= inner.working {
                return Err(lines("no runner can work".to_owned()));
            }
            let has_asked = inner.answered || inner.unanswered.is_some();
            let is_full = !has_asked && inner.running.is_some_and(|since| since.elapsed() > FIRST_REQUEST);
            match inner.unanswered.map(|since| since.elapsed()).filter(|silence| *silence > POLL_AGE) {
                Some(silence) => {
                    Err(lines(format!("GitLab has not answered a request for a job for {} s", silence.as_secs())))
                }
                None if inner.answered || is_full => Ok(lines("ready".to_owned())),
                None => Err(lines("GitLab has not answered a request for a job yet".to_owned())),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(name: &str) -> RunnerLabels {
        RunnerLabels { runner: format!("token of {name}"), name: name.to_owned(), system_id: "s_1".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_runner_that_must_prove_itself() {
        let health = Health::default();
        health.set_state(ProcessState::Running);
        health.set_runners(2, Vec::new());
        health.polled(&runner("b"));
        health.unproven("a", "no such image");
        assert!(!health.is_proven("a") && !health.is_proven("b"));
        let expected = "boot-verify pending\nrunner \"a\" takes no jobs, as boot_verify demands: no such image";
        assert_eq!(health.readiness(), Err(expected.to_owned()));
        health.proven("a");
        assert!(health.is_proven("a"));
        assert_eq!(health.readiness(), Ok("ready".to_owned()));
        health.keep_only(&BTreeSet::from([runner("b")]));
        assert!(!health.is_proven("a"), "one that comes back proves itself anew");
    }

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
        health.polled(&runner("b"));
        assert_eq!(health.readiness(), Ok("ready\na: is missing".to_owned()));
        health.refused(&runner("b"));
        assert!(health.readiness().unwrap_err().contains("GitLab refuses the token of runner \"b\""));
        health.set_runners(2, Vec::new());
        assert!(health.readiness().unwrap().starts_with("ready\nGitLab refuses the token of runner \"b\""));
        health.keep_only(&BTreeSet::from([runner("c")]));
        assert_eq!(health.readiness(), Ok("ready".to_owned()));
        tokio::time::advance(POLL_AGE + Duration::from_secs(1)).await;
        assert_eq!(health.readiness(), Ok("ready".to_owned()), "nothing was asked, as all places are taken");
        let first = health.asks();
        tokio::time::advance(POLL_AGE + Duration::from_secs(1)).await;
        let _second = health.asks();
        drop(first);
        assert!(health.readiness().unwrap_err().starts_with("GitLab has not answered a request for a job for 181 s"));
        assert_eq!(health.unanswered_for(), POLL_AGE + Duration::from_secs(1));
        health.polled(&runner("b"));
        assert_eq!((health.readiness(), health.unanswered_for()), (Ok("ready".to_owned()), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_full_from_the_start_is_ready() {
        let health = Health::default();
        health.set_state(ProcessState::Running);
        health.set_runners(1, Vec::new());
        assert!(health.readiness().is_err(), "it may be about to ask");
        tokio::time::advance(FIRST_REQUEST + Duration::from_secs(1)).await;
        assert_eq!(health.readiness(), Ok("ready".to_owned()));
        let _asking = health.asks();
        assert!(health.readiness().is_err(), "GitLab may not be there at all");
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_asks_nothing_is_without_an_answer() {
        let health = Health::default();
        health.set_state(ProcessState::Running);
        health.set_runners(1, Vec::new());
        health.polled(&runner("a"));
        let failed = health.asks();
        tokio::time::advance(POLL_AGE + Duration::from_secs(1)).await;
        assert!(health.readiness().is_err());
        drop(failed);
        assert_eq!((health.readiness(), health.unanswered_for()), (Ok("ready".to_owned()), Duration::ZERO));
        let _again = health.asks();
        assert_eq!(health.unanswered_for(), Duration::ZERO, "a new silence begins");
        tokio::time::advance(POLL_AGE + Duration::from_secs(1)).await;
        health.answered();
        assert_eq!(health.unanswered_for(), Duration::ZERO);
    }

    #[test]
    fn runners_of_one_name_are_two() {
        let health = Health::default();
        health.set_state(ProcessState::Running);
        health.set_runners(2, Vec::new());
        let twin = |token: &str| RunnerLabels { runner: token.to_owned(), ..runner("a") };
        health.refused(&twin("one"));
        health.refused(&twin("two"));
        let why = health.readiness().unwrap_err();
        assert!(why.starts_with("no runner can work\n") && why.lines().count() == 3, "{why}");
        health.polled(&twin("two"));
        assert!(health.readiness().unwrap().starts_with("ready\nGitLab refuses"));
    }
}
