//! The Deployment of a runner's pause pods (`[runners.kubernetes.autoscaler]`), which keep room on
//! nodes: where a job's pod does not fit, the scheduler removes some of them, and the Deployment
//! asks for new ones, for which an autoscaler of the cluster adds a node.

use std::collections::BTreeMap;

use gantry_config::RunnerSettings;
use gantry_config::settings::Resources;
use gantry_config::settings::kubernetes::PAUSE_CLASS;
use gantry_core::short_token::short_token;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::fleet::{Fleet, LABEL_FLEET};
use crate::{names, placement, pod};

/// Label of all Deployments of pause pods, and of the pods (GitLab Runner 19.4).
pub(crate) const LABEL_PAUSE: &str = "runner.gitlab.com/pause-pod";

/// Annotation with the time at which the manager has last looked after it (GitLab Runner 19.4).
pub const ANNOTATION_PAUSE_HEARTBEAT: &str = "runner.gitlab.com/pause-heartbeat";

const LABEL_SYSTEM: &str = "manager.runner.gitlab.com/system-id";
const LABEL_SHORT_TOKEN: &str = "manager.runner.gitlab.com/id-short";

/// The one container of a pause pod.
const CONTAINER: &str = "pause";

/// Its name; each manager has one for each of its runners.
pub fn pause_name(runner: &RunnerSettings, system_id: &str) -> String {
    names::object_name(&format!("runner-pause-{}-{system_id}", short_token(runner.token.expose())))
}

/// Selects the Deployments of everybody; [`pause_is_of`] says whose each is.
pub fn pause_selector() -> String {
    format!("{LABEL_PAUSE}=true")
}

/// Whether a Deployment of pause pods is that of this runner, by its token as the reference marks
/// it, or of any other of the fleet.
pub fn pause_is_of(deployment: &Deployment, runner: &RunnerSettings, fleet: &Fleet) -> bool {
    let Some(labels) = &deployment.metadata.labels else { return false };
    let is = |key: &str, value: String| labels.get(key) == Some(&value);
    is(LABEL_SHORT_TOKEN, names::label_value(short_token(runner.token.expose()))) || is(LABEL_FLEET, fleet.label())
}

/// The Deployment, with so many pods; `now` in RFC 3339.
pub fn pause_deployment(
    runner: &RunnerSettings,
    (system_id, fleet): (&str, &Fleet),
    replicas: u32,
    now: &str,
) -> Deployment {
    let labels = BTreeMap::from([
        (LABEL_PAUSE.to_owned(), "true".to_owned()),
        (LABEL_SHORT_TOKEN.to_owned(), names::label_value(short_token(runner.token.expose()))),
        (LABEL_SYSTEM.to_owned(), names::label_value(system_id)),
    ]);
    // Not on the pods: who counts those of the fleet by this label means jobs.
    let mut own = labels.clone();
    own.insert(LABEL_FLEET.to_owned(), fleet.label());
    Deployment {
        metadata: ObjectMeta {
            name: Some(pause_name(runner, system_id)),
            labels: Some(own),
            annotations: Some(BTreeMap::from([(ANNOTATION_PAUSE_HEARTBEAT.to_owned(), now.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(i32::try_from(replicas).unwrap_or(i32::MAX)),
            // A history of pods that do nothing is of no use.
            revision_history_limit: Some(0),
            // New ones need the room of old ones.
            strategy: Some(DeploymentStrategy { type_: Some("Recreate".to_owned()), ..DeploymentStrategy::default() }),
            selector: LabelSelector { match_labels: Some(labels.clone()), ..LabelSelector::default() },
            template: api::PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(spec(runner)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// As large as the build container of a job asks to be, and on the same nodes.
fn spec(runner: &RunnerSettings) -> api::PodSpec {
    let kubernetes = &runner.kubernetes;
    let autoscaler = &kubernetes.autoscaler;
    let build = &kubernetes.resources.build.set;
    let size = Resources {
        cpu_request: build.cpu_request.clone(),
        memory_request: build.memory_request.clone(),
        ..Resources::default()
    };
    let secrets = autoscaler.pause_pod_image_pull_secrets.iter().filter(|name| !name.is_empty());
    let secrets: Vec<_> = secrets.map(|name| api::LocalObjectReference { name: name.clone() }).collect();
    api::PodSpec {
        containers: vec![api::Container {
            name: CONTAINER.to_owned(),
            image: Some(autoscaler.pause_pod_image.clone()),
            resources: pod::resources(&size),
            ..api::Container::default()
        }],
        image_pull_secrets: (!secrets.is_empty()).then_some(secrets),
        node_selector: Some(kubernetes.node_selector.clone()).filter(|selector| !selector.is_empty()),
        priority_class_name: Some(autoscaler.pause_pod_priority_class_name.clone()),
        runtime_class_name: kubernetes.runtime_class_name.clone(),
        scheduler_name: kubernetes.scheduler_name.clone(),
        service_account_name: kubernetes.service_account.clone().filter(|name| !name.is_empty()),
        automount_service_account_token: Some(false),
        // Nothing in it has to end in order, and a job waits.
        termination_grace_period_seconds: Some(0),
        tolerations: placement::tolerations(&kubernetes.node_tolerations),
        ..api::PodSpec::default()
    }
}

/// The class of pause pods, where the settings name no other.
pub fn pause_class(runner: &RunnerSettings) -> Option<PriorityClass> {
    let is_ours = runner.kubernetes.autoscaler.pause_pod_priority_class_name == PAUSE_CLASS;
    is_ours.then(|| PriorityClass {
        metadata: ObjectMeta { name: Some(PAUSE_CLASS.to_owned()), ..ObjectMeta::default() },
        // Below the default of all other pods, which is 0.
        value: -1,
        description: Some("Pods that keep room on nodes for jobs of GitLab.".to_owned()),
        ..PriorityClass::default()
    })
}
