//! Two-phase acceptance: a job stays GitLab's until `PUT running` (GitLab takes it back after 2 minutes without `PUT pending`).

use gantry_gitlab::{Client, JobCredentials, RunnerInfo};

use crate::report::GoneReason;

/// What `PUT running` led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckOutcome {
    /// GitLab shows the job as running.
    Running,
    /// GitLab shows it as being canceled: do not start it, report it failed with `job_canceled`.
    Canceling,
    /// Drop the job without a final state.
    Gone(GoneReason),
    /// No clear answer in [`crate::limits::ACKNOWLEDGE_WINDOW`]. The reference starts the job then.
    Unanswered {
        /// What was answered or failed last.
        message: String,
    },
}

/// How keeping a job pending ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PendingEnd {
    /// The server does not know `pending`, or shows the job as running: go on without.
    NotNeeded,
    /// GitLab shows the job as being canceled.
    Canceling,
    /// Drop the job without a final state.
    Gone(GoneReason),
}

/// Tells GitLab that the job starts. Tries until there is a clear answer, at most for [`crate::limits::ACKNOWLEDGE_WINDOW`].
pub async fn acknowledge(_client: &Client, _job: &JobCredentials, _info: &RunnerInfo) -> AckOutcome {
    todo!()
}

/// Keeps the job from going back to the queue while it is prepared: `PUT pending` every [`crate::limits::PENDING_INTERVAL`], the first after
/// one interval. Ends only when there is no more need or use; the caller drops the future once it acknowledges the job.
pub async fn keep_pending(_client: &Client, _job: &JobCredentials, _info: &RunnerInfo) -> PendingEnd {
    todo!()
}
