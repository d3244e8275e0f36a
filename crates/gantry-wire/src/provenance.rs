//! What a statement of an archive's provenance says beside its files
//! (`RUNNER_GENERATE_ARTIFACTS_METADATA`).

use serde::{Deserialize, Serialize};

/// Where an archive comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The project's address, without credentials.
    pub repo_url: String,
    /// The commit.
    pub sha: String,
    /// The job's name.
    pub job_name: String,
    /// The runner's number in GitLab.
    pub runner_id: String,
    /// The runner's name.
    pub runner_name: String,
    /// Such as `kubernetes`.
    pub executor: String,
    /// Version of the reference whose statement this is, such as `19.4.0`.
    pub version: String,
    /// Our own version.
    pub revision: String,
    /// When the runner took the job, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Names of the job's variables.
    pub parameters: Vec<String>,
}
