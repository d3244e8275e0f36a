//! What an agent and a manager must know about the services of a job.

use serde::{Deserialize, Serialize};

/// One service container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePlan {
    /// Name of the container.
    pub container: String,
    /// The image as the pod has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// What begins the lines of its log in the job log: its image and its aliases.
    #[serde(default)]
    pub label: String,
    /// The ports of the pod that it answers on once it is ready. Empty if nobody has said and
    /// nobody knows.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// No variable of the service names the ports: the job does for all of its services, or its
    /// image is known for them. One of them is enough, and none is no reason to fail.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub assumed: bool,
}

/// What messages call a service: the alias that its container bears, else its image. The container
/// is added where it has a name that only we have given, because `kubectl` wants that.
pub fn called<'a>(container: &'a str, image: &'a str) -> (&'a str, Option<&'a str>) {
    let number = container.strip_prefix(NAMELESS).unwrap_or_default();
    let is_ours = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if is_ours && !image.is_empty() { (image, Some(container)) } else { (container, None) }
}

/// The same as one text, such as `db` or `redis:7 (container svc-0)`.
pub fn shown(container: &str, image: &str) -> String {
    match called(container, image) {
        (name, None) => name.to_owned(),
        (name, Some(container)) => format!("{name} (container {container})"),
    }
}

/// What the names of containers begin with whose services have no alias that would do; a number
/// follows.
pub const NAMELESS: &str = "svc-";

/// The services of a job, beside [`crate::plan::PodPlan::wait_for_services`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicesPlan {
    /// Those that there are.
    #[serde(default)]
    pub list: Vec<ServicePlan>,
    /// How long they may take from their start until they answer on ports that were named; 0 for
    /// not waiting.
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

/// A service whose container has ended: it will not answer any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedService {
    /// Name of the container.
    pub container: String,
    /// In words, such as `exit code 7, reason Error`.
    pub how: String,
}

/// A service that did not answer in time, or has ended before. Managers that may read its log show
/// the end of it.
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

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn services_are_called_what_people_have_written() {
        for (container, image, expected) in [
            ("db", "postgres:17", "db"),
            ("svc-0", "redis:7", "redis:7 (container svc-0)"),
            ("svc-0", "", "svc-0"),
            ("svc-a", "redis:7", "svc-a"),
            ("svc-", "redis:7", "svc-"),
        ] {
            assert_eq!(shown(container, image), expected);
        }
    }
}
