//! The job's variables: those of the runner around those of the payload, in the order of GitLab
//! Runner 19.4 (later ones win).
//!
//! What no environment can hold is left out here, with a warning, so that nothing after it has to
//! ask. Expansion is bounded before it happens: a few kilobytes of references to each other must
//! not become gigabytes in a manager that serves other jobs too.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use gantry_config::RunnerSettings;
use gantry_core::feature_flags::FLAGS;
use gantry_core::job::JobSpec;
use gantry_core::limits::MAX_FRAME;
use gantry_core::short_token::short_token;
use gantry_core::variables::{Variable, Variables, expand};
use gantry_core::{ClientIdentity, Secret};
use gantry_wire::plan::{EnvVar, Paths};

use crate::job_settings::Flags;
use crate::redact::JobSecrets;
use crate::{Context, PlanError};

/// Most variables of a job: looking each other up takes quadratic time. GitLab's own limit for a
/// project is 8000.
const MAX_VARIABLES: usize = 20_000;

/// Most bytes of all values and scripts together after expansion: half a frame, because JSON may
/// write a byte as two.
pub(crate) const MAX_EXPANDED: usize = MAX_FRAME / 2;

/// Longest name of a file (Linux).
const MAX_FILE_NAME: usize = 255;

/// Names that a warning shows before it only counts.
const SHOWN_NAMES: usize = 10;

/// What runner and payload give, without that which cannot be exported.
pub(crate) struct Given {
    config: Vec<Variable>,
    payload: Vec<Variable>,
    /// Left out, but possibly secret.
    left_out: Vec<Variable>,
    /// One line for each reason to leave something out.
    pub(crate) warnings: Vec<String>,
}

impl Given {
    /// Sorts the variables of runner and payload.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn read(job: &JobSpec, runner: &RunnerSettings) -> Result<Self, PlanError> {
        let count = job.variables.len() + runner.environment.len();
        if count > MAX_VARIABLES {
            return Err(PlanError::InvalidJob(format!("it has {count} variables; {MAX_VARIABLES} are possible")));
        }
        let config: Vec<Variable> = runner.environment.iter().map(|(key, value)| from_config(key, value)).collect();
        let (config, mut left_out) = exportable(config);
        let (payload, others) = exportable(job.variables.clone());
        left_out.extend(others);
        let mut warnings = Vec::new();
        for problem in [Problem::Name, Problem::FileName, Problem::Value] {
            let names: Vec<&str> = left_out
                .iter()
                .filter(|variable| Problem::of(variable) == Some(problem))
                .map(|variable| variable.key.as_str())
                .collect();
            if !names.is_empty() {
                warnings.push(format!("left out variables {}: {}", list(&names), problem.sentence()));
            }
        }
        Ok(Self { config, payload, left_out, warnings })
    }

    /// The variables that are known before the job's directories are, in their final order.
    pub(crate) fn early(&self, sources: &Early<'_>) -> Variables {
        let mut list = self.before(sources, &[]);
        list.extend(self.payload.iter().cloned());
        list.extend(after(sources.context));
        Variables::new(list, "")
    }

    /// All variables, unexpanded.
    pub(crate) fn assemble(&self, sources: &Early<'_>, flags: &Flags, paths: &Paths) -> Variables {
        let mut list: Vec<Variable> = flags.iter().map(|(name, value)| made(name, value.to_string())).collect();
        list.extend(self.before(sources, &[made("CI_PROJECT_DIR", paths.project_dir.clone())]));
        if let Some(pem) = &sources.context.tls_ca_pem {
            list.push(made("CI_SERVER_TLS_CA_FILE", pem.clone()).into_file());
        }
        if let Some(ClientIdentity { cert_pem, key_pem }) = &sources.context.identity {
            list.push(made("CI_SERVER_TLS_CERT_FILE", cert_pem.clone()).into_file());
            // A script may use it, and no log shows it.
            let key = made("CI_SERVER_TLS_KEY_FILE", key_pem.clone()).into_file();
            list.push(Variable { masked: true, public: false, ..key });
        }
        let known: HashSet<&str> = FLAGS.iter().map(|flag| flag.name).collect();
        list.extend(self.payload.iter().filter(|variable| !known.contains(variable.key.as_str())).cloned());
        list.extend(after(sources.context));
        list.push(made("RUNNER_TEMP_PROJECT_DIR", paths.temp_dir.clone()));
        Variables::new(list, paths.temp_dir.clone())
    }

    /// What must not be shown although no script sees it.
    pub(crate) fn left_out(&self) -> &[Variable] {
        &self.left_out
    }

    /// Those before the payload's, which jobs may therefore replace.
    fn before(&self, sources: &Early<'_>, directories: &[Variable]) -> Vec<Variable> {
        let Early { job, runner, context, builds_dir, timeout } = sources;
        let mut list = Vec::new();
        if !job.image.name.is_empty() {
            // Expanded like every reference to an image, so not taken literally.
            list.push(Variable { raw: false, ..made("CI_JOB_IMAGE", job.image.name.clone()) });
        }
        list.push(made("CI_RUNNER_SHORT_TOKEN", short_token(runner.token.expose())));
        list.extend(self.config.iter().cloned());
        list.push(made("CI_BUILDS_DIR", *builds_dir));
        list.extend(directories.iter().cloned());
        list.extend([
            made("CI_CONCURRENT_ID", context.concurrent_id.to_string()),
            made("CI_CONCURRENT_PROJECT_ID", context.concurrent_project_id.to_string()),
            made("CI_SERVER", "yes"),
            made("CI_JOB_STATUS", "running"),
            made("CI_JOB_TIMEOUT", timeout.as_secs().to_string()),
        ]);
        list
    }
}

/// What variables are made from before flags and directories are known.
pub(crate) struct Early<'a> {
    pub(crate) job: &'a JobSpec,
    pub(crate) runner: &'a RunnerSettings,
    pub(crate) context: &'a Context,
    pub(crate) builds_dir: &'a str,
    pub(crate) timeout: Duration,
}

/// Those after the payload's, which jobs cannot replace.
fn after(context: &Context) -> [Variable; 4] {
    [
        made("CI_DISPOSABLE_ENVIRONMENT", "true"),
        made("CI_RUNNER_VERSION", context.version.clone()),
        made("CI_RUNNER_REVISION", context.revision.clone()),
        made("CI_RUNNER_EXECUTABLE_ARCH", context.executable_arch.clone()),
    ]
}

fn made(key: &str, value: impl Into<Secret>) -> Variable {
    Variable::made(key, value)
}

fn from_config(key: &str, value: &str) -> Variable {
    Variable { key: key.to_owned(), value: value.into(), internal: true, ..Variable::default() }
}

/// Why a variable cannot be exported.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Problem {
    Name,
    FileName,
    Value,
}

impl Problem {
    fn of(variable: &Variable) -> Option<Self> {
        let key = variable.key.as_str();
        let is_file_name = !key.contains('/') && key != "." && key != ".." && key.len() <= MAX_FILE_NAME;
        if key.is_empty() || key.contains(['=', '\0']) {
            Some(Self::Name)
        } else if variable.file && !is_file_name {
            Some(Self::FileName)
        } else if !variable.file && variable.value.expose().contains('\0') {
            Some(Self::Value)
        } else {
            None
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Name => "a name that is empty or has '=' or a NUL byte in it cannot be exported",
            Self::FileName => "the name of a file variable must be possible as the name of a file",
            Self::Value => "a value with a NUL byte cannot be exported, only written to a file",
        }
    }
}

fn exportable(list: Vec<Variable>) -> (Vec<Variable>, Vec<Variable>) {
    list.into_iter().partition(|variable| Problem::of(variable).is_none())
}

/// Names for a sentence: a few, shortened.
pub(crate) fn list(names: &[&str]) -> String {
    const LONGEST: usize = 64;
    let show = |name: &&str| format!("{:?}", name.chars().take(LONGEST).collect::<String>());
    let text = names.iter().take(SHOWN_NAMES).map(show).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN_NAMES) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// Refuses what would be too large after expansion, without expanding it.
///
/// # Errors
/// Says how much is possible.
pub(crate) fn check_size(variables: &Variables, job: &JobSpec) -> Result<(), PlanError> {
    let mut sizes: HashMap<&str, usize> = HashMap::new();
    for variable in variables.iter() {
        let value = variable.value.expose().len();
        let size = if variable.file { variables.file_path(&variable.key).len() } else { value };
        sizes.insert(&variable.key, size);
    }
    // Those of a service replace the job's for that service alone; the larger one is the safe
    // guess.
    for variable in job.services.iter().flat_map(|service| &service.variables) {
        let size = sizes.entry(&variable.key).or_default();
        *size = (*size).max(variable.value.expose().len());
    }
    let total = Cell::new(0_usize);
    let add = |size: usize| total.set(total.get().saturating_add(size));
    let weigh = |text: &str| {
        add(text.len());
        expand(text, |name| {
            add(sizes.get(name).copied().unwrap_or(0));
            None
        });
    };
    for variable in variables.iter() {
        if variable.raw { add(variable.value.expose().len()) } else { weigh(variable.value.expose()) }
    }
    texts(job).for_each(weigh);
    if total.get() <= MAX_EXPANDED {
        return Ok(());
    }
    Err(PlanError::InvalidJob(format!(
        "its variables and scripts would be larger than {} MiB after expansion",
        MAX_EXPANDED / 1024 / 1024
    )))
}

/// Every text of a job that is expanded, or sent to the agent as it is.
fn texts(job: &JobSpec) -> impl Iterator<Item = &str> {
    let images = std::iter::once(&job.image).chain(&job.services);
    let of_images = images.flat_map(|image| {
        [image.name.as_str(), image.aliases.as_str()]
            .into_iter()
            .chain(image.variables.iter().map(|variable| variable.value.expose()))
    });
    let of_steps = job.steps.iter().flat_map(|step| &step.script).chain(job.hooks.iter().flat_map(|hook| &hook.script));
    of_images.chain(of_steps.map(String::as_str))
}

/// The variables after expansion, as settings are read from them: literal, and with the content of
/// file variables.
pub(crate) fn literal(variables: &Variables) -> Variables {
    Variables::new(variables.expanded().into_iter().map(|variable| Variable { raw: true, ..variable }).collect(), "")
}

/// What scripts see: expanded, the last duplicate of a name only, at the place of the first.
pub(crate) fn for_scripts(expanded: &Variables) -> Vec<EnvVar> {
    deduplicated(expanded.iter().cloned().collect())
        .into_iter()
        .map(|variable| EnvVar { key: variable.key, value: variable.value, file: variable.file })
        .collect()
}

/// The environment of one service and what has to be said about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ServiceEnvironment {
    /// Name and value, unescaped.
    pub(crate) variables: Vec<(String, String)>,
    /// Names of the service's own variables whose values hold a masked value: they are readable in
    /// the pod's spec.
    pub(crate) readable: Vec<String>,
    /// Names of the service's own variables that Kubernetes would refuse.
    pub(crate) impossible: Vec<String>,
    /// Whether a variable of the service's own names a file of a file variable.
    pub(crate) names_files: bool,
    /// Names of the job's file variables whose paths it sees without having asked for them.
    pub(crate) file_variables: Vec<String>,
}

/// What every service container sees in the pod's spec: public and internal variables that are not
/// masked.
///
/// A variable whose value holds a masked one (`DB_URL: postgres://u:$PASSWORD@db/`) stays out of
/// the spec, where everybody who may read pods could read it: a service that needs it names it
/// among its own variables.
pub(crate) fn shared(variables: &Variables, expanded: &Variables, job_secrets: &JobSecrets) -> Vec<Variable> {
    let mut list = deduplicated(expanded.iter().cloned().collect());
    list.retain(|variable| {
        (variable.public || variable.internal)
            && !variable.masked
            && is_pod_name(&variable.key)
            && job_secrets.found_in(&shown(variables, variable)).is_none()
    });
    list
}

/// The value that a container sees, of a variable that is expanded.
fn shown(variables: &Variables, variable: &Variable) -> String {
    if variable.file { variables.file_path(&variable.key) } else { variable.value.expose().to_owned() }
}

/// What one service sees: what all do, then its own variables, which are expanded against all of
/// the job and themselves.
pub(crate) fn for_service(
    (variables, shared): (&Variables, &[Variable]),
    own: &[Variable],
    job_secrets: &JobSecrets,
) -> ServiceEnvironment {
    let mut made = ServiceEnvironment::default();
    let mut list = shared.to_vec();
    let mut with_own = variables.clone();
    for variable in own {
        with_own.push(variable.clone());
    }
    let files = with_own.file_path("");
    for variable in own {
        if !is_pod_name(&variable.key) || variable.value.expose().contains('\0') {
            made.impossible.push(variable.key.clone());
            continue;
        }
        let variable = Variable { value: with_own.value_of(variable), ..variable.clone() };
        let value = shown(variables, &variable);
        if job_secrets.found_in(&value).is_some() {
            made.readable.push(variable.key.clone());
        }
        made.names_files |= value.contains(files.trim_end_matches('/'));
        list.push(variable);
    }
    let list = deduplicated(list);
    let of_job = list.iter().filter(|variable| variable.file && !variable.internal);
    made.file_variables = of_job.map(|variable| variable.key.clone()).collect();
    let pair = |variable: &Variable| (variable.key.clone(), shown(variables, variable));
    made.variables = list.iter().map(pair).collect();
    made
}

/// What an entrypoint or a hook of the build container sees: no more than services do.
pub(crate) fn for_container(
    variables: &Variables,
    expanded: &Variables,
    job_secrets: &JobSecrets,
) -> Vec<(String, String)> {
    for_service((variables, &shared(variables, expanded, job_secrets)), &[], job_secrets).variables
}

/// Whether every supported API server takes a name of a container's variable (newer ones take
/// more).
fn is_pod_name(key: &str) -> bool {
    let may_begin = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'.' | b'_');
    key.bytes().next().is_some_and(may_begin)
        && key.bytes().all(|byte| may_begin(byte) || byte.is_ascii_digit())
        && key != "."
        && !key.starts_with("..")
}

/// Values that the job log must not show.
pub(crate) fn masks(expanded: &Variables, left_out: &[Variable]) -> Vec<Secret> {
    let mut seen = HashSet::new();
    expanded
        .iter()
        .chain(left_out)
        .filter(|variable| variable.masked)
        .map(|variable| variable.value.expose().trim())
        .filter(|value| !value.is_empty() && seen.insert(*value))
        .map(Secret::new)
        .collect()
}

fn deduplicated(list: Vec<Variable>) -> Vec<Variable> {
    let mut by_key: HashMap<String, usize> = HashMap::new();
    let mut out: Vec<Variable> = Vec::with_capacity(list.len());
    for variable in list {
        if let Some(earlier) = by_key.get(&variable.key).and_then(|at| out.get_mut(*at)) {
            *earlier = variable;
        } else {
            by_key.insert(variable.key.clone(), out.len());
            out.push(variable);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use gantry_core::job::{Image, Step};

    use super::*;

    fn variable(key: &str, value: &str) -> Variable {
        Variable { key: key.to_owned(), value: value.into(), ..Variable::default() }
    }

    #[test]
    fn what_cannot_be_exported() {
        for (key, value, file, problem) in [
            ("A", "x", false, None),
            ("A", "x\0", false, Some(Problem::Value)),
            ("A", "x\0", true, None),
            ("", "x", false, Some(Problem::Name)),
            ("A=B", "x", false, Some(Problem::Name)),
            ("A\0", "x", true, Some(Problem::Name)),
            ("../x", "x", true, Some(Problem::FileName)),
            ("a/x", "x", false, None),
            ("..", "x", true, Some(Problem::FileName)),
        ] {
            assert!(Problem::of(&Variable { file, ..variable(key, value) }) == problem, "{key:?} {value:?} {file}");
        }
    }

    #[test]
    fn every_definition_of_a_masked_variable_is_masked() {
        let masked = Variable { masked: true, ..variable("A", "hunter2") };
        let variables = literal(&Variables::new(vec![masked, variable("A", "shown")], ""));
        assert_eq!(masks(&variables, &[]), [Secret::new("hunter2")]);
        assert_eq!(for_scripts(&variables).len(), 1);
    }

    #[test]
    fn expansion_is_weighed_before_it_happens() {
        let (large, many) = ("x".repeat(1024 * 1024), "$A".repeat(1000));
        let check = |list: &[Variable], job: &JobSpec| check_size(&Variables::new(list.to_vec(), ""), job).is_ok();
        let (a, b) = (variable("A", &large), variable("B", &many));
        let none = JobSpec::default();
        let one = std::slice::from_ref;
        assert!(check(one(&a), &none) && check(one(&b), &none));
        assert!(!check(&[a.clone(), b.clone()], &none));
        let step = Step { name: "release".to_owned(), script: vec![many] };
        assert!(!check(one(&a), &JobSpec { steps: vec![step], ..JobSpec::default() }));
        let service = Image { variables: vec![a, b], ..Image::default() };
        assert!(!check(&[], &JobSpec { services: vec![service], ..JobSpec::default() }));
    }

    #[test]
    fn names_that_pods_take() {
        for (name, possible) in
            [("A_1", true), ("1A", false), ("a b", false), ("", false), ("..x", false), ("a.b-c", true)]
        {
            assert_eq!(is_pod_name(name), possible, "{name}");
        }
    }
}
