//! Two-phase acceptance: a job is GitLab's until `PUT running`. Two minutes after the last word
//! about a job that was not acknowledged, be it `PUT pending`, GitLab lets it fail and begins it
//! anew as a job of its own (GitLab server, `runner_provisioning_timeout`).

use std::time::Duration;

use gantry_core::JobState;
use gantry_core::backoff::Backoff;
use gantry_gitlab::limits::ANSWER_TIMEOUT;
use gantry_gitlab::{Client, JobCredentials, JobUpdate, RemoteStatus, RunnerInfo, UpdateAnswer, UpdateOutcome};
use tokio::time::{Instant, sleep, sleep_until};

use crate::answer_timeout::AnswerTimeout;
use crate::limits;
use crate::machine::{gone, status_words};
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

/// How a job stands that nobody has spoken about for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GitlabStatus {
    /// GitLab still waits for its acknowledgement, and lets it fail by itself if nobody says
    /// anything.
    Waiting,
    /// GitLab shows it as running.
    Running,
    /// GitLab shows it as being canceled.
    Canceling,
    /// GitLab wants nothing more about it.
    Gone(GoneReason),
    /// No clear answer in the time that there was.
    Unknown {
        /// What was answered or failed last.
        message: String,
    },
}

/// Asks how a job stands, without changing it: `PUT pending` is taken only for one that waits for
/// its acknowledgement. Tries until there is a clear answer, at most until `until`.
pub async fn gitlab_status(client: &Client, job: &JobCredentials, info: &RunnerInfo, until: Instant) -> GitlabStatus {
    let mut backoff = Backoff::new(limits::RETRY_MIN, limits::RETRY_MAX);
    let mut answer_timeout = AnswerTimeout::default();
    loop {
        // There is one try in any case.
        let most = (until - Instant::now()).max(ANSWER_TIMEOUT);
        let answer = put(client, job, info, (JobState::Pending, most), &mut answer_timeout).await;
        let forbidden = matches!(answer.outcome, UpdateOutcome::Forbidden);
        if let Some(reason) = gone(answer.headers.job_status.as_ref(), forbidden) {
            return GitlabStatus::Gone(reason);
        }
        if answer.headers.job_status == Some(RemoteStatus::Canceling) {
            return GitlabStatus::Canceling;
        }
        let wait = backoff.next_pause().max(answer.headers.asked_wait.unwrap_or_default());
        match answer.outcome {
            UpdateOutcome::Accepted | UpdateOutcome::NotYet => return GitlabStatus::Waiting,
            UpdateOutcome::BadRequest | UpdateOutcome::Conflict => return GitlabStatus::Running,
            outcome if Instant::now() + wait >= until => {
                return GitlabStatus::Unknown { message: status_words(&outcome) };
            }
            _ => {}
        }
        sleep(wait).await;
    }
}

/// Tells GitLab that the job starts (`PUT running`). Tries until there is a clear answer, at most
/// for [`limits::ACKNOWLEDGE_WINDOW`], in which a process that sleeps during a try has not tried.
/// `trouble` hears why there is none yet, once, and that there is one then.
///
/// 400 and 409 mean that GitLab does not wait for an acknowledgement (an older server, or running
/// already) and count as running; only a state in the answer can say that the job is gone.
pub async fn acknowledge(
    client: &Client,
    job: &JobCredentials,
    info: &RunnerInfo,
    mut trouble: impl FnMut(Option<&str>),
) -> AckOutcome {
    let mut is_troubled = false;
    let mut tried_for = Duration::ZERO;
    let mut backoff = Backoff::new(limits::RETRY_MIN, limits::PENDING_INTERVAL);
    let mut answer_timeout = AnswerTimeout::default();
    loop {
        let begun = Instant::now();
        let left = limits::ACKNOWLEDGE_WINDOW.saturating_sub(tried_for);
        let most = limits::ACKNOWLEDGE_TRY.min(left);
        let answer = put(client, job, info, (JobState::Running, most), &mut answer_timeout).await;
        // A try ends in that time, unless this process has slept.
        tried_for += begun.elapsed().min(most);
        let forbidden = matches!(answer.outcome, UpdateOutcome::Forbidden);
        if let Some(reason) = gone(answer.headers.job_status.as_ref(), forbidden) {
            return AckOutcome::Gone(reason);
        }
        if answer.headers.job_status == Some(RemoteStatus::Canceling) {
            return AckOutcome::Canceling;
        }
        // A wait that is asked for must leave more than one try.
        let asked = answer.headers.asked_wait.unwrap_or_default().min(limits::PENDING_INTERVAL);
        let wait = backoff.next_pause().max(asked);
        let message = match answer.outcome {
            UpdateOutcome::Accepted
            | UpdateOutcome::NotYet
            | UpdateOutcome::TraceRejected
            | UpdateOutcome::BadRequest
            | UpdateOutcome::Conflict => {
                if is_troubled {
                    trouble(None);
                }
                return AckOutcome::Running;
            }
            outcome => status_words(&outcome),
        };
        if !std::mem::replace(&mut is_troubled, true) {
            trouble(Some(&message));
        }
        if tried_for + wait >= limits::ACKNOWLEDGE_WINDOW {
            return AckOutcome::Unanswered { message };
        }
        sleep(wait).await;
        tried_for += wait;
    }
}

/// Keeps GitLab from letting the job fail while it is prepared: `PUT pending` every
/// [`limits::PENDING_INTERVAL`], the first after one interval. Ends only when there is no more need
/// or use; the caller drops the future once it acknowledges the job.
pub async fn keep_pending(client: &Client, job: &JobCredentials, info: &RunnerInfo) -> PendingEnd {
    let mut answer_timeout = AnswerTimeout::default();
    let mut begun = Instant::now();
    loop {
        sleep_until(begun + limits::PENDING_INTERVAL).await;
        begun = Instant::now();
        let said = (JobState::Pending, limits::PENDING_INTERVAL);
        let answer = put(client, job, info, said, &mut answer_timeout).await;
        let forbidden = matches!(answer.outcome, UpdateOutcome::Forbidden);
        // A job that GitLab shows as pending is one that it keeps for us, unless it refuses us.
        if let Some(reason) = gone(answer.headers.job_status.as_ref(), forbidden) {
            return PendingEnd::Gone(reason);
        }
        if answer.headers.job_status == Some(RemoteStatus::Canceling) {
            return PendingEnd::Canceling;
        }
        if matches!(answer.outcome, UpdateOutcome::BadRequest) {
            return PendingEnd::NotNeeded;
        }
    }
}

/// Says one state, which is not final. The answer gets no more time than `most`.
async fn put(
    client: &Client,
    job: &JobCredentials,
    info: &RunnerInfo,
    (state, most): (JobState, Duration),
    answer_timeout: &mut AnswerTimeout,
) -> UpdateAnswer {
    let answer_time = answer_timeout.answer_time().min(most);
    let answer = client.update_job(job, &JobUpdate::of(state), info, answer_time).await;
    match &answer.outcome {
        UpdateOutcome::Accepted => answer_timeout.succeeded(),
        UpdateOutcome::Unreachable(error) => answer_timeout.failed(error),
        _ => {}
    }
    answer
}
