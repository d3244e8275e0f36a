//! The job pod: helper first, then services, then build, because the kubelet starts containers in
//! that order and the helper's work does not wait for the other images. No secret of the job is in
//! it: those go to the agent over its own connection.

use std::collections::BTreeMap;

use gantry_config::settings::{PullPolicy, Resources};
use gantry_core::limits;
use gantry_wire::layout::{BUILD, HELPER};
use gantry_wire::plan::KeepFailed;
use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::access_control::{
    GrantedUser, RequestedUser, check_image, helper_pull_policies, kubernetes_word, pull_policies, shown,
};
use crate::fleet::Fleet;
use crate::head_line::HeadLine;
use crate::helper_image::{OFFICIAL, helper_image};
use crate::making::{self, Fallback, Making};
use crate::mirror::Mirror;
use crate::namespace::{Namespace, of_job};
use crate::pod_request::PodRequest;
use crate::registries::{Logins, PullSecret, Sources};
use crate::services::Service;
use crate::{PlanError, environment, fits, metadata, names, patches, placement, security, start, volumes};

/// A pod and what the job log says about it.
pub(crate) struct MadePod {
    pub(crate) namespace: String,
    pub(crate) pod: api::Pod,
    pub(crate) pull_secret: Option<PullSecret>,
    pub(crate) lines: Vec<HeadLine>,
    pub(crate) making: Making,
    pub(crate) keep_failed: Option<KeepFailed>,
}

/// Makes the pod.
pub(crate) fn pod(request: &PodRequest<'_>) -> Result<MadePod, PlanError> {
    let kubernetes = &request.runner.kubernetes;
    let mut lines: Vec<HeadLine> = request.services.iter().flat_map(|service| service.lines.clone()).collect();
    let Namespace { name: namespace, assumed } = of_job(kubernetes, request.job.id);
    if let Some(origin) = assumed {
        lines.push(HeadLine::warning(format!("Namespace is empty, therefore assuming '{namespace}', {origin}.")));
    }
    lines.push(HeadLine::plain(format!("Using Kubernetes namespace: {namespace}")));
    let containers = containers(request, &mut lines)?;
    let base =
        names::pod_base(request.runner.token.expose(), request.job.job_info.project_id, request.context.concurrent_id);
    let name = names::pod_name(&base, &request.context.suffix);
    let pull_secret = pull_secret(request, (&name, &containers), &mut lines);
    let fleet = Fleet::of(request.context.fleet.as_deref(), &request.runner.url, &namespace);
    let ticket = metadata::ticket(request, (&name, &namespace), &fleet);
    let labels = metadata::labels(request, &base, &fleet);
    let fallbacks = containers.fallbacks.clone();
    let keeps = request.runner.keep_failed_pods;
    if keeps.is_some() && !request.context.may_mark {
        lines.push(HeadLine::warning(
            "keep_failed_pods of the runner's config has no effect: the runner may not patch pods, which it needs for that",
        ));
    }
    let keep_failed = making::keep(keeps.filter(|_| request.context.may_mark), (&name, &namespace), BUILD);
    let (mut spec, notes) =
        patches::apply(spec(request, containers, pull_secret.as_ref()), request.patches, &request.context.patch_files)?;
    lines.extend(notes);
    fits::check(&spec)?;
    // A pod that names its node can have no scheduling gates (Kubernetes API).
    let follows_pod = request.may_hold_back && spec.node_name.is_none();
    let pull_secret = pull_secret.map(|secret| PullSecret { labels: labels.clone(), follows_pod, ..secret });
    if let Some(secret) = &pull_secret {
        secret.hold_back(&mut spec);
    }
    let pod = api::Pod {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.clone()),
            labels: Some(labels),
            annotations: Some(metadata::annotations(request, ticket)),
            ..Default::default()
        },
        spec: Some(spec),
        status: None,
    };
    let making = Making::of(kubernetes, &pod, fallbacks);
    Ok(MadePod { namespace, pod, pull_secret, lines, making, keep_failed })
}

/// The logins for the images of the pod. Everybody may pull the official helper image.
fn pull_secret(
    request: &PodRequest<'_>,
    (name, containers): (&str, &Containers),
    lines: &mut Vec<HeadLine>,
) -> Option<PullSecret> {
    let images = containers.list.iter().filter_map(|container| container.image.as_deref());
    let images: Vec<&str> = images.filter(|image| !image.starts_with(OFFICIAL)).collect();
    let file = request.context.docker_config.as_ref();
    let logins = Logins::read(
        &Sources {
            variable: request.literal.get("DOCKER_AUTH_CONFIG"),
            file: file.map(|(path, text)| (path.as_str(), text.expose())),
            credentials: &request.job.credentials,
        },
        &images,
    );
    lines.extend(logins.warnings.iter().map(HeadLine::warning));
    let secret = logins.secret(name)?;
    if request.runner.kubernetes.use_service_account_image_pull_secrets {
        lines.push(HeadLine::warning(format!(
            "The job has a login for {}, which is not used: use_service_account_image_pull_secrets is set in the runner's config",
            secret.registries.join(", ")
        )));
        return None;
    }
    Some(secret)
}

/// The containers with their volumes.
struct Containers {
    list: Vec<api::Container>,
    volumes: Vec<api::Volume>,
    fallbacks: Vec<Fallback>,
}

fn containers(request: &PodRequest<'_>, lines: &mut Vec<HeadLine>) -> Result<Containers, PlanError> {
    let PodRequest { job, runner, variables, services, paths, .. } = request;
    let kubernetes = &runner.kubernetes;
    let image = build_image(request, lines)?;
    let helper_image = helper_image(kubernetes, variables, &request.context.executable_arch)?;
    lines.push(HeadLine::plain(format!("Using Kubernetes executor with image {image} ...")));
    let mut volumes = volumes::volumes(&kubernetes.volumes, variables, paths)?;
    if let Some((volume, mount)) = request.mirror.as_ref().map(Mirror::volume) {
        volumes.volumes.push(volume);
        volumes.helper.push(mount);
    }
    let lifecycle = placement::lifecycle(&kubernetes.container_lifecycle);
    let (mut list, mut fallbacks) = (Vec::new(), Vec::new());
    let mut add = |container: api::Container, policies: &[PullPolicy]| {
        lines.push(HeadLine::plain(format!(
            "Using effective pull policy of {} for container {}",
            shown(policies),
            container.name
        )));
        fallbacks.extend(making::fallback(&container.name, policies));
        let policy = policies.first().and_then(|policy| kubernetes_word(*policy)).map(str::to_owned);
        list.push(api::Container { image_pull_policy: policy, lifecycle: lifecycle.clone(), ..container });
    };
    let helper = api::Container {
        name: HELPER.to_owned(),
        image: Some(helper_image),
        command: Some(start::helper(kubernetes.timing.poll_timeout)),
        resources: resources(&kubernetes.resources.helper.set),
        security_context: Some(security::container(
            &kubernetes.helper_security_context,
            kubernetes,
            GrantedUser::default(),
        )),
        volume_mounts: Some(volumes.helper.clone()),
        ..Default::default()
    };
    let build_policies = pull_policies(BUILD, &job.image, kubernetes)?;
    add(helper, &helper_pull_policies(&build_policies, kubernetes));
    let mut overruled = Vec::new();
    for service in *services {
        let container = service_container(request, service, &volumes)?;
        add(container, &pull_policies(&service.container, &service.spec, kubernetes)?);
        let own = &kubernetes.service_security_context;
        let requested = RequestedUser::of(&service.spec, variables);
        overruled.extend(requested.overruled(&service.container, own, &kubernetes.pod_security_context));
    }
    let own = &kubernetes.build_security_context;
    let requested = RequestedUser::of(&job.image, variables);
    overruled.extend(requested.overruled(BUILD, own, &kubernetes.pod_security_context));
    let honored = request.honors_entrypoint;
    let start = start::build(kubernetes.timing.poll_timeout, honored, &job.image.entrypoint);
    // Scripts get more than that by the agent, and nobody else needs any.
    let env = (honored || placement::runs_hook(&kubernetes.container_lifecycle)).then(|| {
        let seen = environment::for_container(variables, request.literal, request.job_secrets);
        seen.iter().map(|(name, value)| env_var(name, value)).collect()
    });
    let build = api::Container {
        name: BUILD.to_owned(),
        image: Some(image),
        command: start.command,
        args: start.args,
        env,
        // So that an entrypoint that fails says why, without a right to the container's log.
        termination_message_policy: honored.then(|| "FallbackToLogsOnError".to_owned()),
        resources: resources(&kubernetes.resources.build.set),
        security_context: Some(security::container(own, kubernetes, requested.granted(BUILD, own, kubernetes)?)),
        volume_mounts: Some(volumes.build),
        ..Default::default()
    };
    add(build, &build_policies);
    lines.extend(overruled.into_iter().map(HeadLine::warning));
    Ok(Containers { list, volumes: volumes.volumes, fallbacks })
}

fn build_image(request: &PodRequest<'_>, lines: &mut Vec<HeadLine>) -> Result<String, PlanError> {
    let kubernetes = &request.runner.kubernetes;
    let configured = configured_image(request);
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

/// The image that jobs get which name none; whatever the lists say, they may use it (GitLab Runner
/// 19.4).
fn configured_image(request: &PodRequest<'_>) -> String {
    let configured = request.runner.kubernetes.image.as_deref();
    configured.map(|image| request.variables.expand(image)).unwrap_or_default()
}

fn service_container(
    request: &PodRequest<'_>,
    service: &Service,
    volumes: &volumes::PodVolumes,
) -> Result<api::Container, PlanError> {
    let kubernetes = &request.runner.kubernetes;
    let configured = configured_image(request);
    check_image(&service.image, "services", &kubernetes.allowed_services, &[&configured, OFFICIAL])?;
    let env = service.environment.variables.iter().map(|(name, value)| env_var(name, value));
    let own = &kubernetes.service_security_context;
    let user = RequestedUser::of(&service.spec, request.variables).granted(&service.container, own, kubernetes)?;
    let context = security::container(own, kubernetes, user);
    let mounts = match (context.privileged, service.environment.names_files) {
        (Some(true), _) => &volumes.privileged_services,
        (_, true) => &volumes.reading_services,
        _ => &volumes.services,
    };
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

pub(crate) fn resources(set: &Resources) -> Option<api::ResourceRequirements> {
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

fn spec(request: &PodRequest<'_>, containers: Containers, own: Option<&PullSecret>) -> api::PodSpec {
    let kubernetes = &request.runner.kubernetes;
    let kept = request.runner.keep_failed_pods.unwrap_or_default();
    let deadline = request.timeout + kept + limits::POD_DEADLINE_SLACK;
    let own = own.map(|secret| &secret.name);
    let secrets = kubernetes.image_pull_secrets.iter().chain(own);
    let secrets: Vec<_> = secrets.map(|name| api::LocalObjectReference { name: name.clone() }).collect();
    let pull_secrets = !kubernetes.use_service_account_image_pull_secrets && !secrets.is_empty();
    api::PodSpec {
        restart_policy: Some("Never".to_owned()),
        active_deadline_seconds: i64::try_from(deadline.as_secs()).ok(),
        automount_service_account_token: kubernetes.automount_service_account_token,
        containers: containers.list,
        affinity: placement::affinity(&kubernetes.affinity),
        dns_config: placement::dns_config(&kubernetes.dns_config),
        dns_policy: Some(placement::dns_policy(kubernetes.dns_policy).to_owned()),
        host_aliases: host_aliases(request),
        image_pull_secrets: pull_secrets.then_some(secrets),
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
