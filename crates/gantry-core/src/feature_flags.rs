//! The feature flags of GitLab Runner 19.4 (`helpers/featureflags/flags.go`), which jobs and operators may set by name.
//!
//! All of them are exported to jobs as `true` or `false`; only those in [`ACTING`] change anything here.

/// A flag and its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureFlag {
    /// Its name, which is also the name of the job variable.
    pub name: &'static str,
    /// Its value where nobody sets it.
    pub default: bool,
}

const fn flag(name: &'static str, default: bool) -> FeatureFlag {
    FeatureFlag { name, default }
}

/// Every known flag, in the order in which job logs list those that differ from their default.
pub const FLAGS: [FeatureFlag; 52] = [
    flag("FF_TEST_FEATURE", false),
    flag("FF_NETWORK_PER_BUILD", false),
    flag("FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY", false),
    flag("FF_USE_DIRECT_DOWNLOAD", true),
    flag("FF_USE_FASTZIP", true),
    flag("FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR", false),
    flag("FF_ENABLE_BASH_EXIT_CODE_CHECK", false),
    flag("FF_USE_WINDOWS_LEGACY_PROCESS_STRATEGY", false),
    flag("FF_USE_LEGACY_BASH_EVAL", false),
    flag("FF_USE_POWERSHELL_PATH_RESOLVER", false),
    flag("FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL", false),
    flag("FF_SCRIPT_SECTIONS", false),
    flag("FF_ENABLE_JOB_CLEANUP", false),
    flag("FF_KUBERNETES_HONOR_ENTRYPOINT", false),
    flag("FF_POSIXLY_CORRECT_ESCAPES", false),
    flag("FF_RESOLVE_FULL_TLS_CHAIN", false),
    flag("FF_DISABLE_POWERSHELL_STDIN", false),
    flag("FF_USE_POD_ACTIVE_DEADLINE_SECONDS", true),
    flag("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", false),
    flag("FF_SECRET_RESOLVING_FAILS_IF_MISSING", true),
    flag("FF_PRINT_POD_EVENTS", false),
    flag("FF_USE_GIT_BUNDLE_URIS", true),
    flag("FF_USE_GIT_NATIVE_CLONE", false),
    flag("FF_USE_DUMB_INIT_WITH_KUBERNETES_EXECUTOR", false),
    flag("FF_USE_INIT_WITH_DOCKER_EXECUTOR", false),
    flag("FF_LOG_IMAGES_CONFIGURED_FOR_JOB", false),
    flag("FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO", true),
    flag("FF_CLEAN_UP_FAILED_CACHE_EXTRACT", false),
    flag("FF_USE_WINDOWS_JOB_OBJECT", false),
    flag("FF_TIMESTAMPS", true),
    flag("FF_DISABLE_AUTOMATIC_TOKEN_ROTATION", false),
    flag("FF_USE_LEGACY_GCS_CACHE_ADAPTER", false),
    flag("FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR", false),
    flag("FF_USE_LEGACY_S3_CACHE_ADAPTER", false),
    flag("FF_GIT_URLS_WITHOUT_TOKENS", false),
    flag("FF_WAIT_FOR_POD_TO_BE_REACHABLE", false),
    flag("FF_MASK_ALL_DEFAULT_TOKENS", true),
    flag("FF_EXPORT_HIGH_CARDINALITY_METRICS", false),
    flag("FF_USE_FLEETING_ACQUIRE_HEARTBEATS", false),
    flag("FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY", true),
    flag("FF_USE_ADAPTIVE_REQUEST_CONCURRENCY", true),
    flag("FF_USE_GITALY_CORRELATION_ID", true),
    flag("FF_USE_GIT_PROACTIVE_AUTH", false),
    flag("FF_HASH_CACHE_KEYS", false),
    flag("FF_ENABLE_JOB_INPUTS_INTERPOLATION", true),
    flag("FF_USE_JOB_ROUTER", false),
    flag("FF_SCRIPT_TO_STEP_MIGRATION", false),
    flag("FF_USE_PARALLEL_CACHE_TRANSFER", false),
    flag("FF_USE_PARALLEL_ARTIFACT_TRANSFER", false),
    flag("FF_CONCRETE", false),
    flag("FF_SUSPENDABLE_ENVIRONMENTS", false),
    flag("FF_USE_NATIVE_CONTAINER_STOP", false),
];

/// The flags that something here depends on; what an operator sets of the others is a warning. `tests/tidy` compares the list with the code.
pub const ACTING: [&str; 9] = [
    "FF_DISABLE_AUTOMATIC_TOKEN_ROTATION",
    "FF_ENABLE_BASH_EXIT_CODE_CHECK",
    "FF_KUBERNETES_HONOR_ENTRYPOINT",
    "FF_MASK_ALL_DEFAULT_TOKENS",
    "FF_SCRIPT_SECTIONS",
    "FF_TIMESTAMPS",
    "FF_USE_ADAPTIVE_REQUEST_CONCURRENCY",
    "FF_USE_ADVANCED_POD_SPEC_CONFIGURATION",
    "FF_USE_GITALY_CORRELATION_ID",
];

/// Reads a boolean as Go's `strconv.ParseBool` does, which all runner settings in job variables use.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{ACTING, FLAGS};

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = FLAGS.iter().map(|flag| flag.name).collect();
        assert_eq!(names.len(), FLAGS.len());
        assert!(ACTING.iter().all(|name| names.contains(name)));
    }
}
