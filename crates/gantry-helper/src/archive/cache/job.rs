//! What a child that moves caches is told to do.

use gantry_wire::cache::{RestoreCaches, SaveCaches};
use serde::{Deserialize, Serialize};

/// The caches of one stage.
#[derive(Serialize, Deserialize)]
pub(crate) struct CacheJob {
    /// Root of all builds.
    pub(crate) builds_dir: String,
    /// What paths are relative to, and what nothing may leave.
    pub(crate) project_dir: String,
    /// `sha1` or `sha256`, as the project's repository has it; empty means `sha1`.
    pub(crate) object_format: String,
    /// `PATH` of the container: the environment has the job's.
    pub(crate) tool_path: String,
    /// Where temporary files go, and what is remembered between stages.
    pub(crate) scratch_dir: String,
    /// What is left out of every cache: jobs cannot ask for it, scripts that call the official
    /// helper can.
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    /// A named pipe that says when the project may be touched, where that is not at once.
    #[serde(default)]
    pub(crate) gate: Option<String>,
    /// Down or up.
    pub(crate) work: CacheWork,
}

/// Down or up.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CacheWork {
    /// Fetch and unpack.
    Restore(RestoreCaches),
    /// Pack and send.
    Save(SaveCaches),
}
