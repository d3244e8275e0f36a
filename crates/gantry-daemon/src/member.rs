//! A runner as far as everybody needs it who has to do with its jobs, whoever took them: its
//! settings, its client, its name, and what all runners of the process share. The runner itself
//! (`runner.rs`) is a member that asks for jobs; the sites of its pods (`site/`) know it as this,
//! and go on with the jobs of others for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gantry_config::RunnerSettings;
use gantry_core::Secret;
use gantry_gitlab::{Client, ClientError, ClientOptions, RunnerInfo};
use gantry_kube::{Cluster, HelperBinaries};
use gantry_plan::Fleet;
use gantry_relay::Pace;
use gantry_wire::plan::Alone;
use gantry_wire::session::JobSession;
use gantry_wire::ticket::TicketKey;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use crate::events::{JobCutOff, JobEnded, JobGone, Said as _};
use crate::health::Health;
use crate::job;
use crate::job_end::{JobSummary, StopJobs};
use crate::kept::KeptNames;
use crate::metrics::{Metrics, RunnerLabels};
use crate::outside::Outside;
use crate::prepare::Preparation;
use crate::redaction::{self, Guard};
use crate::registry::Running;
use crate::session::{Sessions, Target, Visits};
use crate::slots::{Slot, Slots};
use crate::view::JobView;
use crate::wiring;

/// What is added to the time that jobs keep by themselves, so that each can say what becomes of it.
const LEAVE_MARGIN: Duration = Duration::from_millis(300);

/// What all runners of the process share. A clone shares it too, but for what the file says: a
/// runner keeps what was in force at its start.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) outside: Arc<dyn Outside>,
    pub(crate) slots: Slots,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    pub(crate) running: Running,
    pub(crate) pause_names: KeptNames,
    /// What looks after pause pods, and removes them at the end.
    pub(crate) pause_keepers: TaskTracker,
    pub(crate) helper: Arc<HelperBinaries>,
    /// Set when the process ends: what becomes of running jobs.
    pub(crate) stop_jobs: watch::Receiver<Option<StopJobs>>,
    /// All jobs that run, and what is left to do for some that have ended.
    pub(crate) jobs: TaskTracker,
    pub(crate) system_id: String,
    pub(crate) manager_host: String,
    pub(crate) connection_max_age: Duration,
    /// Where certificates by host are.
    pub(crate) certificate_directories: Vec<PathBuf>,
    pub(crate) pace: Pace,
    /// What agents do when no manager speaks to them.
    pub(crate) alone: Alone,
    /// `[gantry] fleet`.
    pub(crate) fleet: Option<String>,
    /// What tickets are sealed with that all managers of a fleet can open: the configured key, else
    /// the token that they register with. Without either it is each runner's own token.
    pub(crate) ticket_secret: Option<Secret>,
    /// `[gantry] fleet_concurrent`.
    pub(crate) fleet_concurrent: Option<usize>,
    /// `[session_server]`, where it is on.
    pub(crate) sessions: Option<Sessions>,
}

impl Shared {
    /// A client for the GitLab of an entry, whose requests count in its metrics; and its names
    /// there.
    ///
    /// # Errors
    /// A certificate that the settings name cannot be used.
    pub(crate) fn gitlab(&self, settings: &RunnerSettings) -> Result<(Client, RunnerLabels), ClientError> {
        let labels = RunnerLabels::of(settings, &self.system_id);
        let client = self.outside.gitlab(ClientOptions {
            on_request: Some({
                let (metrics, labels) = (Arc::clone(&self.metrics), labels.clone());
                Arc::new(move |call| metrics.observe(&labels, call))
            }),
            ..wiring::gitlab(settings, &self.certificate_directories, self.connection_max_age)
        })?;
        Ok((client, labels))
    }
}

/// One entry, as those see it who have to do with its jobs.
pub(crate) struct Member {
    pub(crate) settings: Arc<RunnerSettings>,
    pub(crate) client: Client,
    pub(crate) info: RunnerInfo,
    pub(crate) labels: RunnerLabels,
    pub(crate) shared: Arc<Shared>,
    /// Bound of this runner alone.
    pub(crate) own_slots: Option<Slots>,
    /// What it fetches for jobs.
    pub(crate) preparation: Arc<Preparation>,
    /// Its own secrets.
    _guard: Arc<Guard>,
}

/// The places that a job takes in its process and its runner; dropped when it has ended.
pub(crate) struct OwnPlaces {
    pub(crate) _shared: Slot,
    pub(crate) _own: Option<Slot>,
}

impl Member {
    /// Reads the certificates that the settings name. Sends nothing.
    pub(crate) fn new(
        settings: Arc<RunnerSettings>,
        shared: Arc<Shared>,
        own_slots: Option<Slots>,
    ) -> Result<Self, ClientError> {
        let (client, labels) = shared.gitlab(&settings)?;
        let own = [Some(&settings.token), settings.kubernetes.bearer_token.as_ref()];
        let guard = redaction::guard(None, own.into_iter().flatten());
        let info = wiring::runner_info(&settings);
        let metrics = Arc::clone(&shared.metrics);
        let on_role = Arc::new(move |event| metrics.observe_role(event));
        let preparation = Preparation::new(&settings, &shared.certificate_directories, client.ca_pem(), on_role);
        let preparation = Arc::new(preparation);
        Ok(Self { settings, client, info, labels, shared, own_slots, preparation, _guard: guard })
    }

    /// The fleet of its pods in a namespace.
    pub(crate) fn fleet(&self, namespace: &str) -> Fleet {
        Fleet::of(self.shared.fleet.as_deref(), &self.settings.url, namespace)
    }

    /// What the tickets of its pods are sealed with.
    pub(crate) fn ticket_key(&self) -> TicketKey {
        TicketKey::derive(self.shared.ticket_secret.as_ref().unwrap_or(&self.settings.token))
    }

    /// Places for a request and the job that it may bring, once there are some.
    pub(crate) async fn own_places(&self) -> OwnPlaces {
        let own = match &self.own_slots {
            Some(slots) => Some(slots.take().await),
            None => None,
        };
        OwnPlaces { _own: own, _shared: self.shared.slots.take().await }
    }

    /// Places for a job that runs already, whether there are any or not.
    pub(crate) fn own_places_beyond(&self) -> OwnPlaces {
        let own = self.own_slots.as_ref().map(Slots::take_beyond);
        OwnPlaces { _shared: self.shared.slots.take_beyond(), _own: own }
    }

    /// Opens what GitLab was offered for a job, by this manager or the one before it.
    pub(crate) fn open_session(
        &self,
        session: Option<JobSession>,
        job: i64,
        cluster: &Cluster,
        seen: &watch::Receiver<JobView>,
    ) -> Option<Visits> {
        let target = Target { job, cluster: cluster.clone(), view: seen.clone() };
        Some(self.shared.sessions.as_ref()?.open(session?, target))
    }

    /// Says how a job has ended that this manager had.
    pub(crate) fn ended(&self, summary: &JobSummary) {
        JobEnded(summary).tell(&self.shared.metrics, &self.labels);
        JobGone.say();
    }

    /// Does something for a job, but not for much longer than a runner that leaves its jobs waits
    /// for them. A job itself keeps that limit and says what becomes of it; this is for what comes
    /// before, and for jobs that cannot run.
    pub(crate) async fn until_left(&self, work: impl Future<Output = ()>) {
        let mut stop = self.shared.stop_jobs.clone();
        let left = async {
            if stop.wait_for(|asked| *asked == Some(StopJobs::Leave)).await.is_err() {
                std::future::pending::<()>().await;
            }
            sleep(job::LEAVE + LEAVE_MARGIN).await;
        };
        tokio::select! {
            () = work => {}
            () = left => JobCutOff.say(),
        }
    }
}
