//! Flags that are keys of the `[[runners]]` entry itself.

use super::Kind::{Bool, Duration, Int, List, OptionalBool, Switches, Text};
use super::{Flag, Row, from_row};

const HEADING: &str = "Runner";

const ROWS: [Row; 30] = [
    ("limit", "RUNNER_LIMIT", "limit", Int, "Jobs of this runner at once; 0 is as many as concurrent allows"),
    ("output-limit", "RUNNER_OUTPUT_LIMIT", "output_limit", Int, "Largest job log in KiB"),
    ("request-concurrency", "RUNNER_REQUEST_CONCURRENCY", "request_concurrency", Int, "Simultaneous requests for jobs"),
    (
        "strict-check-interval",
        "RUNNER_STRICT_CHECK_INTERVAL",
        "strict_check_interval",
        OptionalBool,
        "Do not ask for the next job at once after one was given",
    ),
    (
        "unhealthy-requests-limit",
        "RUNNER_UNHEALTHY_REQUESTS_LIMIT",
        "unhealthy_requests_limit",
        Int,
        "Refused requests for jobs in a row after which the runner rests",
    ),
    ("unhealthy-interval", "", "unhealthy_interval", Duration, "How long it rests"),
    (
        "job-status-final-update-retry-limit",
        "RUNNER_job_status_final_update_retry_limit",
        "job_status_final_update_retry_limit",
        Int,
        "Tries of the last update of a job",
    ),
    ("tls-ca-file", "CI_SERVER_TLS_CA_FILE", "tls-ca-file", Text, "Certificates to trust for GitLab (PEM)"),
    ("tls-cert-file", "CI_SERVER_TLS_CERT_FILE", "tls-cert-file", Text, "Client certificate for GitLab (PEM)"),
    ("tls-key-file", "CI_SERVER_TLS_KEY_FILE", "tls-key-file", Text, "Key of the client certificate (PEM)"),
    ("builds-dir", "RUNNER_BUILDS_DIR", "builds_dir", Text, "Directory of projects in job pods"),
    ("cache-dir", "RUNNER_CACHE_DIR", "cache_dir", Text, "Directory of caches in job pods"),
    ("clone-url", "CLONE_URL", "clone_url", Text, "Address of GitLab to clone from"),
    ("env", "RUNNER_ENV", "environment", List, "A variable KEY=value for jobs"),
    ("proxy-exec", "RUNNER_PROXY_EXEC", "proxy_exec", OptionalBool, "Run commands through a proxy process"),
    (
        "pre-get-sources-script",
        "RUNNER_PRE_GET_SOURCES_SCRIPT",
        "pre_get_sources_script",
        Text,
        "Commands before sources are fetched",
    ),
    (
        "post-get-sources-script",
        "RUNNER_POST_GET_SOURCES_SCRIPT",
        "post_get_sources_script",
        Text,
        "Commands after sources were fetched",
    ),
    ("pre-build-script", "RUNNER_PRE_BUILD_SCRIPT", "pre_build_script", Text, "Commands before the script of a job"),
    ("post-build-script", "RUNNER_POST_BUILD_SCRIPT", "post_build_script", Text, "Commands after the script of a job"),
    ("prepare-timeout", "RUNNER_PREPARE_TIMEOUT", "prepare_timeout", Duration, "Time for preparing a pod"),
    ("get-sources-timeout", "RUNNER_GET_SOURCES_TIMEOUT", "get_sources_timeout", Duration, "Time for fetching sources"),
    (
        "debug-trace-disabled",
        "RUNNER_DEBUG_TRACE_DISABLED",
        "debug_trace_disabled",
        Bool,
        "Never trace commands, even if CI_DEBUG_TRACE asks for it",
    ),
    (
        "safe-directory-checkout",
        "RUNNER_SAFE_DIRECTORY_CHECKOUT",
        "safe_directory_checkout",
        OptionalBool,
        "Mark the project's directory as safe for git",
    ),
    (
        "clean-git-config",
        "RUNNER_CLEAN_GIT_CONFIG",
        "clean_git_config",
        OptionalBool,
        "Clean git's configuration before and after a job",
    ),
    ("shell", "RUNNER_SHELL", "shell", Text, "bash or sh"),
    (
        "custom_build_dir-enabled",
        "CUSTOM_BUILD_DIR_ENABLED",
        "custom_build_dir.enabled",
        OptionalBool,
        "Let jobs choose their directory (GIT_CLONE_PATH)",
    ),
    ("feature-flags", "FEATURE_FLAGS", "feature_flags", Switches, "A feature flag as NAME:true or NAME:false"),
    ("use-slot-cgroups", "RUNNER_USE_SLOT_CGROUPS", "use_slot_cgroups", Bool, "Only for other executors"),
    ("slot-cgroup-template", "RUNNER_SLOT_CGROUP_TEMPLATE", "slot_cgroup_template", Text, "Only for other executors"),
    ("step-runner-image", "STEP_RUNNER_IMAGE", "step_runner_image", Text, "Image of the step runner"),
];

pub(super) fn flags() -> Vec<Flag> {
    ROWS.iter().map(|row| from_row(HEADING, row)).collect()
}
