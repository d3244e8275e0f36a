//! What jobs and configs may ask for and this version does not do. Whatever would run with less
//! protection, or would not be the job that was written, is refused; everything else is a warning
//! in the job log.

use gantry_core::job::{DockerOpts, ExecutorOpts, Image, JobSpec, KubernetesOpts};
use gantry_core::variables::Variables;

use crate::environment::list;
use crate::helper_image::ARCH_LABEL;
use crate::{PlanError, start};

/// Refuses what cannot be done without.
///
/// # Errors
/// Says what is not supported and what to do instead.
pub(crate) fn refuse(job: &JobSpec) -> Result<(), PlanError> {
    if job.id <= 0 {
        return Err(PlanError::InvalidJob(format!("its id is {}, which is not a positive number", job.id)));
    }
    let native_steps = job.run.as_deref().map(str::trim).unwrap_or_default();
    if !matches!(native_steps, "" | "[]" | "null") {
        let message = "the job uses `run`, whose steps this runner cannot carry out: use `script` instead";
        return Err(PlanError::Configuration(message.to_owned()));
    }
    unknown_options("image", &job.image)?;
    job.services.iter().try_for_each(|service| unknown_options(&format!("service {}", list(&[&service.name])), service))
}

/// Refuses options that there are not, as the reference does: without a user that is not spelled
/// right the container would run as another one.
fn unknown_options(place: &str, image: &Image) -> Result<(), PlanError> {
    let options = &image.executor_opts;
    for (level, unknown, known) in [
        ("executor_opts", &options.unknown, ExecutorOpts::KEYS),
        ("kubernetes", &options.kubernetes.unknown, KubernetesOpts::KEYS),
        ("docker", &options.docker.unknown, DockerOpts::KEYS),
    ] {
        if !unknown.is_empty() {
            let names: Vec<&str> = unknown.iter().map(String::as_str).collect();
            let (names, known) = (list(&names), known.join(" and "));
            let message = format!("{level} of its {place} has {names}, which is no option there: it knows {known}");
            return Err(PlanError::InvalidJob(message));
        }
    }
    Ok(())
}

/// What the job's images say in vain. `arch` is the architecture that the pod's node should be of,
/// and `honored` whether entrypoints of build images are run.
pub(crate) fn of_images(job: &JobSpec, arch: &str, variables: &Variables, honored: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    if !honored && start::changes_something(&job.image.entrypoint) {
        warnings.push(
            "image: entrypoint is not run, as scripts are run by a shell: set FF_KUBERNETES_HONOR_ENTRYPOINT to true to start the container \
             by it, or call it in the script"
                .to_owned(),
        );
    }
    warnings.extend(for_docker("image", &job.image, arch, variables));
    for service in &job.services {
        let place = format!("the service {}", variables.expand(&service.name));
        warnings.extend(for_docker(&place, service, arch, variables));
    }
    warnings
}

/// Options for the Docker executor. The reference takes them without a word, and leaves them out of
/// the pod.
fn for_docker(place: &str, image: &Image, arch: &str, variables: &Variables) -> Vec<String> {
    let options = &image.executor_opts;
    let mut warnings = Vec::new();
    let platform = variables.expand(&options.docker.platform);
    let wanted = platform.split('/').nth(1).unwrap_or(&platform);
    if !wanted.is_empty() && wanted != arch {
        warnings.push(format!(
            "docker: platform of {place} ({platform}) has no effect: choose such a node by the variable KUBERNETES_NODE_SELECTOR_ARCH with the \
             value \"{ARCH_LABEL}={wanted}\", where the runner allows that (node_selector_overwrite_allowed)"
        ));
    }
    let user = options.docker.user.as_ref().map(|user| variables.expand(&user.0)).unwrap_or_default();
    if !user.is_empty() && options.kubernetes.user.is_none() {
        warnings.push(format!(
            "docker: user of {place} has no effect: name the user by its number with kubernetes: user, beside it"
        ));
    }
    warnings
}
