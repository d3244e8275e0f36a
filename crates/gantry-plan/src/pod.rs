//! The job pod: helper first, then services, then build, because the kubelet starts containers in that order and the helper's work does
//! not wait for the other images. No secret of the job is in it: those go to the agent over its own connection.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_config::RunnerSettings;
use gantry_config::settings::{PullPolicy, Resources};
use gantry_core::job::{Image, JobSpec};
use gantry_core::limits;
use gantry_core::variables::Variables;
use gantry_wire::layout::{BUILD, HELPER};
use gantry_wire::plan::Paths;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::access_control::{check_image, kubernetes_word, pull_policies, requested_user, shown};
use crate::head::HeadLine;
use crate::helper_image::{OFFICIAL, helper_image};
use crate::namespace::{Namespace, namespace};
use crate::services::Service;
use crate::{Context, PlanError, metadata, names, placement, security, start, volumes};

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
    let Namespace { name: namespace, assumed } = namespace(kubernetes);
    if let Some(origin) = assumed {
        lines.push(HeadLine::warning(format!("Namespace is empty, therefore assuming '{namespace}', {origin}.")));
    }
    lines.push(HeadLine::plain(format!("Using Kubernetes namespace: {namespace}")));
    let containers = containers(request, &mut lines)?;
    let base =
        names::pod_base(request.runner.token.expose(), request.job.job_info.project_id, request.context.concurrent_id);
    let pod = api::Pod {
        metadata: ObjectMeta {
            name: Some(names::pod_name(&base, &request.context.suffix)),
            namespace: Some(namespace.clone()),
            labels: Some(metadata::labels(request, &base)),
            annotations: Some(metadata::annotations(request)),
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
    let helper_image = helper_image(kubernetes, variables, &request.context.executable_arch)?;
    lines.push(HeadLine::plain(format!("Using Kubernetes executor with image {image} ...")));
    let volumes = volumes::volumes(&kubernetes.volumes, variables, paths)?;
    let lifecycle = placement::lifecycle(&kubernetes.container_lifecycle);
    let mut list = Vec::new();
    let mut add = |container: api::Container, policies: &[PullPolicy]| {
        lines.push(HeadLine::plain(format!(
            "Using effective pull policy of {} for container {}",
            shown(policies),
            container.name
        )));
        let policy = policies.first().and_then(|policy| kubernetes_word(*policy)).map(str::to_owned);
        list.push(api::Container { image_pull_policy: policy, lifecycle: lifecycle.clone(), ..container });
    };
    let helper = api::Container {
        name: HELPER.to_owned(),
        image: Some(helper_image),
        command: Some(start::helper()),
        resources: resources(&kubernetes.resources.helper.set),
        security_context: Some(security::container(&kubernetes.helper_security_context, kubernetes, (None, None))),
        volume_mounts: Some(volumes.helper.clone()),
        ..Default::default()
    };
    add(helper, &pull_policies(HELPER, &Image::default(), kubernetes)?);
    for service in *services {
        let container = service_container(request, service, &volumes)?;
        add(container, &pull_policies(&service.container, &service.spec, kubernetes)?);
    }
    let user = requested_user(&job.image, kubernetes, variables)?;
    let (own, pod) = (&kubernetes.build_security_context, &kubernetes.pod_security_context);
    let overruled = security::overruled(BUILD, own, pod, user);
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
    lines.extend(overruled.into_iter().map(HeadLine::warning));
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
    check_image(&image, "images", &kubernetes.allowed_images, &[&configured, OFFICIAL])?;
    Ok(image)
}

fn service_container(
    request: &PodRequest<'_>,
    service: &Service,
    volumes: &volumes::PodVolumes,
) -> Result<api::Container, PlanError> {
    let kubernetes = &request.runner.kubernetes;
    check_image(&service.image, "services", &kubernetes.allowed_services, &[])?;
    let user = requested_user(&service.spec, kubernetes, request.variables)?;
    let env = service.environment.variables.iter().map(|(name, value)| env_var(name, value));
    let context = security::container(&kubernetes.service_security_context, kubernetes, user);
    let is_privileged = context.privileged == Some(true);
    let mounts = if is_privileged { &volumes.privileged_services } else { &volumes.services };
    let port = |port: &gantry_core::job::Port| {
        let number = i32::try_from(port.number).ok()?;
        Some(api::ContainerPort { container_port: number, ..Default::default() })
    };
    let ports: Vec<api::ContainerPort> = service.spec.ports.iter().filter_map(port).collect();
    Ok(api::Container {
        name: service.container.clone(),
        image: Some(service.image.clone()),
        command: (!service.entrypoint.is_empty()).then(|| service.entrypoint.clone()),
        args: (!service.command.is_empty()).then(|| service.command.clone()),
        env: Some(env.collect()),
        ports: (!ports.is_empty()).then_some(ports),
        resources: resources(&service.resources),
        security_context: Some(context),
        stdin: Some(true),
        volume_mounts: Some(mounts.clone()),
        ..Default::default()
    })
}

/// Kubernetes expands `$(NAME)` in values; a doubled dollar sign is a literal one.
fn env_var(name: &str, value: &str) -> api::EnvVar {
    api::EnvVar { name: name.to_owned(), value: Some(value.replace('$', "$$")), ..Default::default() }
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
        affinity: placement::affinity(&kubernetes.affinity),
        dns_config: placement::dns_config(&kubernetes.dns_config),
        dns_policy: Some(placement::dns_policy(kubernetes.dns_policy).to_owned()),
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
        tolerations: placement::tolerations(&kubernetes.node_tolerations),
        volumes: Some(containers.volumes),
        ..Default::default()
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
