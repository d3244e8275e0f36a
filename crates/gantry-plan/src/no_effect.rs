//! What a job sets that does nothing: one line of the job log for each feature flag and variable.
//! What an operator sets is said when the config is read.

use std::collections::BTreeSet;

use gantry_config::{RunnerSettings, nearest};
use gantry_core::effect::Effect;
use gantry_core::feature_flags::{self, FLAGS, parse_bool};
use gantry_core::job::{Image, JobSpec};
use gantry_core::job_variables::{self, JOB_VARIABLES};
use gantry_core::variables::{Variable, Variables};

/// The lines for a job; `literal` are its variables after expansion.
pub(crate) fn warnings(runner: &RunnerSettings, job: &JobSpec, literal: &Variables) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let set = literal.iter().map(|variable| variable.key.as_str()).filter(|name| seen.insert(*name));
    // What the operator has put there was said when the config was read.
    let set = set.filter(|name| runner.environment.iter().all(|(operators, _)| operators != name));
    let set = set.filter_map(|name| Some((name, literal.get(name).filter(|value| !value.is_empty())?)));
    let of_job =
        set.filter_map(|(name, value)| of_flag(runner, name, value).or_else(|| of_variable(runner, name, value)));
    of_job.chain(job.services.iter().flat_map(|service| of_service(runner, service, literal))).collect()
}

/// What a service's own variables ask for in vain: they set its quantities, and nothing else of the
/// pod.
fn of_service(runner: &RunnerSettings, service: &Image, literal: &Variables) -> Vec<String> {
    const QUANTITIES: &str = "KUBERNETES_SERVICE_";
    let one = |variable: &Variable| {
        let name = variable.key.as_str();
        if !name.starts_with("KUBERNETES_") || variable.value.expose().is_empty() {
            return None;
        }
        let known = job_variables::find(name)?.name;
        let why = if known.starts_with(QUANTITIES) && !known.starts_with("KUBERNETES_SERVICE_ACCOUNT") {
            format!(
                "{} is not set in [runners.kubernetes] of the runner's config",
                runner.kubernetes.closed_gate(name)?
            )
        } else {
            let own = name.replacen("KUBERNETES_", QUANTITIES, 1);
            job_variables::find(&own).map_or_else(
                || "it is for variables of the job".to_owned(),
                |own| format!("for a service it is {}", own.name),
            )
        };
        Some(format!("{name} of the service {} has no effect: {why}", literal.expand(&service.name)))
    };
    service.variables.iter().filter_map(one).collect()
}

fn of_flag(runner: &RunnerSettings, name: &str, value: &str) -> Option<String> {
    let Some(flag) = feature_flags::find(name) else {
        let near = name.starts_with("FF_").then(|| nearest(name, FLAGS.iter().map(|flag| flag.name)))??;
        return Some(format!("{name} is no feature flag and has no effect: did you mean {near}?"));
    };
    let value = parse_bool(value)?;
    match runner.feature_flags.get(name) {
        Some(configured) if *configured != value => {
            Some(format!("{name} has no effect: the runner's config says {configured}"))
        }
        Some(_) => None,
        None => flag.remark(value).and_then(|_| line(name, flag.effect)),
    }
}

fn of_variable(runner: &RunnerSettings, name: &str, value: &str) -> Option<String> {
    if let Some(gate) = runner.kubernetes.closed_gate(name) {
        return Some(format!("{name} has no effect: {gate} is not set in [runners.kubernetes] of the runner's config"));
    }
    match job_variables::find(name) {
        // A switch that is off asks for nothing.
        Some(known) if parse_bool(value) != Some(false) => line(name, known.effect),
        Some(_) => None,
        None => {
            let names = JOB_VARIABLES.iter().map(|known| known.name).filter(|known| !known.ends_with('*'));
            let near = name.starts_with("KUBERNETES_").then(|| nearest(name, names))??;
            Some(format!("{name} is no variable of the runner and has no effect: did you mean {near}?"))
        }
    }
}

fn line(name: &str, effect: Effect) -> Option<String> {
    Some(format!("{name} has no effect: {}", effect.instead()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(config: &str) -> RunnerSettings {
        let text = format!(
            "[[runners]]\nurl = \"https://gitlab.example.com\"\ntoken = \"x\"\nexecutor = \"kubernetes\"\n{config}"
        );
        gantry_config::load(&text, &|_| None).unwrap().settings.runners.remove(0)
    }

    /// What is said of one variable, with a line of config.
    fn said(config: &str, name: &str, value: &str) -> String {
        let variables = Variables::new(vec![Variable::made(name, value)], "/tmp");
        warnings(&runner(config), &JobSpec::default(), &variables).join("\n")
    }

    #[test]
    fn what_services_ask_for_in_vain_is_said() {
        let said = |config: &str, name: &str| {
            let variables = vec![Variable::made(name, "2")];
            let service = Image { name: "redis:$TAG".to_owned(), variables, ..Image::default() };
            let job = JobSpec { services: vec![service], ..JobSpec::default() };
            warnings(&runner(config), &job, &Variables::new(vec![Variable::made("TAG", "7")], "/tmp")).join("\n")
        };
        let ceiling = "[runners.kubernetes]\nservice_cpu_limit_overwrite_max_allowed = \"4\"\n";
        for (config, name, expected) in [
            (
                "",
                "KUBERNETES_SERVICE_CPU_LIMIT",
                "service_cpu_limit_overwrite_max_allowed is not set in [runners.kubernetes] of the runner's config",
            ),
            ("", "KUBERNETES_CPU_LIMIT", "for a service it is KUBERNETES_SERVICE_CPU_LIMIT"),
            ("", "KUBERNETES_NODE_SELECTOR_1", "it is for variables of the job"),
            ("", "KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", "it is for variables of the job"),
        ] {
            assert_eq!(said(config, name), format!("{name} of the service redis:7 has no effect: {expected}"));
        }
        for (config, name) in [(ceiling, "KUBERNETES_SERVICE_CPU_LIMIT"), ("", "KUBERNETES_SERVICE_HOST"), ("", "PORT")]
        {
            assert_eq!(said(config, name), "", "{name}");
        }
    }

    #[test]
    fn what_does_nothing_is_said_once_with_what_does() {
        let flags = "[runners.feature_flags]\nFF_TIMESTAMPS = true\n";
        let gate =
            "[runners.kubernetes]\nnamespace_overwrite_allowed = \"ci\"\ncpu_limit_overwrite_max_allowed = \"2\"\n";
        let cases = [
            ("", "FF_PRINT_POD_EVENTS", "true"),
            ("", "FF_NETWORK_PER_BUILD", "1"),
            ("", "FF_SCRIPT_SECTION", "1"),
            (flags, "FF_TIMESTAMPS", "false"),
            ("", "FF_USE_JOB_ROUTER", "true"),
            ("", "FASTZIP_ARCHIVER_CONCURRENCY", "4"),
            ("", "KUBERNETES_CPU_LIMIT", "4"),
            (gate, "KUBERNETES_MEMORY_LIMIT", "4Gi"),
            ("", "KUBERNETES_NAMESPACE_OVERWRITE", "ci-1"),
            (gate, "KUBERNETES_POD_LABELS_1", "a=b"),
            (gate, "KUBERNETES_CPU_LIMITS", "4"),
            ("", "KUBERNETES_SERVICE_CPU_LIMIT", "4"),
            ("", "KUBERNETES_POD_CPU_LIMIT", "4"),
            ("", "EXECUTOR_JOB_SECTION_ATTEMPTS", "2"),
        ];
        let lines: Vec<String> = cases.iter().map(|(config, name, value)| said(config, name, value)).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn what_acts_or_asks_for_nothing_is_not() {
        let gate =
            "[runners.kubernetes]\nnamespace_overwrite_allowed = \"ci\"\ncpu_limit_overwrite_max_allowed = \"2\"\n";
        for (config, name, value) in [
            ("", "FF_USE_FASTZIP", "true"),
            ("", "FF_PRINT_POD_EVENTS", "false"),
            ("", "FF_PRINT_POD_EVENTS", ""),
            ("", "FF_OF_OUR_OWN", "1"),
            ("", "GIT_STRATEGY", "clone"),
            ("", "TRANSFER_METER_FREQUENCY", "5s"),
            ("", "CI_DEBUG_SERVICES", "false"),
            ("", "MY_CACHE", "1"),
            (gate, "KUBERNETES_NAMESPACE_OVERWRITE", "ci-1"),
            (gate, "KUBERNETES_CPU_LIMIT", "1"),
            ("", "KUBERNETES_CPU_LIMIT", ""),
            ("", "KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ] {
            assert_eq!(said(config, name, value), "", "{name}");
        }
    }
}
