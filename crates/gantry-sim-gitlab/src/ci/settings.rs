//! The keywords that a job can inherit from `default`: read the same way in both places.

use super::field::Field;
use super::model::{CiArtifact, CiCache, CiImage, CiRetry, Repository};
use super::node::Value;
use super::problem::Report;
use super::rules;
use super::{artifacts, cache, image, script};

/// What `default` may hold, and a job may inherit.
pub(super) const KEYS: &[&str] = &[
    "after_script",
    "artifacts",
    "before_script",
    "cache",
    "hooks",
    "id_tokens",
    "identity",
    "image",
    "interruptible",
    "retry",
    "services",
    "tags",
    "timeout",
];

/// The keywords of [`KEYS`] that may also stand at the top level, as in older files.
pub(super) const TOP_LEVEL: &[&str] = &["after_script", "before_script", "cache", "image", "services"];

/// The longest job time-out, in seconds: one month, as in GitLab.
const MAX_TIMEOUT: u64 = 30 * 86_400;

/// How many extra attempts a job may have; GitLab's limit.
const MAX_RETRIES: i64 = 2;

/// The values of `retry:when`: GitLab's failure reasons, and `always`.
const RETRY_WHEN: &[&str] = &[
    "always",
    "unknown_failure",
    "script_failure",
    "api_failure",
    "stuck_or_timeout_failure",
    "stuck_pending_with_matching_runners",
    "stuck_pending_no_matching_runners",
    "no_updates_running",
    "no_updates_canceling",
    "runner_system_failure",
    "runner_configuration_error",
    "runner_external_dependency_failure",
    "runner_unsupported",
    "runner_interrupted",
    "stale_schedule",
    "job_execution_timeout",
    "job_execution_server_timeout",
    "server_timeout_running",
    "server_timeout_canceling",
    "archived_failure",
    "unmet_prerequisites",
    "scheduler_failure",
    "data_integrity_failure",
    "forward_deployment_failure",
    "user_blocked",
    "project_deleted",
    "image_pull_failure",
    "job_token_expired",
    "missing_dependency_failure",
    "runner_provisioning_timeout",
    "job_router_failure",
    "ci_quota_exceeded",
    "pipeline_loop_detected",
    "no_matching_runner",
    "trace_size_exceeded",
    "builds_disabled",
    "environment_creation_failure",
    "deployment_rejected",
    "failed_outdated_deployment_job",
    "protected_environment_failure",
    "insufficient_bridge_permissions",
    "downstream_bridge_project_not_found",
    "invalid_bridge_trigger",
    "upstream_bridge_project_not_found",
    "insufficient_upstream_permissions",
    "bridge_pipeline_is_child_pipeline",
    "downstream_pipeline_creation_failed",
    "secrets_provider_not_found",
    "reached_max_descendant_pipelines_depth",
    "reached_max_pipeline_hierarchy_size",
    "reached_downstream_pipeline_trigger_rate_limit",
    "ip_restriction_failure",
];

/// The inheritable settings of a job.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) image: Option<CiImage>,
    pub(super) services: Vec<CiImage>,
    pub(super) before_script: Vec<String>,
    pub(super) after_script: Vec<String>,
    pub(super) artifacts: Vec<CiArtifact>,
    pub(super) cache: Vec<CiCache>,
    pub(super) retry: CiRetry,
    pub(super) tags: Vec<String>,
    pub(super) timeout_seconds: Option<u64>,
    pub(super) interruptible: bool,
    pub(super) pre_get_sources_script: Vec<String>,
}

/// Reads the settings of a job or of `default`.
pub(super) fn read(field: &Field<'_>, repository: &dyn Repository, report: &mut Report) -> Settings {
    let lines =
        |key: &str, report: &mut Report| field.get(key).map(|list| script::read(&list, report)).unwrap_or_default();
    Settings {
        before_script: lines("before_script", report),
        after_script: lines("after_script", report),
        pre_get_sources_script: field.get("hooks").map(|hooks| read_hooks(&hooks, report)).unwrap_or_default(),
        image: field.get("image").and_then(|image| image::read(&image, report)),
        services: field.get("services").map(|list| image::read_services(&list, report)).unwrap_or_default(),
        artifacts: field.get("artifacts").map(|map| artifacts::read(&map, report)).unwrap_or_default(),
        cache: field.get("cache").map(|cache| cache::read(&cache, repository, report)).unwrap_or_default(),
        retry: field.get("retry").map(|retry| read_retry(&retry, report)).unwrap_or_default(),
        tags: field.get("tags").and_then(|tags| tags.texts(report)).unwrap_or_default(),
        timeout_seconds: field
            .get("timeout")
            .and_then(|timeout| rules::duration(&timeout, MAX_TIMEOUT, "1 month", report)),
        interruptible: field.get("interruptible").and_then(|flag| flag.flag(report)).unwrap_or(false),
    }
}

fn read_hooks(field: &Field<'_>, report: &mut Report) -> Vec<String> {
    field.map_of(report, &["pre_get_sources_script"]);
    field.get("pre_get_sources_script").map(|lines| script::read(&lines, report)).unwrap_or_default()
}

fn read_retry(field: &Field<'_>, report: &mut Report) -> CiRetry {
    let attempts = |field: &Field<'_>, report: &mut Report| {
        field.integer(report, 0, MAX_RETRIES).and_then(|max| u32::try_from(max).ok()).unwrap_or(0)
    };
    match field.node.value {
        Value::Int(..) => CiRetry { max: attempts(field, report), ..CiRetry::default() },
        Value::Map(_) => {
            field.map_of(report, &["max", "when", "exit_codes"]);
            CiRetry {
                max: field.get("max").map(|max| attempts(&max, report)).unwrap_or_default(),
                when: field.get("when").map(|when| retry_when(&when, report)).unwrap_or_default(),
                exit_codes: field
                    .get("exit_codes")
                    .and_then(|codes| rules::exit_codes(&codes, report))
                    .unwrap_or_default(),
            }
        }
        _ => {
            field.expected(report, "an integer between 0 and 2, or a hash");
            CiRetry::default()
        }
    }
}

fn retry_when(field: &Field<'_>, report: &mut Report) -> Vec<String> {
    let reasons = field.text_or_texts(report).unwrap_or_default();
    for reason in &reasons {
        if !RETRY_WHEN.contains(&reason.as_str()) {
            let hint = report.hint(reason, RETRY_WHEN.iter().copied());
            field.problem(report, &format!("contains an unknown failure reason: {reason}{hint}"));
        }
    }
    reasons
}
