//! What has to be known of a job to speak about it with its GitLab: from its plan, from its agent,
//! or from its ticket.

use std::sync::Arc;
use std::time::Duration;

use gantry_core::limits;
use gantry_gitlab::{ClientError, JobCredentials, RunnerInfo};
use gantry_plan::JobPlan;
use gantry_relay::RelayJob;
use gantry_wire::frame::Adoption;
use gantry_wire::plan::TracePlan;
use gantry_wire::ticket::Ticket;
use tokio::time::Instant;

use crate::job::background::JobClient;
use crate::job::parts::{Clients, JobContext};
use crate::redaction::{self, Guard};

/// A job, for its GitLab.
pub(super) struct JobRecord {
    pub(super) job_client: JobClient,
    /// How lines of its trace look.
    pub(super) trace: TracePlan,
    /// Goes with the relay: GitLab lists dozens.
    failure_reasons: Vec<String>,
    /// Its time-out.
    pub(super) timeout: Duration,
    /// When its time is over.
    pub(super) until: Instant,
    /// Keeps its secrets out of the log; who has taken the job has its own.
    _guard: Option<Arc<Guard>>,
}

impl JobRecord {
    /// Of a job that was taken.
    pub(super) fn of_plan(plan: &JobPlan, job_client: JobClient, until: Instant) -> Self {
        Self {
            job_client,
            trace: plan.pod_plan.trace.clone(),
            failure_reasons: plan.pod_plan.failure_reasons.clone(),
            timeout: plan.timeout,
            until,
            _guard: None,
        }
    }

    /// Of a job whose agent has told it.
    ///
    /// # Errors
    /// There can be no client for its GitLab.
    pub(super) fn of_adoption(job: &Adoption, clients: &Clients, info: RunnerInfo) -> Result<Self, ClientError> {
        let client = clients(&job.coordinator.url, job.coordinator.ca_pem.as_deref())?;
        let creds = JobCredentials { id: job.job_id, token: job.job_token.clone() };
        Ok(Self {
            job_client: JobClient { client, creds, info },
            trace: job.trace.clone(),
            failure_reasons: job.failure_reasons.clone(),
            timeout: Duration::from_secs(job.timeout_seconds),
            until: Instant::now() + Duration::from_millis(job.remaining_ms),
            _guard: Some(redaction::guard(Some(job.job_id), job.trace.masks.iter().chain([&job.job_token]))),
        })
    }

    /// Of a job about which there is only a ticket; `unix_ms` is the clock on the wall.
    ///
    /// # Errors
    /// There can be no client for its GitLab.
    pub(super) fn of_ticket(
        ticket: &Ticket,
        unix_ms: u64,
        clients: &Clients,
        info: RunnerInfo,
    ) -> Result<Self, ClientError> {
        let client = clients(&ticket.gitlab_url, ticket.ca_pem.as_deref())?;
        let creds = JobCredentials { id: ticket.job_id, token: ticket.job_token.clone() };
        let trace = TracePlan {
            head: String::new(),
            masks: vec![ticket.job_token.clone()],
            token_prefixes: Vec::new(),
            timestamps: ticket.timestamps,
            sections: false,
            limit_bytes: limits::DEFAULT_OUTPUT_LIMIT,
            debug_trace: ticket.debug_trace,
        };
        Ok(Self {
            job_client: JobClient { client, creds, info },
            trace,
            failure_reasons: ticket.failure_reasons.clone(),
            timeout: Duration::from_secs(ticket.timeout_seconds),
            until: Instant::now() + time_left(ticket, unix_ms),
            _guard: Some(redaction::guard(Some(ticket.job_id), [&ticket.job_token])),
        })
    }

    /// What the relay has to know. Once only.
    pub(super) fn relay_job(&mut self, around: &JobContext) -> RelayJob {
        RelayJob {
            creds: self.job_client.creds.clone(),
            info: self.job_client.info.clone(),
            debug_trace: self.trace.debug_trace,
            failure_reasons: std::mem::take(&mut self.failure_reasons),
            acknowledged: true,
            final_tries: around.final_tries,
            deadline: self.until + limits::JOB_TOKEN_ALLOWANCE,
            pace: around.pace,
        }
    }
}

/// What is left of the job's time-out. Clocks differ and jump: it is never more than the whole.
fn time_left(ticket: &Ticket, unix_ms: u64) -> Duration {
    let left = Duration::from_millis(ticket.deadline_unix_ms.saturating_sub(unix_ms));
    left.min(Duration::from_secs(ticket.timeout_seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_gives_a_job_no_more_time_than_it_had() {
        let ticket = Ticket {
            job_id: 1,
            job_token: "t".into(),
            project_id: 1,
            gitlab_url: String::new(),
            ca_pem: None,
            timeout_seconds: 3600,
            deadline_unix_ms: 1_000_000_000,
            failure_reasons: Vec::new(),
            timestamps: true,
            debug_trace: false,
            session: None,
            cache_objects: Vec::new(),
        };
        let left = |now| time_left(&ticket, now).as_secs();
        assert_eq!((left(999_990_000), left(0), left(2_000_000_000)), (10, 3600, 0));
    }
}
