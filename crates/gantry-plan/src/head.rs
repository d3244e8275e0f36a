//! The first lines of the job log: who runs the job, with which settings and images (GitLab Runner
//! 19.4's order and words).

use gantry_config::RunnerSettings;
use gantry_core::job::{JobSpec, PolicyOptions};
use gantry_core::short_token::short_token;
use gantry_wire::services;
use k8s_openapi::api::core::v1::Pod;

use crate::Context;
use crate::environment::list;
use crate::head_line::HeadLine;
use crate::job_settings::Flags;
use crate::redact::JobSecrets;
use crate::services::Service;
use crate::volumes;

/// The lines before the first section.
pub(crate) fn banner(
    (runner, job): (&RunnerSettings, &JobSpec),
    context: &Context,
    flags: &Flags,
    warnings: &[String],
) -> Vec<HeadLine> {
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
    lines.extend(policy(&job.policy_options));
    lines
}

/// What is said of a job that a security policy brings: whose it is, and whose variables count.
fn policy(options: &PolicyOptions) -> Vec<HeadLine> {
    if !options.is_of_policy {
        return Vec::new();
    }
    let (may_override, but) = match options.may_override {
        Some(true) => ("may override those of the policy", "all but"),
        Some(false) => ("do not override those of the policy", "none but"),
        None => ("do not override those of the policy that have the same names", ""),
    };
    let exceptions: Vec<&str> = options.exceptions.iter().map(String::as_str).collect();
    let exceptions = match exceptions.as_slice() {
        names @ [_, ..] if !but.is_empty() => format!(", {but} {}", list(names)),
        _ => String::new(),
    };
    vec![
        HeadLine::info(format!("Job triggered by policy {:?}.", options.name)),
        HeadLine::info(format!("Variables of users {may_override}{exceptions}.")),
    ]
}

/// Warnings about ports that are none, about what services do not get, and about masked values that
/// whoever may read pods can read, because the job has put them into the pod's spec.
pub(crate) fn of_containers(services: &[Service], pod: &Pod, job_secrets: &JobSecrets) -> Vec<String> {
    let mut warnings: Vec<String> = services.iter().filter_map(|service| service.ports.warning.clone()).collect();
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
    warnings.extend(unread(services, pod));
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

/// Warnings about paths of files in services that do not have the files: those are for services
/// that name them.
fn unread(services: &[Service], pod: &Pod) -> impl Iterator<Item = String> {
    let containers = || pod.spec.iter().flat_map(|spec| &spec.containers);
    let has_files = move |service: &&Service| {
        containers().find(|container| container.name == service.container).is_some_and(volumes::has_files)
    };
    services.iter().filter(move |service| !has_files(service)).filter_map(|service| {
        let names: Vec<&str> = service.environment.file_variables.iter().map(String::as_str).collect();
        let first = names.first()?;
        let (of, list) = (services::shown(&service.container, &service.image), list(&names));
        Some(format!(
            "service {of} has the path of file variables, but not the files ({list}): one that has such a path in a variable of its own, as in \
             variables: PATH_OF_IT: ${first}, can read them"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_of_policies_say_so() {
        let said = |text: &str| -> Vec<String> {
            policy(&serde_json::from_str(text).unwrap()).into_iter().map(|line| line.text).collect()
        };
        assert_eq!(said(r#"{"policy_name": "P"}"#), Vec::<String>::new());
        let of = |more: &str| said(&format!(r#"{{"execution_policy_job": true, "policy_name": "P"{more}}}"#));
        let second = "Variables of users do not override those of the policy that have the same names.";
        assert_eq!(of(""), ["Job triggered by policy \"P\".", second]);
        let named = r#", "policy_variables_override_exceptions": ["A", "B"]"#;
        for (allowed, more, expected) in [
            ("true", "", "may override those of the policy."),
            ("true", named, "may override those of the policy, all but \"A\", \"B\"."),
            ("false", named, "do not override those of the policy, none but \"A\", \"B\"."),
            ("false", "", "do not override those of the policy."),
        ] {
            let lines = of(&format!(r#", "policy_variables_override_allowed": {allowed}{more}"#));
            assert_eq!(lines[1], format!("Variables of users {expected}"));
        }
    }
}
