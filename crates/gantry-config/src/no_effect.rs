//! Keys that are understood and do nothing: one warning each, where they say something. These lists are the one place to shorten when such a
//! key begins to work.

use toml::de::{DeTable, DeValue};

use crate::problem::Severity;
use crate::report::Report;
use crate::section::join;

/// A key path, with `runners` standing for every entry, and what is done in spite of it.
type Key = (&'static [&'static str], &'static str);

/// What another runner, another executor, or the way in which this one works has made pointless.
const NO_EFFECT: [Key; 27] = [
    (&["user"], "jobs run in pods, as the users that their pods say"),
    (&["sentry_dsn"], "errors are in the log only"),
    (&["machine"], OTHER_EXECUTOR),
    (&["experimental"], "no usage log is written"),
    (&["runners", "referees"], OTHER_EXECUTOR),
    (&["runners", "use_slot_cgroups"], OTHER_EXECUTOR),
    (&["runners", "slot_cgroup_template"], OTHER_EXECUTOR),
    (&["runners", "machine"], OTHER_EXECUTOR),
    (&["runners", "docker"], OTHER_EXECUTOR),
    (&["runners", "docker_ssh"], OTHER_EXECUTOR),
    (&["runners", "ssh"], OTHER_EXECUTOR),
    (&["runners", "parallels"], OTHER_EXECUTOR),
    (&["runners", "virtualbox"], OTHER_EXECUTOR),
    (&["runners", "custom"], OTHER_EXECUTOR),
    (&["runners", "instance"], OTHER_EXECUTOR),
    (&["runners", "autoscaler"], OTHER_EXECUTOR),
    (&["runners", "step_runner_image"], "no step runner is started"),
    (&["runners", "kubernetes", "poll_interval"], "pods are watched"),
    (&["runners", "kubernetes", "retry_limit"], RETRIES),
    (&["runners", "kubernetes", "retry_backoff_max"], RETRIES),
    (&["runners", "kubernetes", "retry_limits"], RETRIES),
    (&["runners", "kubernetes", "cleanup_resources_timeout"], "what cannot be removed now is removed later"),
    (&["runners", "kubernetes", "logs_base_dir"], OWN_VOLUME),
    (&["runners", "kubernetes", "scripts_base_dir"], OWN_VOLUME),
    (&["runners", "kubernetes", "init_permissions_container_security_context"], "there is no init container"),
    (&["runners", "kubernetes", "suspend_pvc_size"], SUSPEND),
    (&["runners", "kubernetes", "suspend_pvc_storage_class"], SUSPEND),
];

const OTHER_EXECUTOR: &str = "it is for another executor";
const RETRIES: &str = "errors of the API server are retried by their kind";
const OWN_VOLUME: &str = "scripts and logs are in a volume of the pod's own";
const SUSPEND: &str = "environments are not suspended";

/// Switches that are always on: to turn one off does nothing.
const ALWAYS_ON: [Key; 2] = [
    (&["runners", "safe_directory_checkout"], "git always trusts the directory of the project"),
    (&["runners", "clean_git_config"], "git's settings are always made anew"),
];

/// What is missing so far.
const NO_EFFECT_YET: [Key; 16] = [
    (&["session_server", "listen_address"], "there are no interactive terminals"),
    (&["gantry", "fleet"], "managers do not take over each other's jobs"),
    (&["gantry", "ticket_key"], "pods carry no ticket"),
    (&["runners", "cache", "Type"], "caches are not kept between jobs"),
    (&["runners", "monitoring"], "queuing times are not watched"),
    (&["runners", "proxy_exec"], "commands are run directly"),
    (&["runners", "prepare_timeout"], "only poll_timeout limits how long a pod may take to start"),
    (&["runners", "get_sources_timeout"], "getting the sources may take as long as the job"),
    (&["runners", "experimental", "boot_verify", "enabled"], "the runner is polled at once"),
    (
        &["runners", "kubernetes", "pod_spec"],
        "jobs are refused where FF_USE_ADVANCED_POD_SPEC_CONFIGURATION is on, rather than run without the patches",
    ),
    (&["runners", "kubernetes", "bearer_token_overwrite_allowed"], "jobs that set KUBERNETES_BEARER_TOKEN are refused"),
    (&["runners", "kubernetes", "autoscaler"], "no pause pods are made"),
    (&["runners", "kubernetes", "namespace_per_job"], "jobs are refused, rather than run in a shared one"),
    (
        &["runners", "kubernetes", "resource_availability_check_max_attempts"],
        "nothing is waited for before a pod is made",
    ),
    (&["runners", "cache_dir"], "caches are not kept between jobs"),
    (&["runners", "kubernetes", "pod_disruption_budget"], "none is made"),
];

/// Adds the warnings for a file.
pub(crate) fn report(report: &Report<'_>, root: &DeTable<'_>) {
    let is_something = |value: &DeValue<'_>| !is_blank(value);
    let is_off = |value: &DeValue<'_>| matches!(value, DeValue::Boolean(false));
    for (keys, instead) in &NO_EFFECT {
        walk(report, root, (keys, String::new()), (&is_something, &format!("accepted, has no effect: {instead}")));
    }
    for (keys, instead) in &ALWAYS_ON {
        walk(report, root, (keys, String::new()), (&is_off, &format!("accepted, has no effect: {instead}")));
    }
    for (keys, instead) in &NO_EFFECT_YET {
        walk(report, root, (keys, String::new()), (&is_something, &format!("accepted, has no effect yet: {instead}")));
    }
}

/// When a value is worth the words, and the words.
type Words<'w> = (&'w dyn Fn(&DeValue<'_>) -> bool, &'w str);

fn walk(report: &Report<'_>, table: &DeTable<'_>, (keys, path): (&[&str], String), words: Words<'_>) {
    let Some((key, rest)) = keys.split_first() else { return };
    for (name, value) in table.iter().filter(|(name, _)| name.get_ref().eq_ignore_ascii_case(key)) {
        let path = join(&path, name.get_ref());
        if rest.is_empty() {
            let (is_worth_it, message) = words;
            if is_worth_it(value.get_ref()) {
                report.add(Severity::Warning, value.span().start, &path, message);
            }
            continue;
        }
        match value.get_ref() {
            DeValue::Table(table) => walk(report, table, (rest, path), words),
            DeValue::Array(array) => {
                for (index, element) in array.iter().enumerate() {
                    if let DeValue::Table(table) = element.get_ref() {
                        walk(report, table, (rest, format!("{path}[{index}]")), words);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether a value says nothing: the reference writes many empty tables when it saves.
fn is_blank(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(text) => text.is_empty(),
        DeValue::Boolean(value) => !value,
        DeValue::Integer(value) => value.as_str() == "0",
        DeValue::Array(array) => array.iter().all(|element| is_blank(element.get_ref())),
        DeValue::Table(table) => table.values().all(|value| is_blank(value.get_ref())),
        DeValue::Float(_) | DeValue::Datetime(_) => false,
    }
}
