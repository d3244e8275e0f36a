//! `[runners.kubernetes]`.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::DeValue;

use super::cache::secret;
use super::runner::path;
use super::{affinity, pod, resources, security, volumes, words};
use crate::problem::Severity;
use crate::section::{Found, Section};
use crate::settings::kubernetes::{Gates, KubernetesSettings, PullPolicy, Timing};

/// The longest name of a namespace (RFC 1123).
const LONGEST_NAMESPACE: usize = 63;

fn namespace(section: &Section<'_>) -> Option<String> {
    let name = section.text("namespace")?;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name =
        name.len() <= LONGEST_NAMESPACE && name.bytes().all(fits) && !name.starts_with('-') && !name.ends_with('-');
    // What a variable gives shows with the job.
    if !is_name && !name.contains('$') {
        let text =
            format!("{name:?} cannot be a namespace: those have up to 63 lower-case letters, digits and inner dashes");
        section.problem(Severity::Error, "namespace", text);
    }
    Some(name)
}

pub(super) fn read(section: &Section<'_>) -> KubernetesSettings {
    check_connection(section);
    section.ignore(&["autoscaler", "suspend_pvc_size", "suspend_pvc_storage_class"]);
    KubernetesSettings {
        host: section.text("host"),
        context: section.text("context"),
        cert_file: path(section, "cert_file"),
        key_file: path(section, "key_file"),
        ca_file: path(section, "ca_file"),
        bearer_token: secret(section, "bearer_token"),
        namespace: namespace(section),
        namespace_per_job: section.flag("namespace_per_job"),
        service_account: section.text("service_account"),
        automount_service_account_token: section.bool("automount_service_account_token"),
        gates: gates(section),
        image: section.text("image"),
        helper_image: section.text("helper_image"),
        helper_image_flavor: section.text("helper_image_flavor"),
        helper_image_autoset_arch_and_os: section.flag("helper_image_autoset_arch_and_os"),
        pull_policy: pull_policies(section, "pull_policy"),
        allowed_pull_policies: pull_policies(section, "allowed_pull_policies"),
        allowed_images: section.texts("allowed_images"),
        allowed_services: section.texts("allowed_services"),
        allowed_users: ids(section, "allowed_users"),
        allowed_groups: ids(section, "allowed_groups"),
        image_pull_secrets: section.texts("image_pull_secrets"),
        use_service_account_image_pull_secrets: section.flag("use_service_account_image_pull_secrets"),
        privileged: section.bool("privileged"),
        allow_privilege_escalation: section.bool("allow_privilege_escalation"),
        cap_add: section.texts("cap_add"),
        cap_drop: section.texts("cap_drop"),
        runtime_class_name: section.text("runtime_class_name"),
        scheduler_name: section.text("scheduler_name"),
        priority_class_name: section.text("priority_class_name"),
        node_selector: section.text_map("node_selector"),
        node_tolerations: section.text_map("node_tolerations"),
        affinity: section.section("affinity", affinity::read),
        pod_labels: section.text_map("pod_labels"),
        pod_annotations: section.text_map("pod_annotations"),
        resources: resources::read(section),
        pod_security_context: section.section("pod_security_context", security::pod),
        init_permissions_security_context: section
            .section("init_permissions_container_security_context", security::container),
        build_security_context: section.section("build_container_security_context", security::container),
        helper_security_context: section.section("helper_container_security_context", security::container),
        service_security_context: section.section("service_container_security_context", security::container),
        dns_policy: words::lenient(section, "dns_policy", &pod::DNS_POLICIES),
        dns_config: section.section("dns_config", pod::dns_config),
        host_aliases: section.sections("host_aliases", pod::host_alias),
        services: section.sections("services", pod::service),
        volumes: section.section("volumes", volumes::read),
        container_lifecycle: section.section("container_lifecycle", pod::lifecycle),
        pod_spec: section.usable_sections("pod_spec", pod::patch),
        timing: timing(section),
        pod_termination_grace_period_seconds: section.int("pod_termination_grace_period_seconds"),
        cleanup_grace_period_seconds: section.int("cleanup_grace_period_seconds"),
        print_pod_warning_events: section.bool("print_pod_warning_events"),
        pod_disruption_budget: section.flag("pod_disruption_budget"),
        logs_base_dir: section.text("logs_base_dir"),
        scripts_base_dir: section.text("scripts_base_dir"),
    }
}

/// Keys that make sense only together.
fn check_connection(section: &Section<'_>) {
    let has = |key| section.text(key).is_some();
    if has("cert_file") && !(has("key_file") && has("ca_file")) {
        section.problem(Severity::Error, "cert_file", "a client certificate needs key_file and ca_file too");
    }
    if has("bearer_token") && !has("host") {
        section.problem(Severity::Warning, "bearer_token", "has no effect without host");
    }
}

fn gates(section: &Section<'_>) -> Gates {
    Gates {
        bearer_token: section.flag("bearer_token_overwrite_allowed"),
        namespace: pattern(section, "namespace_overwrite_allowed"),
        service_account: pattern(section, "service_account_overwrite_allowed"),
        node_selector: pattern(section, "node_selector_overwrite_allowed"),
        node_tolerations: pattern(section, "node_tolerations_overwrite_allowed"),
        pod_labels: pattern(section, "pod_labels_overwrite_allowed"),
        pod_annotations: pattern(section, "pod_annotations_overwrite_allowed"),
    }
}

/// A regular expression. A broken one is only a warning: the reference fails the jobs that need it and runs all others.
fn pattern(section: &Section<'_>, key: &'static str) -> Option<String> {
    let pattern = section.text(key)?;
    if regex::Regex::new(&pattern).is_err() {
        section.problem(Severity::Warning, key, "is not a regular expression: jobs that make use of it will fail");
    }
    Some(pattern)
}

const PULL_POLICIES: [(&str, PullPolicy); 4] = [
    ("always", PullPolicy::Always),
    ("if-not-present", PullPolicy::IfNotPresent),
    ("never", PullPolicy::Never),
    ("", PullPolicy::ClusterDefault),
];

/// One word or a list of words.
fn pull_policies(section: &Section<'_>, key: &'static str) -> Vec<PullPolicy> {
    let Some(found) = section.find(key) else { return Vec::new() };
    let read = |found: &Found<'_>| words::one(found, &found.text()?, &PULL_POLICIES, Severity::Error);
    let list: Vec<PullPolicy> = match found.value {
        DeValue::String(_) => read(&found).into_iter().collect(),
        _ => section.items(key, "a string or a list of strings").iter().filter_map(read).collect(),
    };
    let says_nothing = list.iter().all(|policy| *policy == PullPolicy::ClusterDefault);
    if says_nothing { Vec::new() } else { list }
}

/// Ids written as texts; others are left out, as in the reference, but not silently.
fn ids(section: &Section<'_>, key: &'static str) -> Vec<i64> {
    let mut ids = Vec::new();
    for found in section.items(key, "a list of ids as strings") {
        let id = match found.value {
            DeValue::Integer(_) => found.int(),
            _ => match found.text() {
                Some(text) => text.parse().ok(),
                None => continue,
            },
        };
        match id {
            Some(id) if id >= 0 => ids.push(id),
            _ => found.problem(Severity::Warning, "is not a numeric id and is left out"),
        }
    }
    ids
}

fn timing(section: &Section<'_>) -> Timing {
    /// The reference waits no less (GitLab Runner 19.4).
    const LEAST_BACKOFF: Duration = Duration::from_millis(500);
    /// Where the reference is told a negative number (GitLab Runner 19.4).
    const DEFAULT_ATTEMPTS: u32 = 5;
    let default = Timing::default();
    let attempts = section.int("resource_availability_check_max_attempts").unwrap_or(0);
    let backoff = section.positive::<u32>("retry_backoff_max");
    Timing {
        poll_interval: section.seconds("poll_interval").unwrap_or(default.poll_interval),
        poll_timeout: section.seconds("poll_timeout").unwrap_or(default.poll_timeout),
        cleanup_resources_timeout: section
            .positive_duration("cleanup_resources_timeout")
            .unwrap_or(default.cleanup_resources_timeout),
        resource_availability_check_max_attempts: if attempts < 0 {
            DEFAULT_ATTEMPTS
        } else {
            u32::try_from(attempts).unwrap_or(u32::MAX)
        },
        retry_limit: section.positive("retry_limit").unwrap_or(default.retry_limit),
        retry_backoff_max: backoff
            .map_or(default.retry_backoff_max, |millis| Duration::from_millis(millis.into()).max(LEAST_BACKOFF)),
        retry_limits: retry_limits(section),
    }
}

fn retry_limits(section: &Section<'_>) -> BTreeMap<String, u32> {
    let mut limits = BTreeMap::new();
    for (text, found) in section.entries("retry_limits") {
        let Some(tries) = found.int() else { continue };
        limits.insert(text, u32::try_from(tries.max(0)).unwrap_or(u32::MAX));
    }
    limits
}
