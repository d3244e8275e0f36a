//! What the reader of `.gitlab-ci.yml` hands out: a pipeline of jobs, as plain values.
//!
//! The types carry no behaviour beyond defaults, and nothing in them refers back to the YAML text:
//! whoever creates jobs from them needs no other source.

use std::rc::Rc;

/// Everything the reader needs to know; it does no IO of its own.
pub struct CiInput<'a> {
    /// The text of the configuration file.
    pub yaml: &'a str,
    /// The name under which problems in `yaml` are reported, normally `.gitlab-ci.yml`.
    pub file: &'a str,
    /// Variables known before the file is read (`CI_COMMIT_BRANCH`, project variables, …). They are
    /// visible to `rules:if`, `only:variables`, `include` paths and `tags`, and win over variables
    /// of the same name in the file.
    pub variables: &'a [(String, String)],
    /// Values for the inputs that the file's own `spec:inputs` asks for.
    pub inputs: &'a [(String, String)],
    /// The repository at the commit.
    pub repository: &'a dyn Repository,
}

/// What there is of a file of another place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileLookup {
    /// Its text.
    Text(String),
    /// The place is here, and has no such file.
    Nothing,
    /// Nothing on this machine stands for the place.
    Unmapped,
}

impl From<Option<String>> for FileLookup {
    fn from(text: Option<String>) -> Self {
        text.map_or(Self::Nothing, Self::Text)
    }
}

/// What the reader asks about the repository; paths are from its root.
pub trait Repository {
    /// The text of a file at the commit.
    fn file(&self, path: &str) -> Option<String>;
    /// Every file at the commit, in the order of their names.
    fn paths(&self) -> Rc<[String]>;
    /// The files that the pipeline's push changed; `None` if everything counts as changed, as for a
    /// tag or a new branch.
    fn changed(&self) -> Option<Rc<[String]>>;
    /// The files that differ from where the commit's history left that of a branch, tag or commit;
    /// `None` if there is no such one.
    fn changed_since(&self, git_ref: &str) -> Option<Rc<[String]>>;
    /// The text of a file in the directory that stands for another project.
    fn project_file(&self, _project: &str, _path: &str) -> FileLookup {
        FileLookup::Unmapped
    }
    /// Every file in the directory that stands for another project; `None` if no directory does.
    fn project_paths(&self, _project: &str) -> Option<Rc<[String]>> {
        None
    }
    /// The text of the file that stands for a URL.
    fn remote_file(&self, _url: &str) -> FileLookup {
        FileLookup::Unmapped
    }
    /// The text of a file in the archive of a job of the parent pipeline
    /// (`trigger:include:artifact`).
    fn artifact_file(&self, _job: &str, _path: &str) -> Option<String> {
        None
    }
}

/// The jobs that one run of the configuration creates, with all includes, templates and rules
/// already applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiPipeline {
    /// `workflow:name`, with variables expanded.
    pub name: Option<String>,
    /// `workflow:auto_cancel:on_new_commit`: what a newer pipeline of the same ref cancels of this
    /// one.
    pub auto_cancel: AutoCancel,
    /// All stages in the order they run, from `.pre` to `.post`.
    pub stages: Vec<String>,
    /// The jobs, ordered by stage and inside a stage as in the file.
    pub jobs: Vec<CiJob>,
    /// The jobs that their rules leave out, in the order of the file.
    pub left_out: Vec<CiLeftOut>,
    /// Whether the failure of one job cancels the others (`workflow:auto_cancel:on_job_failure`).
    pub cancel_on_failure: bool,
    /// What was understood but will not be acted on.
    pub warnings: Vec<super::Problem>,
}

/// A job of the file that this pipeline does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiLeftOut {
    /// The full name.
    pub name: String,
    /// Its stage.
    pub stage: String,
    /// Why, in one sentence with the place.
    pub why: String,
}

/// A job that starts a pipeline of its own instead of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiTrigger {
    /// The child's configuration, as YAML.
    pub config: String,
    /// The jobs whose archives the configuration includes files of.
    pub artifacts_of: Vec<String>,
    /// Values for the inputs of the child's configuration.
    pub inputs: Vec<(String, String)>,
    /// `strategy`: whether the job ends with the child, and as it does.
    pub depends: bool,
    /// Whether the job's variables are those of the child too.
    pub forwards_yaml_variables: bool,
    /// Whether the variables given for the pipeline are those of the child too.
    pub forwards_pipeline_variables: bool,
}

/// An input of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiJobInput {
    /// Its name.
    pub name: String,
    /// `string`, `number`, `boolean` or `array`.
    pub kind: String,
    /// Its value, which is of that type.
    pub content: serde_json::Value,
}

/// One of the instances of a parallel job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CiNode {
    /// Its number, from 1 (`CI_NODE_INDEX`).
    pub index: u32,
    /// How many there are (`CI_NODE_TOTAL`).
    pub total: u32,
}

/// One job, ready to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiJob {
    /// The full name; instances of a parallel job are named `test 1/3` or `test: [a, b]`.
    pub name: String,
    /// The stage, one of [`CiPipeline::stages`].
    pub stage: String,
    /// The image of the build container; `None` leaves the choice to the runner.
    pub image: Option<CiImage>,
    /// Service containers in the order of the file.
    pub services: Vec<CiImage>,
    /// Global, job, matrix and rule variables, merged in this order; each key once.
    pub variables: Vec<CiVariable>,
    /// Lines before `script`, in the same shell.
    pub before_script: Vec<String>,
    /// The job's own lines; empty only for a job that is not run here.
    pub script: Vec<String>,
    /// Lines that run afterwards in a shell of their own.
    pub after_script: Vec<String>,
    /// The archive, if any, and then one entry for each report type.
    pub artifacts: Vec<CiArtifact>,
    /// Caches in the order of the file.
    pub cache: Vec<CiCache>,
    /// Names of the jobs whose artifacts are fetched; `None` means the default (all of earlier
    /// stages, or `needs`).
    pub dependencies: Option<Vec<String>>,
    /// The jobs this one waits for instead of whole stages; `None` means all of the earlier stages.
    pub needs: Option<Vec<CiNeed>>,
    /// Whether a failure of this job leaves the pipeline successful.
    pub allow_failure: AllowFailure,
    /// On which outcome of earlier jobs this one runs.
    pub when: When,
    /// For [`When::Delayed`]: how long the job waits, in seconds.
    pub start_in_seconds: Option<u64>,
    /// Runner tags, with variables expanded.
    pub tags: Vec<String>,
    /// The job's own time-out in seconds; `None` leaves it to the project.
    pub timeout_seconds: Option<u64>,
    /// How often and after which failures the job is tried again.
    pub retry: CiRetry,
    /// For an instance of a parallel job: which one it is.
    pub parallel: Option<CiNode>,
    /// Whether a newer pipeline may cancel this job.
    pub interruptible: bool,
    /// Where the job deploys to.
    pub environment: Option<CiEnvironment>,
    /// The pipeline that the job starts; such a job has no script.
    pub trigger: Option<CiTrigger>,
    /// Jobs of the parent pipeline whose artifacts are fetched: the text that names the pipeline,
    /// and the job.
    pub upstream: Vec<(String, String)>,
    /// Jobs of the same group run one after another.
    pub resource_group: Option<String>,
    /// A pattern that finds the coverage in the log.
    pub coverage: Option<String>,
    /// What `release` would make: the tag and what is said of it, with variables expanded.
    pub release: Option<String>,
    /// What a person is asked before the job starts.
    pub manual_confirmation: Option<String>,
    /// Lines of `hooks:pre_get_sources_script`.
    pub pre_get_sources_script: Vec<String>,
    /// `inputs` with their default values.
    pub inputs: Vec<CiJobInput>,
    /// Why the job exists but is not run here, in one sentence with the place; `None` for every
    /// ordinary job.
    pub not_here: Option<String>,
    /// The line of the job's name.
    pub line: usize,
    /// The file that line is in; differs from [`CiInput::file`] for a job of an included file.
    pub file: String,
}

/// An image of the job or of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CiImage {
    /// The image reference, not expanded.
    pub name: String,
    /// Replaces the image's entrypoint; empty means the image's own.
    pub entrypoint: Vec<String>,
    /// Services only: replaces the image's command.
    pub command: Vec<String>,
    /// Services only: extra host names, separated by blanks or commas.
    pub alias: Option<String>,
    /// `always`, `if-not-present` or `never`, tried in order.
    pub pull_policy: Vec<String>,
    /// Services only: variables for this service alone.
    pub variables: Vec<CiVariable>,
    /// `docker:platform` (`executor_opts` of the job payload).
    pub docker_platform: Option<String>,
    /// `docker:user` (`executor_opts` of the job payload).
    pub docker_user: Option<String>,
    /// `kubernetes:user`, as `UID` or `UID:GID` (`executor_opts` of the job payload).
    pub kubernetes_user: Option<String>,
}

/// Where a job deploys to; texts are not expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiEnvironment {
    /// The name, such as `review/$CI_COMMIT_REF_SLUG`.
    pub name: String,
    /// Where what is deployed can be looked at.
    pub url: Option<String>,
    /// What the job does with it: `start`, `stop` and others.
    pub action: String,
    /// `production` and others; `None` leaves it to the name.
    pub tier: Option<String>,
}

/// A variable of the configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CiVariable {
    /// The name.
    pub key: String,
    /// The value as written.
    pub value: String,
    /// Whether references in the value are expanded; `false` is the payload's `raw`.
    pub expand: bool,
    /// Always `false` from a file: file variables come from project settings.
    pub file: bool,
    /// Always `false` from a file: masked variables come from project settings.
    pub masked: bool,
}

/// One entry of the payload's `artifacts` (GitLab Runner 19.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiArtifact {
    /// `archive`, or the report's type such as `junit`.
    pub artifact_type: String,
    /// `zip`, `gzip` or `raw`.
    pub format: String,
    /// The archive's or report's base name; `None` leaves it to the runner.
    pub name: Option<String>,
    /// Globs of files to take.
    pub paths: Vec<String>,
    /// Globs of files to leave out.
    pub exclude: Vec<String>,
    /// Whether files unknown to git are taken too.
    pub untracked: bool,
    /// `on_success`, `on_failure` or `always`; reports are always uploaded.
    pub when: String,
    /// A duration or `never`, as written.
    pub expire_in: Option<String>,
}

impl CiArtifact {
    /// The archive of these paths, with the usual settings.
    pub(super) fn archive(paths: Vec<String>) -> Self {
        Self {
            artifact_type: "archive".to_owned(),
            format: "zip".to_owned(),
            name: None,
            paths,
            exclude: Vec::new(),
            untracked: false,
            when: "on_success".to_owned(),
            expire_in: None,
        }
    }
}

/// One cache of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiCache {
    /// The key, not expanded; `default` if none is given. For `key:files` it ends in a hash of the
    /// files' contents.
    pub key: String,
    /// Keys tried in this order when `key` has no cache yet.
    pub fallback_keys: Vec<String>,
    /// Globs of files to keep.
    pub paths: Vec<String>,
    /// Whether files unknown to git are kept too.
    pub untracked: bool,
    /// `pull-push`, `pull`, `push`, or a text with variables that becomes one of them.
    pub policy: String,
    /// `on_success`, `on_failure` or `always`.
    pub when: String,
    /// `unprotect`: whether protected and other branches share the cache.
    pub unprotect: bool,
}

/// A job that has to end before this one starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiNeed {
    /// The full name of a job of the same pipeline.
    pub job: String,
    /// Whether its artifacts are fetched.
    pub artifacts: bool,
    /// Whether the job may be missing from the pipeline. Missing ones are already left out of
    /// [`CiJob::needs`].
    pub optional: bool,
}

/// What a failed job means for its pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowFailure {
    /// The pipeline fails.
    #[default]
    No,
    /// The pipeline goes on, with a warning.
    Yes,
    /// As [`AllowFailure::Yes`] for these exit codes, as [`AllowFailure::No`] for others.
    ExitCodes(Vec<i32>),
}

/// On which outcome of earlier jobs a job runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// All earlier jobs succeeded or were allowed to fail.
    #[default]
    OnSuccess,
    /// At least one earlier job failed.
    OnFailure,
    /// In any case.
    Always,
    /// Somebody starts it by hand.
    Manual,
    /// As [`When::OnSuccess`], after [`CiJob::start_in_seconds`].
    Delayed,
}

/// What a newer pipeline of the same ref cancels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCancel {
    /// Everything, unless a job that is not `interruptible` has begun.
    #[default]
    Conservative,
    /// The jobs that are `interruptible`.
    Interruptible,
    /// Nothing.
    Never,
}

/// How often and after which failures a job is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CiRetry {
    /// Extra attempts, 0 to 2.
    pub max: u32,
    /// Failure reasons that count; empty means every one.
    pub when: Vec<String>,
    /// Exit codes that count; empty means every one.
    pub exit_codes: Vec<i32>,
}
