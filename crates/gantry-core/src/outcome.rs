//! What GitLab is told about the end of a job, in GitLab's words.

use serde::{Deserialize, Serialize};

/// Job states that a runner reports (GitLab Runner 19.4, `common/network.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Taken, and being prepared: keeps GitLab from letting a job of two-phase acceptance fail.
    Pending,
    /// Acknowledged: GitLab shows the job as running.
    Running,
    /// Ended well.
    Success,
    /// Ended otherwise, with a [`FailureReason`].
    Failed,
}

impl JobState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing follows it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failed)
    }
}

/// Why a job failed, as far as GitLab tells reasons apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// The user's script ended with a non-zero code.
    ScriptFailure,
    /// Something of the runner or the cluster failed.
    RunnerSystemFailure,
    /// A time-out of the job or its script.
    JobExecutionTimeout,
    /// An image could not be pulled, for a reason that is not further known.
    ImagePullFailure,
    /// The job or the runner is configured in a way that cannot work.
    RunnerConfigurationError,
    /// Something that neither user nor runner controls, such as a registry, could not be reached.
    RunnerExternalDependencyFailure,
    /// Nothing of the job has run, because whoever had taken it is gone: the only reason for which
    /// GitLab tries a job again without being asked to, twice at most (GitLab server, `AutoRetry`).
    SchedulerFailure,
    /// The runner was told to stop.
    RunnerInterrupted,
    /// The job was canceled.
    JobCanceled,
    /// None of the others, or one that only a newer version knows.
    #[serde(other)]
    UnknownFailure,
}

impl FailureReason {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScriptFailure => "script_failure",
            Self::RunnerSystemFailure => "runner_system_failure",
            Self::JobExecutionTimeout => "job_execution_timeout",
            Self::ImagePullFailure => "image_pull_failure",
            Self::RunnerConfigurationError => "runner_configuration_error",
            Self::RunnerExternalDependencyFailure => "runner_external_dependency_failure",
            Self::SchedulerFailure => "scheduler_failure",
            Self::RunnerInterrupted => "runner_interrupted",
            Self::JobCanceled => "job_canceled",
            Self::UnknownFailure => "unknown_failure",
        }
    }

    /// The reason to send to a server that listed `accepted` in `features.failure_reasons` of the
    /// job: this one if it is known there, else the nearest known one (GitLab Runner 19.4 reasons
    /// and fall-backs).
    pub fn accepted_by(self, accepted: &[String]) -> Self {
        let always = matches!(self, Self::ScriptFailure | Self::RunnerSystemFailure | Self::JobExecutionTimeout);
        if always || accepted.iter().any(|reason| reason == self.as_str()) {
            return self;
        }
        match self {
            Self::ImagePullFailure | Self::RunnerExternalDependencyFailure | Self::SchedulerFailure => {
                Self::RunnerSystemFailure
            }
            Self::RunnerConfigurationError => Self::ScriptFailure,
            _ => Self::UnknownFailure,
        }
    }
}

/// The closed record of how a job ended: what is sent to GitLab and what the job log says last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Succeeded or failed; `false` with every reason.
    pub success: bool,
    /// Absent on success.
    pub reason: Option<FailureReason>,
    /// The exit code of the failing script or stage; absent when there is none.
    pub exit_code: Option<i32>,
    /// One sentence for the job log.
    pub message: String,
}

impl Verdict {
    /// The state to report.
    pub fn state(&self) -> JobState {
        if self.success { JobState::Success } else { JobState::Failed }
    }

    /// Whether the job log calls it a failure of the system and not of the job.
    pub fn is_system_failure(&self) -> bool {
        matches!(self.reason, Some(FailureReason::RunnerSystemFailure | FailureReason::SchedulerFailure))
    }
}

#[cfg(test)]
mod tests {
    use super::FailureReason as Reason;

    #[test]
    fn unknown_reasons_fall_back_to_known_ones() {
        let server = ["script_failure", "runner_system_failure", "unknown_failure"].map(str::to_owned);
        for (own, sent) in [
            (Reason::JobExecutionTimeout, Reason::JobExecutionTimeout),
            (Reason::ImagePullFailure, Reason::RunnerSystemFailure),
            (Reason::RunnerConfigurationError, Reason::ScriptFailure),
            (Reason::RunnerExternalDependencyFailure, Reason::RunnerSystemFailure),
            (Reason::SchedulerFailure, Reason::RunnerSystemFailure),
            (Reason::RunnerInterrupted, Reason::UnknownFailure),
            (Reason::JobCanceled, Reason::UnknownFailure),
        ] {
            assert_eq!(own.accepted_by(&server), sent, "{own:?}");
        }
        assert_eq!(Reason::ImagePullFailure.accepted_by(&["image_pull_failure".to_owned()]), Reason::ImagePullFailure);
    }
}
