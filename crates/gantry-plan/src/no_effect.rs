//! What a job sets that does nothing: one line of the job log for each feature flag and variable.
//! What an operator sets is said when the config is read, except for their services.

use std::collections::BTreeSet;

use gantry_config::{RunnerSettings, nearest};
use gantry_core::effect::Effect;
use gantry_core::feature_flags::{self, FLAGS, parse_bool};
use gantry_core::job::JobSpec;
use gantry_core::job_variables::{self, JOB_VARIABLES};
use gantry_core::variables::Variables;

/// The lines for a job; `literal` are its variables after expansion, `all` those that images and
/// users are expanded with.
pub(crate) fn warnings(
    runner: &RunnerSettings,
    job: &JobSpec,
    (literal, all): (&Variables, &Variables),
) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let set = literal.iter().map(|variable| variable.key.as_str()).filter(|name| seen.insert(*name));
    // What the operator has put there was said when the config was read.
    let set = set.filter(|name| runner.environment.iter().all(|(operators, _)| operators != name));
    let set = set.filter_map(|name| Some((name, literal.get(name).filter(|value| !value.is_empty())?)));
    let of_job =
        set.filter_map(|(name, value)| of_flag(runner, name, value).or_else(|| of_variable(runner, name, value)));
    let of_services = job.services.iter().flat_map(|service| {
        let variables = service.variables.iter().map(|variable| (variable.key.as_str(), variable.value.expose()));
        of_service(runner, &literal.expand(&service.name), variables)
    });
    let of_configured = runner.kubernetes.services.iter().flat_map(|service| {
        let variables = service.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        of_service(runner, &literal.expand(&service.name), variables)
    });
    of_job.chain(of_services).chain(of_configured).chain(nothing_left(runner, job, all)).collect()
}

/// Images of services, and users, of which nothing is left once their variables are replaced.
fn nothing_left(runner: &RunnerSettings, job: &JobSpec, variables: &Variables) -> Vec<String> {
    let is_nothing = |text: &str| !text.is_empty() && variables.expand(text).is_empty();
    let service = |whose: &str, name: &str| {
        is_nothing(name).then(|| {
            format!("services{whose}: {name} expands to nothing: the service is left out; define the variable")
        })
    };
    let configured = runner.kubernetes.services.iter();
    let configured = configured.filter_map(|found| service(" of the runner's config", &found.name));
    let services = job.services.iter().filter_map(|found| service("", &found.name));
    let users = std::iter::once(&job.image).chain(&job.services).filter_map(|image| {
        let user = &image.executor_opts.kubernetes.user.as_ref()?.0;
        is_nothing(user)
            .then(|| format!("kubernetes: user: {user} expands to nothing: it is left out; define the variable"))
    });
    configured.chain(services).chain(users).collect()
}

/// What a service's own variables ask for in vain: they set its quantities, and nothing else of the
/// pod.
fn of_service<'a>(
    runner: &RunnerSettings,
    image: &str,
    variables: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<String> {
    const QUANTITIES: &str = "KUBERNETES_SERVICE_";
    let one = |(name, value): (&str, &str)| {
        if !name.starts_with("KUBERNETES_") || value.is_empty() {
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
        Some(format!("{name} of the service {image} has no effect: {why}"))
    };
    variables.filter_map(one).collect()
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
        None if flag.is_of_runner() => (value != flag.default).then(|| {
            format!("{name} has no effect in a job: set it in [runners.feature_flags] of the runner's config")
        }),
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
            let near = name.starts_with("KUBERNETES_").then(|| meant(name))??;
            Some(format!("{name} is no variable of the runner and has no effect: did you mean {near}?"))
        }
    }
}

/// The variable of the runner that a name was probably to be. Of those that may end as one likes,
/// the end is kept, or a number put there.
fn meant(name: &str) -> Option<String> {
    let whole = JOB_VARIABLES.iter().map(|known| known.name).filter(|known| !known.ends_with('*'));
    let stems = || JOB_VARIABLES.iter().filter_map(|known| known.name.strip_suffix("_*"));
    let without_end = || nearest(name, stems()).map(|stem| format!("{stem}_1"));
    let with_end = || {
        let (start, end) = name.rsplit_once('_')?;
        nearest(start, stems()).map(|stem| format!("{stem}_{end}"))
    };
    // The end is no part of what may be mistyped, so a name with one is compared without it first.
    nearest(name, whole).map(str::to_owned).or_else(with_end).or_else(without_end)
}

fn line(name: &str, effect: Effect) -> Option<String> {
    Some(format!("{name} has no effect: {}", effect.instead()?))
}

#[cfg(test)]
mod tests {
    use gantry_core::job::{Image, UserOpt};
    use gantry_core::variables::Variable;

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
        warnings(&runner(config), &JobSpec::default(), (&variables, &variables)).join("\n")
    }

    #[test]
    fn what_services_ask_for_in_vain_is_said() {
        let said = |config: &str, name: &str| {
            let variables = vec![Variable::made(name, "2")];
            let service = Image { name: "redis:$TAG".to_owned(), variables, ..Image::default() };
            let job = JobSpec { services: vec![service], ..JobSpec::default() };
            let variables = Variables::new(vec![Variable::made("TAG", "7")], "/tmp");
            warnings(&runner(config), &job, (&variables, &variables)).join("\n")
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
    fn services_of_the_config_ask_in_vain_too() {
        let config =
            "[[runners.kubernetes.services]]\nname = \"redis\"\nenvironment = [\"KUBERNETES_SERVICE_CPU_LIMIT=2\"]\n";
        assert_eq!(
            said(config, "PORT", "1"),
            "KUBERNETES_SERVICE_CPU_LIMIT of the service redis has no effect: service_cpu_limit_overwrite_max_allowed is not set \
             in [runners.kubernetes] of the runner's config"
        );
    }

    #[test]
    fn what_expands_to_nothing_is_said() {
        let mut image = Image { name: "$DB_IMAGE".to_owned(), ..Image::default() };
        let config = "[[runners.kubernetes.services]]\nname = \"$NOPE\"\n";
        let job = JobSpec { services: vec![image.clone()], ..JobSpec::default() };
        let said = |job: &JobSpec, config: &str, variables: Vec<Variable>| {
            let variables = Variables::new(variables, "/tmp");
            warnings(&runner(config), job, (&variables, &variables))
        };
        assert_eq!(
            said(&job, config, Vec::new()),
            [
                "services of the runner's config: $NOPE expands to nothing: the service is left out; define the variable",
                "services: $DB_IMAGE expands to nothing: the service is left out; define the variable",
            ]
        );
        assert!(said(&job, "", vec![Variable::made("DB_IMAGE", "postgres:16")]).is_empty());
        image.executor_opts.kubernetes.user = Some(UserOpt("$NOPE".to_owned()));
        assert_eq!(
            said(&JobSpec { image, ..JobSpec::default() }, "", Vec::new()),
            ["kubernetes: user: $NOPE expands to nothing: it is left out; define the variable"]
        );
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
            ("", "KUBERNETES_POD_ANNOTATION_1", "a=b"),
            ("", "KUBERNETES_NODE_SELECTOR", "a=b"),
            ("", "KUBERNETES_POD_LABEL_TEAM", "a=b"),
            ("", "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION", "true"),
            ("", "FF_USE_ADAPTIVE_REQUEST_CONCURRENCY", "false"),
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
            ("", "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION", "false"),
            (
                "[runners.feature_flags]\nFF_DISABLE_AUTOMATIC_TOKEN_ROTATION = true\n",
                "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION",
                "1",
            ),
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
