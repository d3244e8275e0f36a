//! The variables by which jobs set up their runner (GitLab Runner 19.4): one list, from which the
//! lines of job logs about those that do nothing and the reference page are made. Feature flags
//! have a list of their own ([`crate::feature_flags`]).

use crate::effect::Effect::{self, Acts, Never, OtherExecutor};

/// A variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobVariable {
    /// Its name; a `*` at the end stands for any text.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Whether it does anything here. `tests/tidy` compares this with the code.
    pub effect: Effect,
}

impl JobVariable {
    /// Whether a variable of this name is meant.
    pub fn is(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix) && name.len() > prefix.len(),
            None => name == self.name,
        }
    }
}

const fn variable(name: &'static str, about: &'static str, effect: Effect) -> JobVariable {
    JobVariable { name, about, effect }
}

/// The known variable that a name means.
pub fn find(name: &str) -> Option<&'static JobVariable> {
    JOB_VARIABLES.iter().find(|variable| variable.is(name))
}

const PARTS: &str = "caches come in parts of 4 MiB, four at once";
const ARCHIVER: &str = "the built-in archiver needs no settings but ARTIFACT_COMPRESSION_LEVEL";

/// Every known variable, by what it is about.
pub const JOB_VARIABLES: [JobVariable; 67] = [
    variable("GIT_STRATEGY", "How sources are got: `clone`, `fetch`, `none` or `empty`", Acts),
    variable("GIT_CHECKOUT", "Check out the commit; false leaves the tree as it is", Acts),
    variable("GIT_CLONE_PATH", "Directory of the project, below `CI_BUILDS_DIR`", Acts),
    variable("GIT_CLEAN_FLAGS", "Flags of `git clean`; `none` leaves it out", Acts),
    variable("GIT_FETCH_EXTRA_FLAGS", "Flags of `git fetch`; `none` for none", Acts),
    variable(
        "GIT_CLONE_EXTRA_FLAGS",
        "Flags of `git clone`, with `GIT_STRATEGY: clone` and `FF_USE_GIT_NATIVE_CLONE`",
        Acts,
    ),
    variable("GIT_LFS_SKIP_SMUDGE", "Leave files of LFS as pointers", Acts),
    variable("GIT_SUBMODULE_STRATEGY", "Which submodules are got: `none`, `normal` or `recursive`", Acts),
    variable("GIT_SUBMODULE_PATHS", "Which of them, by their paths", Acts),
    variable("GIT_SUBMODULE_DEPTH", "How much of their history", Acts),
    variable("GIT_SUBMODULE_UPDATE_FLAGS", "Flags of `git submodule update`", Acts),
    variable("GIT_SUBMODULE_FORCE_HTTPS", "Get submodules by HTTPS where they are named by SSH", Acts),
    variable("GET_SOURCES_ATTEMPTS", "Tries of getting the sources, from 1 to 10", Acts),
    variable("ARTIFACT_DOWNLOAD_ATTEMPTS", "Tries of getting artifacts, from 1 to 10", Acts),
    variable("RESTORE_CACHE_ATTEMPTS", "Tries of getting a cache, from 1 to 10", Acts),
    variable("SECRETS_RETRIEVAL_ATTEMPTS", "Tries of getting secrets", Acts),
    variable("EXECUTOR_JOB_SECTION_ATTEMPTS", "Tries of a section after the container is gone", OtherExecutor),
    variable("RUNNER_SCRIPT_TIMEOUT", "Time for the script", Acts),
    variable("RUNNER_AFTER_SCRIPT_TIMEOUT", "Time for the after_script", Acts),
    variable("AFTER_SCRIPT_IGNORE_ERRORS", "Whether a job succeeds whose after_script fails", Acts),
    variable("CI_DEBUG_TRACE", "Show every command of the scripts, with its variables", Acts),
    variable("CI_DEBUG_SERVICES", "Show the logs of services; the runner needs the right to get `pods/log`", Acts),
    variable(
        "HEALTHCHECK_TCP_PORT",
        "Port of a service that is waited for, or several: a variable of the service; one of the job is tried for all of its services, and does \
         not fail it",
        Acts,
    ),
    variable("ARTIFACT_COMPRESSION_LEVEL", "`fastest`, `fast`, `default`, `slow` or `slowest`", Acts),
    variable("RUNNER_GENERATE_ARTIFACTS_METADATA", "Add a statement of their provenance to zip archives", Acts),
    variable("SLSA_PROVENANCE_SCHEMA_VERSION", "The form of that statement: `v1`", Acts),
    variable("TRANSFER_METER_FREQUENCY", "How often the progress of a transfer is shown, as in `10s`", Acts),
    variable("FASTZIP_*", "Settings of the archiver", Never(ARCHIVER)),
    variable("ARCHIVER_STAGING_DIR", "Directory of the archiver", Never(ARCHIVER)),
    variable("CACHE_FALLBACK_KEY", "Key of the cache that is got where there is no other", Acts),
    variable("CACHE_REQUEST_TIMEOUT", "Minutes that a transfer of a cache may take", Acts),
    variable("CACHE_COMPRESSION_LEVEL", "`fastest`, `fast`, `default`, `slow` or `slowest`", Acts),
    variable("CACHE_COMPRESSION_FORMAT", "`zip`, `tarzstd` or `zipzstd`", Acts),
    variable("CACHE_MAX_UPLOADED_ARCHIVE_SIZE", "Largest cache in bytes", Acts),
    variable("CACHE_TRANSFER_BUFFER_SIZE", "Size of the buffer of a transfer", Never(PARTS)),
    variable("CACHE_CHUNK_SIZE", "Size of the parts of a transfer", Never(PARTS)),
    variable("CACHE_CONCURRENCY", "Parts that are transferred at once", Never(PARTS)),
    variable(
        "DOCKER_AUTH_CONFIG",
        "Logins for registries: the content of a Docker `config.json`, of which those are used that an image of the job needs",
        Acts,
    ),
    variable("KUBERNETES_NAMESPACE_OVERWRITE", "Namespace of the pod", Acts),
    variable("KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", "Service account of the pod", Acts),
    variable(
        "KUBERNETES_BEARER_TOKEN",
        "Token for the API server, in the place of the runner's; the job is refused where the runner's config names no `host`",
        Acts,
    ),
    variable("KUBERNETES_NODE_SELECTOR_*", "A label `key=value` that the node must have", Acts),
    variable("KUBERNETES_NODE_TOLERATIONS_*", "A taint `key=value:Effect` that the pod tolerates", Acts),
    variable("KUBERNETES_POD_LABELS_*", "A label `key=value` of the pod", Acts),
    variable("KUBERNETES_POD_ANNOTATIONS_*", "An annotation `key=value` of the pod", Acts),
    variable("KUBERNETES_CPU_REQUEST", "Request for the CPU of the build container", Acts),
    variable("KUBERNETES_CPU_LIMIT", "Limit for the CPU of the build container", Acts),
    variable("KUBERNETES_MEMORY_REQUEST", "Request for the memory of the build container", Acts),
    variable("KUBERNETES_MEMORY_LIMIT", "Limit for the memory of the build container", Acts),
    variable("KUBERNETES_EPHEMERAL_STORAGE_REQUEST", "Request for the ephemeral storage of the build container", Acts),
    variable("KUBERNETES_EPHEMERAL_STORAGE_LIMIT", "Limit for the ephemeral storage of the build container", Acts),
    variable(
        "KUBERNETES_SERVICE_CPU_REQUEST",
        "Request for the CPU of service containers, or in the variables of a service of it alone",
        Acts,
    ),
    variable(
        "KUBERNETES_SERVICE_CPU_LIMIT",
        "Limit for the CPU of service containers, or in the variables of a service of it alone",
        Acts,
    ),
    variable(
        "KUBERNETES_SERVICE_MEMORY_REQUEST",
        "Request for the memory of service containers, or in the variables of a service of it alone",
        Acts,
    ),
    variable(
        "KUBERNETES_SERVICE_MEMORY_LIMIT",
        "Limit for the memory of service containers, or in the variables of a service of it alone",
        Acts,
    ),
    variable(
        "KUBERNETES_SERVICE_EPHEMERAL_STORAGE_REQUEST",
        "Request for the ephemeral storage of service containers, or in the variables of a service of it alone",
        Acts,
    ),
    variable(
        "KUBERNETES_SERVICE_EPHEMERAL_STORAGE_LIMIT",
        "Limit for the ephemeral storage of service containers, or in the variables of a service of it alone",
        Acts,
    ),
    variable("KUBERNETES_HELPER_CPU_REQUEST", "Request for the CPU of the helper container", Acts),
    variable("KUBERNETES_HELPER_CPU_LIMIT", "Limit for the CPU of the helper container", Acts),
    variable("KUBERNETES_HELPER_MEMORY_REQUEST", "Request for the memory of the helper container", Acts),
    variable("KUBERNETES_HELPER_MEMORY_LIMIT", "Limit for the memory of the helper container", Acts),
    variable(
        "KUBERNETES_HELPER_EPHEMERAL_STORAGE_REQUEST",
        "Request for the ephemeral storage of the helper container",
        Acts,
    ),
    variable(
        "KUBERNETES_HELPER_EPHEMERAL_STORAGE_LIMIT",
        "Limit for the ephemeral storage of the helper container",
        Acts,
    ),
    variable("KUBERNETES_POD_CPU_REQUEST", "Request for the CPU of the whole pod", Acts),
    variable("KUBERNETES_POD_CPU_LIMIT", "Limit for the CPU of the whole pod", Acts),
    variable("KUBERNETES_POD_MEMORY_REQUEST", "Request for the memory of the whole pod", Acts),
    variable("KUBERNETES_POD_MEMORY_LIMIT", "Limit for the memory of the whole pod", Acts),
];

#[cfg(test)]
mod tests {
    use super::{JOB_VARIABLES, find};

    #[test]
    fn names_are_found() {
        let names: std::collections::BTreeSet<_> = JOB_VARIABLES.iter().map(|variable| variable.name).collect();
        assert_eq!(names.len(), JOB_VARIABLES.len());
        let name = |name| find(name).map(|variable| variable.name);
        assert_eq!(name("FASTZIP_ZIP_BUFFER_SIZE"), Some("FASTZIP_*"));
        assert_eq!(name("KUBERNETES_POD_LABELS_1"), Some("KUBERNETES_POD_LABELS_*"), "before the shorter prefix");
        assert_eq!(name("GIT_STRATEGY_2"), None);
        assert_eq!(name("FASTZIP_"), None);
    }
}
