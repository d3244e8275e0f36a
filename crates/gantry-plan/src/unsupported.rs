//! What jobs and configs may ask for and this version does not do. Whatever would run with less protection, or would not be the job that
//! was written, is refused; everything else is a warning in the job log.

use gantry_config::RunnerSettings;
use gantry_core::feature_flags::parse_bool;
use gantry_core::job::JobSpec;
use gantry_core::variables::Variables;

use crate::PlanError;
use crate::environment::list;
use crate::job_settings::Flags;

/// Refuses what cannot be done without.
///
/// # Errors
/// Says what is not supported and what to do instead.
pub(crate) fn refuse(job: &JobSpec, runner: &RunnerSettings, flags: &Flags) -> Result<(), PlanError> {
    if job.id <= 0 {
        return Err(PlanError::InvalidJob(format!("its id is {}, which is not a positive number", job.id)));
    }
    let native_steps = job.run.as_deref().map(str::trim).unwrap_or_default();
    if !matches!(native_steps, "" | "[]" | "null") {
        let message = "the job uses `run`, whose steps this runner cannot carry out: use `script` instead";
        return Err(PlanError::Configuration(message.to_owned()));
    }
    let kubernetes = &runner.kubernetes;
    if kubernetes.namespace_per_job {
        // In a namespace that jobs share, they would see each other.
        let message = "namespace_per_job is not supported by this version: remove it from [runners.kubernetes], and the job \
                       will run in the configured namespace";
        return Err(PlanError::Configuration(message.to_owned()));
    }
    if !kubernetes.pod_spec.is_empty() && flags.is_on("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION") {
        // A patch may be what keeps jobs apart from their node.
        let message = "[[runners.kubernetes.pod_spec]] is not supported by this version: remove the patches, or turn \
                       FF_USE_ADVANCED_POD_SPEC_CONFIGURATION off";
        return Err(PlanError::Configuration(message.to_owned()));
    }
    Ok(())
}

/// What the job asks for in vain; `literal` are its variables after expansion.
pub(crate) fn warnings(job: &JobSpec, flags: &Flags, literal: &Variables) -> Vec<String> {
    let mut warnings = Vec::new();
    if job.cache.iter().any(|cache| !cache.paths.is_empty() || cache.untracked) {
        warnings.push("caches are not supported by this version; `cache` of this job is ignored".to_owned());
    }
    if !job.secrets.0.is_empty() {
        let names: Vec<&str> = job.secrets.0.iter().map(String::as_str).collect();
        warnings.push(format!(
            "secret stores are not supported by this version; `secrets` of this job are ignored and not set: {}",
            list(&names)
        ));
    }
    if !job.inputs.is_empty() {
        let names: Vec<&str> = job.inputs.iter().map(|input| input.key.as_str()).collect();
        warnings.push(format!(
            "inputs are not supported by this version; ${{{{ job.inputs }}}} is left as it is: {}",
            list(&names)
        ));
    }
    if literal.get("DOCKER_AUTH_CONFIG").is_some_and(|value| !value.is_empty()) {
        warnings.push(
            "DOCKER_AUTH_CONFIG has no effect in this version; images are pulled with image_pull_secrets of the runner's config"
                .to_owned(),
        );
    }
    if literal.get("CI_DEBUG_SERVICES").and_then(parse_bool).unwrap_or(false) {
        warnings.push("CI_DEBUG_SERVICES has no effect in this version; logs of services are not shown".to_owned());
    }
    if flags.is_on("FF_KUBERNETES_HONOR_ENTRYPOINT") {
        warnings.push(
            "FF_KUBERNETES_HONOR_ENTRYPOINT has no effect in this version; entrypoints of build images are not run"
                .to_owned(),
        );
    }
    warnings
}
