//! The feature flags of GitLab Runner 19.4 (`helpers/featureflags/flags.go`), which jobs and
//! operators may set by name: one list, from which the warnings about them and their reference page
//! are made.
//!
//! All of them are exported to jobs as `true` or `false`, whether they act here or not.

use crate::effect::Effect::{self, Acts, AlwaysOn, Never, OtherExecutor};

/// A flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureFlag {
    /// Its name, which is also the name of the job variable.
    pub name: &'static str,
    /// Its value where nobody sets it.
    pub default: bool,
    /// What it does in the reference, and here if it acts.
    pub about: &'static str,
    /// Whether it does anything here. `tests/tidy` compares this with the code.
    pub effect: Effect,
}

/// Flags of what the runner does between jobs, so that only its configuration can set them.
const OF_RUNNER: [&str; 2] = ["FF_DISABLE_AUTOMATIC_TOKEN_ROTATION", "FF_USE_ADAPTIVE_REQUEST_CONCURRENCY"];

impl FeatureFlag {
    /// Whether a job changes nothing by it, because it is for what the runner does between jobs.
    pub fn is_of_runner(&self) -> bool {
        OF_RUNNER.contains(&self.name)
    }

    /// Its value for a job: the runner's entry beats the job's variable, which beats the default.
    pub fn value(&self, of_runner: Option<bool>, of_job: Option<&str>) -> bool {
        of_runner.or_else(|| parse_bool(of_job?)).unwrap_or(self.default)
    }

    /// What to say to whoever sets it to `value`; `None` where that changes something, or is the
    /// default.
    pub fn remark(&self, value: bool) -> Option<String> {
        if value == self.default || (value && matches!(self.effect, AlwaysOn(_))) { None } else { self.effect.remark() }
    }
}

const fn flag(name: &'static str, default: bool, about: &'static str, effect: Effect) -> FeatureFlag {
    FeatureFlag { name, default, about, effect }
}

/// The flag of a name.
pub fn find(name: &str) -> Option<&'static FeatureFlag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// Whether the flag of this name is on for a job, as in [`FeatureFlag::value`].
pub fn is_on(name: &str, of_runner: Option<bool>, of_job: Option<&str>) -> bool {
    find(name).is_some_and(|flag| flag.value(of_runner, of_job))
}

/// Every known flag, in the order in which job logs list those that differ from their default.
pub const FLAGS: [FeatureFlag; 52] = [
    flag(
        "FF_TEST_FEATURE",
        false,
        "Nothing: the reference tests its flags with it",
        Never("it is for tests of GitLab Runner itself"),
    ),
    flag("FF_NETWORK_PER_BUILD", false, "A network of its own for each job", OtherExecutor),
    flag(
        "FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY",
        false,
        "Run stages by exec instead of attach",
        Never("an agent in the pod runs all stages, whatever happens to the connection"),
    ),
    flag("FF_USE_DIRECT_DOWNLOAD", true, "Fetch artifacts from the object storage and not through GitLab", Acts),
    flag(
        "FF_USE_FASTZIP",
        true,
        "Pack and unpack archives in parallel",
        AlwaysOn("archives are always packed by the built-in archiver"),
    ),
    flag(
        "FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR",
        false,
        "Do not set umask 0000 with the executor docker",
        OtherExecutor,
    ),
    flag("FF_ENABLE_BASH_EXIT_CODE_CHECK", false, "Check the exit code of every command of a script", Acts),
    flag("FF_USE_WINDOWS_LEGACY_PROCESS_STRATEGY", false, "End processes on Windows in the old way", OtherExecutor),
    flag(
        "FF_USE_LEGACY_BASH_EVAL",
        false,
        "Run scripts by eval in a pipe",
        Never("scripts are run from a file by a shell of their own"),
    ),
    flag("FF_USE_POWERSHELL_PATH_RESOLVER", false, "Let PowerShell find paths", Never("scripts run with bash or sh")),
    flag(
        "FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL",
        false,
        "Let the pace of job logs decide how often a silent job says that it lives",
        Never("a silent job always asks often enough to hear of a cancellation"),
    ),
    flag("FF_SCRIPT_SECTIONS", false, "Show every command of several lines as a section of the job log", Acts),
    flag(
        "FF_ENABLE_JOB_CLEANUP",
        false,
        "Clean the project directory after a job: as `git clean` and `git reset` do, or wholly with `GIT_STRATEGY: clone`",
        Acts,
    ),
    flag(
        "FF_KUBERNETES_HONOR_ENTRYPOINT",
        false,
        "Start the build container by the entrypoint of its image, or by the job's `image: entrypoint`; it must run the command that it is given",
        Acts,
    ),
    flag(
        "FF_POSIXLY_CORRECT_ESCAPES",
        false,
        "Quote variables for shells that know only POSIX",
        Never("variables are not quoted in scripts: they are given to the shell as its environment"),
    ),
    flag(
        "FF_RESOLVE_FULL_TLS_CHAIN",
        false,
        "Complete the chain of GitLab's certificate in CI_SERVER_TLS_CA_FILE",
        Never("CI_SERVER_TLS_CA_FILE has the roots that the runner trusts"),
    ),
    flag(
        "FF_DISABLE_POWERSHELL_STDIN",
        false,
        "Do not give scripts to PowerShell by standard input",
        Never("scripts run with bash or sh"),
    ),
    flag(
        "FF_USE_POD_ACTIVE_DEADLINE_SECONDS",
        true,
        "Let the cluster end pods that outlive their job",
        AlwaysOn("pods always have a deadline"),
    ),
    flag("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", false, "Apply the patches of [[runners.kubernetes.pod_spec]]", Acts),
    flag("FF_SECRET_RESOLVING_FAILS_IF_MISSING", true, "Fail jobs whose secrets are not found", Acts),
    flag("FF_PRINT_POD_EVENTS", false, "Show the pod's events in the job log while it starts", Acts),
    flag("FF_USE_GIT_BUNDLE_URIS", true, "Let git fetch bundles that GitLab names", Acts),
    flag(
        "FF_USE_GIT_NATIVE_CLONE",
        false,
        "Clone by git clone instead of init and fetch, where git is 2.49 or newer",
        Acts,
    ),
    flag(
        "FF_USE_DUMB_INIT_WITH_KUBERNETES_EXECUTOR",
        false,
        "Start containers under dumb-init",
        AlwaysOn("the first process of a container always reaps and passes on signals"),
    ),
    flag(
        "FF_USE_INIT_WITH_DOCKER_EXECUTOR",
        false,
        "Start containers under an init with the executor docker",
        OtherExecutor,
    ),
    flag("FF_LOG_IMAGES_CONFIGURED_FOR_JOB", false, "Say the job's images in the log of the runner", Acts),
    flag(
        "FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO",
        true,
        "Reach machines of the docker autoscaler by standard input",
        OtherExecutor,
    ),
    flag("FF_CLEAN_UP_FAILED_CACHE_EXTRACT", false, "Remove what a cache has left that could not be unpacked", Acts),
    flag("FF_USE_WINDOWS_JOB_OBJECT", false, "Use job objects of Windows", OtherExecutor),
    flag("FF_TIMESTAMPS", true, "Begin every line of the job log with its time", Acts),
    flag("FF_DISABLE_AUTOMATIC_TOKEN_ROTATION", false, "Leave the renewal of tokens to others", Acts),
    flag(
        "FF_USE_LEGACY_GCS_CACHE_ADAPTER",
        false,
        "Sign addresses of Google Cloud Storage in the old way",
        Never("there is one way to sign them"),
    ),
    flag(
        "FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR",
        false,
        "Keep the shell's umask, and give the work tree to the user of the build container",
        Acts,
    ),
    flag(
        "FF_USE_LEGACY_S3_CACHE_ADAPTER",
        false,
        "Sign addresses of S3 in the old way",
        Never("there is one way to sign them"),
    ),
    flag(
        "FF_GIT_URLS_WITHOUT_TOKENS",
        false,
        "Keep tokens out of the addresses of repositories",
        AlwaysOn("no address has a token in it: git gets them by a file of the pod"),
    ),
    flag(
        "FF_WAIT_FOR_POD_TO_BE_REACHABLE",
        false,
        "Wait until a pod's log can be read",
        Never("the way to a pod is tried until it works"),
    ),
    flag(
        "FF_MASK_ALL_DEFAULT_TOKENS",
        true,
        "Mask everything in job logs that looks like one of GitLab's tokens",
        Acts,
    ),
    flag("FF_EXPORT_HIGH_CARDINALITY_METRICS", false, "Measure how long each stage of each job takes", Acts),
    flag("FF_USE_FLEETING_ACQUIRE_HEARTBEATS", false, "Look after machines before they get a job", OtherExecutor),
    flag(
        "FF_USE_EXPONENTIAL_BACKOFF_STAGE_RETRY",
        true,
        "Wait longer before each new try of a stage",
        AlwaysOn("the waits between tries always grow"),
    ),
    flag(
        "FF_USE_ADAPTIVE_REQUEST_CONCURRENCY",
        true,
        "Adapt the number of simultaneous requests for jobs to what they bring",
        Acts,
    ),
    flag("FF_USE_GITALY_CORRELATION_ID", true, "Give git requests an id that is found in GitLab's logs", Acts),
    flag("FF_USE_GIT_PROACTIVE_AUTH", false, "Let git send credentials before it is asked for them", Acts),
    flag("FF_HASH_CACHE_KEYS", false, "Use checksums of cache keys as names", Acts),
    flag("FF_ENABLE_JOB_INPUTS_INTERPOLATION", true, "Replace ${{ job.inputs }} in jobs", Acts),
    flag(
        "FF_USE_JOB_ROUTER",
        false,
        "Get jobs from the job router",
        Never("GitLab itself is asked for jobs, as GitLab Runner does where there is no router"),
    ),
    flag("FF_SCRIPT_TO_STEP_MIGRATION", false, "Run scripts as steps", Never("scripts are run as scripts")),
    flag(
        "FF_USE_PARALLEL_CACHE_TRANSFER",
        false,
        "Transfer caches in several parts at once",
        AlwaysOn("caches always come in several parts at once, where the store can give parts"),
    ),
    flag("FF_USE_PARALLEL_ARTIFACT_TRANSFER", false, "Transfer artifacts in several parts at once", Acts),
    flag(
        "FF_CONCRETE",
        false,
        "Run the whole job in one process of the build container",
        Never("an agent in the pod runs it"),
    ),
    flag(
        "FF_SUSPENDABLE_ENVIRONMENTS",
        false,
        "Keep a job's file system for another job",
        Never("environments are not suspended: keep files as artifacts, or on a volume"),
    ),
    flag("FF_USE_NATIVE_CONTAINER_STOP", false, "Stop containers by docker stop", OtherExecutor),
];

/// Reads a boolean as Go's `strconv.ParseBool` does, which all runner settings in job variables
/// use.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{FLAGS, OF_RUNNER, find, is_on};

    #[test]
    fn the_runner_beats_the_job_which_beats_the_default() {
        let values = |name| {
            [(Some(false), Some("1")), (None, Some("1")), (None, Some("maybe")), (None, None)]
                .map(|(of_runner, of_job)| is_on(name, of_runner, of_job))
        };
        assert_eq!(values("FF_TIMESTAMPS"), [false, true, true, true]);
        assert_eq!(values("FF_SCRIPT_SECTIONS"), [false, true, false, false]);
        assert_eq!(values("FF_NOBODYS"), [false; 4]);
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = FLAGS.iter().map(|flag| flag.name).collect();
        assert_eq!(names.len(), FLAGS.len());
        assert!(OF_RUNNER.iter().all(|name| find(name).is_some_and(|flag| flag.effect.acts() && flag.is_of_runner())));
    }

    #[test]
    fn only_what_would_change_something_is_remarked() {
        let remark = |name, value| find(name).and_then(|flag| flag.remark(value));
        assert_eq!(remark("FF_TIMESTAMPS", false), None);
        assert_eq!(remark("FF_USE_POD_ACTIVE_DEADLINE_SECONDS", true), None, "the default");
        assert_eq!(remark("FF_GIT_URLS_WITHOUT_TOKENS", true), None, "it is so");
        assert!(
            remark("FF_USE_POD_ACTIVE_DEADLINE_SECONDS", false)
                .is_some_and(|remark| remark.starts_with("accepted, has no effect: "))
        );
        assert!(remark("FF_USE_JOB_ROUTER", true).is_some_and(|remark| remark.contains("no effect: ")));
    }
}
