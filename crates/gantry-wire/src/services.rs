//! What an agent and a manager must know about the services of a job.

use serde::{Deserialize, Serialize};

/// One service container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Name of the container.
    pub container: String,
    /// What begins the lines of its log in the job log: its image and its aliases.
    #[serde(default)]
    pub label: String,
    /// The ports of the pod that it answers on once it is ready. Empty if nobody has said and nobody knows.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Nobody has named the ports: they are those that its image is known for. One of them is enough, and none is no reason to fail.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assumed: bool,
}

/// The services of a job, beside [`crate::plan::PodPlan::wait_for_services`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicesPlan {
    /// Those that there are.
    #[serde(default)]
    pub list: Vec<ServicePlan>,
    /// How long they may take from their start until they answer on ports that were named; 0 for not waiting.
    #[serde(default)]
    pub timeout_ms: u64,
    /// The same for ports that were assumed.
    #[serde(default)]
    pub assumed_timeout_ms: u64,
    /// Whether managers show the logs of all services in the job log (`CI_DEBUG_SERVICES`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub show_logs: bool,
}

impl ServicesPlan {
    /// Whether there is nothing to know.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// A service that did not answer in time. Managers that may read its log show the end of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilentService {
    /// Name of the container.
    pub container: String,
    /// What was waited for, as a sentence for the job log.
    pub message: String,
    /// The job ends because of it: the manager says so, or the agent by itself a little later.
    #[serde(default)]
    pub fatal: bool,
}
