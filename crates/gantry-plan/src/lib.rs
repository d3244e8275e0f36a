//! A job and the settings of its runner in, everything that will be done about it out.
//!
//! [`plan`] is pure: it asks nobody, so it can be printed and compared. Nothing after it decides what should be run. The result has two
//! halves: Kubernetes objects, which only the manager sees, and the [`PodPlan`] for the agent in the pod.

mod access_control;
mod environment;
mod head;
mod helper_image;
mod job_settings;
mod metadata;
mod names;
mod namespace;
mod overwrites;
mod paths;
mod placement;
mod pod;
mod redact;
mod script;
mod security;
mod services;
mod sources;
mod stages;
mod start;
mod unsupported;
mod volumes;

use std::time::Duration;

use gantry_config::RunnerSettings;
use gantry_core::job::JobSpec;
use gantry_core::variables::Variables;
use gantry_core::{Ending, Secret, limits};
use gantry_wire::plan::{Alone, Coordinator, Paths, PodPlan, ProxyPlan, StagePlan, StartLimit, TracePlan};
use k8s_openapi::api::core::v1::Pod;

use environment::{Early, Given};
use redact::Redactor;

pub use head::{HeadLevel, HeadLine};
pub use metadata::{ANNOTATION_CLAIM, ANNOTATION_START_TIMEOUT, LABEL_JOB, LABEL_MANAGED};
pub use namespace::{Namespace, namespace};

/// What the manager knows beside the job and the runner's settings.
#[derive(Clone, Debug)]
pub struct Context {
    /// Name in the first line of the job log.
    pub name: String,
    /// Version of the reference whose behaviour jobs see (`CI_RUNNER_VERSION`).
    pub version: String,
    /// Our own version (`CI_RUNNER_REVISION`).
    pub revision: String,
    /// `http.userAgent` of git.
    pub git_user_agent: String,
    /// `os/arch` of the manager.
    pub executable_arch: String,
    /// The manager's host name.
    pub manager_host: String,
    /// The manager's system id.
    pub system_id: String,
    /// Slot of the job among all of its runner.
    pub concurrent_id: u32,
    /// Slot of the job among those of its project.
    pub concurrent_project_id: u32,
    /// Eight characters `[a-z0-9]` that make the pod's name unique.
    pub suffix: String,
    /// `X-Request-Id` of the answer that brought the job.
    pub correlation_id: Option<String>,
    /// Roots with which jobs verify GitLab's certificate, PEM.
    pub tls_ca_pem: Option<String>,
    /// Additional roots of the runner's configuration, PEM.
    pub configured_ca_pem: Option<String>,
    /// The manager's proxies, if it has any.
    pub proxies: Option<ProxyPlan>,
    /// What the agent does when no manager speaks to it.
    pub alone: Alone,
}

/// Everything decided about a job.
#[derive(Clone, Debug)]
pub struct JobPlan {
    /// Namespace of the pod.
    pub namespace: String,
    /// The pod.
    pub pod: Pod,
    /// What the agent is told. Its trace head is still empty: the manager renders it from [`JobPlan::banner`] and [`JobPlan::executor`].
    pub pod_plan: PodPlan,
    /// Lines before the first section.
    pub banner: Vec<HeadLine>,
    /// Lines of the section `prepare_executor`.
    pub executor: Vec<HeadLine>,
    /// Names of the service containers.
    pub services: Vec<String>,
    /// The job's time-out.
    pub timeout: Duration,
    /// How long the pod may take to start.
    pub start_timeout: Duration,
    /// Grace period of the pod's deletion.
    pub cleanup_grace_seconds: Option<i64>,
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
    /// The image is not on the list of allowed ones; the lines explain it in the job log.
    #[error("disallowed image")]
    DisallowedImage(Vec<String>),
}

impl PlanError {
    /// How the job ends for want of a plan.
    pub fn ending(&self) -> Ending {
        match self {
            Self::InvalidJob(message) => Ending::InvalidJob { message: message.clone() },
            Self::Configuration(message) => Ending::Configuration { message: message.clone() },
            Self::JobVariable(message) => {
                let stage = "get_sources".to_owned();
                Ending::StageFailed { stage, message: message.clone(), exit_code: 1 }
            }
            Self::DisallowedImage(_) => Ending::Runner { message: self.to_string() },
        }
    }
}

/// Decides everything about a job.
///
/// # Errors
/// The job cannot run with these settings; nothing has been touched. Errors name no secret of the job.
pub fn plan(job: &JobSpec, runner: &RunnerSettings, context: &Context) -> Result<JobPlan, PlanError> {
    let given = Given::read(job, runner)?;
    let builds_dir = paths::builds_dir(runner)?;
    let timeout = timeout(job);
    let start = Early { job, runner, context, builds_dir: &builds_dir, timeout };
    let early = given.early(&start);
    environment::check_size(&early, job)?;
    let literal = environment::literal(&early);
    let redactor = Redactor::new(literal.iter().chain(given.left_out()), &job.token);
    let facts = Facts { start, given: &given, early: &early, literal: &literal };
    decide(&facts).map_err(|error| redactor.error(error))
}

/// What is known about a job before its flags and directories are.
struct Facts<'a> {
    start: Early<'a>,
    given: &'a Given,
    /// Its variables so far, unexpanded.
    early: &'a Variables,
    /// The same, expanded.
    literal: &'a Variables,
}

fn decide(facts: &Facts<'_>) -> Result<JobPlan, PlanError> {
    let Facts { start, given, early, literal } = facts;
    let Early { job, runner, context, builds_dir, timeout } = start;
    let flags = job_settings::Flags::read(&runner.feature_flags, literal);
    unsupported::refuse(job, runner, &flags)?;
    let mut settings = job_settings::read(literal, job.allow_git_fetch, *timeout);
    if runner.debug_trace_disabled && settings.debug_trace {
        settings.debug_trace = false;
        settings.warnings.push("CI_DEBUG_TRACE: usage is disabled on this Runner".to_owned());
    }
    let strategy = settings.git_strategy;
    let paths = paths::paths(&paths::Wishes { job, runner, context, builds_dir, early, literal, strategy })?;
    let variables = given.assemble(start, &flags, &paths);
    environment::check_size(&variables, job)?;
    let expanded = environment::literal(&variables);
    let redactor = Redactor::new(expanded.iter().chain(given.left_out()), &job.token);
    let overwritten = overwrites::apply(&runner.kubernetes, &expanded, &redactor)?;
    let runner = &RunnerSettings { kubernetes: overwritten.settings, ..(*runner).clone() };
    let services = services::services(&services::Wishes {
        job,
        runner,
        variables: &variables,
        literal: &expanded,
        redactor: &redactor,
    })?;
    let inputs = sources::Inputs { job, runner, context, settings: &settings, flags: &flags, variables: &variables };
    let stages = stages::stages(&inputs)?;
    let pod = pod::pod(&pod::PodRequest {
        job,
        runner,
        context,
        variables: &variables,
        services: &services,
        paths: &paths,
        timeout: *timeout,
    })?;
    let mut warnings = [given.warnings.clone(), flags.warnings.clone(), settings.warnings.clone()].concat();
    warnings.extend(unsupported::warnings(job, &flags, &expanded));
    warnings.extend(head::readable(&services, &pod.pod, &redactor));
    let banner = head::banner(runner, context, &flags, &warnings);
    let executor = [overwritten.lines, pod.lines].concat();
    let trace = trace(&inputs, environment::masks(&expanded, given.left_out()));
    Ok(JobPlan {
        namespace: pod.namespace,
        pod: pod.pod,
        pod_plan: pod_plan(
            &inputs,
            PodParts { paths, trace, stages, timeout: *timeout, expanded: &expanded },
            !services.is_empty(),
        ),
        banner: redactor.lines(banner),
        executor: redactor.lines(executor),
        services: services.into_iter().map(|service| service.container).collect(),
        timeout: *timeout,
        start_timeout: runner.kubernetes.timing.poll_timeout,
        cleanup_grace_seconds: runner.kubernetes.cleanup_grace_period_seconds,
    })
}

/// What the agent is told beside the settings.
struct PodParts<'a> {
    paths: Paths,
    trace: TracePlan,
    stages: Vec<StagePlan>,
    timeout: Duration,
    expanded: &'a Variables,
}

fn pod_plan(inputs: &sources::Inputs<'_>, parts: PodParts<'_>, wait_for_services: bool) -> PodPlan {
    let sources::Inputs { job, runner, context, settings, flags, .. } = inputs;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    PodPlan {
        job_id: job.id,
        job_token: job.token.clone(),
        coordinator: Coordinator {
            url: runner.url.clone(),
            ca_pem: context.configured_ca_pem.clone(),
            proxies: context.proxies.clone(),
            upload_timeout_ms: millis(runner.artifact_upload_timeout),
            response_header_timeout_ms: millis(runner.artifact_response_header_timeout),
        },
        manager_host: context.manager_host.clone(),
        timeout_seconds: parts.timeout.as_secs(),
        remaining_ms: millis(parts.timeout),
        script_timeout_ms: settings.script_timeout.map(millis),
        after_script_timeout_ms: millis(settings.after_script_timeout),
        after_script_ignore_errors: settings.after_script_ignore_errors,
        script_grace_ms: millis(runner.script_termination_grace_period),
        keep_umask: flags.is_on("FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR"),
        environment: environment::for_scripts(parts.expanded),
        trace: parts.trace,
        stages: parts.stages,
        wait_for_services,
        failure_reasons: job.features.failure_reasons.clone(),
        alone: context.alone.clone(),
        start: Some(StartLimit {
            seconds: runner.kubernetes.timing.poll_timeout.as_secs(),
            remaining_ms: millis(runner.kubernetes.timing.poll_timeout),
        }),
        build_memory_limit: runner
            .kubernetes
            .resources
            .build
            .set
            .memory_limit
            .as_ref()
            .map(|limit| limit.as_str().to_owned()),
        paths: parts.paths,
    }
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
        debug_trace: settings.debug_trace,
    }
}

/// The job's time-out: what GitLab sent, or its default.
pub fn timeout(job: &JobSpec) -> Duration {
    match u64::try_from(job.runner_info.timeout) {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds).min(limits::MAX_JOB_TIMEOUT),
        _ => limits::DEFAULT_JOB_TIMEOUT,
    }
}
