//! The order of stages: one pure function from the plan and what has happened to what happens next.
//!
//! Facts are those of GitLab Runner 19.4 (`common/build.go`): what is skipped after a failure,
//! which error wins, what a cancellation leaves to run.

use std::time::Duration;

use gantry_core::{Ending, backoff};

use crate::cache::SaveCaches;
use crate::plan::{Action, PodPlan, StagePlan};

/// What has happened to a job so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Every try of a stage, in order.
    pub tries: Vec<Try>,
    /// GitLab asked to cancel gracefully.
    pub canceled: bool,
    /// Nothing more may run, for this reason: forced cancel, time-out of the job, proof from the
    /// manager.
    pub stopped: Option<Ending>,
}

/// One try of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// Index in the plan.
    pub stage: usize,
    /// How it ended: [`Ending::Succeeded`], or why not.
    pub ending: Ending,
}

/// The value of `CI_JOB_STATUS` while a stage runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// Not decided yet.
    Running,
    /// All went well so far.
    Success,
    /// Something failed.
    Failed,
    /// Canceled during the user's script.
    Canceled,
    /// The user's script exceeded its own limit.
    TimedOut,
}

impl JobStatus {
    /// The word that scripts see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::TimedOut => "timedout",
        }
    }
}

/// What happens next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run this stage.
    Run {
        /// Index in the plan.
        stage: usize,
        /// 1 for the first try.
        attempt: u32,
        /// Wait this long before.
        delay: Duration,
        /// `CI_JOB_STATUS`.
        status: JobStatus,
    },
    /// The job has ended.
    End(Ending),
}

/// First wait between tries of a stage, doubled each time, and its cap (GitLab Runner 19.4).
const RETRY_DELAY: Duration = Duration::from_secs(5);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(300);

/// Decides what happens next.
pub fn next_stage(plan: &PodPlan, history: &History) -> Next {
    if let Some(ending) = &history.stopped {
        return Next::End(ending.clone());
    }
    let so_far = SoFar::of(plan, history);
    if history.canceled && !so_far.script_started {
        return Next::End(Ending::Canceled);
    }
    if let Some((stage, attempt)) = so_far.retry {
        let delay = backoff::doubled(RETRY_DELAY, MAX_RETRY_DELAY, attempt + 1);
        return Next::Run { stage, attempt: attempt + 2, delay, status: JobStatus::Running };
    }
    let first = history.tries.last().map_or(0, |last| last.stage + 1);
    let next = (first..plan.stages.len()).find(|stage| so_far.wants(&plan.stages[*stage].action));
    match next {
        Some(stage) => {
            Next::Run { stage, attempt: 1, delay: Duration::ZERO, status: so_far.status(&plan.stages[stage]) }
        }
        None => Next::End(so_far.error.unwrap_or(Ending::Succeeded)),
    }
}

/// What the tries so far amount to.
struct SoFar {
    /// The error that the job will end with, if it ends now.
    error: Option<Ending>,
    /// Something has failed that decides which caches and artifacts are kept: an upload does not.
    failed: bool,
    /// Preparation failed: nothing else runs.
    unprepared: bool,
    /// A stage before the user's scripts failed for good.
    no_script: bool,
    /// A user script has been started.
    script_started: bool,
    /// The last stage failed and may be tried again: its index and the number of retries made.
    retry: Option<(usize, u32)>,
}

impl SoFar {
    fn of(plan: &PodPlan, history: &History) -> Self {
        let mut so_far = Self {
            error: None,
            failed: false,
            unprepared: false,
            no_script: false,
            script_started: false,
            retry: None,
        };
        for (at, a_try) in history.tries.iter().enumerate() {
            let Some(stage) = plan.stages.get(a_try.stage) else { continue };
            so_far.script_started |= matches!(stage.action, Action::Script(_));
            if a_try.ending == Ending::Succeeded {
                continue;
            }
            let tries = history.tries[..=at].iter().filter(|other| other.stage == a_try.stage).count();
            let retries = u32::try_from(tries - 1).unwrap_or(u32::MAX);
            let is_last = at + 1 == history.tries.len();
            if retries + 1 < stage.attempts {
                so_far.retry = is_last.then_some((a_try.stage, retries));
            } else {
                so_far.fail(plan, stage, &a_try.ending);
            }
        }
        // A cancel between two user scripts counts like one during a script; after the last one it
        // changes nothing.
        let tried = |stage: usize| history.tries.iter().any(|a_try| a_try.stage == stage);
        let scripts_left =
            plan.stages.iter().enumerate().any(|(at, stage)| matches!(stage.action, Action::Script(_)) && !tried(at));
        if history.canceled && so_far.script_started && scripts_left && so_far.error.is_none() {
            so_far.error = Some(Ending::Canceled);
            so_far.failed = true;
        }
        so_far
    }

    fn fail(&mut self, plan: &PodPlan, stage: &StagePlan, ending: &Ending) {
        let counts = match stage.action {
            Action::Prepare => {
                self.unprepared = true;
                true
            }
            Action::Sources(_) | Action::RestoreCache(_) | Action::DownloadArtifacts(_) => {
                self.no_script = true;
                true
            }
            Action::AfterScript(_) => !plan.after_script_ignore_errors,
            Action::Script(_) | Action::UploadArtifacts { .. } => true,
            // What is lost is time of later jobs.
            Action::SaveCache(_) | Action::Cleanup => false,
        };
        if counts {
            self.failed |= !matches!(stage.action, Action::UploadArtifacts { .. });
            self.error.get_or_insert_with(|| ending.clone());
        }
    }

    fn wants(&self, action: &Action) -> bool {
        match action {
            _ if self.unprepared => false,
            Action::Prepare
            | Action::Sources(_)
            | Action::RestoreCache(_)
            | Action::DownloadArtifacts(_)
            | Action::Script(_) => self.error.is_none(),
            Action::AfterScript(_) => !self.no_script,
            Action::SaveCache(SaveCaches { on_success, .. }) | Action::UploadArtifacts { on_success, .. } => {
                *on_success != self.failed
            }
            Action::Cleanup => true,
        }
    }

    fn status(&self, stage: &StagePlan) -> JobStatus {
        match (&stage.action, &self.error) {
            (
                Action::Prepare
                | Action::Sources(_)
                | Action::RestoreCache(_)
                | Action::DownloadArtifacts(_)
                | Action::Script(_),
                _,
            ) => JobStatus::Running,
            (_, None) => JobStatus::Success,
            (_, Some(Ending::Canceled)) => JobStatus::Canceled,
            (_, Some(Ending::ScriptTimedOut { .. })) => JobStatus::TimedOut,
            (_, Some(_)) => JobStatus::Failed,
        }
    }
}

#[cfg(test)]
mod tests;
