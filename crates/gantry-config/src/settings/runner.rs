//! One `[[runners]]` entry, checked and with every default applied.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use gantry_core::Secret;
use jiff::Timestamp;

use super::cache::CacheSettings;
use super::kubernetes::KubernetesSettings;

/// One `[[runners]]` entry. Names and defaults are those of GitLab Runner 19.4.
#[derive(Clone, Debug, PartialEq)]
pub struct RunnerSettings {
    /// `name`, informational; may be empty.
    pub name: String,
    /// `id` that GitLab gave it, where known.
    pub id: Option<u64>,
    /// `url` of GitLab, expanded, as written otherwise; scheme http or https.
    pub url: String,
    /// `token`, expanded; not blank.
    pub token: Secret,
    /// `token_obtained_at`; `None` where absent or the zero time.
    pub token_obtained_at: Option<Timestamp>,
    /// `token_expires_at`; `None` where absent or the zero time: the token does not expire.
    pub token_expires_at: Option<Timestamp>,
    /// `tls-ca-file`: certificates to trust for GitLab.
    pub tls_ca_file: Option<PathBuf>,
    /// `tls-cert-file`: client certificate.
    pub tls_cert_file: Option<PathBuf>,
    /// `tls-key-file`: its key.
    pub tls_key_file: Option<PathBuf>,
    /// `executor`: always `kubernetes`; anything else is an error of the file.
    pub executor: String,
    /// `limit`: jobs at once; `None` is no limit of its own.
    pub limit: Option<NonZeroU32>,
    /// `request_concurrency`: simultaneous requests for jobs. Default 1.
    pub request_concurrency: NonZeroU32,
    /// `strict_check_interval`: do not ask again at once after a job. Default false.
    pub strict_check_interval: bool,
    /// `output_limit` in bytes (the file says KiB). Default 4 MiB.
    pub output_limit_bytes: u64,
    /// `unhealthy_requests_limit`: failed requests in a row that make a runner unhealthy. Default 3.
    pub unhealthy_requests_limit: NonZeroU32,
    /// `unhealthy_interval`: how long an unhealthy runner rests. Default 1 h.
    pub unhealthy_interval: Duration,
    /// `job_status_final_update_retry_limit`: tries of the last update of a job. Default 10.
    pub job_status_final_update_retry_limit: NonZeroU32,
    /// `builds_dir`. Default `/builds`.
    pub builds_dir: String,
    /// `cache_dir`. Default `/cache`.
    pub cache_dir: String,
    /// `clone_url`: base URL to clone from instead of `url`.
    pub clone_url: Option<String>,
    /// `environment`: variables for jobs, in order; entries without `=` are dropped with a warning.
    pub environment: Vec<(String, String)>,
    /// `pre_get_sources_script`.
    pub pre_get_sources_script: Option<String>,
    /// `post_get_sources_script`.
    pub post_get_sources_script: Option<String>,
    /// `pre_build_script`.
    pub pre_build_script: Option<String>,
    /// `post_build_script`.
    pub post_build_script: Option<String>,
    /// `prepare_timeout`; `None` means the job's time-out.
    pub prepare_timeout: Option<Duration>,
    /// `get_sources_timeout`; `None` means the job's time-out.
    pub get_sources_timeout: Option<Duration>,
    /// `debug_trace_disabled`: jobs cannot turn on `CI_DEBUG_TRACE` and `CI_DEBUG_SERVICES`. Default false.
    pub debug_trace_disabled: bool,
    /// `safe_directory_checkout`; `None` where the file says nothing (git is then told that the tree is safe).
    pub safe_directory_checkout: Option<bool>,
    /// `clean_git_config`; `None` where the file says nothing (then true unless the git strategy is none).
    pub clean_git_config: Option<bool>,
    /// `shell`. Default bash, which falls back to sh where the image has none.
    pub shell: Shell,
    /// `[runners.custom_build_dir] enabled`: jobs may set `GIT_CLONE_PATH`. Default true.
    pub custom_build_dir_enabled: bool,
    /// `[labels]` and `[runners.labels]` merged, the runner's win. At most 32.
    pub labels: BTreeMap<String, String>,
    /// `[runners.feature_flags]`: these beat job variables.
    pub feature_flags: BTreeMap<String, bool>,
    /// `[runners.artifact] upload_timeout`. Default 1 h.
    pub artifact_upload_timeout: Duration,
    /// `[runners.artifact] response_header_timeout`. Default 10 min.
    pub artifact_response_header_timeout: Duration,
    /// `[runners.gantry] script_termination_grace_period`: time between TERM and KILL when a script is stopped. Default 30 s.
    pub script_termination_grace_period: Duration,
    /// `step_runner_image`. Kept, not used.
    pub step_runner_image: Option<String>,
    /// `[runners.experimental.boot_verify]`.
    pub boot_verify: BootVerify,
    /// `[runners.cache]`.
    pub cache: CacheSettings,
    /// `[runners.kubernetes]`.
    pub kubernetes: KubernetesSettings,
}

/// The shell that runs the user's scripts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shell {
    /// `bash`, or `sh` in images without it.
    #[default]
    Bash,
    /// `sh`, even where there is a bash.
    Sh,
}

/// `[runners.experimental.boot_verify]`: whether a runner must be verified before it is polled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootVerify {
    /// Default false.
    pub enabled: bool,
    /// Default 5 min.
    pub timeout: Duration,
    /// First pause between two tries. Default 1 s.
    pub min_backoff: Duration,
    /// Longest pause between two tries. Default 10 s.
    pub max_backoff: Duration,
}
