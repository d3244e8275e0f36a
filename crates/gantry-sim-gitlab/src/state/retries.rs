//! Trying a job again, by hand or by itself (GitLab server, `AutoRetry`). A retry is always a new
//! job with a new id and a new token; the old one stays as it ended.

use super::World;
use super::job::{Job, Source};
use super::status::Status;
use crate::ci::CiRetry;
use crate::limits;

/// Failures that no `retry` repeats: they would come again.
const NEVER: [&str; 5] = [
    "no_matching_runner",
    "missing_dependency_failure",
    "forward_deployment_failure",
    "ci_quota_exceeded",
    "environment_creation_failure",
];

/// Failures of GitLab or of a runner before the job began: tried again without any `retry`.
const BY_DEFAULT: [&str; 2] = ["scheduler_failure", "runner_provisioning_timeout"];

/// What became of a wish to run a job again.
#[derive(Debug)]
pub(crate) enum Retried {
    NoJob,
    /// It has not ended, was retried before, or there are too many jobs.
    NotPossible,
    /// The new job's id.
    As(u64),
}

impl World {
    /// Runs an ended job again, as a new job.
    pub(crate) fn retry(&mut self, id: u64) -> Retried {
        let Some(job) = self.jobs.get(&id) else { return Retried::NoJob };
        let ended = matches!(job.status, Status::Success | Status::Failed | Status::Canceled) && !job.retried;
        let new = if ended { self.replace(id) } else { None };
        new.map_or(Retried::NotPossible, Retried::As)
    }

    fn replace(&mut self, old: u64) -> Option<u64> {
        let (new, attempt) = self.jobs.get(&old).map(|job| (job.new.again(), job.attempt + 1))?;
        let pipeline = match &new.source {
            Source::Pipeline { id, .. } => Some(*id),
            Source::Raw(_) => None,
        };
        let id = self.add_job(new, None)?;
        if let Some(job) = self.jobs.get_mut(&id) {
            job.attempt = attempt;
        }
        if let Some(job) = self.jobs.get_mut(&old) {
            job.retried = true;
        }
        if let Some(pipeline) = pipeline.and_then(|id| self.pipelines.get_mut(&id)) {
            pipeline.jobs.push(id);
            // What was skipped because of the old try gets its chance again.
            for other in &pipeline.jobs {
                if let Some(job) = self.jobs.get_mut(other).filter(|job| job.status == Status::Skipped) {
                    job.status = Status::Created;
                    job.finished_at = None;
                }
            }
        }
        self.enqueue(id);
        self.advance_pipeline_of(id);
        Some(id)
    }

    /// Tries a failed job again, if it may be, before its pipeline looks at the failure.
    pub(crate) fn retry_automatically(&mut self, id: u64) {
        let Some(job) = self.jobs.get(&id).filter(|job| job.status == Status::Failed && !job.retried) else { return };
        if job.attempt < allowed_retries(job) {
            self.replace(id);
        }
    }
}

fn allowed_retries(job: &Job) -> u32 {
    let reason = job.failure_reason.as_deref().unwrap_or_default();
    if NEVER.contains(&reason) {
        return 0;
    }
    if let Source::Pipeline { job: definition, .. } = &job.new.source {
        let retry = &definition.retry;
        if retry.max > 0 && wants(retry, reason, job.exit_code) {
            return retry.max;
        }
    }
    if BY_DEFAULT.contains(&reason) { limits::DEFAULT_RETRIES } else { 0 }
}

fn wants(retry: &CiRetry, reason: &str, exit_code: Option<i64>) -> bool {
    let any = retry.when.is_empty() && retry.exit_codes.is_empty();
    let by_reason = retry.when.iter().any(|when| when == "always" || covers(when, reason));
    let by_code = exit_code.is_some_and(|code| retry.exit_codes.iter().any(|&wanted| i64::from(wanted) == code));
    any || by_reason || by_code
}

/// Some reasons were split into finer ones; the old words stand for all of theirs.
fn covers(when: &str, reason: &str) -> bool {
    when == reason
        || match when {
            "stuck_or_timeout_failure" => matches!(
                reason,
                "stuck_pending_with_matching_runners"
                    | "stuck_pending_no_matching_runners"
                    | "no_updates_running"
                    | "no_updates_canceling"
            ),
            "job_execution_timeout" | "job_execution_server_timeout" => {
                matches!(reason, "server_timeout_running" | "server_timeout_canceling")
            }
            _ => false,
        }
}
