//! The job's variables: those of the runner around those of the payload, in the order of GitLab Runner 19.4 (later ones win).

use std::time::Duration;

use gantry_config::RunnerSettings;
use gantry_core::Secret;
use gantry_core::feature_flags::FLAGS;
use gantry_core::job::JobSpec;
use gantry_core::short_token::short_token;
use gantry_core::variables::{Variable, Variables};
use gantry_wire::plan::{EnvVar, Paths};

use crate::Context;
use crate::job_settings::Flags;

/// Everything that variables are made from.
pub(crate) struct Sources<'a> {
    pub(crate) job: &'a JobSpec,
    pub(crate) runner: &'a RunnerSettings,
    pub(crate) context: &'a Context,
    pub(crate) paths: &'a Paths,
    pub(crate) flags: &'a Flags,
    pub(crate) timeout: Duration,
}

/// Variables of runner and payload as settings are read from them, before flags are resolved.
pub(crate) fn given(job: &JobSpec, runner: &RunnerSettings) -> Variables {
    let environment = runner.environment.iter().map(|(key, value)| from_config(key, value));
    Variables::new(environment.chain(job.variables.iter().cloned()).collect(), "")
}

/// All variables, unexpanded.
pub(crate) fn assemble(sources: &Sources<'_>) -> Variables {
    let Sources { job, runner, context, paths, flags, timeout } = sources;
    let mut list: Vec<Variable> = flags.iter().map(|(name, value)| made(name, value.to_string())).collect();
    if !job.image.name.is_empty() {
        // Expanded like every reference to an image, so not taken literally.
        list.push(Variable { raw: false, ..made("CI_JOB_IMAGE", job.image.name.clone()) });
    }
    list.push(made("CI_RUNNER_SHORT_TOKEN", short_token(runner.token.expose())));
    list.extend(runner.environment.iter().map(|(key, value)| from_config(key, value)));
    list.extend([
        made("CI_BUILDS_DIR", paths.builds_dir.clone()),
        made("CI_PROJECT_DIR", paths.project_dir.clone()),
        made("CI_CONCURRENT_ID", context.concurrent_id.to_string()),
        made("CI_CONCURRENT_PROJECT_ID", context.concurrent_project_id.to_string()),
        made("CI_SERVER", "yes"),
        made("CI_JOB_STATUS", "running"),
        made("CI_JOB_TIMEOUT", timeout.as_secs().to_string()),
    ]);
    if let Some(pem) = &context.tls_ca_pem {
        list.push(made("CI_SERVER_TLS_CA_FILE", pem.clone()).into_file());
    }
    let is_flag = |key: &str| FLAGS.iter().any(|flag| flag.name == key);
    list.extend(job.variables.iter().filter(|variable| !is_flag(&variable.key)).cloned());
    list.extend([
        made("CI_DISPOSABLE_ENVIRONMENT", "true"),
        made("CI_RUNNER_VERSION", context.version.clone()),
        made("CI_RUNNER_REVISION", context.revision.clone()),
        made("CI_RUNNER_EXECUTABLE_ARCH", context.executable_arch.clone()),
        made("RUNNER_TEMP_PROJECT_DIR", paths.temp_dir.clone()),
    ]);
    Variables::new(list, paths.temp_dir.clone())
}

fn made(key: &str, value: impl Into<Secret>) -> Variable {
    Variable::made(key, value)
}

fn from_config(key: &str, value: &str) -> Variable {
    Variable { key: key.to_owned(), value: value.into(), internal: true, ..Variable::default() }
}

/// What scripts see: expanded, the last duplicate of a name only, at the place of the first.
pub(crate) fn for_scripts(variables: &Variables) -> Vec<EnvVar> {
    deduplicated(variables.expanded())
        .into_iter()
        .map(|variable| EnvVar { key: variable.key, value: variable.value, file: variable.file })
        .collect()
}

/// What service containers see in the pod's spec: public and internal variables that are not masked, then the service's own.
pub(crate) fn for_service(variables: &Variables, own: &[Variable]) -> Vec<(String, String)> {
    let shared =
        variables.expanded().into_iter().filter(|variable| (variable.public || variable.internal) && !variable.masked);
    let own = own.iter().map(|variable| Variable { value: variables.value_of(variable), ..variable.clone() });
    deduplicated(shared.chain(own).collect())
        .into_iter()
        .map(|variable| {
            let value =
                if variable.file { variables.file_path(&variable.key) } else { variable.value.expose().to_owned() };
            (variable.key, value)
        })
        .collect()
}

/// Values that the job log must not show, expanded.
pub(crate) fn masks(variables: &Variables) -> Vec<Secret> {
    let mut masks: Vec<Secret> = Vec::new();
    for variable in variables.expanded().into_iter().filter(|variable| variable.masked) {
        let value = Secret::new(variable.value.expose().trim());
        if !value.is_empty() && !masks.contains(&value) {
            masks.push(value);
        }
    }
    masks
}

fn deduplicated(list: Vec<Variable>) -> Vec<Variable> {
    let mut by_key: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    let mut out: Vec<Variable> = Vec::with_capacity(list.len());
    for variable in list {
        match by_key.get(&variable.key) {
            Some(&at) => out[at] = variable,
            None => {
                by_key.insert(variable.key.clone(), out.len());
                out.push(variable);
            }
        }
    }
    out
}
