//! The PodPlan: all that the agent needs to run a job without asking anybody.

use gantry_core::ending::StartSetting;
use gantry_core::limits::SCRIPT_GRACE;
use gantry_core::{ClientIdentity, Secret};
use serde::{Deserialize, Serialize};

use crate::cache::{RestoreCaches, SaveCaches};
use crate::provenance::Provenance;
use crate::services::ServicesPlan;
use crate::usage::ResourcePlan;
use crate::{identity_text, secret_text};

/// Everything about one job that the pod must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodPlan {
    /// The job's id in its GitLab.
    pub job_id: i64,
    /// The job token, for artifacts and for reporting without a manager.
    #[serde(with = "secret_text")]
    pub job_token: Secret,
    /// The project's id, for a manager that takes the job over.
    #[serde(default)]
    pub project_id: i64,
    /// How to reach GitLab.
    pub coordinator: Coordinator,
    /// Host name of the manager, for the log.
    pub manager_host: String,
    /// The job's time-out as GitLab set it.
    pub timeout_seconds: u64,
    /// What is left of it when the plan is handed over.
    pub remaining_ms: u64,
    /// Whether GitLab was told already that the job runs, when the plan is handed over.
    #[serde(default)]
    pub acknowledged: bool,
    /// Limit of all user scripts together (`RUNNER_SCRIPT_TIMEOUT`).
    pub script_timeout_ms: Option<u64>,
    /// Limit of `after_script`.
    pub after_script_timeout_ms: u64,
    /// Whether a failing `after_script` leaves the result as it is (`AFTER_SCRIPT_IGNORE_ERRORS`).
    pub after_script_ignore_errors: bool,
    /// Time between TERM and KILL when a script is stopped.
    #[serde(default = "default_script_grace_ms")]
    pub script_grace_ms: u64,
    /// Whether what is fetched gets the modes that the helper container's own umask gives, instead
    /// of being writable for everybody (`FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR`).
    #[serde(default)]
    pub keep_umask: bool,
    /// Directories.
    pub paths: Paths,
    /// The job's variables after expansion, in order; the last duplicate wins.
    pub environment: Vec<EnvVar>,
    /// How the trace is rendered.
    pub trace: TracePlan,
    /// In order. [`crate::stage::next_stage`] says which of them runs when.
    pub stages: Vec<StagePlan>,
    /// Whether the first user script waits until the manager has seen the services started.
    pub wait_for_services: bool,
    /// Failure reasons that this GitLab knows, for reporting without a manager.
    pub failure_reasons: Vec<String>,
    /// What the agent does when no manager speaks to it.
    #[serde(default)]
    pub alone: Alone,
    /// How long the build container may take to be there. Without it the manager alone keeps that
    /// limit.
    #[serde(default)]
    pub start: Option<StartLimit>,
    /// The memory limit of the build container, for what is said when that is not enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_memory_limit: Option<String>,
    /// What the build container asks for and may use, for what is said of its usage.
    #[serde(default, skip_serializing_if = "ResourcePlan::is_empty")]
    pub build_resources: ResourcePlan,
    /// The services, and how long they may take to be ready.
    #[serde(default, skip_serializing_if = "ServicesPlan::is_empty")]
    pub services: ServicesPlan,
    /// Limit of all tries of the stage that fetches the sources (`get_sources_timeout`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub get_sources_timeout_ms: Option<u64>,
    /// Whether scripts run with `sh` even where there is a bash (`shell`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub posix_shell: bool,
    /// What becomes of the pod if the job fails; without it, it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_failed: Option<KeepFailed>,
}

/// How a pod is kept whose job has failed (`keep_failed_pods`): its containers stay, so that one
/// can look into them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepFailed {
    /// For how long after the verdict was reported.
    pub ms: u64,
    /// The line of the job log that says so, and how to get in.
    pub hint: String,
}

/// How long a pod may take to start. The manager keeps the limit as well, and knows more causes;
/// the agent keeps it when no manager does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartLimit {
    /// The whole limit, for messages.
    pub seconds: u64,
    /// The setting that it comes from.
    #[serde(default)]
    pub setting: StartSetting,
    /// What is left of it when the plan is handed over.
    pub remaining_ms: u64,
}

fn default_script_grace_ms() -> u64 {
    u64::try_from(SCRIPT_GRACE.as_millis()).unwrap_or(u64::MAX)
}

/// What the agent does when no manager speaks to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alone {
    /// Silence of managers after which it reports to GitLab by itself.
    pub self_report_after_ms: u64,
    /// Silence of managers and of GitLab after which it ends the job.
    pub abandon_after_ms: u64,
}

impl Default for Alone {
    fn default() -> Self {
        Self { self_report_after_ms: 120_000, abandon_after_ms: 1_500_000 }
    }
}

/// How to reach GitLab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinator {
    /// As configured, such as `https://gitlab.example.com`.
    pub url: String,
    /// Additional roots of trust, PEM.
    pub ca_pem: Option<String>,
    /// What the job shows to a GitLab that asks for a client's certificate, or a proxy before it.
    #[serde(default, with = "identity_text", skip_serializing_if = "Option::is_none")]
    pub identity: Option<ClientIdentity>,
    /// Limit of one artifact upload.
    pub upload_timeout_ms: u64,
    /// Limit for the first byte of GitLab's answer to an upload.
    pub response_header_timeout_ms: u64,
    /// The manager's proxies, for an agent that reports without a manager; absent if there are
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxies: Option<ProxyPlan>,
}

/// Proxies as a manager has them in its environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyPlan {
    /// URL of the proxy for `http` URLs; empty for none. It may hold a password.
    #[serde(with = "secret_text")]
    pub http: Secret,
    /// The same for `https` URLs.
    #[serde(with = "secret_text")]
    pub https: Secret,
    /// What is reached directly (`NO_PROXY`).
    pub no_proxy: String,
}

/// Directories of a job, the same in every container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// Root of all builds, such as `/builds`.
    pub builds_dir: String,
    /// The project's work tree (`CI_PROJECT_DIR`).
    pub project_dir: String,
    /// File variables and other things beside the work tree (`RUNNER_TEMP_PROJECT_DIR`).
    pub temp_dir: String,
    /// The volume that `temp_dir` is a link to; without one it is a directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temp_volume: Option<String>,
}

/// One variable of the job's environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Its name.
    pub key: String,
    /// Its value; for file variables the content of the file.
    #[serde(with = "secret_text")]
    pub value: Secret,
    /// Whether the variable holds the path of a file with that content.
    #[serde(default)]
    pub file: bool,
}

/// The section that the manager opens in the head of the trace. It leaves it open, because until
/// the hand-over it does not know which line is its last; the agent closes it.
pub const HEAD_SECTION: &str = "prepare_executor";

/// How the trace is rendered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracePlan {
    /// What the manager has already said about the job: the first bytes of the trace, rendered.
    pub head: String,
    /// Values to replace by `[MASKED]`.
    #[serde(with = "secret_text::list")]
    pub masks: Vec<Secret>,
    /// Prefixes of tokens whose rest is replaced.
    pub token_prefixes: Vec<String>,
    /// Whether each line starts with time and stream (`FF_TIMESTAMPS`).
    pub timestamps: bool,
    /// Whether section markers are written.
    pub sections: bool,
    /// Bytes after which the rest is dropped.
    pub limit_bytes: u64,
    /// Whether GitLab is told that the log may hold secrets (`CI_DEBUG_TRACE`).
    pub debug_trace: bool,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagePlan {
    /// Name in section markers and messages, such as `get_sources`.
    pub name: String,
    /// The line that opens it in the log.
    pub title: String,
    /// How often it is tried.
    pub attempts: u32,
    /// What it does.
    pub action: Action,
}

/// What a stage does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// Says where the job runs.
    Prepare,
    /// Fetches the project.
    Sources(Box<Sources>),
    /// Restores caches.
    RestoreCache(RestoreCaches),
    /// Downloads and unpacks artifacts of earlier jobs.
    DownloadArtifacts(Vec<ArtifactDownload>),
    /// Runs a user script in the build container.
    Script(Script),
    /// Runs `after_script` in the build container.
    AfterScript(Script),
    /// Saves caches.
    SaveCache(SaveCaches),
    /// Packs and uploads artifacts.
    UploadArtifacts {
        /// Whether these are the artifacts of a job that went well so far.
        on_success: bool,
        /// In order.
        artifacts: Vec<ArtifactUpload>,
    },
    /// Removes file variables.
    Cleanup,
}

/// A script of the user, complete with the echoing of its commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Shell text.
    #[serde(with = "secret_text")]
    pub text: Secret,
}

/// How git gets the project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// What happens to the directory first.
    pub strategy: GitStrategy,
    /// The remote, without credentials.
    pub url: String,
    /// URL rewriting rules that carry credentials, for whole servers: with them → without them.
    /// They serve submodules while those are fetched; beyond that only what they make of `own_urls`
    /// and of the submodules' own URLs.
    pub credentials: Vec<GitCredential>,
    /// The URLs under which the project itself is known, without credentials.
    #[serde(default)]
    pub own_urls: Vec<String>,
    /// Branch or tag, for the log.
    pub git_ref: String,
    /// The commit.
    pub sha: String,
    /// What to fetch.
    pub refspecs: Vec<String>,
    /// Commits of history; 0 is all.
    pub depth: u32,
    /// `sha1` or `sha256`; empty means `sha1`.
    pub object_format: String,
    /// Whether the commit is checked out (`GIT_CHECKOUT`).
    pub checkout: bool,
    /// Flags of `git clean`; `None` leaves untracked files.
    pub clean_flags: Option<Vec<String>>,
    /// Flags added to `git fetch`.
    pub fetch_flags: Vec<String>,
    /// Submodules to update.
    pub submodules: Submodules,
    /// Whether LFS objects are fetched where git-lfs is installed.
    pub lfs: bool,
    /// Root certificates for git, PEM.
    pub ca_pem: Option<String>,
    /// Additional HTTP headers for git, such as the correlation id.
    pub http_headers: Vec<String>,
    /// `http.userAgent` of fetches.
    pub user_agent: String,
    /// Runs in the helper container before git does.
    pub pre_script: Option<Script>,
    /// Runs in the helper container after git has.
    pub post_script: Option<Script>,
    /// What the job's feature flags change about that.
    #[serde(default, skip_serializing_if = "GitOptions::is_default")]
    pub options: GitOptions,
    /// Whether a mirror of the repository is mounted at [`crate::layout::MIRROR_DIR`]. An agent
    /// that does not know it fetches without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mirror: bool,
    /// Bytes that the mirror may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror_limit: Option<u64>,
}

/// What feature flags change about how the project is got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitOptions {
    /// `git clone` with these flags instead of `git fetch` into an empty repository
    /// (`FF_USE_GIT_NATIVE_CLONE`, `GIT_CLONE_EXTRA_FLAGS`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native_clone: Option<Vec<String>>,
    /// Bundles that the server names are left alone (`FF_USE_GIT_BUNDLE_URIS` turned off).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_bundles: bool,
    /// Credentials are sent before the server asks for them (`FF_USE_GIT_PROACTIVE_AUTH`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proactive_auth: bool,
    /// The project's directory is cleaned at the end of the job (`FF_ENABLE_JOB_CLEANUP`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clean_up: bool,
}

impl GitOptions {
    /// Whether nothing is changed.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// `GIT_STRATEGY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GitStrategy {
    /// Use what is there.
    Fetch,
    /// Start from nothing.
    Clone,
    /// No git at all; the directory stays.
    None,
    /// No git at all; the directory is emptied.
    Empty,
}

/// One `url.<with>.insteadOf=<without>` rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitCredential {
    /// URL prefix with user and password.
    #[serde(with = "secret_text")]
    pub with: Secret,
    /// The same without.
    pub without: String,
}

/// `GIT_SUBMODULE_*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submodules {
    /// Which ones.
    pub strategy: SubmoduleStrategy,
    /// Paths to include or, with `:(exclude)`, to leave out; empty means all.
    pub paths: Vec<String>,
    /// Commits of history; 0 is all.
    pub depth: u32,
    /// Flags added to `git submodule update`.
    pub update_flags: Vec<String>,
}

/// `GIT_SUBMODULE_STRATEGY`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubmoduleStrategy {
    /// None.
    #[default]
    None,
    /// Those of the project.
    Normal,
    /// Those of submodules too.
    Recursive,
}

/// Artifacts of one earlier job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactDownload {
    /// The job's id.
    pub job_id: i64,
    /// The job's name, for the log.
    pub job_name: String,
    /// Opens that job's artifacts.
    #[serde(with = "secret_text")]
    pub token: Secret,
}

/// One artifact to upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactUpload {
    /// Base name of the file that is sent, expanded with the environment when it is packed.
    pub name: String,
    /// Globs relative to the project.
    pub paths: Vec<String>,
    /// Globs to leave out.
    pub exclude: Vec<String>,
    /// Also files that git does not track.
    pub untracked: bool,
    /// Such as `archive` or `junit`.
    pub artifact_type: String,
    /// How files become one.
    pub format: ArtifactFormat,
    /// Passed on to GitLab; may be empty.
    pub expire_in: String,
    /// What the statement of its provenance says, if the archive is to have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Box<Provenance>>,
}

/// How files become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactFormat {
    /// A zip archive.
    #[default]
    Zip,
    /// One gzip member per file, concatenated.
    Gzip,
    /// The bytes of the one file.
    Raw,
}
