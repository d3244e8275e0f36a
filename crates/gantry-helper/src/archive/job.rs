//! What a moving child is told to do.

use gantry_wire::plan::{ArtifactUpload, Coordinator};
use gantry_wire::shim::SecretText;
use serde::{Deserialize, Serialize};

/// One thing to move.
#[derive(Serialize, Deserialize)]
pub(crate) struct MoverJob {
    /// How to reach GitLab.
    pub(crate) coordinator: Coordinator,
    /// Root of all builds.
    pub(crate) builds_dir: String,
    /// What paths are relative to, and what nothing may leave.
    pub(crate) project_dir: String,
    /// `sha1` or `sha256`, as the project's repository has it; empty means `sha1`.
    pub(crate) object_format: String,
    /// `PATH` of the container: the environment has the job's.
    pub(crate) tool_path: String,
    /// Where temporary files go.
    pub(crate) scratch_dir: String,
    /// The job whose artifacts they are.
    pub(crate) job_id: i64,
    /// The token that opens that job.
    pub(crate) token: SecretText,
    /// Up or down.
    pub(crate) direction: Direction,
}

/// Up or down.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    /// Pack and send.
    Upload(ArtifactUpload),
    /// Fetch and unpack.
    Download,
}
