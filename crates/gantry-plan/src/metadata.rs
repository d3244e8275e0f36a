//! Labels and annotations of the job pod (GitLab Runner 19.4, and our own below `gantry.dev/`).
//! Neither jobs nor the config can set those that the manager relies on.

use std::collections::BTreeMap;

use gantry_config::names::{is_own_annotation, is_own_label};
use gantry_core::go_duration;
use gantry_core::short_token::short_token;
use gantry_wire::layout::BUILD;
use gantry_wire::session::JobSession;
use gantry_wire::ticket::{Ticket, TicketBinding};
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::fleet::{Fleet, LABEL_FLEET};
use crate::names;
use crate::pod_request::PodRequest;
use crate::sources::without_credentials;

/// Label that all our job pods carry; the shared watch selects by it.
pub const LABEL_MANAGED: &str = "gantry.dev/managed";

/// Label with the id of the pod's job.
pub const LABEL_JOB: &str = "gantry.dev/job";

/// Annotation that tells one attempt to make a pod from another: creating is repeated until it is
/// seen.
pub const ANNOTATION_CLAIM: &str = "gantry.dev/claim";

/// Annotation with the seconds that the pod has to start (`poll_timeout`). A pod that has not
/// started by then has no manager any more.
pub const ANNOTATION_START_TIMEOUT: &str = "gantry.dev/start-timeout";

/// Annotation with the sealed ticket: what a manager of the fleet must know to speak for the job
/// when the pod cannot.
pub const ANNOTATION_TICKET: &str = "gantry.dev/ticket";

/// Annotation with the manager process that speaks for the pod's job.
pub const ANNOTATION_OWNER: &str = "gantry.dev/owner";

/// Annotation with that manager's name and a counter, which it renews on one of its pods as long as
/// it lives.
pub const ANNOTATION_HEARTBEAT: &str = "gantry.dev/heartbeat";

/// Annotation with the end, in seconds since 1970, of the time for which the pod of a failed job is
/// kept (`keep_failed_pods`).
pub const ANNOTATION_KEPT: &str = "gantry.dev/keep-until";

/// The labels; `base` is the pod's base name.
pub(crate) fn labels(request: &PodRequest<'_>, base: &str, fleet: &Fleet) -> BTreeMap<String, String> {
    let PodRequest { job, runner, variables, .. } = request;
    let mut labels: BTreeMap<String, String> = BTreeMap::from([("pod".to_owned(), names::label_value(base))]);
    // The reference expands them with the payload's variables alone; those of the runner are seen
    // here too.
    let configured = runner.kubernetes.pod_labels.iter().filter(|(key, _)| !is_own_label(key));
    labels.extend(configured.map(|(key, value)| (key.clone(), names::label_value(&variables.expand(value)))));
    let variable = |key: &str| variables.get(key).unwrap_or_default().to_owned();
    let own = [
        ("job.runner.gitlab.com/pod", base.to_owned()),
        ("project.runner.gitlab.com/id", job.job_info.project_id.to_string()),
        ("project.runner.gitlab.com/namespace-id", variable("CI_PROJECT_NAMESPACE_ID")),
        ("project.runner.gitlab.com/name", job.job_info.project_name.clone()),
        ("project.runner.gitlab.com/namespace", variable("CI_PROJECT_NAMESPACE")),
        ("project.runner.gitlab.com/root-namespace", variable("CI_PROJECT_ROOT_NAMESPACE")),
        ("project.runner.gitlab.com/root-namespace-id", job.job_info.root_namespace_id.to_string()),
        ("manager.runner.gitlab.com/name", runner.name.clone()),
        ("manager.runner.gitlab.com/id-short", short_token(runner.token.expose()).to_owned()),
        (LABEL_MANAGED, "true".to_owned()),
        (LABEL_JOB, job.id.to_string()),
        (LABEL_FLEET, fleet.label()),
    ];
    labels.extend(own.into_iter().map(|(key, value)| (key.to_owned(), names::label_value(&value))));
    labels
}

/// The annotations; the ticket comes with `ticket`, for a pod whose names are known.
pub(crate) fn annotations(request: &PodRequest<'_>, ticket: String) -> BTreeMap<String, String> {
    let PodRequest { job, runner, context, variables, timeout, .. } = request;
    let repo = without_credentials(job.git_info.repo_url.expose());
    let url = format!("{}/-/jobs/{}", repo.strip_suffix(".git").unwrap_or(&repo), job.id);
    let own = [
        ("job.runner.gitlab.com/id", job.id.to_string()),
        ("job.runner.gitlab.com/url", url),
        ("job.runner.gitlab.com/sha", job.git_info.sha.clone()),
        ("job.runner.gitlab.com/before_sha", job.git_info.before_sha.clone()),
        ("job.runner.gitlab.com/ref", job.git_info.git_ref.clone()),
        ("job.runner.gitlab.com/name", job.job_info.name.clone()),
        ("job.runner.gitlab.com/timeout", go_duration::format(*timeout)),
        ("project.runner.gitlab.com/id", job.job_info.project_id.to_string()),
        ("kubectl.kubernetes.io/default-container", BUILD.to_owned()),
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false".to_owned()),
        ("karpenter.sh/do-not-disrupt", "true".to_owned()),
    ];
    let mut annotations: BTreeMap<String, String> =
        own.into_iter().map(|(key, value)| (key.to_owned(), names::annotation(&value))).collect();
    let configured = runner.kubernetes.pod_annotations.iter().filter(|(key, _)| !is_own_annotation(key));
    annotations.extend(configured.map(|(key, value)| (key.clone(), names::annotation(&variables.expand(value)))));
    annotations.insert(ANNOTATION_CLAIM.to_owned(), context.suffix.clone());
    annotations.insert(ANNOTATION_OWNER.to_owned(), context.owner.name.clone());
    if context.owner.beats {
        annotations.insert(ANNOTATION_HEARTBEAT.to_owned(), format!("{} 0", context.owner.name));
    }
    let start_timeout = runner.kubernetes.timing.poll_timeout.as_secs();
    annotations.insert(ANNOTATION_START_TIMEOUT.to_owned(), start_timeout.to_string());
    annotations.insert(ANNOTATION_TICKET.to_owned(), ticket);
    annotations
}

/// The sealed ticket of the pod with this name.
pub(crate) fn ticket(request: &PodRequest<'_>, (pod, namespace): (&str, &str), fleet: &Fleet) -> String {
    let PodRequest { job, runner, context, timeout, timestamps, debug_trace, cache_objects, paths, .. } = request;
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let ticket = Ticket {
        job_id: job.id,
        job_token: job.token.clone(),
        project_id: job.job_info.project_id,
        gitlab_url: runner.url.clone(),
        ca_pem: context.configured_ca_pem.clone(),
        timeout_seconds: timeout.as_secs(),
        deadline_unix_ms: context.taken_unix_ms.saturating_add(timeout_ms),
        failure_reasons: job.features.failure_reasons.clone(),
        timestamps: *timestamps,
        debug_trace: *debug_trace,
        session: context.session.clone().map(|session| JobSession { directory: paths.project_dir.clone(), ..session }),
        cache_objects: cache_objects.to_vec(),
    };
    ticket.seal(&context.ticket_key, &TicketBinding { pod, namespace, job_id: job.id, fleet: fleet.name() })
}

/// A namespace that was made for a job of a fleet, by the value of its label.
pub fn own_namespace(name: &str, fleet: &str) -> api::Namespace {
    let labels = [(LABEL_MANAGED, "true"), (LABEL_FLEET, fleet)];
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    api::Namespace {
        metadata: ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() },
        ..api::Namespace::default()
    }
}
