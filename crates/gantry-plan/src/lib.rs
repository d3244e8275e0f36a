//! A job and the settings of its runner in, everything that will be done about it out.
//!
//! [`plan`] is pure: it asks nobody, so it can be printed and compared. Nothing after it decides
//! what should be run. The result has two halves: Kubernetes objects, which only the manager sees,
//! and the [`PodPlan`] for the agent in the pod.
//!
//! What a plan needs and only a clock or the network can give is said beforehand by [`wants`].
//! Whoever fetches it hands it back as [`Links`].

mod access_control;
mod caches;
mod clean_path;
mod context;
mod environment;
mod fits;
mod fleet;
mod head;
mod head_line;
mod helper_image;
mod inputs;
mod job_settings;
mod making;
mod metadata;
mod mirror;
mod names;
mod namespace;
mod no_effect;
mod overwrites;
mod patches;
mod paths;
mod pause;
pub mod picture;
mod placement;
mod pod;
mod pod_request;
mod readiness;
mod redact;
mod registries;
mod restricted;
mod script;
mod security;
mod services;
mod sources;
mod stages;
mod start;
mod unsupported;
mod volumes;

use std::time::Duration;

use gantry_config::settings::{PullPolicy, Shell};
use gantry_config::{KubernetesSettings, Quantity, RunnerSettings};
use gantry_core::ending::StartSetting;
use gantry_core::job::JobSpec;
use gantry_core::variables::Variables;
use gantry_core::{Ending, Secret, limits};
use gantry_wire::plan::{Coordinator, KeepFailed, Paths, PodPlan, StagePlan, StartLimit, TracePlan};
use gantry_wire::services::ServicesPlan;
use gantry_wire::usage::ResourcePlan;

use caches::Caches;
use environment::{Early, Given};
use mirror::Mirror;
use redact::JobSecrets;

pub use k8s_openapi::api::core::v1::{Namespace as OwnNamespace, Pod};

pub use caches::{Access, CacheRenewal, Links, ObjectWant, Wants};
pub use context::{Context, Owner};
pub use fleet::{Fleet, LABEL_FLEET};
pub use head_line::HeadLine;
pub use inputs::InputProblem;
pub use making::{Awaited, Fallback, Making, Tries};
pub use metadata::{
    ANNOTATION_CLAIM, ANNOTATION_HEARTBEAT, ANNOTATION_KEPT, ANNOTATION_OWNER, ANNOTATION_START_TIMEOUT,
    ANNOTATION_TICKET, LABEL_JOB, LABEL_MANAGED, own_namespace,
};
pub use namespace::{Namespace, namespace};
pub use patches::{PatchFiles, files as patch_files};
pub use pause::{ANNOTATION_PAUSE_HEARTBEAT, pause_class, pause_deployment, pause_is_of, pause_name, pause_selector};
pub use registries::{GATE, PullSecret};
pub use restricted::{is_refusal as is_restriction, restrict};

/// Everything decided about a job.
#[derive(Clone, Debug)]
pub struct JobPlan {
    /// Namespace of the pod.
    pub namespace: String,
    /// The pod.
    pub pod: Pod,
    /// The Secret that it names, with logins for registries, if it needs one.
    pub pull_secret: Option<PullSecret>,
    /// What the agent is told. Its trace head is still empty: the manager renders it from
    /// [`JobPlan::banner`] and [`JobPlan::executor`].
    pub pod_plan: PodPlan,
    /// Lines before the first section.
    pub banner: Vec<HeadLine>,
    /// Lines of the section `prepare_executor`.
    pub executor: Vec<HeadLine>,
    /// Names of the service containers.
    pub services: Vec<String>,
    /// What the pod mounts from the cluster, in words: it may have to wait for it.
    pub volumes: Vec<String>,
    /// Whether the job log shows all events of the pod until it runs (`FF_PRINT_POD_EVENTS`).
    pub prints_events: bool,
    /// Whether the log of the runner says the job's images (`FF_LOG_IMAGES_CONFIGURED_FOR_JOB`).
    pub logs_images: bool,
    /// In how many texts of the job an input has taken the place of an expression.
    pub input_texts: u64,
    /// The job's time-out.
    pub timeout: Duration,
    /// How long the pod may take to start.
    pub start_timeout: Duration,
    /// The setting that says so.
    pub start_setting: StartSetting,
    /// Grace period of the pod's deletion.
    pub cleanup_grace_seconds: Option<i64>,
    /// What is signed again while the job runs, where that is needed.
    pub cache_renewal: Option<CacheRenewal>,
    /// What is done around the making of the pod, and its removal.
    pub making: Making,
}

/// Why there is no plan.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// The payload contradicts itself.
    #[error("{0}")]
    InvalidJob(String),
    /// Job and runner settings cannot work together.
    #[error("{0}")]
    Configuration(String),
    /// A variable of the job asks for what cannot be: the job's fault, as in the reference.
    #[error("{0}")]
    JobVariable(String),
    /// An expression about the job's inputs cannot be replaced by a value.
    #[error("{message}")]
    Input {
        /// What is wrong with it.
        problem: InputProblem,
        /// The same in words.
        message: String,
    },
    /// The image is not on the list of allowed ones; the lines explain it in the job log.
    #[error("disallowed image")]
    DisallowedImage(Vec<String>),
}

impl PlanError {
    /// How the job ends for want of a plan.
    pub fn ending(&self) -> Ending {
        match self {
            Self::InvalidJob(message) => Ending::InvalidJob { message: message.clone() },
            Self::Configuration(message) | Self::Input { message, .. } => {
                Ending::Configuration { message: message.clone() }
            }
            Self::JobVariable(message) => {
                let stage = "get_sources".to_owned();
                Ending::StageFailed { stage, message: message.clone(), exit_code: 1 }
            }
            Self::DisallowedImage(_) => Ending::Runner { message: self.to_string() },
        }
    }
}

/// Says what must be fetched or signed for a job before it can be planned. What is wrong with the
/// job is said by [`plan`].
pub fn wants(job: &JobSpec, runner: &RunnerSettings, context: &Context) -> Wants {
    if job.cache.is_empty() || runner.cache.kind.is_none() {
        return Wants::default();
    }
    let timeout = timeout(job);
    let wanted = |facts: &Facts<'_>| {
        let assembled = assemble(facts)?;
        Ok(caches(facts, &assembled)?.wants(timeout))
    };
    with_facts(job, runner, context, wanted).unwrap_or_default()
}

/// Decides everything about a job. `links` are what [`wants`] has asked for.
///
/// # Errors
/// The job cannot run with these settings; nothing has been touched. Errors name no secret of the
/// job.
pub fn plan(job: &JobSpec, runner: &RunnerSettings, context: &Context, links: &Links) -> Result<JobPlan, PlanError> {
    with_facts(job, runner, context, |facts| decide(facts, links))
}

/// Does something with what is known about a job at first. Errors of `work` lose the job's secrets;
/// those before it show no variable's value: of a job's texts they quote what no variable was put
/// into yet.
fn with_facts<T>(
    job: &JobSpec,
    runner: &RunnerSettings,
    context: &Context,
    work: impl FnOnce(&Facts<'_>) -> Result<T, PlanError>,
) -> Result<T, PlanError> {
    let interpolated = inputs::interpolate(job, runner)?;
    let (job, input_texts) = interpolated.as_ref().map_or((job, 0), |done| (&done.job, done.texts));
    let given = Given::read(job, runner)?;
    let builds_dir = paths::builds_dir(runner)?;
    let timeout = timeout(job);
    let start = Early { job, runner, context, builds_dir: &builds_dir, timeout };
    let early = given.early(&start);
    environment::check_size(&early, job)?;
    let literal = environment::literal(&early);
    let job_secrets = JobSecrets::new(literal.iter().chain(given.left_out()), &job.token);
    let facts = Facts { start, given: &given, early: &early, literal: &literal, input_texts };
    work(&facts).map_err(|error| job_secrets.error(error))
}

/// What is known about a job before its flags and directories are.
struct Facts<'a> {
    start: Early<'a>,
    given: &'a Given,
    /// Its variables so far, unexpanded.
    early: &'a Variables,
    /// The same, expanded.
    literal: &'a Variables,
    /// In how many texts of the job an input stands.
    input_texts: u64,
}

/// Flags, settings, directories and variables of a job.
struct Assembled {
    flags: job_settings::Flags,
    settings: job_settings::JobSettings,
    paths: Paths,
    /// Unexpanded.
    variables: Variables,
    expanded: Variables,
}

fn assemble(facts: &Facts<'_>) -> Result<Assembled, PlanError> {
    let Facts { start, given, early, literal, .. } = facts;
    let Early { job, runner, context, builds_dir, timeout } = start;
    let flags = job_settings::Flags::read(&runner.feature_flags, literal);
    unsupported::refuse(job)?;
    let mut settings = job_settings::read(literal, job.allow_git_fetch, *timeout);
    if runner.debug_trace_disabled && settings.debug_trace {
        settings.debug_trace = false;
        settings.warnings.push("CI_DEBUG_TRACE: usage is disabled on this Runner".to_owned());
    }
    if runner.debug_trace_disabled && settings.debug_services {
        settings.debug_services = false;
        settings.warnings.push("CI_DEBUG_SERVICES: usage is disabled on this Runner".to_owned());
    }
    let strategy = settings.git_strategy;
    let paths = paths::paths(&paths::PathArgs { job, runner, context, builds_dir, early, literal, strategy })?;
    let variables = given.assemble(start, &flags, &paths);
    environment::check_size(&variables, job)?;
    let expanded = environment::literal(&variables);
    Ok(Assembled { flags, settings, paths, variables, expanded })
}

fn caches<'a>(facts: &Facts<'a>, assembled: &'a Assembled) -> Result<Caches<'a>, PlanError> {
    let Early { job, runner, .. } = facts.start;
    let Assembled { flags, settings, variables, .. } = assembled;
    Caches::read(caches::CacheArgs { job, runner, settings, flags, variables })
}

/// Says that pods get less time to start than `poll_timeout` has.
fn shorter_start(runner: &RunnerSettings) -> HeadLine {
    let seconds = runner.kubernetes.timing.poll_timeout.as_secs();
    HeadLine::plain(format!("The pod gets {seconds} s to start (prepare_timeout of the runner's config)"))
}

fn decide(facts: &Facts<'_>, links: &Links) -> Result<JobPlan, PlanError> {
    let assembled = assemble(facts)?;
    let caches = caches(facts, &assembled)?;
    let Assembled { flags, settings, paths, variables, expanded } = &assembled;
    let Facts { given, .. } = facts;
    let Early { job, runner, context, timeout, .. } = facts.start;
    let job_secrets = JobSecrets::new(expanded.iter().chain(given.left_out()), &job.token);
    let overwritten = overwrites::apply(&runner.kubernetes, expanded, &job_secrets)?;
    let configured_start = runner.kubernetes.timing.poll_timeout;
    let may_hold_back = context.holds_pods && overwritten.is_at_home(&runner.kubernetes);
    let runner = &effective(runner, overwritten.settings);
    let start_setting = start_setting(runner, configured_start);
    let args = services::ServiceArgs { job, runner, variables, literal: expanded, job_secrets: &job_secrets };
    let services = services::services(&args)?;
    let inputs = sources::Inputs { job, runner, context, settings, flags, variables };
    let stages = stages::stages(&inputs, &caches, links)?;
    let cache_renewal = caches.renewal(links, timeout);
    let honors_entrypoint = flags.is_on("FF_KUBERNETES_HONOR_ENTRYPOINT");
    let pod = pod::pod(&pod_request::PodRequest {
        job,
        runner,
        context,
        variables,
        literal: expanded,
        services: &services,
        paths,
        timeout,
        timestamps: flags.is_on("FF_TIMESTAMPS"),
        debug_trace: settings.is_debugged(),
        cache_objects: cache_renewal.as_ref().map_or(&[], |renewal| &renewal.objects),
        mirror: Mirror::of(job, runner, settings.git_strategy),
        may_hold_back,
        job_secrets: &job_secrets,
        honors_entrypoint,
        patches: if flags.is_on("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION") { &runner.kubernetes.pod_spec } else { &[] },
    })?;
    let mut warnings = warnings(facts, &assembled, &caches, runner);
    warnings.extend(head::of_containers(&services, &pod.pod, &job_secrets));
    let banner = head::banner((runner, job), context, flags, &warnings);
    let mut executor = [overwritten.lines, pod.lines].concat();
    executor.extend((start_setting == StartSetting::PrepareTimeout).then(|| shorter_start(runner)));
    let volumes = volumes::shown(&pod.pod).into_iter().map(|text| job_secrets.line(&text)).collect();
    let trace = trace(&inputs, environment::masks(expanded, given.left_out()));
    let told = services.iter().map(|service| {
        readiness::told((&service.container, &job_secrets.line(&service.image)), &service.spec, &service.ports, runner)
    });
    let told = readiness::plan(told.collect(), runner, settings.debug_services);
    let keep_failed = pod.keep_failed;
    let paths = paths.clone();
    let parts = PodParts { paths, trace, stages, timeout, start_setting, expanded, services: told, keep_failed };
    Ok(JobPlan {
        namespace: pod.namespace,
        pod: pod.pod,
        pull_secret: pod.pull_secret,
        pod_plan: pod_plan(&inputs, parts),
        banner: job_secrets.lines(banner),
        executor: job_secrets.lines(executor),
        services: services.into_iter().map(|service| service.container).collect(),
        volumes,
        prints_events: flags.is_on("FF_PRINT_POD_EVENTS"),
        logs_images: flags.is_on("FF_LOG_IMAGES_CONFIGURED_FOR_JOB"),
        input_texts: facts.input_texts,
        timeout,
        start_timeout: runner.kubernetes.timing.poll_timeout,
        start_setting,
        cleanup_grace_seconds: runner.kubernetes.cleanup_grace_period_seconds,
        cache_renewal,
        making: Making { bearer_token: overwritten.bearer_token, ..pod.making },
    })
}

/// What the head of the log warns of, whatever the pod becomes.
fn warnings(facts: &Facts<'_>, assembled: &Assembled, caches: &Caches<'_>, runner: &RunnerSettings) -> Vec<String> {
    let Assembled { flags, settings, variables, expanded, .. } = assembled;
    let Early { job, context, .. } = facts.start;
    let mut warnings = [facts.given.warnings.clone(), flags.warnings.clone(), settings.warnings.clone()].concat();
    warnings.extend(caches.warning());
    warnings.extend(sources::warning(settings, flags));
    let arch = helper_image::arch(&runner.kubernetes, &context.executable_arch);
    warnings.extend(unsupported::of_images(job, arch, expanded, flags.is_on("FF_KUBERNETES_HONOR_ENTRYPOINT")));
    warnings.extend(no_effect::warnings(runner, job, (facts.literal, variables)));
    warnings
}

/// The settings for one job. Whatever time there is for preparing it is time for its pod to start.
fn effective(runner: &RunnerSettings, mut kubernetes: KubernetesSettings) -> RunnerSettings {
    let limit = runner.prepare_timeout.filter(|limit| !limit.is_zero());
    let start = &mut kubernetes.timing.poll_timeout;
    *start = limit.map_or(*start, |limit| limit.min(*start));
    RunnerSettings { kubernetes, ..runner.clone() }
}

/// Which setting limits the start of the pod; `configured` is what `poll_timeout` was.
fn start_setting(runner: &RunnerSettings, configured: Duration) -> StartSetting {
    let is_shorter = runner.kubernetes.timing.poll_timeout < configured;
    if is_shorter { StartSetting::PrepareTimeout } else { StartSetting::PollTimeout }
}

/// What the agent is told beside the settings.
struct PodParts<'a> {
    paths: Paths,
    trace: TracePlan,
    stages: Vec<StagePlan>,
    timeout: Duration,
    start_setting: StartSetting,
    expanded: &'a Variables,
    services: ServicesPlan,
    keep_failed: Option<KeepFailed>,
}

fn pod_plan(inputs: &sources::Inputs<'_>, parts: PodParts<'_>) -> PodPlan {
    let sources::Inputs { job, runner, context, settings, flags, .. } = inputs;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let build = &runner.kubernetes.resources.build.set;
    PodPlan {
        job_id: job.id,
        job_token: job.token.clone(),
        project_id: job.job_info.project_id,
        coordinator: Coordinator {
            url: runner.url.clone(),
            ca_pem: context.configured_ca_pem.clone(),
            identity: context.identity.clone(),
            proxies: context.proxies.clone(),
            upload_timeout_ms: millis(runner.artifact_upload_timeout),
            response_header_timeout_ms: millis(runner.artifact_response_header_timeout),
        },
        manager_host: context.manager_host.clone(),
        timeout_seconds: parts.timeout.as_secs(),
        remaining_ms: millis(parts.timeout),
        acknowledged: false,
        script_timeout_ms: settings.script_timeout.map(millis),
        after_script_timeout_ms: millis(settings.after_script_timeout),
        after_script_ignore_errors: settings.after_script_ignore_errors,
        script_grace_ms: millis(runner.script_termination_grace_period),
        keep_umask: flags.is_on("FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR"),
        environment: environment::for_scripts(parts.expanded),
        trace: parts.trace,
        stages: parts.stages,
        wait_for_services: !parts.services.is_empty(),
        failure_reasons: job.features.failure_reasons.clone(),
        alone: context.alone.clone(),
        start: Some(StartLimit {
            seconds: runner.kubernetes.timing.poll_timeout.as_secs(),
            setting: parts.start_setting,
            remaining_ms: millis(runner.kubernetes.timing.poll_timeout),
        }),
        build_memory_limit: text_of(build.memory_limit.as_ref()),
        build_resources: ResourcePlan {
            cpu_request: text_of(build.cpu_request.as_ref()),
            cpu_limit: text_of(build.cpu_limit.as_ref()),
            memory_request: text_of(build.memory_request.as_ref()),
            memory_limit: text_of(build.memory_limit.as_ref()),
            storage_request: text_of(build.ephemeral_storage_request.as_ref()),
            storage_limit: text_of(build.ephemeral_storage_limit.as_ref()),
        },
        services: parts.services,
        paths: parts.paths,
        get_sources_timeout_ms: runner.get_sources_timeout.filter(|limit| !limit.is_zero()).map(millis),
        posix_shell: runner.shell == Shell::Sh,
        keep_failed: parts.keep_failed,
    }
}

fn text_of(quantity: Option<&Quantity>) -> Option<String> {
    quantity.map(|quantity| quantity.as_str().to_owned())
}

fn trace(inputs: &sources::Inputs<'_>, masks: Vec<Secret>) -> TracePlan {
    let sources::Inputs { job, runner, settings, flags, .. } = inputs;
    let mask_all = flags.is_on("FF_MASK_ALL_DEFAULT_TOKENS");
    TracePlan {
        head: String::new(),
        masks,
        token_prefixes: gantry_trace::default_token_prefixes(mask_all, &job.features.token_mask_prefixes),
        timestamps: flags.is_on("FF_TIMESTAMPS"),
        sections: job.features.trace_sections,
        limit_bytes: runner.output_limit_bytes,
        debug_trace: settings.is_debugged(),
    }
}

/// The job's time-out: what GitLab sent, or its default.
pub fn timeout(job: &JobSpec) -> Duration {
    match u64::try_from(job.runner_info.timeout) {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds).min(limits::MAX_JOB_TIMEOUT),
        _ => limits::DEFAULT_JOB_TIMEOUT,
    }
}
