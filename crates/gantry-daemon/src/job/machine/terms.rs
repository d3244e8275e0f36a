//! What is known of a job from the start.

use std::time::Duration;

use gantry_core::ending::StartSetting;

/// What the machine knows of a job from the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    /// Name of the pod.
    pub(crate) pod: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Names of the service containers; absent if they have to be told by what the pod shows.
    pub(crate) services: Option<Vec<String>>,
    /// The job's time-out.
    pub(crate) timeout: Duration,
    /// How long the pod may take to start.
    pub(crate) start_timeout: Duration,
    /// The setting that says so.
    pub(crate) start_setting: StartSetting,
    /// Whether the pod's events may be asked for causes (`print_pod_warning_events`).
    pub(crate) asks_events: bool,
    /// Whether all events are shown until the pod runs (`FF_PRINT_POD_EVENTS`).
    pub(crate) prints_events: bool,
    /// What the config mounts, in words: a node may wait for it.
    pub(crate) volumes: Vec<String>,
    /// Whether GitLab can be spoken to about a job whose agent cannot be asked: always, but for one
    /// that was found without a ticket.
    pub(crate) is_known: bool,
    /// Whether the manager of a job that was found may live, and only not have come to its agent
    /// yet.
    pub(crate) manager_may_live: bool,
}
