//! One `[[runners]]` entry at work: its client, its cluster, and what it does with a job it has
//! got.

mod aftermath;
mod own_namespace;
mod unprepared;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use gantry_config::RunnerSettings;
use gantry_core::chance;
use gantry_core::error_chain::chain;
use gantry_core::short_token::short_token;
use gantry_core::{Ending, Secret};
use gantry_gitlab::{Client, ClientError, ClientOptions, JobCredentials, ReceivedJob, RunnerInfo};
use gantry_kube::{Cluster, ConnectError, HelperBinaries};
use gantry_plan::{Context, Fleet, JobPlan, OwnNamespace, Owner};
use gantry_relay::Pace;
use gantry_wire::plan::Alone;
use gantry_wire::session::JobSession;
use gantry_wire::ticket::TicketKey;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::events::{self, ImagesConfigured, InputsRead, JobCutOff, JobEnded, JobGone, JobTaken, Said as _};
use crate::health::Health;
use crate::hold::Hold;
use crate::job::{self, JobParts};
use crate::job_end::{JobSummary, StopJobs};
use crate::leftovers::LeftoverRemover;
use crate::metrics::{Metrics, RunnerLabels};
use crate::outside::Outside;
use crate::prepare::Preparation;
use crate::redaction::{self, Guard};
use crate::registry::{Listed, Running};
use crate::runner::aftermath::Aftermath;
use crate::runner::unprepared::{Unprepared, unplanned};
use crate::secrets::Resolver;
use crate::session::{Offered, Sessions, Target, Visits};
use crate::site::{FleetPlace, HeldPod, Site, Sites};
use crate::slots::{JobNumbers, Numbers, Slot, Slots};
use crate::telemetry;
use crate::view::JobView;
use crate::{tasks, wiring};

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
    pub(crate) pause_names: crate::kept::KeptNames,
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
    /// Where pods are, one for each access and namespace.
    pub(crate) sites: Sites,
    /// `[gantry] fleet_concurrent`.
    pub(crate) fleet_concurrent: Option<usize>,
    /// `[session_server]`, where it is on.
    pub(crate) sessions: Option<Sessions>,
}

/// Why a runner cannot work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunnerError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Cluster(#[from] ConnectError),
}

/// One entry at work.
pub(crate) struct Runner {
    pub(crate) settings: Arc<RunnerSettings>,
    pub(crate) client: Client,
    pub(crate) info: RunnerInfo,
    pub(crate) labels: RunnerLabels,
    pub(crate) shared: Arc<Shared>,
    /// Bound of this runner alone.
    pub(crate) own_slots: Option<Slots>,
    pub(crate) numbers: Numbers,
    preparation: Preparation,
    secrets: Resolver,
    site: Arc<Site>,
    /// For jobs that may choose another namespace: one each, since the first such job came.
    other_namespaces: tokio::sync::Mutex<BTreeMap<String, Arc<Site>>>,
    /// Its own secrets.
    _guard: Arc<Guard>,
}

/// The places that a job takes; dropped when it has ended.
pub(crate) struct Places {
    pub(crate) _shared: Slot,
    pub(crate) _own: Option<Slot>,
    pub(crate) _fleet: FleetPlace,
}

/// A job that can run.
struct Prepared {
    job: BoxFuture<'static, JobSummary>,
    /// Where its pod goes.
    site: Arc<Site>,
    namespace: Option<OwnNamespace>,
    aftermath: Aftermath,
    /// Its secrets, its numbers, its line in the list of jobs, and its pod's in the site.
    _while_it_runs: (Arc<Guard>, JobNumbers, Listed, HeldPod),
}

impl Runner {
    /// Reads the files that the settings name. Sends nothing yet.
    pub(crate) async fn new(
        settings: Arc<RunnerSettings>,
        shared: Arc<Shared>,
        own_slots: Option<Slots>,
        numbers: Numbers,
    ) -> Result<Arc<Self>, RunnerError> {
        let labels = RunnerLabels {
            runner: short_token(settings.token.expose()).to_owned(),
            name: settings.name.clone(),
            system_id: shared.system_id.clone(),
        };
        let client = shared.outside.gitlab(ClientOptions {
            on_request: Some({
                let (metrics, labels) = (Arc::clone(&shared.metrics), labels.clone());
                Arc::new(move |call| metrics.observe(&labels, call))
            }),
            ..wiring::gitlab(&settings, &shared.certificate_directories, shared.connection_max_age)
        })?;
        let own = [Some(&settings.token), settings.kubernetes.bearer_token.as_ref()];
        let guard = redaction::guard(None, own.into_iter().flatten());
        let site = site(&shared, &settings, &gantry_plan::namespace(&settings.kubernetes).name).await?;
        let info = wiring::runner_info(&settings);
        let preparation = Preparation::new(&settings, &shared.certificate_directories, client.ca_pem());
        let secrets = Resolver::new(shared.certificate_directories.clone());
        let runner = Arc::new(Self {
            secrets,
            settings,
            client,
            info,
            labels,
            shared,
            own_slots,
            numbers,
            preparation,
            site: Arc::clone(&site),
            other_namespaces: tokio::sync::Mutex::default(),
            _guard: guard,
        });
        site.join(&runner, runner.shared.fleet_concurrent);
        if runner.settings.kubernetes.namespace_per_job {
            own_namespace::look_after(&runner);
        }
        Ok(runner)
    }

    /// The cluster, as the namespace of the settings is in it.
    pub(crate) fn cluster(&self) -> &Cluster {
        self.site.cluster()
    }

    /// The fleet of its pods in a namespace.
    pub(crate) fn fleet(&self, namespace: &str) -> Fleet {
        Fleet::of(self.shared.fleet.as_deref(), &self.settings.url, namespace)
    }

    /// What the tickets of its pods are sealed with.
    pub(crate) fn ticket_key(&self) -> TicketKey {
        TicketKey::derive(self.shared.ticket_secret.as_ref().unwrap_or(&self.settings.token))
    }

    /// Places for a request and the job that it may bring, once there are some. `Err`: why the
    /// request should wait all the same.
    pub(crate) async fn places(&self) -> Result<Places, Hold> {
        let own = match &self.own_slots {
            Some(slots) => Some(slots.take().await),
            None => None,
        };
        let shared = self.shared.slots.take().await;
        if let Some(hold) = self.site.hold() {
            return Err(hold);
        }
        let fleet = self.fleet(self.site.cluster().namespace());
        let fleet = self.site.place(&fleet, self.shared.fleet_concurrent)?;
        self.site.asks();
        Ok(Places { _shared: shared, _own: own, _fleet: fleet })
    }

    /// Places for a job that runs already, whether there are any or not.
    pub(crate) fn places_beyond(&self, site: &Arc<Site>) -> Places {
        Places {
            _shared: self.shared.slots.take_beyond(),
            _own: self.own_slots.as_ref().map(Slots::take_beyond),
            _fleet: site.place_beyond(&self.fleet(site.cluster().namespace())),
        }
    }

    /// Starts a job that GitLab has handed out.
    pub(crate) fn start(self: &Arc<Self>, received: ReceivedJob, offered: Option<Offered>, places: Places) {
        let (runner, tracker) = (Arc::clone(self), self.shared.jobs.clone());
        let spec = &received.spec;
        let span = events::job_span(Some(spec.id), Some(spec.job_info.project_id), &self.labels.runner);
        events::job_is_traced(&span, telemetry::trace_id(spec.features.tracing.as_ref()));
        let work = async move {
            let stop = runner.shared.stop_jobs.clone();
            // A job's future is large and lives long: on the heap once, not moved about.
            until_left(stop, Box::pin(runner.run(received, offered))).await;
            drop(places);
        };
        tasks::spawn(tracker.track_future(work.instrument(span)));
    }

    async fn run(self: &Arc<Self>, received: ReceivedJob, offered: Option<Offered>) {
        let spec = &received.spec;
        let creds = JobCredentials { id: spec.id, token: spec.token.clone() };
        let failure_reasons = spec.features.failure_reasons.clone();
        let stop = self.shared.stop_jobs.clone();
        // On the heap while it lasts: of what a job is prepared with only a small part is needed
        // for as long as it runs, which may be hours.
        let prepared = tokio::select! {
            prepared = Box::pin(self.prepared(received, offered)) => prepared,
            () = told_to_end(stop) => Err(Unprepared::of(job::never_began())),
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(unprepared) => return self.report_rejected(creds, unprepared, failure_reasons).await,
        };
        let Prepared { job, site, namespace, aftermath, _while_it_runs } = prepared;
        let summary = job.await;
        self.leave(site, namespace, &summary).await;
        self.measured(aftermath, summary);
    }

    /// Makes a job that can run.
    async fn prepared(
        self: &Arc<Self>,
        mut received: ReceivedJob,
        offered: Option<Offered>,
    ) -> Result<Prepared, Unprepared> {
        let taken = Instant::now();
        let secrets = self.secrets.resolve(&mut received.spec, &self.settings).await;
        let spec = &received.spec;
        let creds = JobCredentials { id: spec.id, token: spec.token.clone() };
        let masked = spec.variables.iter().filter(|variable| variable.masked).map(|variable| &variable.value);
        let given = redaction::guard(Some(spec.id), masked.chain([&spec.token]));
        JobTaken::by(&self.settings, &received).tell(&self.shared.metrics, &self.labels);
        let secrets = match secrets {
            Ok(lines) => lines,
            Err((lines, ending)) => return Err(Unprepared { lines, ending, given: Some(given) }),
        };
        let numbers = self.numbers.take(spec.job_info.project_id);
        let context = self.context(&received, &numbers, offered.as_ref());
        let links = self.preparation.links(spec, &self.settings, &context).await;
        let plan = gantry_plan::plan(spec, &self.settings, &context, &links);
        InputsRead(&plan).tell(&self.shared.metrics, &self.labels);
        let plan = match plan {
            Ok(plan) => Box::new(JobPlan { banner: [plan.banner.clone(), secrets].concat(), ..plan }),
            Err(error) => {
                return Err(Unprepared { lines: unplanned(&error), ending: error.ending(), given: Some(given) });
            }
        };
        let guard = redaction::guard(Some(spec.id), &plan.pod_plan.trace.masks);
        if plan.logs_images {
            ImagesConfigured(&plan).say();
        }
        let site = match self.site_of(&plan).await {
            Ok(site) => site,
            Err(error) => {
                let ending = Ending::ClusterUnreachable { message: chain(&error) };
                return Err(Unprepared { given: Some(given), ..Unprepared::of(ending) });
            }
        };
        let (view, seen) = watch::channel(JobView::default());
        let session = context
            .session
            .clone()
            .map(|session| JobSession { directory: plan.pod_plan.paths.project_dir.clone(), ..session });
        let visits = self.open_session(session, spec.id, &site, &seen);
        let listed = self.shared.running.add(job_url(&plan), self.labels.clone(), seen.clone());
        let held = site.hold_pod(plan.pod.metadata.name.as_deref().unwrap_or_default());
        Ok(Prepared {
            namespace: plan.making.namespace.clone(),
            aftermath: self.aftermath(spec, (taken, context.taken_unix_ms), seen),
            job: Box::pin(job::run(JobParts {
                client: self.client.clone(),
                creds,
                info: self.info.clone(),
                cluster: site.cluster().with_persistence(job::persistence(&plan.making)),
                helper: Arc::clone(&self.shared.helper),
                plan,
                taken,
                final_tries: self.settings.job_status_final_update_retry_limit.get(),
                leftovers: LeftoverRemover::new(self.shared.jobs.clone(), self.shared.stop_jobs.clone(), guard),
                stop: self.shared.stop_jobs.clone(),
                view,
                pace: self.shared.pace,
                asks_events: self.settings.kubernetes.print_pod_warning_events.unwrap_or(true),
                manager: Arc::clone(site.owner()),
                visits,
            })),
            site,
            _while_it_runs: (given, numbers, listed, held),
        })
    }

    /// Says how a job has ended, and lets go of what was there for it alone.
    async fn leave(&self, site: Arc<Site>, namespace: Option<OwnNamespace>, summary: &JobSummary) {
        self.ended(summary);
        if let Some(namespace) = namespace {
            own_namespace::remove(&site, &namespace, summary).await;
        }
        drop(site);
        self.shared.sites.forget_unused().await;
    }

    /// Opens what GitLab was offered for a job, by this manager or the one before it.
    pub(crate) fn open_session(
        &self,
        session: Option<JobSession>,
        job: i64,
        site: &Site,
        seen: &watch::Receiver<JobView>,
    ) -> Option<Visits> {
        let target = Target { job, cluster: site.cluster().clone(), view: seen.clone() };
        Some(self.shared.sessions.as_ref()?.open(session?, target))
    }

    /// Where the pod of a job is.
    async fn site_of(self: &Arc<Self>, plan: &JobPlan) -> Result<Arc<Site>, ConnectError> {
        let namespace = plan.namespace.as_str();
        let making = &plan.making;
        if let Some(token) = &making.bearer_token {
            // It is the job's: no other job may use it, and none is looked after by it where there
            // is a token of the runner's.
            let mut settings = (*self.settings).clone();
            settings.kubernetes.bearer_token = Some(token.clone());
            let site = site(&self.shared, &settings, namespace).await?;
            if namespace != self.site.cluster().namespace() {
                site.join(self, self.shared.fleet_concurrent);
            }
            return Ok(site);
        }
        if making.namespace.is_some() {
            return self.joined_site(namespace).await;
        }
        if namespace == self.site.cluster().namespace() {
            return Ok(Arc::clone(&self.site));
        }
        let mut others = self.other_namespaces.lock().await;
        if let Some(site) = others.get(namespace) {
            return Ok(Arc::clone(site));
        }
        let site = self.joined_site(namespace).await?;
        others.insert(namespace.to_owned(), Arc::clone(&site));
        Ok(site)
    }

    /// A namespace in whose pods this runner takes part from now on, as long as the site is held.
    pub(crate) async fn joined_site(self: &Arc<Self>, namespace: &str) -> Result<Arc<Site>, ConnectError> {
        let site = site(&self.shared, &self.settings, namespace).await?;
        site.join(self, self.shared.fleet_concurrent);
        Ok(site)
    }

    fn context(&self, received: &ReceivedJob, numbers: &JobNumbers, offered: Option<&Offered>) -> Context {
        Context {
            concurrent_id: numbers.among_all,
            concurrent_project_id: numbers.in_project,
            suffix: chance::letters(8),
            correlation_id: received.correlation_id.clone(),
            tls_ca_pem: received.tls_ca_chain_pem.clone(),
            configured_ca_pem: self.client.ca_pem(),
            owner: Owner { name: self.site.owner().to_string(), beats: self.site.beats() },
            fleet: self.shared.fleet.clone(),
            ticket_key: self.ticket_key(),
            session: offered.map(|offered| offered.session(&received.spec)),
            taken_unix_ms: self.shared.outside.unix_ms(),
            docker_config: self.shared.outside.docker_config(),
            patch_files: wiring::patch_files(&self.settings),
            may_mark: self.site.may_mark(),
            holds_pods: self.site.may_hold_back(),
            ..wiring::context(&self.shared.system_id, &self.shared.manager_host, &self.shared.alone)
        }
    }

    /// Says how a job has ended that this manager had.
    pub(crate) fn ended(&self, summary: &JobSummary) {
        JobEnded(summary).tell(&self.shared.metrics, &self.labels);
        JobGone.say();
    }
}

/// Does something for a job, but not for much longer than a runner that leaves its jobs waits for
/// them. A job itself keeps that limit and says what becomes of it; this is for what comes before,
/// and for jobs that cannot run.
pub(crate) async fn until_left(mut stop: watch::Receiver<Option<StopJobs>>, work: impl Future<Output = ()>) {
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

/// Waits until jobs are to end or to be left. While one is only prepared nobody but this process
/// knows of it.
async fn told_to_end(mut stop: watch::Receiver<Option<StopJobs>>) {
    if stop.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A namespace of the cluster that an entry names.
async fn site(shared: &Shared, settings: &RunnerSettings, namespace: &str) -> Result<Arc<Site>, ConnectError> {
    shared.sites.get(shared.outside.as_ref(), wiring::cluster(settings), namespace).await
}

fn job_url(plan: &JobPlan) -> String {
    let annotations = plan.pod.metadata.annotations.as_ref();
    annotations.and_then(|map| map.get("job.runner.gitlab.com/url")).cloned().unwrap_or_default()
}
