//! How a line of the runner looks in the job log: said by the manager, carried to the pod, rendered
//! where the job runs.

use serde::{Deserialize, Serialize};

/// How a line of the runner looks in the job log. A level that only a newer peer knows is plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteLevel {
    /// Bold green.
    Info,
    /// Yellow, begins with `WARNING: `.
    Warning,
    /// Bold red, begins with `ERROR: `.
    Error,
    /// No colour.
    #[serde(other)]
    Plain,
}
