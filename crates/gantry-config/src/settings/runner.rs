//! One `[[runners]]` entry, checked and with every default applied.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use gantry_core::Secret;
use gantry_core::limits::{DEFAULT_OUTPUT_LIMIT, SCRIPT_GRACE};
use jiff::Timestamp;

use super::cache::CacheSettings;
use super::kubernetes::KubernetesSettings;
use super::labels;
use crate::declare::table;
use crate::key::Form;
use crate::kinds::{
    anything, custom, duration, duration_or, flag, path, positive, quantity, switch, switch_or, table, tables, text,
    text_or,
};
use crate::quantity::Quantity;
use crate::section::Section;

mod monitoring;
mod values;

pub use monitoring::{Pattern, QueuingDuration};
pub(super) use values::environment;
use values::{
    builds_dir, executor, feature_flags, git_mirror, job_environment, keep_failed_pods, output_limit, script_grace,
    service_wait, shell, time, token, url,
};

table! {
    /// One `[[runners]]` entry. Names and defaults are those of GitLab Runner 19.4.
    #[derive(Clone, Debug, PartialEq)]
    pub struct RunnerSettings {
        /// Name of the runner, for people.
        name: String = text_or("name", "").flag();
        /// Address of GitLab, with http:// or https://. Variables of the manager's environment are
        /// expanded.
        url: String = custom("url", Form::Text, "", url).flag().variable("CI_SERVER_URL");
        /// Number that GitLab gave the runner.
        id: Option<u64> = positive("id");
        /// Token of the runner. Variables of the manager's environment are expanded.
        token: Secret = custom("token", Form::Secret, "", token);
        /// When the token was made.
        token_obtained_at: Option<Timestamp> = custom("token_obtained_at", Form::Time, "", time);
        /// When the token ends; without it, or in the year 1, never.
        token_expires_at: Option<Timestamp> = custom("token_expires_at", Form::Time, "", time);
        /// What runs the jobs: `kubernetes`, and nothing else.
        executor: String = custom("executor", Form::Words(vec!["kubernetes"]), "", executor).flag();
        /// Jobs of this runner at once; 0 is as many as `concurrent` allows.
        limit: Option<NonZeroU32> = custom("limit", Form::Positive, "0", |section, key| {
            section.positive(key).and_then(NonZeroU32::new)
        }).flag();
        /// Largest job log in KiB.
        output_limit_bytes: u64 =
            custom("output_limit", Form::Positive, (DEFAULT_OUTPUT_LIMIT / 1024).to_string(), output_limit).flag();
        /// Simultaneous requests for jobs.
        request_concurrency: NonZeroU32 = at_least_one("request_concurrency", "1", NonZeroU32::MIN).flag();
        /// Do not ask for the next job at once after one was given.
        strict_check_interval: bool = switch_or("strict_check_interval", false).flag();
        /// Refused requests for jobs in a row after which the runner rests.
        unhealthy_requests_limit: NonZeroU32 =
            at_least_one("unhealthy_requests_limit", "3", UNHEALTHY_REQUESTS).flag();
        /// How long a runner rests whose requests were refused.
        unhealthy_interval: Duration = duration_or("unhealthy_interval", Duration::from_hours(1)).flag().no_variable();
        /// Tries of the last update of a job.
        job_status_final_update_retry_limit: NonZeroU32 =
            at_least_one("job_status_final_update_retry_limit", "10", FINAL_UPDATE_TRIES)
                .flag().variable("RUNNER_job_status_final_update_retry_limit");
        /// Certificates to trust for GitLab (PEM).
        tls_ca_file: Option<PathBuf> = path("tls-ca-file").flag().variable("CI_SERVER_TLS_CA_FILE");
        /// Client certificate for GitLab (PEM).
        tls_cert_file: Option<PathBuf> = path("tls-cert-file").flag().variable("CI_SERVER_TLS_CERT_FILE");
        /// Key of the client certificate (PEM).
        tls_key_file: Option<PathBuf> = path("tls-key-file").flag().variable("CI_SERVER_TLS_KEY_FILE");
        /// Directory of projects in job pods.
        builds_dir: String = custom("builds_dir", Form::Text, "/builds", builds_dir).flag();
        /// Directory of caches in job pods.
        cache_dir: String = text_or("cache_dir", "/cache").flag();
        /// Address of GitLab to clone from, instead of `url`.
        clone_url: Option<String> = custom("clone_url", Form::Text, "", values::clone_url).flag().variable("CLONE_URL");
        /// Variables for jobs, each as `KEY=value`.
        environment: Vec<(String, String)> =
            custom("environment", Form::Texts, "", job_environment).flag_as("env").variable("RUNNER_ENV");
        /// Commands before the sources are fetched.
        pre_get_sources_script: Option<String> = text("pre_get_sources_script").flag();
        /// Commands after the sources were fetched.
        post_get_sources_script: Option<String> = text("post_get_sources_script").flag();
        /// Commands before the script of a job.
        pre_build_script: Option<String> = text("pre_build_script").flag();
        /// Commands after the script of a job.
        post_build_script: Option<String> = text("post_build_script").flag();
        /// Time until a job's pod runs, where that is less than `poll_timeout` of
        /// `[runners.kubernetes]`, which always limits it.
        prepare_timeout: Option<Duration> = duration("prepare_timeout").flag();
        /// Time for fetching the sources, with all tries; without it that of the job.
        get_sources_timeout: Option<Duration> = duration("get_sources_timeout").flag();
        /// Never trace commands, even if a job sets `CI_DEBUG_TRACE` or `CI_DEBUG_SERVICES`.
        debug_trace_disabled: bool = flag("debug_trace_disabled").flag();
        /// Tell git to trust the project's directory.
        safe_directory_checkout: Option<bool> =
            switch("safe_directory_checkout").flag().always_on("git always trusts the directory of the project");
        /// Make git's settings anew before and after a job.
        clean_git_config: Option<bool> =
            switch("clean_git_config").flag().always_on("git's settings are always made anew");
        /// The shell of scripts: `bash`, which is `sh` in images without it, or `sh`.
        shell: Shell = custom("shell", Form::Words(vec!["bash", "sh"]), "bash", shell).flag();
        /// Let jobs choose their directory (`GIT_CLONE_PATH`).
        custom_build_dir_enabled: bool = switch_or("custom_build_dir.enabled", true)
            .flag_as("custom_build_dir-enabled").variable("CUSTOM_BUILD_DIR_ENABLED");
        /// Labels of this entry, in addition to those of the file, which they replace.
        labels: BTreeMap<String, String> = custom("labels", Form::TextMap, "", labels::read);
        /// Feature flags, each true or false; these beat job variables of the same name.
        feature_flags: BTreeMap<String, bool> =
            custom("feature_flags", Form::SwitchMap, "", feature_flags).flag().variable("FEATURE_FLAGS");
        /// Time for uploading artifacts.
        artifact_upload_timeout: Duration = duration_or("artifact.upload_timeout", Duration::from_hours(1));
        /// Time in which GitLab must answer an upload of artifacts.
        artifact_response_header_timeout: Duration =
            duration_or("artifact.response_header_timeout", Duration::from_mins(10));
        /// Time between TERM and KILL when a script is stopped: at most a quarter of what is left
        /// of the time of the job.
        script_termination_grace_period: Duration = custom(
            "gantry.script_termination_grace_period",
            Form::Duration,
            gantry_core::go_duration::format(SCRIPT_GRACE),
            script_grace,
        );
        /// How long services may take until they answer on their ports (`HEALTHCHECK_TCP_PORT`, or
        /// those that their images are known for); 0 for not waiting. Without it 10 minutes for
        /// ports that a service names itself, and 30 s for others.
        wait_for_services_timeout: Option<Duration> =
            custom("gantry.wait_for_services_timeout", Form::DurationFromZero, "", service_wait);
        /// Whether services whose ports nobody has named are waited for, on the ports that their
        /// images are known for.
        wait_for_known_services: bool = switch_or("gantry.wait_for_known_services", true);
        /// How long the pod of a failed job is kept, such as `10m`, so that one can look into it
        /// with `kubectl exec`; without it not at all. It takes no place of a job, but its node's
        /// room.
        keep_failed_pods: Option<Duration> = custom("gantry.keep_failed_pods", Form::Duration, "", keep_failed_pods);
        /// Where the nodes keep a mirror of each project's repository, so that a job fetches from
        /// GitLab only what no job before it on its node has: a directory of the nodes, such as
        /// `/var/lib/gantry/git`, or the name of a claim. The helper container alone mounts it, and
        /// of it only what belongs to the job's own project.
        git_mirror: Option<GitMirror> = custom("gantry.git_mirror", Form::Text, "", git_mirror);
        /// How large the mirror of one project may become, such as `20Gi`: a larger one is emptied
        /// before more is fetched into it, and one that a project's history alone would fill is not
        /// kept. What lies in the directory may be removed at any time, and costs the next job one
        /// fetch.
        git_mirror_limit: Option<Quantity> = quantity("gantry.git_mirror_limit");
        /// Image of the step runner.
        step_runner_image: Option<String> = text("step_runner_image")
            .flag().variable("STEP_RUNNER_IMAGE").never("no step runner is started; use script instead of run");
        /// Whether a pod as that of a job must start before the runner takes jobs. Until then
        /// `/health/ready` answers 503, with the reason.
        boot_verify: BootVerify = table("experimental.boot_verify");
        /// How long jobs may wait in GitLab: those that have waited longer count in
        /// `gitlab_runner_acceptable_job_queuing_duration_exceeded_total`. Of several entries whose
        /// periods are now the last one counts.
        queuing_durations: Vec<QueuingDuration> = tables("monitoring.job_queuing_durations");
        /// Where caches of jobs are kept.
        cache: CacheSettings = table("cache").flag_as("cache");
        /// Job pods, and the cluster that they are in.
        kubernetes: KubernetesSettings = table("kubernetes").flag_as("kubernetes");
    }
    unread {
        /// Run commands through a proxy process.
        switch("proxy_exec").flag().never("an agent in the pod runs scripts, and passes on signals and exit codes itself");
        /// Control groups of slots.
        flag("use_slot_cgroups").flag().other_executor();
        /// Name of the control group of a slot.
        text("slot_cgroup_template").flag().other_executor();
        /// Metrics of machines.
        anything("referees").other_executor();
        /// Settings of the executor docker+machine.
        anything("machine").other_executor();
        /// Settings of the executor docker.
        anything("docker").other_executor();
        /// Settings of the executor docker-ssh.
        anything("docker_ssh").other_executor();
        /// Settings of the executor ssh.
        anything("ssh").other_executor();
        /// Settings of the executor parallels.
        anything("parallels").other_executor();
        /// Settings of the executor virtualbox.
        anything("virtualbox").other_executor();
        /// Settings of the executor custom.
        anything("custom").other_executor();
        /// Settings of the executor instance.
        anything("instance").other_executor();
        /// Settings of the executors docker-autoscaler and instance.
        anything("autoscaler").other_executor();
    }
}

/// GitLab Runner 19.4.
const UNHEALTHY_REQUESTS: NonZeroU32 = NonZeroU32::new(3).expect("three is not zero");
/// GitLab Runner 19.4.
const FINAL_UPDATE_TRIES: NonZeroU32 = NonZeroU32::new(10).expect("ten is not zero");

fn at_least_one(
    key: &'static str,
    shown: &'static str,
    default: NonZeroU32,
) -> crate::declare::Declared<impl crate::declare::Kind<Value = NonZeroU32>> {
    custom(key, Form::Positive, shown, move |section: &Section<'_>, key| {
        section.positive(key).and_then(NonZeroU32::new).unwrap_or(default)
    })
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

/// Where mirrors of repositories are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GitMirror {
    /// A directory of the nodes.
    HostPath(String),
    /// A claim of the pods' namespace, by its name.
    Claim(String),
}

table! {
    /// `[runners.experimental.boot_verify]`: whether a runner must prove itself before it takes
    /// jobs.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct BootVerify {
        /// Whether it is done.
        enabled: bool = flag("enabled");
        /// Time for the start of the pod, where that is less than `poll_timeout` and
        /// `prepare_timeout`.
        timeout: Duration = duration_or("timeout", Duration::from_mins(5));
        /// First pause between two tries.
        min_backoff: Duration = duration_or("acquire_min_backoff", Duration::from_secs(1));
        /// Longest pause between two tries.
        max_backoff: Duration = duration_or("acquire_max_backoff", Duration::from_secs(10));
    }
}
