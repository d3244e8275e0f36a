//! A pod's status, digested: the few things that decide how a job goes on. [`PodFacts::digest`] is
//! pure; so are the judgements in [`pending_reasons`], [`terminal`], [`terminal_before_plan`] and
//! [`services_started`]. Nothing here asks a cluster or a clock.

mod judge;

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ContainerStatus, apimachinery::pkg::apis::meta::v1::Time};

use crate::limits;
use crate::observed::{ObservedContainer, ObservedPod};
use crate::pods::{OURS, PodRef};

pub use judge::{
    gone, is_unexplained, line, pending_reasons, services_started, terminal, terminal_before_plan, unstartable,
};

/// What a pod's object says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodFacts {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// The node that the scheduler chose.
    pub node: Option<String>,
    /// `status.phase`.
    pub phase: Phase,
    /// `status.reason`, such as `Evicted`; empty where there is none.
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// When the pod is to be gone, if somebody asked for its deletion.
    pub deletion: Option<Time>,
    /// Why no node has been found: reason and message of `PodScheduled` while it is false.
    pub unscheduled: Option<Words>,
    /// Whether the node has mounted its volumes and set up its network
    /// (`PodReadyToStartContainers`, from Kubernetes 1.29 on).
    pub sandboxed: Option<bool>,
    /// Reason and message of `DisruptionTarget` while it is true: the cluster is ending the pod.
    pub disruption: Option<Words>,
    /// Init containers first, then the others, each in the order of the spec.
    pub containers: Vec<ContainerFacts>,
    /// Labels and annotations below `gantry.dev/`, by their whole keys; without those that are
    /// longer than [`limits::MARK`].
    pub marks: BTreeMap<String, String>,
    /// Whether its images are pulled with a Secret of the pod's own name: one that was made for it
    /// alone.
    pub has_own_secret: bool,
}

/// `status.phase` of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not all containers have been started.
    #[default]
    Pending,
    /// On a node, and at least one container runs or restarts.
    Running,
    /// All containers ended with 0.
    Succeeded,
    /// All containers ended, at least one not with 0, or the cluster ended the pod.
    Failed,
    /// The node has not been heard of.
    Unknown,
}

/// A machine-readable reason and the words with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// One CamelCase word.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// What a container's status says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// Its name in the spec.
    pub name: String,
    /// Whether it is an init container.
    pub init: bool,
    /// The image as the spec has it.
    pub image: String,
    /// Its memory limit as the spec has it, which may come from the cluster's defaults.
    pub memory_limit: Option<String>,
    /// Whether an entrypoint starts it: plans give it our command as arguments then, and let the
    /// kubelet keep the last lines if it fails.
    pub has_entrypoint: bool,
    /// What it does now.
    pub state: ContainerState,
    /// How it ended before it was last restarted.
    pub last_end: Option<ContainerEnd>,
    /// How often it was restarted.
    pub restarts: u32,
    /// How many tries to pull its image have been seen to fail, one after the other.
    pub pull_failures: u32,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Not started. The reason is empty while the kubelet has said nothing.
    Waiting(Words),
    /// Started.
    Running,
    /// Ended.
    Terminated(ContainerEnd),
}

impl Default for ContainerState {
    fn default() -> Self {
        Self::Waiting(Words::default())
    }
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerEnd {
    /// Exit code; 128 plus the signal when one ended it.
    pub exit_code: i32,
    /// Signal, where the runtime reports one.
    pub signal: Option<i32>,
    /// The kubelet's reason: `Completed`, `Error`, `OOMKilled`, `StartError`,
    /// `ContainerStatusUnknown`.
    pub reason: String,
    /// The kubelet's words, if any.
    pub message: String,
}

impl ContainerEnd {
    /// Whether it was OOMKilled.
    pub fn is_oom(&self) -> bool {
        self.reason == "OOMKilled"
    }

    /// Whether the runtime made the container and could not start its first process (Kubernetes
    /// API): there was nothing to end.
    pub fn never_ran(&self) -> bool {
        matches!(self.reason.as_str(), "StartError" | "ContainerCannotRun")
    }
}

impl PodFacts {
    /// Digests `pod`. `previous` are the facts of the same pod as they were seen before; they carry
    /// what an object forgets, such as how often a pull has failed.
    pub fn digest(pod: &ObservedPod, previous: Option<&Self>) -> Self {
        let meta = &pod.metadata;
        let status = pod.status.as_ref();
        let previous = previous.filter(|facts| Some(&facts.uid) == meta.uid.as_ref());
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty()),
            phase: status.and_then(|status| status.phase.as_deref()).map_or(Phase::Pending, Phase::parse),
            reason: status.and_then(|status| status.reason.clone()).unwrap_or_default(),
            message: status.and_then(|status| status.message.clone()).unwrap_or_default(),
            deletion: meta.deletion_timestamp.clone(),
            unscheduled: condition(pod, "PodScheduled", "False"),
            sandboxed: sandboxed(pod),
            disruption: condition(pod, "DisruptionTarget", "True"),
            containers: containers(pod, previous),
            marks: marks(pod),
            has_own_secret: meta.name.as_deref().is_some_and(|name| pod.uses_secret(name)),
        }
    }

    /// The pod that these are of.
    pub fn pod(&self) -> PodRef {
        PodRef { name: self.name.clone(), uid: self.uid.clone() }
    }

    /// The label or annotation of this key, if it is one of ours.
    pub fn mark(&self, key: &str) -> Option<&str> {
        self.marks.get(key).map(String::as_str)
    }

    /// Whether the pod takes room: it is not over, nobody has asked for its deletion, and it is not
    /// kept beyond its job.
    pub fn takes_room(&self) -> bool {
        !self.phase.is_over() && self.deletion.is_none() && !self.marks.contains_key(limits::KEPT)
    }

    /// The container of that name, if the pod has it.
    pub fn container(&self, name: &str) -> Option<&ContainerFacts> {
        self.containers.iter().find(|container| container.name == name)
    }
}

impl Phase {
    fn parse(word: &str) -> Self {
        match word {
            "Running" => Self::Running,
            "Succeeded" => Self::Succeeded,
            "Failed" => Self::Failed,
            "Unknown" => Self::Unknown,
            _ => Self::Pending,
        }
    }

    /// The word of the Kubernetes API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
        }
    }

    /// Whether no container of the pod will run again.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// What we have written on the pod ourselves, as far as it is short.
fn marks(pod: &ObservedPod) -> BTreeMap<String, String> {
    let all = [&pod.metadata.labels, &pod.metadata.annotations].into_iter().flatten().flatten();
    let short = all.filter(|(key, value)| key.starts_with(OURS) && value.len() <= limits::MARK);
    short.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn condition(pod: &ObservedPod, kind: &str, status: &str) -> Option<Words> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == kind && condition.status == status)?;
    Some(Words {
        reason: condition.reason.clone().unwrap_or_default(),
        message: condition.message.clone().unwrap_or_default(),
    })
}

fn sandboxed(pod: &ObservedPod) -> Option<bool> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == "PodReadyToStartContainers")?;
    Some(condition.status == "True")
}

/// One entry per container of the spec. Before the kubelet has seen the pod, and after an eviction
/// for want of disk, there is no status for them: then they wait, without a reason.
fn containers(pod: &ObservedPod, previous: Option<&PodFacts>) -> Vec<ContainerFacts> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let status = pod.status.as_ref();
    let init_statuses = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let statuses = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let init = spec.init_containers.iter().flatten().map(|container| (container, true, init_statuses));
    let others = spec.containers.iter().map(|container| (container, false, statuses));
    init.chain(others)
        .map(|(container, init, statuses)| {
            let before = previous.and_then(|facts| facts.container(&container.name));
            let mut facts = ContainerFacts {
                name: container.name.clone(),
                init,
                image: container.image.clone().unwrap_or_default(),
                memory_limit: memory_limit(container),
                has_entrypoint: container.args.is_some()
                    && container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"),
                ..ContainerFacts::default()
            };
            if let Some(status) = statuses.iter().find(|status| status.name == container.name) {
                facts.read(status);
            }
            facts.pull_failures = pull_failures(&facts.state, before);
            facts
        })
        .collect()
}

fn memory_limit(container: &ObservedContainer) -> Option<String> {
    container.resources.as_ref()?.limits.as_ref()?.get("memory").cloned()
}

impl ContainerFacts {
    fn read(&mut self, status: &ContainerStatus) {
        self.restarts = u32::try_from(status.restart_count).unwrap_or(0);
        self.last_end = status.last_state.as_ref().and_then(|state| state.terminated.as_ref()).map(end);
        let Some(state) = &status.state else { return };
        self.state = if let Some(terminated) = &state.terminated {
            ContainerState::Terminated(end(terminated))
        } else if state.running.is_some() {
            ContainerState::Running
        } else {
            let waiting = state.waiting.clone().unwrap_or_default();
            ContainerState::Waiting(Words {
                reason: waiting.reason.unwrap_or_default(),
                message: waiting.message.unwrap_or_default(),
            })
        };
    }

    /// Whether it runs or has run.
    pub fn has_started(&self) -> bool {
        let runs_or_ran = match &self.state {
            ContainerState::Waiting(_) => false,
            ContainerState::Running => true,
            ContainerState::Terminated(end) => !end.never_ran(),
        };
        runs_or_ran || self.restarts > 0 || self.last_end.is_some()
    }

    /// The reason for which it waits, if it does.
    pub fn waiting(&self) -> Option<&Words> {
        match &self.state {
            ContainerState::Waiting(words) => Some(words),
            _ => None,
        }
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<&ContainerEnd> {
        match &self.state {
            ContainerState::Terminated(end) => Some(end),
            _ => None,
        }
    }
}

fn end(state: &k8s_openapi::api::core::v1::ContainerStateTerminated) -> ContainerEnd {
    ContainerEnd {
        exit_code: state.exit_code,
        signal: state.signal.filter(|signal| *signal != 0),
        reason: state.reason.clone().unwrap_or_default(),
        message: state.message.clone().unwrap_or_default(),
    }
}

/// Counts failed pulls. The kubelet says `ErrImagePull`, or one of two newer words, when one has
/// failed, and `ImagePullBackOff` while it waits to try again, so a new failure is an
/// `ErrImagePull` that was not there before. A pod that is first seen while it waits has failed
/// once.
fn pull_failures(state: &ContainerState, before: Option<&ContainerFacts>) -> u32 {
    let count = before.map_or(0, |facts| facts.pull_failures);
    let ContainerState::Waiting(words) = state else { return 0 };
    let was = before.and_then(ContainerFacts::waiting).map_or("", |words| words.reason.as_str());
    match words.reason.as_str() {
        "ErrImagePull" | "RegistryUnavailable" | "SignatureValidationFailed" if was == words.reason => count.max(1),
        "ErrImagePull" | "RegistryUnavailable" | "SignatureValidationFailed" => count.saturating_add(1),
        "ImagePullBackOff" => count.max(1),
        _ => count,
    }
}

#[cfg(test)]
mod tests;
