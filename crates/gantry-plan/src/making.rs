//! How the objects of a job are made and removed: what is made beside the pod, what is waited for
//! before, how often is tried, and what is tried instead when an image cannot be pulled.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_config::KubernetesSettings;
use gantry_core::{Secret, go_duration};
use gantry_wire::plan::KeepFailed;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::api::policy::v1 as policy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::access_control::kubernetes_word;
use crate::{Pod, PullPolicy};

/// What is done around the making of a pod.
#[derive(Clone, Debug, Default)]
pub struct Making {
    /// The namespace that is made for this job and goes with it (`namespace_per_job`).
    pub namespace: Option<api::Namespace>,
    /// What protects the pod from drains (`pod_disruption_budget`); it belongs to the pod.
    pub disruption_budget: Option<policy::PodDisruptionBudget>,
    /// What must be there before the pod is made.
    pub awaited: Option<Awaited>,
    /// Containers whose image is pulled in other ways when the first fails.
    pub fallbacks: Vec<Fallback>,
    /// How often requests are tried.
    pub tries: Tries,
    /// Time for removing everything.
    pub cleanup_timeout: Duration,
    /// The job's own token for the API server (`KUBERNETES_BEARER_TOKEN`).
    pub bearer_token: Option<Secret>,
}

/// Objects that a pod needs (`resource_availability_check_max_attempts`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// The service account, if the pod names one.
    pub service_account: Option<String>,
    /// The Secrets with logins that the config names.
    pub pull_secrets: Vec<String>,
    /// Looks at each, beyond the first.
    pub attempts: u32,
}

/// The pull policies of a container beyond its first, in Kubernetes' words; `None` is the cluster's
/// default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The container.
    pub container: String,
    /// The policies, in the order in which they are tried.
    pub policies: Vec<Option<&'static str>>,
}

/// How often a request is tried that fails for a passing reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// `retry_limit`: all tries together; without it as many as there is time for.
    pub limit: Option<u32>,
    /// `retry_limits`: the same for errors with this text in them, whatever they are.
    pub by_text: BTreeMap<String, u32>,
    /// `retry_backoff_max`: the longest pause between two.
    pub longest_pause: Option<Duration>,
}

/// In a namespace that was just made the service account comes a moment later. Tries with pauses
/// that grow to 5 s: about a minute.
const ACCOUNT_COMES: (&str, u32) = ("error looking up service account", 15);

impl Making {
    /// For a pod that is complete; `fallbacks` are those of its containers.
    pub(crate) fn of(settings: &KubernetesSettings, pod: &Pod, fallbacks: Vec<Fallback>) -> Self {
        let timing = &settings.timing;
        let mut tries = Tries {
            limit: timing.retry_limit,
            by_text: timing.retry_limits.clone(),
            longest_pause: timing.retry_backoff_max,
        };
        let labels = ours(pod);
        let namespace = settings.namespace_per_job.then(|| {
            let (text, limit) = ACCOUNT_COMES;
            tries.by_text.entry(text.to_owned()).or_insert(limit);
            api::Namespace {
                metadata: ObjectMeta {
                    name: pod.metadata.namespace.clone(),
                    labels: Some(labels.clone()),
                    ..ObjectMeta::default()
                },
                ..api::Namespace::default()
            }
        });
        Self {
            namespace,
            disruption_budget: settings.pod_disruption_budget.then(|| disruption_budget(pod, labels)),
            awaited: awaited(settings),
            fallbacks,
            tries,
            cleanup_timeout: timing.cleanup_resources_timeout,
            bearer_token: None,
        }
    }
}

/// Labels of ours begin with this; there are those that all objects of the runner have, and those
/// of fleet and job.
const OURS: &str = "gantry.dev/";

/// The labels that say which job of which fleet an object is of.
fn ours(pod: &Pod) -> BTreeMap<String, String> {
    let of_pod = pod.metadata.labels.iter().flatten();
    let ours = of_pod.filter(|(key, _)| key.starts_with(OURS));
    ours.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// No two jobs have the same labels of ours, so that no two budgets are for one pod, which would
/// keep drains from ending.
fn disruption_budget(pod: &Pod, labels: BTreeMap<String, String>) -> policy::PodDisruptionBudget {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    policy::PodDisruptionBudget {
        metadata: ObjectMeta {
            name: Some(format!("{name}-pdb")),
            namespace: pod.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(policy::PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector { match_labels: Some(labels), ..LabelSelector::default() }),
            ..policy::PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

fn awaited(settings: &KubernetesSettings) -> Option<Awaited> {
    let attempts = settings.timing.resource_availability_check_max_attempts;
    let uses_secrets = !settings.use_service_account_image_pull_secrets;
    let pull_secrets = settings.image_pull_secrets.iter().filter(|name| uses_secrets && !name.is_empty());
    let awaited = Awaited {
        service_account: settings.service_account.clone().filter(|name| !name.is_empty()),
        pull_secrets: pull_secrets.cloned().collect(),
        attempts,
    };
    let is_something = awaited.service_account.is_some() || !awaited.pull_secrets.is_empty();
    (attempts > 0 && is_something).then_some(awaited)
}

/// What is tried for a container after the first of its policies.
pub(crate) fn fallback(container: &str, policies: &[PullPolicy]) -> Option<Fallback> {
    let policies: Vec<_> = policies.iter().skip(1).map(|policy| kubernetes_word(*policy)).collect();
    (!policies.is_empty()).then(|| Fallback { container: container.to_owned(), policies })
}

/// What the agent does at the end of a failed job whose pod is kept, and says about it.
pub(crate) fn keep(limit: Option<Duration>, (pod, namespace): (&str, &str), container: &str) -> Option<KeepFailed> {
    let limit = limit.filter(|limit| !limit.is_zero())?;
    let shown = go_duration::format(limit);
    Some(KeepFailed {
        ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        hint: format!(
            "The pod is kept for {shown} (keep_failed_pods of the runner's config). To look into it: kubectl exec --stdin --tty --namespace \
             {namespace} {pod} --container {container} -- sh"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_awaited() {
        let mut settings = KubernetesSettings {
            service_account: Some("jobs".to_owned()),
            image_pull_secrets: vec!["corp".to_owned(), String::new()],
            ..KubernetesSettings::default()
        };
        assert_eq!(awaited(&settings), None);
        settings.timing.resource_availability_check_max_attempts = 2;
        let all =
            Awaited { service_account: Some("jobs".to_owned()), pull_secrets: vec!["corp".to_owned()], attempts: 2 };
        assert_eq!(awaited(&settings), Some(all.clone()));
        settings.use_service_account_image_pull_secrets = true;
        assert_eq!(awaited(&settings), Some(Awaited { pull_secrets: Vec::new(), ..all }));
    }

    #[test]
    fn policies_beyond_the_first() {
        use PullPolicy::{Always, ClusterDefault, IfNotPresent};
        assert_eq!(fallback("build", &[Always]), None);
        let two = fallback("build", &[Always, IfNotPresent, ClusterDefault]).unwrap();
        assert_eq!(two.policies, [Some("IfNotPresent"), None]);
    }
}
