//! The first lines of the job log: who runs the job, with which settings and images (GitLab Runner
//! 19.4's order and words).

use gantry_config::RunnerSettings;
use gantry_core::short_token::short_token;
use gantry_wire::services;
use k8s_openapi::api::core::v1::Pod;

use crate::Context;
use crate::head_line::HeadLine;
use crate::job_settings::Flags;
use crate::redact::JobSecrets;
use crate::services::Service;

/// The lines before the first section.
pub(crate) fn banner(runner: &RunnerSettings, context: &Context, flags: &Flags, warnings: &[String]) -> Vec<HeadLine> {
    let mut lines = vec![
        HeadLine::plain(format!("Running with {} {} ({})", context.name, context.version, context.revision)),
        HeadLine::plain(format!(
            "  on {} {}, system ID: {}",
            runner.name,
            short_token(runner.token.expose()),
            context.system_id
        )),
    ];
    let changed: Vec<String> = flags.changed().map(|(name, value)| format!("{name}:{value}")).collect();
    if !changed.is_empty() {
        lines.push(HeadLine::plain(format!("  feature flags: {}", changed.join(", "))));
    }
    lines.extend(warnings.iter().map(HeadLine::warning));
    lines
}

/// Warnings about masked values that whoever may read pods can read, because the job has put them
/// into the pod's spec.
pub(crate) fn readable(services: &[Service], pod: &Pod, job_secrets: &JobSecrets) -> Vec<String> {
    let mut warnings = Vec::new();
    for service in services {
        let of = services::shown(&service.container, &service.image);
        for name in &service.environment.readable {
            warnings.push(format!(
                "variable {name:?} of service {of} has a masked value in it, which can be read in the pod's spec"
            ));
        }
        for name in &service.environment.impossible {
            warnings
                .push(format!("variable {name:?} of service {of} is left out: Kubernetes takes no such name or value"));
        }
    }
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    for (container, image) in containers.filter_map(|container| Some((&container.name, container.image.as_ref()?))) {
        if let Some(name) = job_secrets.found_in(image) {
            warnings.push(format!(
                "the image of container {container:?} has the masked value of {name:?} in it, which can be read in the pod's spec"
            ));
        }
    }
    warnings
}
