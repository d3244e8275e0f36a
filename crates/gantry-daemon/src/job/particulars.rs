//! What is known of a job, from its plan or from whoever has kept it, and who its manager is to its
//! agent.

use std::sync::Arc;
use std::time::Duration;

use gantry_core::error_chain::chain;
use gantry_core::limits;
use gantry_gitlab::{ClientError, RunnerInfo};
use gantry_plan::JobPlan;
use gantry_wire::frame::{Adoption, Claim, Frame, Greeting, Protocols};
use gantry_wire::services::ServicesPlan;
use gantry_wire::ticket::Ticket;
use tokio::time::Instant;

use crate::events::{GitlabOutOfReach, JobAdopted, Said as _, job_is};
use crate::job::background::JobClient;
use crate::job::events::JobTime;
use crate::job::known::JobRecord;
use crate::job::parts::Clients;

/// How long the agent of a found pod is looked for of whose job nothing is known.
const UNKNOWN: Duration = Duration::from_hours(1);

/// What is known of one job.
pub(super) struct Particulars {
    /// When it was taken, or found.
    pub(super) begun: Instant,
    /// What will be done, until an agent has it; absent for one that was found.
    pub(super) plan: Option<Box<JobPlan>>,
    /// It was found, with a plan that another manager has made.
    pub(super) is_found: bool,
    /// Grace period of the pod's deletion.
    pub(super) cleanup_grace_seconds: Option<i64>,
    /// Absent until somebody tells it.
    pub(super) known: Option<JobRecord>,
    /// Who we are to its agent.
    manager: Arc<str>,
    /// By what right we speak to it.
    claim: Claim,
    /// Of a job whose plan its agent has, once it has it or has told them.
    services: Option<ServicesPlan>,
    /// Until the agent of a found job has agreed.
    adoption: Option<Adopting>,
}

/// What a job needs that was found until its agent agrees.
pub(super) struct Adopting {
    pub(super) clients: Clients,
    pub(super) info: RunnerInfo,
    pub(super) on_granted: Box<dyn FnOnce(JobAdopted) + Send>,
}

impl Particulars {
    /// Of a job that was taken.
    pub(super) fn taken(plan: Box<JobPlan>, job_client: JobClient, begun: Instant, manager: Arc<str>) -> Self {
        let known = Some(JobRecord::of_plan(&plan, job_client, begun + plan.timeout));
        let (is_found, cleanup_grace_seconds) = (false, plan.cleanup_grace_seconds);
        let (plan, claim) = (Some(plan), Claim::Resume);
        Self { begun, plan, is_found, cleanup_grace_seconds, known, manager, claim, services: None, adoption: None }
    }

    /// Of a job that was found, perhaps with a ticket; beside it the clock on the wall.
    pub(super) fn found(ticket: Option<(&Ticket, u64)>, manager: Arc<str>, claim: Claim, adoption: Adopting) -> Self {
        let known = ticket.and_then(|(ticket, unix_ms)| {
            job_is(ticket.job_id, ticket.project_id);
            let known = JobRecord::of_ticket(ticket, unix_ms, &adoption.clients, adoption.info.clone());
            known.inspect_err(|error| GitlabOutOfReach(&chain(error)).say()).ok()
        });
        Self {
            begun: Instant::now(),
            plan: None,
            is_found: true,
            cleanup_grace_seconds: None,
            known,
            manager,
            claim,
            services: None,
            adoption: Some(adoption),
        }
    }

    /// The agent has the plan, so that nobody will ask for it again: it goes, with every variable
    /// of the job, and the job may last for hours.
    pub(super) fn plan_is_handed_over(&mut self) {
        if let Some(plan) = self.plan.take() {
            self.services = Some(plan.pod_plan.services);
        }
    }

    /// Whether the pod had to be made for a namespace that admits restricted ones only.
    pub(super) fn pod_is_restricted(&mut self, restricted: bool) {
        if let Some(plan) = self.plan.as_mut().filter(|_| restricted) {
            plan.is_restricted();
        }
    }

    /// The job's services, as far as they are known.
    pub(super) fn services(&self) -> Option<&ServicesPlan> {
        self.plan.as_ref().map(|plan| &plan.pod_plan.services).or(self.services.as_ref())
    }

    /// What the agent is told first.
    pub(super) fn greeting(&self) -> Frame {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let (manager, claim) = (self.manager.to_string(), self.claim);
        Frame::Greet(Greeting { protocols: Protocols::OURS, version, manager, claim })
    }

    /// The agent has agreed that the job is ours, and has told what it is if it has a plan. Gives
    /// the time and the place in the trace from which it goes on, if the agent knows more than we
    /// do.
    ///
    /// # Errors
    /// GitLab cannot be told about the job.
    pub(super) fn granted(&mut self, told: Option<&Adoption>) -> Result<Option<(JobTime, u64)>, ClientError> {
        let Some(Adopting { clients, info, on_granted }) = self.adoption.take() else { return Ok(None) };
        let replaces = std::mem::replace(&mut self.claim, Claim::Resume) == Claim::Replace;
        if let Some(told) = told {
            job_is(told.job_id, told.project_id);
        }
        on_granted(JobAdopted { acked: told.map(|told| told.acked) });
        // An agent of the first version tells nothing, and relays from any byte that it is asked
        // for. What the job is, the ticket says.
        let of_ticket = |known: &JobRecord| {
            let left = known.until.saturating_duration_since(Instant::now());
            (JobTime { timeout: known.timeout, left }, 0)
        };
        // It knows no claims either, and would let two managers relay.
        let Some(told) = told else { return Ok(self.known.as_ref().filter(|_| replaces).map(of_ticket)) };
        self.services = Some(told.services.clone());
        match JobRecord::of_adoption(told, &clients, info) {
            Ok(known) => self.known = Some(known),
            Err(error) => {
                GitlabOutOfReach(&chain(&error)).say();
                return Err(error);
            }
        }
        let timeout = Duration::from_secs(told.timeout_seconds);
        let left = Duration::from_millis(told.remaining_ms);
        // How long the job has taken counts from its beginning, not from ours.
        if let Some(begun) = Instant::now().checked_sub(timeout.saturating_sub(left)) {
            self.begun = begun;
        }
        Ok(Some((JobTime { timeout, left }, told.acked)))
    }

    /// The plan for the agent; its trace begins with `head`.
    pub(super) fn plan_with(&self, head: String) -> Option<Frame> {
        let job = self.plan.as_ref()?;
        let mut plan = job.pod_plan.clone();
        let elapsed = self.begun.elapsed();
        let left = |limit: Duration| u64::try_from(limit.saturating_sub(elapsed).as_millis()).unwrap_or(u64::MAX);
        plan.remaining_ms = left(job.timeout);
        if let Some(start) = &mut plan.start {
            start.remaining_ms = left(job.start_timeout);
        }
        plan.trace.head = head;
        Some(Frame::Plan(Box::new(plan)))
    }

    /// How long the agent is looked for, counted from the beginning; `resume`: one that may have
    /// its plan.
    pub(super) fn time_to_connect(&self, resume: bool) -> Duration {
        match (&self.plan, &self.known) {
            (Some(plan), _) if !resume => plan.start_timeout,
            (_, Some(known)) => known.until.saturating_duration_since(self.begun) + limits::REPORT_ALLOWANCE,
            _ => UNKNOWN,
        }
    }
}
