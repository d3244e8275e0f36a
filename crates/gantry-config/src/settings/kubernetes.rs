//! `[runners.kubernetes]`, checked and with every default applied. Text that jobs' variables are
//! expanded in stays as written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use gantry_core::Secret;

use super::affinity::Affinity;
use super::pod::{ContainerLifecycle, DNS_POLICIES, DnsConfig, DnsPolicy, HostAlias, PodSpecPatch, ServiceSettings};
use super::resources::{ResourceSettings, resources};
use super::security::{ContainerSecurityContext, PodSecurityContext};
use super::volumes::Volumes;
use crate::declare::table;
use crate::key::Form;
use crate::kinds::{
    Meanings, capabilities, custom, duration_or, flag, globs, group, lenient_word, names, not_negative, object_name,
    object_names, path, pattern, positive, seconds, switch, switch_or, table, tables, tables_into, text,
};

mod checks;
mod gates;
mod pause;
mod values;

pub(super) use checks::check;
pub use gates::gate;
pub use pause::{Autoscaler, PAUSE_CLASS, PausePolicy};
use values::{
    attempts, backoff, bearer_token, cert_file, helper_image_flavor, host, ids, key_file, namespace, node_selector,
    node_tolerations, pod_annotations, pod_labels, pull_policies, retry_limits,
};

table! {
    /// `[runners.kubernetes]`. Names and defaults are those of GitLab Runner 19.4; `None` and empty
    /// lists are left out of the pod.
    #[derive(Clone, Debug, PartialEq)]
    pub struct KubernetesSettings {
        /// Address of the API server; without it the cluster that the runner is in, else the
        /// kubeconfig.
        host: Option<String> = custom("host", Form::Text, "", host).flag();
        /// Context of the kubeconfig, where neither a host is given nor the runner is in a cluster.
        context: Option<String> = text("context").flag().variable("KUBECTL_CONTEXT");
        /// Client certificate for the API server; needs `key_file` and `ca_file`.
        cert_file: Option<PathBuf> = custom("cert_file", Form::Path, "", cert_file).flag();
        /// Key of the client certificate.
        key_file: Option<PathBuf> = custom("key_file", Form::Path, "", key_file).flag();
        /// Certificates to trust for the API server.
        ca_file: Option<PathBuf> = path("ca_file").flag();
        /// Token for the API server, where a host is given.
        bearer_token: Option<Secret> =
            custom("bearer_token", Form::Secret, "", bearer_token).flag_as("bearer_token");
        /// Image of jobs that name none. Variables of the job are expanded.
        image: Option<String> = text("image").flag();
        /// Namespace of job pods; without it `default`, with a warning in the job log.
        namespace: Option<String> = custom("namespace", Form::Text, "", namespace).flag();
        /// Make the namespace `ci-job-<job id>` for each job, and delete it after the job; beats
        /// `namespace` and its overwrite. Needs `create`, `get`, `list` and `delete` on
        /// `namespaces`, and what the runner needs on pods in all namespaces (a `ClusterRole`).
        namespace_per_job: bool = flag("namespace_per_job")
            .flag_as("namespace_per_job");
        /// What jobs may choose themselves.
        gates: Gates = group();
        /// Run containers privileged, where their own security context does not say.
        privileged: Option<bool> = switch("privileged").flag();
        /// Runtime class of job pods.
        runtime_class_name: Option<String> = object_name("runtime_class_name").flag();
        /// Let processes gain more rights than their parent has, where their container's security
        /// context does not say.
        allow_privilege_escalation: Option<bool> = switch("allow_privilege_escalation").flag();
        /// Quantities of the containers and of the pod.
        resources: ResourceSettings = resources();
        /// Patterns of images that jobs may use, such as `registry.example.com/**`; without any
        /// all.
        allowed_images: Vec<String> = globs("allowed_images").flag();
        /// Pull policies that jobs may choose; without any those of `pull_policy`.
        allowed_pull_policies: Vec<PullPolicy> =
            custom("allowed_pull_policies", Form::WordList(names(PULL_POLICIES)), "", pull_policies).flag();
        /// Patterns of images that services may use; without any all.
        allowed_services: Vec<String> = globs("allowed_services").flag();
        /// Numeric users that jobs may choose; without any all but root.
        allowed_users: Option<Vec<i64>> = custom("allowed_users", Form::Texts, "", ids).flag();
        /// Numeric groups that jobs may choose; without any all but root.
        allowed_groups: Option<Vec<i64>> = custom("allowed_groups", Form::Texts, "", ids).flag();
        /// How images are pulled; several policies are tried in turn, and without any the cluster
        /// decides.
        pull_policy: Vec<PullPolicy> =
            custom("pull_policy", Form::WordList(names(PULL_POLICIES)), "", pull_policies).flag();
        /// Labels that nodes of job pods must have, as `key = "value"`.
        node_selector: BTreeMap<String, String> = custom("node_selector", Form::TextMap, "", node_selector).flag();
        /// Taints that job pods tolerate, as `"key=value" = "Effect"`.
        node_tolerations: BTreeMap<String, String> = custom("node_tolerations", Form::TextMap, "", node_tolerations).flag();
        /// Where job pods should run.
        affinity: Affinity = table("affinity");
        /// Names of Secrets with registry credentials.
        image_pull_secrets: Vec<String> = object_names("image_pull_secrets").flag();
        /// Name no Secret with registry credentials, and leave them to the service account.
        use_service_account_image_pull_secrets: bool = flag("use_service_account_image_pull_secrets").flag();
        /// Image of the helper container. Variables of the job are expanded.
        helper_image: Option<String> = text("helper_image").flag();
        /// Flavour of the default helper image: `alpine`, `ubuntu` or `ubi-fips`.
        helper_image_flavor: Option<String> = custom("helper_image_flavor", Form::Text, "", helper_image_flavor).flag();
        /// Choose the default helper image by the architecture of the runner, where no node
        /// selector says one.
        helper_image_autoset_arch_and_os: bool = flag("helper_image_autoset_arch_and_os").flag();
        /// Seconds that a pod gets to end when its job does; without it as the cluster says.
        pod_termination_grace_period_seconds: Option<i64> =
            not_negative("pod_termination_grace_period_seconds").flag_as("pod_termination_grace_period_seconds");
        /// Seconds that a pod gets to end when it is removed; without it those of the pod.
        cleanup_grace_period_seconds: Option<i64> =
            not_negative("cleanup_grace_period_seconds").flag_as("cleanup_grace_period_seconds");
        /// Time limits and tries.
        timing: Timing = group();
        /// Labels of job pods. Variables of the job are expanded in their values.
        pod_labels: BTreeMap<String, String> = custom("pod_labels", Form::TextMap, "", pod_labels).flag().no_variable();
        /// Annotations of job pods. Variables of the job are expanded in their values.
        pod_annotations: BTreeMap<String, String> = custom("pod_annotations", Form::TextMap, "", pod_annotations).flag().no_variable();
        /// Scheduler of job pods.
        scheduler_name: Option<String> = object_name("scheduler_name").flag();
        /// Service account of job pods.
        service_account: Option<String> = object_name("service_account").flag();
        /// Mount the service account's token in job pods.
        automount_service_account_token: Option<bool> = switch("automount_service_account_token").flag();
        /// Names of addresses in job pods, on the command line as JSON:
        /// [{"ip":"…","hostnames":["…"]}].
        host_aliases: Vec<HostAlias> = tables("host_aliases").flag_as("host_aliases").no_variable();
        /// Capabilities that containers get, without `CAP_`.
        cap_add: Vec<String> = capabilities("cap_add").flag();
        /// Capabilities that containers lose, without `CAP_`; beats `cap_add`. `NET_RAW` is dropped
        /// unless it is added.
        cap_drop: Vec<String> = capabilities("cap_drop").flag();
        /// How names are resolved in job pods; without it `cluster-first`.
        dns_policy: Option<DnsPolicy> = lenient_word("dns_policy", DNS_POLICIES).flag();
        /// Priority class of job pods.
        priority_class_name: Option<String> = object_name("priority_class_name").flag_as("priority_class_name");
        /// Directory of logs in job pods.
        logs_base_dir: Option<String> = text("logs_base_dir").flag().never(OWN_VOLUME);
        /// Directory of scripts in job pods.
        scripts_base_dir: Option<String> = text("scripts_base_dir").flag().never(OWN_VOLUME);
        /// Show in the job log what the events of a pod warn of, where the runner may list them;
        /// without it yes.
        print_pod_warning_events: Option<bool> = switch("print_pod_warning_events").flag();
        /// Protect job pods by a disruption budget each, which lets drains of nodes wait for the
        /// job. Needs `create` on `poddisruptionbudgets` (`policy`).
        pod_disruption_budget: bool = switch_or("pod_disruption_budget", false).flag();
        /// How job pods use the network's names.
        dns_config: DnsConfig = table("dns_config");
        /// Security settings of job pods.
        pod_security_context: PodSecurityContext = table("pod_security_context").flag();
        /// Security settings of the init container.
        init_permissions_security_context: ContainerSecurityContext =
            table("init_permissions_container_security_context")
                .flag_as("init_permissions_container_security_context").never("there is no init container");
        /// Security settings of the build container.
        build_security_context: ContainerSecurityContext =
            table("build_container_security_context").flag_as("build_container_security_context");
        /// Security settings of the helper container.
        helper_security_context: ContainerSecurityContext =
            table("helper_container_security_context").flag_as("helper_container_security_context");
        /// Security settings of service containers.
        service_security_context: ContainerSecurityContext =
            table("service_container_security_context").flag_as("service_container_security_context");
        /// Services that every job gets before its own.
        services: Vec<ServiceSettings> = tables_into::<ServiceSettings, _>("services", super::pod::service);
        /// Volumes of job pods, each of them mounted in every container.
        volumes: Volumes = table("volumes");
        /// What containers do when they have started and before they end.
        container_lifecycle: ContainerLifecycle = table("container_lifecycle");
        /// Patches of the pod's specification, in order, where
        /// `FF_USE_ADVANCED_POD_SPEC_CONFIGURATION` is on.
        pod_spec: Vec<PodSpecPatch> = tables_into::<super::pod::PatchKeys, _>("pod_spec", super::pod::patch);
        /// Pods that do nothing and keep room on nodes, which give way to those of jobs. Needs
        /// `list`, `create`, `patch` and `delete` on `deployments` (`apps`).
        autoscaler: Autoscaler = table("autoscaler");
    }
    unread {
        /// Size of the volume of suspended jobs.
        text("suspend_pvc_size").flag().never(SUSPEND);
        /// Storage class of the volume of suspended jobs.
        text("suspend_pvc_storage_class").flag().never(SUSPEND);
    }
}

const OWN_VOLUME: &str = "scripts and logs are in a volume of the pod's own";
const SUSPEND: &str = "environments are not suspended: keep files as artifacts, or on a volume";

table! {
    /// Time limits and tries of `[runners.kubernetes]`.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Timing {
        /// Time for removing a job's objects when it ends; what is left then is removed later,
        /// without the job waiting for it.
        cleanup_resources_timeout: Duration = duration_or("cleanup_resources_timeout", Duration::from_mins(5))
            .flag_as("cleanup_resources_timeout");
        /// Seconds between two looks at a starting pod.
        poll_interval: Duration = seconds("poll_interval", 3).flag().never("pods are watched");
        /// Seconds in which a pod must start.
        poll_timeout: Duration = seconds("poll_timeout", 180).flag();
        /// How often to look for missing Secrets and service accounts before a pod is made; 0 is
        /// never, less is 5 times.
        resource_availability_check_max_attempts: u32 =
            custom("resource_availability_check_max_attempts", Form::Signed, "0", attempts)
                .flag();
        /// Tries of a request for a job's objects; without it as many as there is time for.
        retry_limit: Option<u32> = positive("retry_limit").flag().variable("KUBERNETES_REQUEST_RETRY_LIMIT");
        /// Longest pause between two tries in milliseconds, at least 500; without it 5000.
        retry_backoff_max: Option<Duration> = custom("retry_backoff_max", Form::Positive, "", backoff)
            .flag().variable("KUBERNETES_REQUEST_RETRY_BACKOFF_MAX");
        /// Tries after an error, by a part of its text, such as `"exceeded quota" = 20`; such
        /// errors are tried again whatever their kind, and `retry_limit` does not count for them.
        retry_limits: BTreeMap<String, u32> = custom("retry_limits", Form::CountMap, "", retry_limits).flag();
    }
}

table! {
    /// What jobs may overwrite. The texts are regular expressions (Go RE2, unanchored), as written;
    /// `None` forbids.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Gates {
        /// Let jobs bring their own token for the API server (`KUBERNETES_BEARER_TOKEN`), where a
        /// host is given.
        bearer_token: bool = flag("bearer_token_overwrite_allowed")
            .flag_as("bearer_token_overwrite_allowed");
        /// Namespaces that jobs may choose (`KUBERNETES_NAMESPACE_OVERWRITE`).
        namespace: Option<String> = pattern("namespace_overwrite_allowed").flag_as("namespace_overwrite_allowed");
        /// Service accounts that jobs may choose (`KUBERNETES_SERVICE_ACCOUNT_OVERWRITE`).
        service_account: Option<String> =
            pattern("service_account_overwrite_allowed").flag_as("service_account_overwrite_allowed");
        /// Node labels that jobs may ask for (`KUBERNETES_NODE_SELECTOR_*`), matched as
        /// `key=value`.
        node_selector: Option<String> =
            pattern("node_selector_overwrite_allowed").flag_as("node_selector_overwrite_allowed");
        /// Taints that jobs may tolerate (`KUBERNETES_NODE_TOLERATIONS_*`), matched as
        /// `key=value:Effect`.
        node_tolerations: Option<String> =
            pattern("node_tolerations_overwrite_allowed").flag_as("node_tolerations_overwrite_allowed");
        /// Labels that jobs may set (`KUBERNETES_POD_LABELS_*`), matched as `key=value`.
        pod_labels: Option<String> = pattern("pod_labels_overwrite_allowed").flag_as("pod_labels_overwrite_allowed");
        /// Annotations that jobs may set (`KUBERNETES_POD_ANNOTATIONS_*`), matched as `key=value`.
        pod_annotations: Option<String> =
            pattern("pod_annotations_overwrite_allowed").flag_as("pod_annotations_overwrite_allowed");
    }
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

const PULL_POLICIES: Meanings<PullPolicy> = &[
    ("always", PullPolicy::Always),
    ("if-not-present", PullPolicy::IfNotPresent),
    ("never", PullPolicy::Never),
    ("", PullPolicy::ClusterDefault),
];
