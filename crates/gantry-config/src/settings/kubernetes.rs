//! `[runners.kubernetes]`, checked and with every default applied. Text that jobs' variables are expanded in stays as written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use gantry_core::Secret;

use super::affinity::Affinity;
use super::pod::{ContainerLifecycle, DnsConfig, DnsPolicy, HostAlias, PodSpecPatch, ServiceSettings};
use super::security::{ContainerSecurityContext, PodSecurityContext};
use super::volumes::Volumes;
use crate::quantity::Quantity;

/// `[runners.kubernetes]`. Names and defaults are those of GitLab Runner 19.4; `None` and empty lists are left out of the pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KubernetesSettings {
    /// `host`: URL of the API server; `None` means the cluster we run in, else the kubeconfig.
    pub host: Option<String>,
    /// `context` of the kubeconfig; only without `host` and outside a cluster.
    pub context: Option<String>,
    /// `cert_file`: client certificate; comes with `key_file` and `ca_file`.
    pub cert_file: Option<PathBuf>,
    /// `key_file`: its key.
    pub key_file: Option<PathBuf>,
    /// `ca_file`: certificates to trust for the API server.
    pub ca_file: Option<PathBuf>,
    /// `bearer_token`; used only together with `host`.
    pub bearer_token: Option<Secret>,
    /// `namespace` of job pods; `None` means `default`, with a warning in the job log.
    pub namespace: Option<String>,
    /// `namespace_per_job`: each job gets a namespace of its own.
    pub namespace_per_job: bool,
    /// `service_account` of job pods.
    pub service_account: Option<String>,
    /// `automount_service_account_token`.
    pub automount_service_account_token: Option<bool>,
    /// What jobs may overwrite.
    pub gates: Gates,
    /// `image` for jobs that name none; unexpanded.
    pub image: Option<String>,
    /// `helper_image`; unexpanded.
    pub helper_image: Option<String>,
    /// `helper_image_flavor`; unexpanded.
    pub helper_image_flavor: Option<String>,
    /// `helper_image_autoset_arch_and_os`.
    pub helper_image_autoset_arch_and_os: bool,
    /// `pull_policy`: tried one after the other; empty means the cluster's default.
    pub pull_policy: Vec<PullPolicy>,
    /// `allowed_pull_policies`; empty means those of `pull_policy`.
    pub allowed_pull_policies: Vec<PullPolicy>,
    /// `allowed_images`: glob patterns; empty allows all.
    pub allowed_images: Vec<String>,
    /// `allowed_services`: glob patterns; empty allows all.
    pub allowed_services: Vec<String>,
    /// `allowed_users`: user ids that jobs may ask for; empty allows any but root.
    pub allowed_users: Vec<i64>,
    /// `allowed_groups`: group ids that jobs may ask for; empty allows any but root.
    pub allowed_groups: Vec<i64>,
    /// `image_pull_secrets`.
    pub image_pull_secrets: Vec<String>,
    /// `use_service_account_image_pull_secrets`: the pod names no pull secret at all.
    pub use_service_account_image_pull_secrets: bool,
    /// `privileged`, for containers whose own context does not say.
    pub privileged: Option<bool>,
    /// `allow_privilege_escalation`, for containers whose own context does not say.
    pub allow_privilege_escalation: Option<bool>,
    /// `cap_add`, without `CAP_`.
    pub cap_add: Vec<String>,
    /// `cap_drop`, without `CAP_`; beats `cap_add`. The default drop of `NET_RAW` is not in it.
    pub cap_drop: Vec<String>,
    /// `runtime_class_name`.
    pub runtime_class_name: Option<String>,
    /// `scheduler_name`.
    pub scheduler_name: Option<String>,
    /// `priority_class_name`.
    pub priority_class_name: Option<String>,
    /// `[node_selector]`.
    pub node_selector: BTreeMap<String, String>,
    /// `[node_tolerations]`: `key` or `key=value` to effect, as written.
    pub node_tolerations: BTreeMap<String, String>,
    /// `[affinity]`.
    pub affinity: Affinity,
    /// `[pod_labels]`; values unexpanded.
    pub pod_labels: BTreeMap<String, String>,
    /// `[pod_annotations]`; values unexpanded.
    pub pod_annotations: BTreeMap<String, String>,
    /// Quantities of the containers and of the pod.
    pub resources: ResourceSettings,
    /// `[pod_security_context]`.
    pub pod_security_context: PodSecurityContext,
    /// `[init_permissions_container_security_context]`.
    pub init_permissions_security_context: ContainerSecurityContext,
    /// `[build_container_security_context]`.
    pub build_security_context: ContainerSecurityContext,
    /// `[helper_container_security_context]`.
    pub helper_security_context: ContainerSecurityContext,
    /// `[service_container_security_context]`.
    pub service_security_context: ContainerSecurityContext,
    /// `dns_policy`; `None` means `ClusterFirst`.
    pub dns_policy: Option<DnsPolicy>,
    /// `[dns_config]`.
    pub dns_config: DnsConfig,
    /// `host_aliases`.
    pub host_aliases: Vec<HostAlias>,
    /// `[[services]]` that every job gets before its own.
    pub services: Vec<ServiceSettings>,
    /// `[volumes]`.
    pub volumes: Volumes,
    /// `[container_lifecycle]`.
    pub container_lifecycle: ContainerLifecycle,
    /// `[[pod_spec]]` patches, in order.
    pub pod_spec: Vec<PodSpecPatch>,
    /// Time limits and tries.
    pub timing: Timing,
    /// `pod_termination_grace_period_seconds`.
    pub pod_termination_grace_period_seconds: Option<i64>,
    /// `cleanup_grace_period_seconds` of the deletion.
    pub cleanup_grace_period_seconds: Option<i64>,
    /// `print_pod_warning_events`; `None` means yes.
    pub print_pod_warning_events: Option<bool>,
    /// `pod_disruption_budget`: make one for each job pod.
    pub pod_disruption_budget: bool,
    /// `logs_base_dir`. Kept; pods have no log directory here.
    pub logs_base_dir: Option<String>,
    /// `scripts_base_dir`. Kept; pods have no script directory here.
    pub scripts_base_dir: Option<String>,
}

/// Time limits and tries of `[runners.kubernetes]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// `poll_interval`. Default 3 s.
    pub poll_interval: Duration,
    /// `poll_timeout`: how long a pod may take to start. Default 180 s.
    pub poll_timeout: Duration,
    /// `cleanup_resources_timeout`. Default 5 min.
    pub cleanup_resources_timeout: Duration,
    /// `resource_availability_check_max_attempts`; 0 turns the check off, which is the default.
    pub resource_availability_check_max_attempts: u32,
    /// `retry_limit`: tries of one API request. Default 5.
    pub retry_limit: u32,
    /// `retry_backoff_max`: longest pause between two tries. Default 2 s, at least 500 ms.
    pub retry_backoff_max: Duration,
    /// `[retry_limits]`: part of an error's text to tries.
    pub retry_limits: BTreeMap<String, u32>,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            poll_interval: Duration::from_secs(3),
            poll_timeout: Duration::from_secs(180),
            cleanup_resources_timeout: Duration::from_secs(300),
            resource_availability_check_max_attempts: 0,
            retry_limit: 5,
            retry_backoff_max: Duration::from_secs(2),
            retry_limits: BTreeMap::new(),
        }
    }
}

/// What jobs may overwrite. The texts are regular expressions (Go RE2, unanchored), as written; `None` forbids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gates {
    /// `bearer_token_overwrite_allowed`.
    pub bearer_token: bool,
    /// `namespace_overwrite_allowed`.
    pub namespace: Option<String>,
    /// `service_account_overwrite_allowed`.
    pub service_account: Option<String>,
    /// `node_selector_overwrite_allowed`.
    pub node_selector: Option<String>,
    /// `node_tolerations_overwrite_allowed`.
    pub node_tolerations: Option<String>,
    /// `pod_labels_overwrite_allowed`.
    pub pod_labels: Option<String>,
    /// `pod_annotations_overwrite_allowed`.
    pub pod_annotations: Option<String>,
}

/// How an image is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// An empty entry: whatever the cluster does by default.
    ClusterDefault,
    /// `always`.
    Always,
    /// `if-not-present`.
    IfNotPresent,
    /// `never`.
    Never,
}

/// The quantities of a container or pod; `None` is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// `cpu_request`.
    pub cpu_request: Option<Quantity>,
    /// `cpu_limit`.
    pub cpu_limit: Option<Quantity>,
    /// `memory_request`.
    pub memory_request: Option<Quantity>,
    /// `memory_limit`.
    pub memory_limit: Option<Quantity>,
    /// `ephemeral_storage_request`; never set for pods.
    pub ephemeral_storage_request: Option<Quantity>,
    /// `ephemeral_storage_limit`; never set for pods.
    pub ephemeral_storage_limit: Option<Quantity>,
}

/// What a container gets, and how much more a job may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerResources {
    /// The configured quantities.
    pub set: Resources,
    /// `…_overwrite_max_allowed`: ceilings for jobs; `None` means that the job's wish is ignored.
    pub max: Resources,
}

/// The quantities of all containers and of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceSettings {
    /// Keys without a prefix.
    pub build: ContainerResources,
    /// `helper_…`.
    pub helper: ContainerResources,
    /// `service_…`: of each service.
    pub service: ContainerResources,
    /// `pod_…`: of the pod as a whole.
    pub pod: ContainerResources,
}
