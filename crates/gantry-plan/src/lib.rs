//! A job and the settings of its runner in, everything that will be done about it out.
//!
//! [`plan`] is pure: it asks nobody, so it can be printed and compared. Nothing after it decides what should be run. The result has two
//! halves: Kubernetes objects, which only the manager sees, and the [`PodPlan`] for the agent in the pod.

mod access_control;
mod environment;
mod head;
mod job_settings;
mod names;
mod pod;
mod script;
mod security;
mod services;
mod sources;
mod stages;
mod start;
mod volumes;

use std::time::Duration;

use gantry_config::RunnerSettings;
use gantry_core::job::JobSpec;
use gantry_core::{Ending, limits};
use gantry_wire::plan::{Coordinator, Paths, PodPlan, TracePlan};
use k8s_openapi::api::core::v1::Pod;

pub use head::{HeadLevel, HeadLine};
pub use pod::{ANNOTATION_CLAIM, LABEL_JOB, LABEL_MANAGED};

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
            Self::DisallowedImage(_) => Ending::Runner { message: self.to_string() },
        }
    }
}

/// Decides everything about a job.
///
/// # Errors
/// The job cannot run with these settings; nothing has been touched.
pub fn plan(job: &JobSpec, runner: &RunnerSettings, context: &Context) -> Result<JobPlan, PlanError> {
    let timeout = timeout(job);
    let given = environment::given(job, runner);
    let flags = job_settings::Flags::read(&runner.feature_flags, &given);
    let mut settings = job_settings::read(&given, job.allow_git_fetch, timeout);
    if runner.debug_trace_disabled && settings.debug_trace {
        settings.debug_trace = false;
        settings.warnings.push("CI_DEBUG_TRACE: usage is disabled on this Runner".to_owned());
    }
    let paths = paths(job, runner, &given, settings.git_strategy)?;
    let sources = environment::Sources { job, runner, context, paths: &paths, flags: &flags, timeout };
    let variables = environment::assemble(&sources);
    let services = services::services(job, runner, &variables)?;
    let inputs = sources::Inputs { job, runner, context, settings: &settings, flags: &flags, variables: &variables };
    let stages = stages::stages(&inputs)?;
    let warnings: Vec<String> = flags.warnings.iter().chain(&settings.warnings).cloned().collect();
    let request =
        pod::PodRequest { job, runner, context, variables: &variables, services: &services, paths: &paths, timeout };
    let made = pod::pod(&request)?;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mask_all = flags.is_on("FF_MASK_ALL_DEFAULT_TOKENS");
    Ok(JobPlan {
        namespace: made.namespace,
        pod: made.pod,
        pod_plan: PodPlan {
            job_id: job.id,
            job_token: job.token.clone(),
            coordinator: Coordinator {
                url: runner.url.clone(),
                ca_pem: context.configured_ca_pem.clone(),
                upload_timeout_ms: millis(runner.artifact_upload_timeout),
                response_header_timeout_ms: millis(runner.artifact_response_header_timeout),
            },
            manager_host: context.manager_host.clone(),
            timeout_seconds: timeout.as_secs(),
            remaining_ms: millis(timeout),
            script_timeout_ms: settings.script_timeout.map(millis),
            after_script_timeout_ms: millis(settings.after_script_timeout),
            after_script_ignore_errors: settings.after_script_ignore_errors,
            environment: environment::for_scripts(&variables),
            trace: TracePlan {
                head: String::new(),
                masks: environment::masks(&variables),
                token_prefixes: gantry_trace::default_token_prefixes(mask_all, &job.features.token_mask_prefixes),
                timestamps: flags.is_on("FF_TIMESTAMPS"),
                sections: job.features.trace_sections,
                limit_bytes: runner.output_limit_bytes,
                debug_trace: settings.debug_trace,
            },
            stages,
            wait_for_services: !services.is_empty(),
            failure_reasons: job.features.failure_reasons.clone(),
            paths,
        },
        banner: head::banner(runner, context, &flags, &warnings),
        executor: made.lines,
        services: services.into_iter().map(|service| service.container).collect(),
        timeout,
        start_timeout: runner.kubernetes.timing.poll_timeout,
        cleanup_grace_seconds: runner.kubernetes.cleanup_grace_period_seconds,
    })
}

/// The job's time-out: what GitLab sent, or its default.
pub fn timeout(job: &JobSpec) -> Duration {
    match u64::try_from(job.runner_info.timeout) {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds).min(limits::MAX_JOB_TIMEOUT),
        _ => limits::DEFAULT_JOB_TIMEOUT,
    }
}

/// The directories of a job. `GIT_CLONE_PATH` may choose another work tree inside of the builds directory.
fn paths(
    job: &JobSpec,
    runner: &RunnerSettings,
    given: &gantry_core::variables::Variables,
    strategy: gantry_wire::plan::GitStrategy,
) -> Result<Paths, PlanError> {
    let builds_dir = runner.builds_dir.trim_end_matches('/').to_owned();
    let slug = names::project_slug(job.git_info.repo_url.expose(), job.job_info.project_id);
    let mut project_dir = format!("{builds_dir}/{slug}");
    if strategy == gantry_wire::plan::GitStrategy::Empty {
        project_dir.push_str("-empty");
    }
    if let Some(wanted) = given.get("GIT_CLONE_PATH").filter(|path| !path.is_empty()) {
        if !runner.custom_build_dir_enabled {
            let message = "setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature";
            return Err(PlanError::Configuration(message.to_owned()));
        }
        let wanted = wanted.replace("$CI_BUILDS_DIR", &builds_dir).replace("${CI_BUILDS_DIR}", &builds_dir);
        let wanted = given.expand(&wanted);
        project_dir = clean(&wanted).filter(|path| path.starts_with(&format!("{builds_dir}/"))).ok_or_else(|| {
            PlanError::Configuration(format!("the GIT_CLONE_PATH={wanted:?} has to be within {builds_dir:?}"))
        })?;
    }
    Ok(Paths { temp_dir: format!("{project_dir}.tmp"), builds_dir, project_dir })
}

/// An absolute path without `.`, `..` and empty parts; `None` if it is relative or leaves the root.
fn clean(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.strip_prefix('/')?.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests;
