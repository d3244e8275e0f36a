//! Services: from the config's and the job's lists to containers with names and host aliases
//! (GitLab Runner 19.4, `executors/kubernetes`). Unlike there, `build` and `helper` are reserved
//! names.

use std::collections::BTreeSet;

use gantry_config::RunnerSettings;
use gantry_config::names::{is_dns_label, is_object_name};
use gantry_config::settings::Resources;
use gantry_core::job::{Image, JobSpec};
use gantry_core::variables::{Variable, Variables};
use gantry_wire::layout::{BUILD, HELPER};
use gantry_wire::services::NAMELESS;

use crate::environment::ServiceEnvironment;
use crate::head_line::HeadLine;
use crate::readiness::Ports;
use crate::redact::JobSecrets;
use crate::{PlanError, environment, overwrites, readiness};

/// One service container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Service {
    /// Name of the container.
    pub(crate) container: String,
    pub(crate) image: String,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    /// What it sees, and what is to be said about that.
    pub(crate) environment: ServiceEnvironment,
    /// Its own quantities, where it may and does ask for them.
    pub(crate) resources: Resources,
    /// What the job log says about those.
    pub(crate) lines: Vec<HeadLine>,
    /// Where it answers once it is ready.
    pub(crate) ports: Ports,
    /// Host names that lead to it.
    pub(crate) aliases: Vec<String>,
    /// The payload's entry, for pull policy and user.
    pub(crate) spec: Image,
}

/// Most services of a job: no node could run a pod of more, and each repeats the job's public
/// variables.
const MAX_SERVICES: usize = 100;

/// Everything that services are made from.
pub(crate) struct ServiceArgs<'a> {
    pub(crate) job: &'a JobSpec,
    pub(crate) runner: &'a RunnerSettings,
    /// All variables, unexpanded.
    pub(crate) variables: &'a Variables,
    /// The same, expanded.
    pub(crate) literal: &'a Variables,
    pub(crate) job_secrets: &'a JobSecrets,
}

/// The services of a job: those of the config first.
///
/// # Errors
/// A host alias that is no host name, quantities beyond their ceiling, too many services.
pub(crate) fn services(args: &ServiceArgs<'_>) -> Result<Vec<Service>, PlanError> {
    let ServiceArgs { job, runner, variables, literal, job_secrets } = args;
    let count = job.services.len() + runner.kubernetes.services.len();
    if count > MAX_SERVICES {
        return Err(PlanError::InvalidJob(format!("it has {count} services; {MAX_SERVICES} are possible")));
    }
    let configured = runner.kubernetes.services.iter().map(|service| Image {
        name: service.name.clone(),
        aliases: service.aliases.join(" "),
        entrypoint: service.entrypoint.clone(),
        command: service.command.clone(),
        variables: service
            .environment
            .iter()
            .map(|(key, value)| Variable { key: key.clone(), value: value.as_str().into(), ..Variable::default() })
            .collect(),
        ..Image::default()
    });
    let mut names = Names { taken: BTreeSet::from([BUILD.to_owned(), HELPER.to_owned()]), nameless: 0 };
    let shared = if count == 0 { Vec::new() } else { environment::shared(variables, literal, job_secrets) };
    let mut services = Vec::new();
    for spec in configured.chain(job.services.iter().cloned()) {
        let image = variables.expand(&spec.name);
        if image.is_empty() {
            continue;
        }
        let explicit = split_aliases(&variables.expand(&spec.aliases));
        if let Some(bad) = explicit.iter().find(|alias| !is_object_name(alias)) {
            return Err(PlanError::Configuration(format!(
                "provided host alias {bad:?} for service {image:?} is invalid DNS. Use lower-case letters, digits, '-' and '.' only"
            )));
        }
        let container = names.take(&explicit);
        let (resources, lines) = overwrites::service_resources(&runner.kubernetes.resources.service, &spec.variables)?;
        let lines = lines.into_iter().map(|line| HeadLine::plain(format!("{} for the service {image}", line.text)));
        let mut aliases = image_aliases(&image);
        aliases.extend(explicit);
        services.push(Service {
            ports: readiness::ports((&container, &image), &spec, variables),
            container,
            entrypoint: spec.entrypoint.clone(),
            command: spec.command.clone(),
            environment: environment::for_service((variables, &shared), &spec.variables, job_secrets),
            resources,
            lines: lines.collect(),
            aliases: if spec.ports.is_empty() { aliases } else { Vec::new() },
            image,
            spec,
        });
    }
    for service in &services {
        if let Some(port) = service.spec.ports.iter().find(|port| !is_port(port.number)) {
            return Err(PlanError::InvalidJob(format!(
                "its service {} has port {}, which is none",
                service.image, port.number
            )));
        }
    }
    services.sort_by(|a, b| a.container.cmp(&b.container));
    Ok(services)
}

fn is_port(number: i64) -> bool {
    (1..=65535).contains(&number)
}

struct Names {
    taken: BTreeSet<String>,
    nameless: usize,
}

impl Names {
    fn take(&mut self, aliases: &[String]) -> String {
        if let Some(alias) = aliases.iter().find(|alias| is_dns_label(alias) && !self.taken.contains(*alias)) {
            self.taken.insert(alias.clone());
            return alias.clone();
        }
        loop {
            let name = format!("{NAMELESS}{}", self.nameless);
            self.nameless += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

fn split_aliases(text: &str) -> Vec<String> {
    text.split([' ', ',']).filter(|alias| !alias.is_empty()).map(str::to_owned).collect()
}

/// The host names that an image's own name gives: its path without port and tag, `/` as `__` and as
/// `-`.
fn image_aliases(image: &str) -> Vec<String> {
    let without_digest = image.split('@').next().unwrap_or_default();
    let mut parts: Vec<&str> = without_digest.split('/').collect();
    let last = parts.len() - 1;
    for (at, part) in parts.iter_mut().enumerate() {
        if at == 0 || at == last {
            *part = part.split(':').next().unwrap_or_default();
        }
    }
    let mut aliases: Vec<String> = Vec::new();
    for separator in ["__", "-"] {
        let alias = parts.join(separator);
        if is_object_name(&alias) && !aliases.contains(&alias) {
            aliases.push(alias);
        }
    }
    aliases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_of_images() {
        for (image, aliases) in [
            ("postgres:16", &["postgres"][..]),
            ("registry.example.com:5000/db/pg:1", &["registry.example.com-db-pg"]),
            ("tutum/wordpress", &["tutum-wordpress"]),
            ("redis@sha256:abc", &["redis"]),
        ] {
            assert_eq!(image_aliases(image), aliases, "{image}");
        }
    }

    #[test]
    fn container_names_avoid_ours_and_each_other() {
        let mut names = Names { taken: BTreeSet::from(["build".to_owned()]), nameless: 0 };
        let alias = |text: &str| split_aliases(text);
        assert_eq!(names.take(&alias("build, db")), "db");
        assert_eq!(names.take(&alias("db")), "svc-0");
        assert_eq!(names.take(&alias("a.b")), "svc-1");
    }
}
