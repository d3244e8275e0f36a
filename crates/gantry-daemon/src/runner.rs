//! One `[[runners]]` entry at work: its client, its cluster, and what it does with a job it has
//! got.

mod aftermath;
mod own_namespace;
mod unprepared;

use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;

use futures::future::BoxFuture;
use gantry_config::RunnerSettings;
use gantry_core::Ending;
use gantry_core::chance;
use gantry_core::error_chain::chain;
use gantry_gitlab::{ClientError, JobCredentials, ReceivedJob};
use gantry_kube::{Cluster, ConnectError};
use gantry_plan::{Context, JobPlan, OwnNamespace, Owner};
use gantry_wire::session::JobSession;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::events::{self, ImagesConfigured, InputsRead, JobTaken, Said as _};
use crate::hold::Hold;
use crate::job::{self, CacheSigner, JobParts};
use crate::job_end::{JobSummary, StopJobs};
use crate::leftovers::LeftoverRemover;
use crate::member::{Member, OwnPlaces, Shared};
use crate::redaction::{self, Guard};
use crate::registry::{KnownRunner, Listed};
use crate::runner::aftermath::Aftermath;
use crate::runner::unprepared::{Unprepared, unplanned};
use crate::secrets::Resolver;
use crate::session::Offered;
use crate::site::{FleetPlace, HeldPod, Site, Sites};
use crate::slots::{JobNumbers, Numbers, Slots};
use crate::telemetry;
use crate::view::JobView;
use crate::{tasks, wiring};

/// Why a runner cannot work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunnerError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Cluster(#[from] ConnectError),
}

/// One entry at work: a member of the sites of its pods, which asks for jobs and prepares them.
pub(crate) struct Runner {
    member: Arc<Member>,
    pub(crate) numbers: Numbers,
    secrets: Resolver,
    sites: Sites,
    site: Arc<Site>,
}

impl Deref for Runner {
    type Target = Member;

    fn deref(&self) -> &Member {
        &self.member
    }
}

/// The places that a job takes; dropped when it has ended.
pub(crate) struct Places {
    pub(crate) _own: OwnPlaces,
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
        sites: Sites,
        own_slots: Option<Slots>,
        numbers: Numbers,
    ) -> Result<Arc<Self>, RunnerError> {
        let member = Arc::new(Member::new(settings, shared, own_slots)?);
        let Member { settings, shared, .. } = &*member;
        let site = site(&sites, shared, settings, &gantry_plan::namespace(&settings.kubernetes).name).await?;
        let runner = Arc::new(Self {
            secrets: Resolver::new(shared.certificate_directories.clone()),
            member: Arc::clone(&member),
            numbers,
            sites,
            site: Arc::clone(&site),
        });
        site.join(&member, shared.fleet_concurrent);
        if settings.kubernetes.namespace_per_job {
            own_namespace::look_after(&runner);
        }
        Ok(runner)
    }

    /// The cluster, as the namespace of the settings is in it.
    pub(crate) fn cluster(&self) -> &Cluster {
        self.site.cluster()
    }

    /// Places for a request and the job that it may bring, once there are some. `Err`: why the
    /// request should wait all the same.
    pub(crate) async fn places(&self) -> Result<Places, Hold> {
        let own = self.own_places().await;
        if let Some(hold) = self.site.hold() {
            return Err(hold);
        }
        let fleet = self.fleet(self.site.cluster().namespace());
        let fleet = self.site.place(&fleet, self.shared.fleet_concurrent)?;
        self.site.asks();
        Ok(Places { _own: own, _fleet: fleet })
    }

    /// Starts a job that GitLab has handed out.
    pub(crate) fn start(self: &Arc<Self>, received: Box<ReceivedJob>, offered: Option<Offered>, places: Places) {
        let (runner, tracker) = (Arc::clone(self), self.shared.jobs.clone());
        // What is counted of the job is counted for a runner that is there.
        let known = self.shared.running.knows(&self.labels, &self.shared.metrics);
        let spec = &received.spec;
        let span = events::job_span(Some(spec.id), Some(spec.job_info.project_id), &self.labels.runner);
        events::job_is_traced(&span, telemetry::trace_id(spec.features.tracing.as_ref()));
        let work = async move {
            // On the heap by itself: what awaits a future has room for it twice.
            runner.until_left(Box::pin(runner.run(received, offered, known))).await;
            drop(places);
        };
        tasks::spawn(tracker.track_future(work.instrument(span)));
    }

    /// Runs a job. Of what is done before and after it nothing is kept beside it, because it may
    /// last for hours.
    async fn run(self: &Arc<Self>, received: Box<ReceivedJob>, offered: Option<Offered>, known: KnownRunner) {
        let Some(prepared) = Box::pin(self.prepared_or_rejected(received, offered)).await else { return };
        drop(known);
        let Prepared { job, site, namespace, aftermath, _while_it_runs } = prepared;
        let summary = job.await;
        Box::pin(self.leave(site, namespace, &summary)).await;
        self.measured(aftermath, summary);
    }

    /// Makes a job that can run, or tells GitLab why it cannot.
    async fn prepared_or_rejected(
        self: &Arc<Self>,
        received: Box<ReceivedJob>,
        offered: Option<Offered>,
    ) -> Option<Prepared> {
        let spec = &received.spec;
        let creds = JobCredentials { id: spec.id, token: spec.token.clone() };
        let failure_reasons = spec.features.failure_reasons.clone();
        let stop = self.shared.stop_jobs.clone();
        // Secrets and links may take longer than GitLab waits for a word. What it answers is heard
        // by the job, which says the same again.
        let keeps_pending = async {
            gantry_relay::keep_pending(&self.client, &creds, &self.info).await;
            std::future::pending::<Infallible>().await
        };
        let prepared = tokio::select! {
            prepared = Box::pin(self.prepared(received, offered)) => prepared,
            never = keeps_pending => match never {},
            () = told_to_end(stop) => Err(Unprepared::of(job::never_began())),
        };
        match prepared {
            Ok(prepared) => Some(prepared),
            Err(unprepared) => {
                self.report_rejected(creds, unprepared, failure_reasons).await;
                None
            }
        }
    }

    /// Makes a job that can run.
    async fn prepared(
        self: &Arc<Self>,
        mut received: Box<ReceivedJob>,
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
        let visits = self.open_session(session, spec.id, site.cluster(), &seen);
        let listed = self.shared.running.add(job_url(&plan), self.labels.clone(), seen.clone());
        let held = site.hold_pod(plan.pod.metadata.name.as_deref().unwrap_or_default());
        let caches = plan.cache_renewal.as_ref().map(|renewal| CacheSigner::of_plan(renewal, &self.preparation));
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
                caches,
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
        self.sites.forget_unused(Instant::now());
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
            let site = site(&self.sites, &self.shared, &settings, namespace).await?;
            if namespace != self.site.cluster().namespace() {
                site.join(&self.member, self.shared.fleet_concurrent);
            }
            return Ok(site);
        }
        if making.namespace.is_some() {
            return self.joined_site(namespace).await;
        }
        if namespace == self.site.cluster().namespace() {
            return Ok(Arc::clone(&self.site));
        }
        let site = self.joined_site(namespace).await?;
        site.keep();
        Ok(site)
    }

    /// A namespace in whose pods this runner takes part from now on, as long as the site is held.
    pub(crate) async fn joined_site(self: &Arc<Self>, namespace: &str) -> Result<Arc<Site>, ConnectError> {
        let site = site(&self.sites, &self.shared, &self.settings, namespace).await?;
        site.join(&self.member, self.shared.fleet_concurrent);
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
            identity: self.client.identity(),
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
}

/// Waits until jobs are to end or to be left. While one is only prepared nobody but this process
/// knows of it.
async fn told_to_end(mut stop: watch::Receiver<Option<StopJobs>>) {
    if stop.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A namespace of the cluster that an entry names.
async fn site(
    sites: &Sites,
    shared: &Shared,
    settings: &RunnerSettings,
    namespace: &str,
) -> Result<Arc<Site>, ConnectError> {
    sites.get(shared.outside.as_ref(), wiring::cluster(settings), namespace).await
}

fn job_url(plan: &JobPlan) -> String {
    let annotations = plan.pod.metadata.annotations.as_ref();
    annotations.and_then(|map| map.get("job.runner.gitlab.com/url")).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_runs_is_small() {
        fn size<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        // What prepares a job takes 10 KiB, and hundreds of jobs may run for hours.
        assert!(size(Runner::run) < 2 * 1024, "{}", size(Runner::run));
    }
}
