//! What a job is made of, and what is known about it from outside.

use std::sync::Arc;

use gantry_gitlab::{Client, ClientError, JobCredentials, RunnerInfo};
use gantry_kube::{Cluster, HelperBinaries, PodRef};
use gantry_plan::JobPlan;
use gantry_relay::Pace;
use gantry_wire::ticket::Ticket;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::events::JobAdopted;
use crate::job::cache_signer::CacheSigner;
use crate::job_end::StopJobs;
use crate::leftovers::LeftoverRemover;
use crate::session::Visits;
use crate::view::JobView;

/// What a job that was taken is made of.
pub(crate) struct JobParts {
    /// The GitLab it came from.
    pub(crate) client: Client,
    /// Its credentials there.
    pub(crate) creds: JobCredentials,
    /// Who we are.
    pub(crate) info: RunnerInfo,
    /// Where its pod goes.
    pub(crate) cluster: Cluster,
    /// What can be pushed into helper containers.
    pub(crate) helper: Arc<HelperBinaries>,
    /// What will be done.
    pub(crate) plan: Box<JobPlan>,
    /// When GitLab handed it out.
    pub(crate) taken: Instant,
    /// Tries of the last update.
    pub(crate) final_tries: u32,
    /// Takes over pods that outlast the job.
    pub(crate) leftovers: LeftoverRemover,
    /// Says that the runner was told to stop, and what becomes of its jobs.
    pub(crate) stop: watch::Receiver<Option<StopJobs>>,
    /// Shows others how far the job is.
    pub(crate) view: watch::Sender<JobView>,
    /// The pace of updates to GitLab.
    pub(crate) pace: Pace,
    /// Whether the events of a pod that does not start may be asked.
    pub(crate) asks_events: bool,
    /// Who we are to agents: a name that no other process has, not even an earlier one of the same
    /// manager.
    pub(crate) manager: Arc<str>,
    /// People in its terminal, where GitLab was offered one.
    pub(crate) visits: Option<Visits>,
    /// Signs again what saves its caches, where that ends before the job has to.
    pub(crate) caches: Option<CacheSigner>,
}

/// Makes a client for the GitLab of an adopted job, which need not be one that this manager asks
/// for jobs: its URL, and the roots of trust that were configured for it (PEM), if any.
pub(crate) type Clients = Arc<dyn Fn(&str, Option<&str>) -> Result<Client, ClientError> + Send + Sync>;

/// A job to adopt, as it is found: a pod of our fleet whose manager is gone, as far as anybody can
/// tell from outside. What the job is comes from its agent, or, where there is none, from the
/// ticket.
pub(crate) struct AdoptedParts {
    /// Where its pod is.
    pub(crate) cluster: Cluster,
    /// What can be pushed into helper containers.
    pub(crate) helper: Arc<HelperBinaries>,
    /// The pod.
    pub(crate) pod: PodRef,
    /// What its annotation says, if it could be opened.
    pub(crate) ticket: Option<Ticket>,
    /// Who we are to agents: a name that no other process has, not even an earlier one of the same
    /// manager.
    pub(crate) manager: Arc<str>,
    /// Whether the job is taken from a manager that may still be connected to its agent, because
    /// its heart has stopped. Otherwise an agent that hears a manager is left to it, and the end is
    /// [`JobEnd::Owned`].
    pub(crate) replaces: bool,
    /// Whether that manager may live, and only not have come to its agent yet: then nothing follows
    /// from an agent without a plan.
    pub(crate) manager_may_live: bool,
    /// Called as soon as the agent has agreed.
    pub(crate) on_granted: Box<dyn FnOnce(JobAdopted) + Send>,
    /// The clock on the wall, in milliseconds since 1970: it says what is left of the time in a
    /// ticket.
    pub(crate) unix_ms: u64,
    /// Reaches the job's GitLab.
    pub(crate) clients: Clients,
    /// Who we are.
    pub(crate) info: RunnerInfo,
    /// Tries of the last update.
    pub(crate) final_tries: u32,
    /// Takes over pods that outlast the job.
    pub(crate) leftovers: LeftoverRemover,
    /// Says that the runner was told to stop, and what becomes of its jobs.
    pub(crate) stop: watch::Receiver<Option<StopJobs>>,
    /// Shows others how far the job is.
    pub(crate) view: watch::Sender<JobView>,
    /// The pace of updates to GitLab.
    pub(crate) pace: Pace,
    /// People in its terminal, where its first manager has offered GitLab one.
    pub(crate) visits: Option<Visits>,
    /// Signs again what saves its caches, where its ticket says so.
    pub(crate) caches: Option<CacheSigner>,
}

/// Where a job runs, and what it shares there with others.
pub(super) struct JobContext {
    pub(super) cluster: Cluster,
    pub(super) helper: Arc<HelperBinaries>,
    pub(super) leftovers: LeftoverRemover,
    pub(super) view: watch::Sender<JobView>,
    pub(super) pace: Pace,
    pub(super) final_tries: u32,
    pub(super) visits: Option<Visits>,
}
