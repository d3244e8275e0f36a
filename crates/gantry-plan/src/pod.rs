//! The job pod: helper first, then services, then build, because the kubelet starts containers in that order and the helper's work does
//! not wait for the other images. No secret of the job is in it: those go to the agent over its own connection.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_config::RunnerSettings;
use gantry_config::settings::pod::DnsPolicy;
use gantry_config::settings::{PullPolicy, Resources};
use gantry_core::job::{Image, JobSpec};
use gantry_core::short_token::short_token;
use gantry_core::variables::Variables;
use gantry_core::{go_duration, limits};
use gantry_wire::layout::{BUILD, HELPER};
use gantry_wire::plan::Paths;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::access_control::{check_image, kubernetes_word, pull_policies, requested_user, shown};
use crate::head::HeadLine;
use crate::services::Service;
use crate::sources::without_credentials;
use crate::{Context, PlanError, environment, names, security, start, volumes};

/// Label that all our job pods carry; the shared watch selects by it.
pub const LABEL_MANAGED: &str = "gantry.dev/managed";

/// Label with the id of the pod's job.
pub const LABEL_JOB: &str = "gantry.dev/job";

/// Annotation that tells one attempt to make a pod from another: creating is repeated until it is seen.
pub const ANNOTATION_CLAIM: &str = "gantry.dev/claim";

/// The official helper image; it has git, and our binary is pushed into it.
const DEFAULT_HELPER_IMAGE: &str = "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-v19.4.0";

/// Everything that a pod is made from.
pub(crate) struct PodRequest<'a> {
    pub(crate) job: &'a JobSpec,
    pub(crate) runner: &'a RunnerSettings,
    pub(crate) context: &'a Context,
    pub(crate) variables: &'a Variables,
    pub(crate) services: &'a [Service],
    pub(crate) paths: &'a Paths,
    pub(crate) timeout: Duration,
}

/// A pod and what the job log says about it.
pub(crate) struct MadePod {
    pub(crate) namespace: String,
    pub(crate) pod: api::Pod,
    pub(crate) lines: Vec<HeadLine>,
}

/// Makes the pod.
pub(crate) fn pod(request: &PodRequest<'_>) -> Result<MadePod, PlanError> {
    let kubernetes = &request.runner.kubernetes;
    let mut lines = Vec::new();
    let namespace = kubernetes.namespace.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| {
        lines.push(HeadLine::warning("Namespace is empty, therefore assuming 'default'."));
        "default".to_owned()
    });
    lines.push(HeadLine::plain(format!("Using Kubernetes namespace: {namespace}")));
    let containers = containers(request, &mut lines)?;
    let base =
        names::pod_base(request.runner.token.expose(), request.job.job_info.project_id, request.context.concurrent_id);
    let pod = api::Pod {
        metadata: ObjectMeta {
            name: Some(names::pod_name(&base, &request.context.suffix)),
            namespace: Some(namespace.clone()),
            labels: Some(labels(request, &base)),
            annotations: Some(annotations(request)),
            ..Default::default()
        },
        spec: Some(spec(request, containers)),
        status: None,
    };
    Ok(MadePod { namespace, pod, lines })
}

/// The containers with their volumes.
struct Containers {
    list: Vec<api::Container>,
    volumes: Vec<api::Volume>,
}

fn containers(request: &PodRequest<'_>, lines: &mut Vec<HeadLine>) -> Result<Containers, PlanError> {
    let PodRequest { job, runner, variables, services, paths, .. } = request;
    let kubernetes = &runner.kubernetes;
    let image = build_image(request, lines)?;
    let helper_image = helper_image(request);
    lines.push(HeadLine::plain(format!("Using Kubernetes executor with image {image} ...")));
    let volumes = volumes::volumes(&kubernetes.volumes, variables, paths);
    let mut list = Vec::new();
    let mut add = |container: api::Container, policies: &[PullPolicy]| {
        lines.push(HeadLine::plain(format!(
            "Using effective pull policy of {} for container {}",
            shown(policies),
            container.name
        )));
        let policy = policies.first().and_then(|policy| kubernetes_word(*policy)).map(str::to_owned);
        list.push(api::Container { image_pull_policy: policy, ..container });
    };
    let helper = api::Container {
        name: HELPER.to_owned(),
        image: Some(helper_image),
        command: Some(start::helper()),
        resources: resources(&kubernetes.resources.helper.set),
        security_context: Some(security::container(&kubernetes.helper_security_context, kubernetes, (None, None))),
        volume_mounts: Some(volumes.helper),
        ..Default::default()
    };
    add(helper, &pull_policies(HELPER, &Image::default(), kubernetes)?);
    for service in *services {
        let container = service_container(request, service, &volumes.services)?;
        add(container, &pull_policies(&service.container, &service.spec, kubernetes)?);
    }
    let user = requested_user(&job.image, kubernetes, variables)?;
    let build = api::Container {
        name: BUILD.to_owned(),
        image: Some(image),
        command: Some(start::build()),
        resources: resources(&kubernetes.resources.build.set),
        security_context: Some(security::container(&kubernetes.build_security_context, kubernetes, user)),
        volume_mounts: Some(volumes.build),
        ..Default::default()
    };
    add(build, &pull_policies(BUILD, &job.image, kubernetes)?);
    Ok(Containers { list, volumes: volumes.volumes })
}

fn build_image(request: &PodRequest<'_>, lines: &mut Vec<HeadLine>) -> Result<String, PlanError> {
    let kubernetes = &request.runner.kubernetes;
    let configured = kubernetes.image.as_deref().map(|image| request.variables.expand(image)).unwrap_or_default();
    let mut image = request.variables.expand(&request.job.image.name);
    if image.is_empty() {
        image.clone_from(&configured);
        lines.push(HeadLine::info("Using default image"));
    }
    if image.is_empty() {
        return Err(PlanError::Configuration(
            "no image specified: set image in the job or in [runners.kubernetes] of the runner's config".to_owned(),
        ));
    }
    check_image(&image, "images", &kubernetes.allowed_images, &[&configured])?;
    Ok(image)
}

fn helper_image(request: &PodRequest<'_>) -> String {
    match request.runner.kubernetes.helper_image.as_deref().filter(|image| !image.is_empty()) {
        Some(image) => request.variables.expand(image),
        None => DEFAULT_HELPER_IMAGE.to_owned(),
    }
}

fn service_container(
    request: &PodRequest<'_>,
    service: &Service,
    mounts: &[api::VolumeMount],
) -> Result<api::Container, PlanError> {
    let kubernetes = &request.runner.kubernetes;
    check_image(&service.image, "services", &kubernetes.allowed_services, &[])?;
    let user = requested_user(&service.spec, kubernetes, request.variables)?;
    let env = environment::for_service(request.variables, &service.variables);
    let port = |port: &gantry_core::job::Port| {
        i32::try_from(port.number)
            .ok()
            .map(|number| api::ContainerPort { container_port: number, ..Default::default() })
    };
    Ok(api::Container {
        name: service.container.clone(),
        image: Some(service.image.clone()),
        command: (!service.entrypoint.is_empty()).then(|| service.entrypoint.clone()),
        args: (!service.command.is_empty()).then(|| service.command.clone()),
        env: Some(env.into_iter().map(|(name, value)| env_var(name, &value)).collect()),
        ports: Some(service.spec.ports.iter().filter_map(port).collect()),
        resources: resources(&kubernetes.resources.service.set),
        security_context: Some(security::container(&kubernetes.service_security_context, kubernetes, user)),
        stdin: Some(true),
        volume_mounts: Some(mounts.to_vec()),
        ..Default::default()
    })
}

/// Kubernetes expands `$(NAME)` in values; a doubled dollar sign is a literal one.
fn env_var(name: String, value: &str) -> api::EnvVar {
    api::EnvVar { name, value: Some(value.replace('$', "$$")), ..Default::default() }
}

fn resources(set: &Resources) -> Option<api::ResourceRequirements> {
    let map = |cpu: &Option<_>, memory: &Option<_>, storage: &Option<_>| {
        let pairs = [("cpu", cpu), ("memory", memory), ("ephemeral-storage", storage)];
        let map: BTreeMap<String, Quantity> = pairs
            .into_iter()
            .filter_map(|(name, quantity): (_, &Option<gantry_config::Quantity>)| {
                quantity.as_ref().map(|quantity| (name.to_owned(), Quantity(quantity.as_str().to_owned())))
            })
            .collect();
        (!map.is_empty()).then_some(map)
    };
    let requests = map(&set.cpu_request, &set.memory_request, &set.ephemeral_storage_request);
    let limits = map(&set.cpu_limit, &set.memory_limit, &set.ephemeral_storage_limit);
    (requests.is_some() || limits.is_some()).then(|| api::ResourceRequirements {
        requests,
        limits,
        ..Default::default()
    })
}

fn spec(request: &PodRequest<'_>, containers: Containers) -> api::PodSpec {
    let kubernetes = &request.runner.kubernetes;
    let deadline = request.timeout + limits::POD_DEADLINE_SLACK;
    let secrets = kubernetes.image_pull_secrets.iter().map(|name| api::LocalObjectReference { name: name.clone() });
    let pull_secrets = !kubernetes.use_service_account_image_pull_secrets && !kubernetes.image_pull_secrets.is_empty();
    api::PodSpec {
        restart_policy: Some("Never".to_owned()),
        active_deadline_seconds: i64::try_from(deadline.as_secs()).ok(),
        automount_service_account_token: kubernetes.automount_service_account_token,
        containers: containers.list,
        dns_policy: Some(dns_policy(kubernetes.dns_policy).to_owned()),
        host_aliases: host_aliases(request),
        image_pull_secrets: pull_secrets.then(|| secrets.collect()),
        node_selector: (!kubernetes.node_selector.is_empty()).then(|| kubernetes.node_selector.clone()),
        priority_class_name: kubernetes.priority_class_name.clone(),
        resources: resources(&kubernetes.resources.pod.set),
        runtime_class_name: kubernetes.runtime_class_name.clone(),
        scheduler_name: kubernetes.scheduler_name.clone(),
        security_context: security::pod(&kubernetes.pod_security_context),
        service_account_name: kubernetes.service_account.clone().filter(|name| !name.is_empty()),
        termination_grace_period_seconds: kubernetes.pod_termination_grace_period_seconds,
        tolerations: tolerations(&kubernetes.node_tolerations),
        volumes: Some(containers.volumes),
        ..Default::default()
    }
}

fn dns_policy(policy: Option<DnsPolicy>) -> &'static str {
    match policy {
        None | Some(DnsPolicy::ClusterFirst) => "ClusterFirst",
        Some(DnsPolicy::None) => "None",
        Some(DnsPolicy::Default) => "Default",
        Some(DnsPolicy::ClusterFirstWithHostNet) => "ClusterFirstWithHostNet",
    }
}

fn host_aliases(request: &PodRequest<'_>) -> Option<Vec<api::HostAlias>> {
    let names: Vec<String> = request.services.iter().flat_map(|service| service.aliases.clone()).collect();
    let own = (!names.is_empty()).then(|| api::HostAlias { ip: "127.0.0.1".to_owned(), hostnames: Some(names) });
    let configured = request
        .runner
        .kubernetes
        .host_aliases
        .iter()
        .map(|alias| api::HostAlias { ip: alias.ip.clone(), hostnames: Some(alias.hostnames.clone()) });
    let all: Vec<api::HostAlias> = own.into_iter().chain(configured).collect();
    (!all.is_empty()).then_some(all)
}

/// `key=value` tolerates that taint, `key` every value of it, an empty key everything.
fn tolerations(configured: &BTreeMap<String, String>) -> Option<Vec<api::Toleration>> {
    let toleration = |(key, effect): (&String, &String)| {
        let effect = (!effect.is_empty()).then(|| effect.clone());
        match key.split_once('=') {
            Some((key, value)) => api::Toleration {
                key: Some(key.to_owned()),
                operator: Some("Equal".to_owned()),
                value: Some(value.to_owned()),
                effect,
                ..Default::default()
            },
            None => api::Toleration {
                key: (!key.is_empty()).then(|| key.clone()),
                operator: Some("Exists".to_owned()),
                effect,
                ..Default::default()
            },
        }
    };
    (!configured.is_empty()).then(|| configured.iter().map(toleration).collect())
}

fn labels(request: &PodRequest<'_>, base: &str) -> BTreeMap<String, String> {
    let PodRequest { job, runner, variables, .. } = request;
    let is_reserved = |key: &str| {
        let domain = key.split('/').next().unwrap_or_default().to_lowercase();
        domain == "runner.gitlab.com" || domain.ends_with(".runner.gitlab.com") || domain == "gantry.dev"
    };
    let mut labels: BTreeMap<String, String> = BTreeMap::from([("pod".to_owned(), names::label_value(base))]);
    let configured = runner.kubernetes.pod_labels.iter().filter(|(key, _)| !is_reserved(key));
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
    ];
    labels.extend(own.into_iter().map(|(key, value)| (key.to_owned(), names::label_value(&value))));
    labels
}

fn annotations(request: &PodRequest<'_>) -> BTreeMap<String, String> {
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
        own.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let configured = runner.kubernetes.pod_annotations.iter();
    annotations.extend(configured.map(|(key, value)| (key.clone(), variables.expand(value))));
    annotations.insert(ANNOTATION_CLAIM.to_owned(), context.suffix.clone());
    annotations
}
