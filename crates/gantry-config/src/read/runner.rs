//! One `[[runners]]` entry.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use gantry_core::feature_flags::{ACTING, FLAGS};
use gantry_core::limits::{DEFAULT_OUTPUT_LIMIT, MAX_SCRIPT_GRACE, SCRIPT_GRACE};
use gantry_core::{Secret, go_duration, variables};
use jiff::Timestamp;
use toml::de::DeValue;

use super::{Env, cache, kubernetes, labels};
use crate::nearest::nearest;
use crate::problem::Severity;
use crate::section::Section;
use crate::settings::runner::{BootVerify, RunnerSettings, Shell};

/// What an entry is read against.
pub(super) struct Context<'c> {
    pub(super) env: &'c Env<'c>,
    pub(super) labels: &'c BTreeMap<String, String>,
    pub(super) concurrent: NonZeroU32,
}

/// Tables and keys of other executors: known, and left alone.
const OTHER_EXECUTORS: [&str; 14] = [
    "referees",
    "use_slot_cgroups",
    "slot_cgroup_template",
    "machine",
    "docker",
    "ssh",
    "parallels",
    "virtualbox",
    "custom",
    "instance",
    "autoscaler",
    "monitoring",
    "proxy_exec",
    "docker_ssh",
];

pub(super) fn read(section: &Section<'_>, context: &Context<'_>) -> RunnerSettings {
    section.ignore(&OTHER_EXECUTORS);
    let (artifact_upload_timeout, artifact_response_header_timeout) = section.section("artifact", |artifact| {
        (
            artifact.positive_duration("upload_timeout").unwrap_or(Duration::from_hours(1)),
            artifact.positive_duration("response_header_timeout").unwrap_or(Duration::from_mins(10)),
        )
    });
    let at_least_one = |key, default| section.positive(key).and_then(NonZeroU32::new).unwrap_or(default);
    let feature_flags = feature_flags(section);
    let renews_tokens_otherwise = feature_flags.get("FF_DISABLE_AUTOMATIC_TOKEN_ROTATION") == Some(&true);
    RunnerSettings {
        name: section.text_or_empty("name"),
        id: section.positive("id"),
        url: url(section, context.env),
        token: token(section, context.env),
        token_obtained_at: time(section, "token_obtained_at"),
        token_expires_at: token_expires_at(section, renews_tokens_otherwise),
        tls_ca_file: path(section, "tls-ca-file"),
        tls_cert_file: path(section, "tls-cert-file"),
        tls_key_file: path(section, "tls-key-file"),
        executor: executor(section),
        limit: section.positive("limit").and_then(NonZeroU32::new),
        request_concurrency: request_concurrency(section, context.concurrent),
        strict_check_interval: section.flag("strict_check_interval"),
        output_limit_bytes: output_limit(section),
        unhealthy_requests_limit: at_least_one("unhealthy_requests_limit", UNHEALTHY_REQUESTS),
        unhealthy_interval: section.positive_duration("unhealthy_interval").unwrap_or(Duration::from_hours(1)),
        job_status_final_update_retry_limit: at_least_one("job_status_final_update_retry_limit", FINAL_UPDATE_TRIES),
        builds_dir: section.text("builds_dir").unwrap_or_else(|| "/builds".to_owned()),
        cache_dir: section.text("cache_dir").unwrap_or_else(|| "/cache".to_owned()),
        clone_url: section.text("clone_url"),
        environment: environment(section),
        pre_get_sources_script: section.text("pre_get_sources_script"),
        post_get_sources_script: section.text("post_get_sources_script"),
        pre_build_script: section.text("pre_build_script"),
        post_build_script: section.text("post_build_script"),
        prepare_timeout: section.positive_duration("prepare_timeout"),
        get_sources_timeout: section.positive_duration("get_sources_timeout"),
        debug_trace_disabled: section.flag("debug_trace_disabled"),
        safe_directory_checkout: section.bool("safe_directory_checkout"),
        clean_git_config: section.bool("clean_git_config"),
        shell: shell(section),
        custom_build_dir_enabled: section.section("custom_build_dir", |table| table.bool("enabled")).unwrap_or(true),
        labels: labels::read(section, context.labels),
        feature_flags,
        artifact_upload_timeout,
        artifact_response_header_timeout,
        script_termination_grace_period: section.section("gantry", script_grace),
        step_runner_image: section.text("step_runner_image"),
        boot_verify: section.section("experimental", |table| table.section("boot_verify", boot_verify)),
        cache: section.section("cache", cache::read),
        kubernetes: section.section("kubernetes", kubernetes::read),
    }
}

/// GitLab Runner 19.4.
const UNHEALTHY_REQUESTS: NonZeroU32 = NonZeroU32::new(3).expect("three is not zero");
/// GitLab Runner 19.4.
const FINAL_UPDATE_TRIES: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");

fn script_grace(section: &Section<'_>) -> Duration {
    let key = "script_termination_grace_period";
    let wanted = section.positive_duration(key).unwrap_or(SCRIPT_GRACE);
    if wanted > MAX_SCRIPT_GRACE {
        let most = go_duration::format(MAX_SCRIPT_GRACE);
        let message = format!("must be at most {most}: a job that is stopped at its time-out must still be reported");
        section.problem(Severity::Error, key, message);
    }
    wanted.min(MAX_SCRIPT_GRACE)
}

fn url(section: &Section<'_>, env: &Env<'_>) -> String {
    let written = section.text_or_empty("url");
    let url = variables::expand(&written, env);
    if written.is_empty() {
        section.problem(Severity::Error, "url", "is missing: without the address of GitLab the runner can do nothing");
    } else if url.is_empty() {
        section.problem(Severity::Error, "url", format!("{written:?} is empty after expansion: set the variable"));
    } else if !["http://", "https://"].iter().any(|scheme| starts_with_ignoring_case(&url, scheme)) {
        section.problem(Severity::Error, "url", "must begin with http:// or https://");
    } else if url.trim_end_matches('/').ends_with("/ci") {
        section.problem(Severity::Warning, "url", "ends in /ci, which is left out");
    }
    url
}

fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn token(section: &Section<'_>, env: &Env<'_>) -> Secret {
    let written = section.text_or_empty("token");
    let token = Secret::new(variables::expand(&written, env));
    if written.trim().is_empty() {
        section.problem(Severity::Error, "token", "is missing: GitLab gives jobs only to runners with a token");
    } else if token.expose().trim().is_empty() {
        section.problem(Severity::Error, "token", "is empty after expansion: set the variable");
    } else if token.expose().chars().any(|character| character.is_whitespace() || character.is_control()) {
        section.problem(Severity::Error, "token", "holds a blank or the end of a line, which no token does");
    }
    token
}

/// When the token ends. Unlike in the reference nothing renews it, so a date is a warning unless the operator has said that he does.
fn token_expires_at(section: &Section<'_>, is_renewed_otherwise: bool) -> Option<Timestamp> {
    let expires = time(section, "token_expires_at")?;
    if !is_renewed_otherwise {
        let what = "the token ends then and is not renewed by itself: get a new one in time (POST \
                    /api/v4/runners/reset_authentication_token) and write it here";
        section.problem(Severity::Warning, "token_expires_at", what);
    }
    Some(expires)
}

fn executor(section: &Section<'_>) -> String {
    let executor = section.text_or_empty("executor");
    match executor.as_str() {
        "kubernetes" => {}
        "" => section.problem(Severity::Error, "executor", "is missing: set it to \"kubernetes\""),
        other => section.problem(
            Severity::Error,
            "executor",
            format!("{other:?} is not supported: this runner runs jobs on Kubernetes only (executor = \"kubernetes\")"),
        ),
    }
    executor
}

fn request_concurrency(section: &Section<'_>, concurrent: NonZeroU32) -> NonZeroU32 {
    let value = section.positive("request_concurrency").and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
    if value > concurrent {
        section.problem(
            Severity::Warning,
            "request_concurrency",
            format!("{value} is more than concurrent ({concurrent}), which limits it: raise concurrent"),
        );
    }
    value
}

/// The file says KiB.
fn output_limit(section: &Section<'_>) -> u64 {
    section.positive::<u64>("output_limit").map_or(DEFAULT_OUTPUT_LIMIT, |kib| kib.saturating_mul(1024))
}

fn shell(section: &Section<'_>) -> Shell {
    let name = section.text_or_empty("shell");
    match name.as_str() {
        "" | "bash" => Shell::Bash,
        "sh" => Shell::Sh,
        other => {
            section.problem(Severity::Error, "shell", format!("{other:?} is not supported: use \"bash\" or \"sh\""));
            Shell::Bash
        }
    }
}

/// `KEY=value` texts; others are left out, as in the reference, but not silently.
pub(super) fn environment(section: &Section<'_>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for found in section.items("environment", "a list of \"KEY=value\"") {
        let Some(text) = found.text() else { continue };
        match text.split_once('=') {
            Some((key, value)) => pairs.push((key.to_owned(), value.to_owned())),
            None => found.problem(Severity::Warning, "has no '=' and is left out: write \"KEY=value\""),
        }
    }
    pairs
}

fn feature_flags(section: &Section<'_>) -> BTreeMap<String, bool> {
    for (name, found) in section.entries("feature_flags") {
        let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) else {
            let hint = nearest(&name, FLAGS.iter().map(|flag| flag.name)).map(|near| format!("did you mean {near}?"));
            let what = ("unknown feature flag".to_owned(), hint);
            found.report.add_with_hint(Severity::Warning, found.at, &found.path, what);
            continue;
        };
        let is_changed = matches!(found.value, DeValue::Boolean(value) if *value != flag.default);
        if is_changed && !ACTING.contains(&flag.name) {
            found.problem(Severity::Warning, "accepted, has no effect: nothing here depends on it but what jobs see");
        }
    }
    section.bool_map("feature_flags")
}

fn boot_verify(section: &Section<'_>) -> BootVerify {
    BootVerify {
        enabled: section.flag("enabled"),
        timeout: section.positive_duration("timeout").unwrap_or(Duration::from_mins(5)),
        min_backoff: section.positive_duration("acquire_min_backoff").unwrap_or(Duration::from_secs(1)),
        max_backoff: section.positive_duration("acquire_max_backoff").unwrap_or(Duration::from_secs(10)),
    }
}

pub(super) fn path(section: &Section<'_>, key: &'static str) -> Option<PathBuf> {
    section.text(key).map(PathBuf::from)
}

/// A point in time; `None` for the zero time of Go, the first of January of the year 1, which the reference writes for "never".
fn time(section: &Section<'_>, key: &'static str) -> Option<Timestamp> {
    /// The first second of the year 2 is later than any zero time in any zone.
    const YEAR_TWO: i64 = -62_104_060_800;
    let found = section.find(key)?;
    let written = match found.value {
        DeValue::Datetime(written) => format!("{written}{}", if written.offset.is_some() { "" } else { "Z" }),
        // The reference reads dates from strings too.
        DeValue::String(text) => text.to_string(),
        _ => return found.wrong("a date and time"),
    };
    match written.parse::<Timestamp>() {
        Ok(time) => Some(time).filter(|time| time.as_second() > YEAR_TWO),
        Err(_) => found.wrong("a date and time such as 2026-01-02T03:04:05Z"),
    }
}
