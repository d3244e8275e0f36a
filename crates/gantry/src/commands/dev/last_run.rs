//! What failed in the last run of a repository, kept beside its caches for `--failed`.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::api::{Job, Pipeline};

/// In the directory of a repository's caches. No cache of a job has such a name: they are
/// directories.
const FILE: &str = "last-run.json";

/// A run as it ended.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct LastRun {
    /// The jobs that failed or were canceled, by full name.
    pub(super) failed: Vec<String>,
}

impl LastRun {
    /// What is kept of a pipeline.
    fn of(pipeline: &Pipeline) -> Self {
        let is_wanted =
            |job: &&Job| !job.retried && !job.allow_failure && matches!(job.status.as_str(), "failed" | "canceled");
        let wanted: Vec<&Job> = pipeline.jobs.iter().filter(is_wanted).collect();
        // A job that failed with its child stands for all of the child's jobs, also for those that
        // succeeded.
        let is_cause = |job: &&&Job| !wanted.iter().any(|other| other.is_below(job));
        Self { failed: wanted.iter().filter(is_cause).map(|job| job.name.clone()).collect() }
    }

    /// Keeps it; what cannot be kept is missed only by `--failed`, which says so then.
    pub(super) fn keep(directory: &Path, pipeline: &Pipeline) {
        let Ok(text) = serde_json::to_string(&Self::of(pipeline)) else { return };
        if let Err(error) = std::fs::write(directory.join(FILE), text) {
            tracing::warn!(%error, directory = %directory.display(), "the outcome of this run is not kept for --failed");
        }
    }

    /// The last one; the error is a sentence.
    pub(super) fn load(directory: Option<&Path>) -> Result<Self, String> {
        let nothing = || "--failed: nothing is known of a last run of this repository".to_owned();
        let text = std::fs::read_to_string(directory.ok_or_else(nothing)?.join(FILE)).map_err(|_| nothing())?;
        let run: Self = serde_json::from_str(&text).map_err(|_| nothing())?;
        if run.failed.is_empty() { Err("--failed: nothing failed in the last run".to_owned()) } else { Ok(run) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_named_as_closely_as_it_can_be() {
        let jobs = [
            ("build", "success"),
            ("unit", "failed"),
            ("down", "failed"),
            ("down › good", "success"),
            ("down › bad", "failed"),
            ("downstairs", "canceled"),
            ("refused", "failed"),
        ];
        let pipeline =
            Pipeline { status: "failed".to_owned(), jobs: jobs.map(|(name, status)| Job::sample(name, status)).into() };
        assert_eq!(LastRun::of(&pipeline).failed, ["unit", "down › bad", "downstairs", "refused"]);
    }
}
