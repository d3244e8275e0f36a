//! What a job sets that does nothing: one line of the job log for each feature flag and variable.
//! What an operator sets is said when the config is read.

use std::collections::BTreeSet;

use gantry_config::settings::Gates;
use gantry_config::{RunnerSettings, nearest};
use gantry_core::effect::Effect;
use gantry_core::feature_flags::{self, FLAGS, parse_bool};
use gantry_core::job_variables::{self, JOB_VARIABLES};
use gantry_core::variables::Variables;

/// The lines for a job; `literal` are its variables after expansion.
pub(crate) fn warnings(runner: &RunnerSettings, literal: &Variables) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let set = literal.iter().map(|variable| variable.key.as_str()).filter(|name| seen.insert(*name));
    // What the operator has put there was said when the config was read.
    let set = set.filter(|name| runner.environment.iter().all(|(operators, _)| operators != name));
    let set = set.filter_map(|name| Some((name, literal.get(name).filter(|value| !value.is_empty())?)));
    set.filter_map(|(name, value)| of_flag(runner, name, value).or_else(|| of_variable(runner, name, value))).collect()
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
    let gates = &runner.kubernetes.gates;
    if let Some(gate) = closed_gate(gates, name).or_else(|| closed_ceiling(runner, name)) {
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

/// The key that lets jobs set the variable, where that key is not set.
fn closed_gate(gates: &Gates, name: &str) -> Option<&'static str> {
    let gates = [
        ("KUBERNETES_NAMESPACE_OVERWRITE", "namespace_overwrite_allowed", gates.namespace.is_some()),
        ("KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", "service_account_overwrite_allowed", gates.service_account.is_some()),
        ("KUBERNETES_BEARER_TOKEN", "bearer_token_overwrite_allowed", gates.bearer_token),
        ("KUBERNETES_NODE_SELECTOR_*", "node_selector_overwrite_allowed", gates.node_selector.is_some()),
        ("KUBERNETES_NODE_TOLERATIONS_*", "node_tolerations_overwrite_allowed", gates.node_tolerations.is_some()),
        ("KUBERNETES_POD_LABELS_*", "pod_labels_overwrite_allowed", gates.pod_labels.is_some()),
        ("KUBERNETES_POD_ANNOTATIONS_*", "pod_annotations_overwrite_allowed", gates.pod_annotations.is_some()),
    ];
    let known = job_variables::find(name)?.name;
    gates.into_iter().find(|(variable, _, is_open)| *variable == known && !is_open).map(|(_, gate, _)| gate)
}

fn closed_ceiling(runner: &RunnerSettings, name: &str) -> Option<&'static str> {
    let mut ceilings = runner.kubernetes.resources.ceilings();
    ceilings.find(|ceiling| ceiling.variable == name && ceiling.value.is_none()).map(|ceiling| ceiling.key)
}

#[cfg(test)]
mod tests {
    use gantry_core::variables::Variable;

    use super::*;

    /// What is said of one variable, with a line of config.
    fn said(config: &str, name: &str, value: &str) -> String {
        let text = format!(
            "[[runners]]\nurl = \"https://gitlab.example.com\"\ntoken = \"x\"\nexecutor = \"kubernetes\"\n{config}"
        );
        let loaded = gantry_config::load(&text, &|_| None).unwrap();
        let variables = Variables::new(vec![Variable::made(name, value)], "/tmp");
        warnings(&loaded.settings.runners[0], &variables).join("\n")
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
