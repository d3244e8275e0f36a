//! Every way a job can end, and what each means to GitLab, to the reader of the job log and to the
//! operator. One exhaustive table: a new way to end does not compile until all its readers are
//! served.

mod pull;

use serde::{Deserialize, Serialize};

pub use pull::pull_is_final;

use crate::outcome::{FailureReason, Verdict};

mod examples;

pub use examples::examples;

/// Name of the container that runs the user's scripts.
pub const BUILD_CONTAINER: &str = "build";

/// How a job ended. Closed by the agent, or by the manager when it has proof that no agent can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum Ending {
    /// Every stage ended with 0.
    Succeeded,
    /// A user script ended with a non-zero code.
    ScriptFailed {
        /// 128 plus the signal when one ended it.
        exit_code: i32,
    },
    /// A user script failed after processes of its container were OOMKilled.
    ScriptOutOfMemory {
        /// 137 where it was the script itself; else the script's own code.
        exit_code: i32,
        /// The memory limit of the build container, in Kubernetes' notation, if it has one.
        #[serde(default)]
        limit: Option<String>,
    },
    /// A stage of the runner's own (sources, artifacts) failed.
    StageFailed {
        /// Name of the stage, as in the section markers.
        stage: String,
        /// What went wrong and what to do.
        message: String,
        /// Of the tool that failed, such as git.
        exit_code: i32,
    },
    /// The job's time-out passed.
    TimedOut {
        /// The time-out as GitLab sent it.
        seconds: u64,
    },
    /// `get_sources_timeout` passed.
    SourcesTimedOut {
        /// The limit.
        seconds: u64,
    },
    /// `RUNNER_SCRIPT_TIMEOUT` passed.
    ScriptTimedOut {
        /// The limit.
        seconds: u64,
    },
    /// `RUNNER_AFTER_SCRIPT_TIMEOUT` passed, in a job whose `after_script` counts.
    AfterScriptTimedOut {
        /// The limit.
        seconds: u64,
    },
    /// GitLab canceled the job.
    Canceled,
    /// The runner was told to stop, and configured to end its jobs then.
    Interrupted {
        /// Such as `SIGTERM`.
        signal: String,
    },
    /// The job's payload cannot be understood or contradicts itself.
    InvalidJob {
        /// What is wrong, and where in the payload.
        message: String,
    },
    /// Job and runner settings cannot work together.
    Configuration {
        /// What is wrong and what to change.
        message: String,
    },
    /// An image could not be pulled.
    ImagePull {
        /// Container that needs it.
        container: String,
        /// The image.
        image: String,
        /// The kubelet's words.
        message: String,
    },
    /// A container cannot be created or started as configured.
    ContainerConfig {
        /// Which one.
        container: String,
        /// The kubelet's reason and words.
        message: String,
    },
    /// The API server refused the pod.
    PodRefused {
        /// Its words.
        message: String,
    },
    /// The cluster could not be asked to make the pod.
    ClusterUnreachable {
        /// What was tried and how it failed.
        message: String,
    },
    /// The pod did not start in the time that the runner's config gives it.
    PodStartTimeout {
        /// The limit.
        seconds: u64,
        /// Which setting that is.
        #[serde(default)]
        setting: StartSetting,
        /// What the pod's conditions and containers said last.
        detail: String,
    },
    /// A service did not answer in the time that `wait_for_services_timeout` gives it, or ended
    /// before.
    ServiceNotReady {
        /// Its container.
        service: String,
        /// What was waited for.
        message: String,
    },
    /// Somebody deleted the pod.
    PodDeleted {
        /// Its name.
        pod: String,
    },
    /// The cluster ended the pod: eviction, preemption, node shutdown.
    PodDisrupted {
        /// Its name.
        pod: String,
        /// The cluster's reason and words.
        message: String,
    },
    /// A container was OOMKilled.
    ContainerOutOfMemory {
        /// Which one.
        container: String,
        /// Its memory limit, in Kubernetes' notation, if it has one.
        #[serde(default)]
        limit: Option<String>,
    },
    /// The build or helper container ended by itself.
    ContainerDied {
        /// Which one.
        container: String,
        /// Its exit code.
        exit_code: i32,
        /// The kubelet's reason.
        reason: String,
        /// The last line that it printed, or nothing, if an entrypoint started it
        /// (`FF_KUBERNETES_HONOR_ENTRYPOINT`).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entrypoint: Option<String>,
    },
    /// Our helper cannot run in the helper container.
    HelperUnusable {
        /// Why, and which image to use.
        message: String,
    },
    /// The build container runs but the shim in it does not.
    ShimSilent {
        /// Why, as far as known.
        message: String,
    },
    /// Whoever had taken the job is gone, and nothing of it has run: a GitLab that takes this
    /// reason tries it again by itself, a few times at most.
    NeverBegun {
        /// What happened. It promises no new try: a GitLab that does not take the reason is told
        /// another.
        message: String,
    },
    /// Something of the runner itself failed: a full disk in the pod, a broken protocol.
    Runner {
        /// What, and what to do.
        message: String,
    },
    /// A way that only a newer version knows, in its own words.
    Foreign {
        /// Who is to blame.
        reason: FailureReason,
        /// The exit code to report, if there is one.
        exit_code: Option<i32>,
        /// One sentence.
        message: String,
    },
}

/// The setting that limits how long a pod may take to start: the shorter one of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartSetting {
    /// `prepare_timeout` of the `[[runners]]` entry.
    PrepareTimeout,
    /// `poll_timeout` of `[runners.kubernetes]`.
    #[default]
    #[serde(other)]
    PollTimeout,
}

impl Ending {
    /// What GitLab and the job log are told.
    pub fn verdict(&self) -> Verdict {
        Verdict {
            success: matches!(self, Self::Succeeded),
            reason: self.reason(),
            exit_code: self.exit_code().filter(|code| *code != 0),
            message: self.message(),
        }
    }

    /// Who is to blame, in GitLab's words; `None` on success.
    pub fn reason(&self) -> Option<FailureReason> {
        use FailureReason as Reason;
        Some(match self {
            Self::Succeeded => return None,
            Self::ScriptFailed { .. } | Self::ScriptOutOfMemory { .. } | Self::StageFailed { .. } => {
                Reason::ScriptFailure
            }
            // Nothing runs in the build container but what the job has started.
            Self::ContainerOutOfMemory { container, .. } if container == BUILD_CONTAINER => Reason::ScriptFailure,
            Self::TimedOut { .. }
            | Self::SourcesTimedOut { .. }
            | Self::ScriptTimedOut { .. }
            | Self::AfterScriptTimedOut { .. }
            | Self::PodStartTimeout { setting: StartSetting::PrepareTimeout, .. } => Reason::JobExecutionTimeout,
            Self::Canceled => Reason::JobCanceled,
            Self::Foreign { reason, .. } => *reason,
            Self::NeverBegun { .. } => Reason::SchedulerFailure,
            Self::Interrupted { .. } => Reason::RunnerInterrupted,
            Self::Configuration { .. } | Self::ContainerConfig { .. } => Reason::RunnerConfigurationError,
            Self::ImagePull { message, .. } => pull::classify(message),
            Self::InvalidJob { .. }
            | Self::PodRefused { .. }
            | Self::ClusterUnreachable { .. }
            | Self::PodStartTimeout { .. }
            | Self::ServiceNotReady { .. }
            | Self::PodDeleted { .. }
            | Self::PodDisrupted { .. }
            | Self::ContainerOutOfMemory { .. }
            | Self::ContainerDied { .. }
            | Self::HelperUnusable { .. }
            | Self::ShimSilent { .. }
            | Self::Runner { .. } => Reason::RunnerSystemFailure,
        })
    }

    /// The exit code to report, if the way of ending has one.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::ScriptFailed { exit_code }
            | Self::ScriptOutOfMemory { exit_code, .. }
            | Self::StageFailed { exit_code, .. } => Some(*exit_code),
            Self::Foreign { exit_code, .. } => *exit_code,
            _ => None,
        }
    }

    /// Whether the same job may well succeed elsewhere or later: what an operator reads from the
    /// log of the runner.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::NeverBegun { .. }
                | Self::Interrupted { .. }
                | Self::ClusterUnreachable { .. }
                | Self::PodStartTimeout { .. }
                | Self::ServiceNotReady { .. }
                | Self::PodDeleted { .. }
                | Self::PodDisrupted { .. }
                | Self::ContainerDied { .. }
                | Self::Runner { .. }
        ) || matches!(
            self.reason(),
            Some(FailureReason::RunnerExternalDependencyFailure | FailureReason::ImagePullFailure)
        )
    }

    /// One sentence: what happened and, where it helps, what to change.
    fn message(&self) -> String {
        match self {
            Self::Succeeded => "Job succeeded".to_owned(),
            Self::ScriptFailed { exit_code } => format!("command terminated with exit code {exit_code}"),
            Self::ScriptOutOfMemory { exit_code, limit } => format!(
                "command terminated with exit code {exit_code}, and processes of the build container were OOMKilled: {}",
                more_memory(BUILD_CONTAINER, limit.as_deref())
            ),
            Self::StageFailed { message, .. }
            | Self::Configuration { message }
            | Self::HelperUnusable { message }
            | Self::ShimSilent { message }
            | Self::NeverBegun { message }
            | Self::Runner { message }
            | Self::ServiceNotReady { message, .. }
            | Self::Foreign { message, .. } => message.clone(),
            Self::TimedOut { seconds } => format!("execution took longer than {} seconds", go_seconds(*seconds)),
            Self::SourcesTimedOut { seconds } => format!(
                "get sources timeout: exceeded timeout of {} (get_sources_timeout of the runner's config)",
                go_seconds(*seconds)
            ),
            Self::ScriptTimedOut { seconds } => format!("script timeout: exceeded timeout of {}", go_seconds(*seconds)),
            Self::AfterScriptTimedOut { seconds } => {
                format!(
                    "after_script timeout: exceeded timeout of {} (RUNNER_AFTER_SCRIPT_TIMEOUT)",
                    go_seconds(*seconds)
                )
            }
            Self::Canceled => "canceled".to_owned(),
            Self::Interrupted { signal } => format!("aborted: {signal}"),
            Self::InvalidJob { message } => format!("the job that GitLab sent cannot be run: {message}"),
            Self::ImagePull { container, image, message } => {
                format!("pulling image {image:?} for container {container}: image pull failed: {message}")
            }
            Self::ContainerConfig { container, message } => format!("container {container} cannot start: {message}"),
            Self::PodRefused { message } => format!("setting up build pod: the API server refused the pod: {message}"),
            Self::ClusterUnreachable { message } => format!("setting up build pod: {message}"),
            Self::PodStartTimeout { seconds, setting: StartSetting::PollTimeout, detail } => {
                format!("timed out waiting for pod to start ({seconds} s, see poll_timeout): {detail}")
            }
            Self::PodStartTimeout { seconds, setting: StartSetting::PrepareTimeout, detail } => format!(
                "prepare timeout: exceeded timeout of {} (prepare_timeout of the runner's config) while waiting for pod to start: {detail}",
                go_seconds(*seconds)
            ),
            Self::PodDeleted { pod } => format!("pod {pod:?} was deleted from outside while the job ran"),
            Self::PodDisrupted { pod, message } => format!("pod {pod:?} was ended by the cluster: {message}"),
            Self::ContainerOutOfMemory { container, limit } => {
                format!("container {container} was OOMKilled: {}", more_memory(container, limit.as_deref()))
            }
            Self::ContainerDied { container, exit_code, reason, entrypoint } => {
                let hint = entrypoint.as_deref().map(of_entrypoint).unwrap_or_default();
                format!("container {container} ended while the job ran: exit code {exit_code}, reason {reason}{hint}")
            }
        }
    }
}

/// What to change about a container that has run out of memory (settings and variables of GitLab
/// Runner 19.4).
fn more_memory(container: &str, limit: Option<&str>) -> String {
    let (setting, variable) = match container {
        BUILD_CONTAINER => ("memory_limit", "KUBERNETES_MEMORY_LIMIT"),
        "helper" => ("helper_memory_limit", "KUBERNETES_HELPER_MEMORY_LIMIT"),
        _ => ("service_memory_limit", "KUBERNETES_SERVICE_MEMORY_LIMIT"),
    };
    let variable = format!("a job may ask for more by {variable} where the runner allows that");
    match limit {
        Some(limit) => format!(
            "its memory limit is {limit}; make the job use less, or raise {setting} in [runners.kubernetes] ({variable})"
        ),
        None => format!(
            "it has no memory limit of its own, so its pod (pod_memory_limit) or its node was short of memory; make the job use \
             less, or set {setting} in [runners.kubernetes] to what it needs ({variable})"
        ),
    }
}

/// What may be wrong with a container that an entrypoint starts, and the last line that it printed.
fn of_entrypoint(printed: &str) -> String {
    let last = if printed.is_empty() { String::new() } else { format!("; the last that it printed: {printed:?}") };
    format!(
        "; an entrypoint starts it (FF_KUBERNETES_HONOR_ENTRYPOINT), which must run the command that it is given, as `exec \"$@\"` \
         does{last}"
    )
}

fn go_seconds(seconds: u64) -> String {
    crate::go_duration::format(std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
