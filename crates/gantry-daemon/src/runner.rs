//! One `[[runners]]` entry at work: its client, its cluster, and what it does with a job it has got.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gantry_config::RunnerSettings;
use gantry_config::settings::Shell;
use gantry_core::chance;
use gantry_core::error_chain::chain;
use gantry_core::proxy::Proxies;
use gantry_core::short_token::short_token;
use gantry_gitlab::{
    Client, ClientError, ClientOptions, JobCredentials, PROTOCOL_VERSION, ReceivedJob, RunnerInfo, TlsFiles,
};
use gantry_kube::{Access, Cluster, ConnectError, HelperBinaries, RemoteAccess};
use gantry_plan::{Context, HeadLine, JobPlan, PlanError};
use gantry_relay::Pace;
use gantry_wire::plan::{Alone, ProxyPlan};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::health::Health;
use crate::job::{self, JobEnd, JobParts, JobSummary, JobView, StopJobs};
use crate::metrics::{Metrics, RunnerLabels, of};
use crate::outside::Outside;
use crate::redaction::{self, Guard};
use crate::registry::Running;
use crate::rejected::{self, Rejected};
use crate::slots::{JobNumbers, Numbers, Slot, Slots};
use crate::strays::Strays;
use crate::tasks;

/// Where Kubernetes puts the token of a pod's service account: how a process knows that it runs in a cluster.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// What is added to the time that jobs keep by themselves, so that each can say what becomes of it.
const LEAVE_MARGIN: Duration = Duration::from_millis(300);

/// What all runners of the process share. A clone shares it too, but for what the file says: a runner keeps what was in force at its start.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) outside: Arc<dyn Outside>,
    pub(crate) slots: Slots,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Health,
    pub(crate) running: Running,
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
    cluster: Cluster,
    /// For jobs that may choose another namespace: one each, made when the first such job comes.
    other_namespaces: tokio::sync::Mutex<BTreeMap<String, Cluster>>,
    /// Its own secrets.
    _guard: Arc<Guard>,
}

/// The places that a job takes; dropped when it has ended.
pub(crate) struct Places {
    pub(crate) _shared: Slot,
    pub(crate) _own: Option<Slot>,
}

impl Runner {
    /// Reads the files that the settings name. Sends nothing yet.
    pub(crate) async fn new(
        settings: Arc<RunnerSettings>,
        shared: Arc<Shared>,
        own_slots: Option<Slots>,
        numbers: Numbers,
    ) -> Result<Self, RunnerError> {
        let labels = RunnerLabels {
            runner: short_token(settings.token.expose()).to_owned(),
            name: settings.name.clone(),
            system_id: shared.system_id.clone(),
        };
        let client = shared.outside.gitlab(ClientOptions {
            files: TlsFiles {
                ca: settings.tls_ca_file.clone(),
                cert: settings.tls_cert_file.clone(),
                key: settings.tls_key_file.clone(),
                directories: shared.certificate_directories.clone(),
            },
            connection_max_age: shared.connection_max_age,
            on_request: Some({
                let (metrics, labels) = (Arc::clone(&shared.metrics), labels.clone());
                Arc::new(move |call| metrics.observe(&labels, call))
            }),
            ..ClientOptions::new(settings.url.clone())
        })?;
        let own = [Some(&settings.token), settings.kubernetes.bearer_token.as_ref()];
        let guard = redaction::guard(None, own.into_iter().flatten());
        let cluster = connect(&shared, &settings, gantry_plan::namespace(&settings.kubernetes).name).await?;
        let shell = match settings.shell {
            Shell::Bash => "bash",
            Shell::Sh => "sh",
        };
        let info = RunnerInfo::kubernetes(shell, settings.labels.clone());
        Ok(Self {
            settings,
            client,
            info,
            labels,
            shared,
            own_slots,
            numbers,
            cluster,
            other_namespaces: tokio::sync::Mutex::default(),
            _guard: guard,
        })
    }

    /// Starts a job that GitLab has handed out.
    pub(crate) fn start(self: &Arc<Self>, received: ReceivedJob, places: Places) {
        let runner = Arc::clone(self);
        let tracker = self.shared.jobs.clone();
        tasks::spawn(tracker.track_future(async move {
            let stop = runner.shared.stop_jobs.clone();
            // A job's future is large and lives long: on the heap once, not moved about.
            until_left(stop, Box::pin(runner.run(received))).await;
            drop(places);
        }));
    }

    /// Tells GitLab that a job's payload is not understood.
    pub(crate) fn reject(self: &Arc<Self>, creds: JobCredentials, message: String, places: Places) {
        let runner = Arc::clone(self);
        let tracker = self.shared.jobs.clone();
        tasks::spawn(tracker.track_future(async move {
            let stop = runner.shared.stop_jobs.clone();
            let lines = vec![HeadLine::plain(banner())];
            let ending = gantry_core::Ending::InvalidJob { message };
            until_left(stop, runner.report_rejected(creds, lines, ending, Vec::new())).await;
            drop(places);
        }));
    }

    async fn run(&self, received: ReceivedJob) {
        let taken = Instant::now();
        let spec = &received.spec;
        let creds = JobCredentials { id: spec.id, token: spec.token.clone() };
        let masked = spec.variables.iter().filter(|variable| variable.masked).map(|variable| &variable.value);
        let _given = redaction::guard(Some(spec.id), masked.chain([&spec.token]));
        self.count_taken(&received);
        let numbers = self.numbers.take(spec.job_info.project_id);
        let context = self.context(&received, &numbers);
        let plan = match gantry_plan::plan(spec, &self.settings, &context) {
            Ok(plan) => plan,
            Err(error) => {
                let mut lines = vec![HeadLine::plain(banner())];
                if let PlanError::DisallowedImage(details) = &error {
                    lines.extend(details.iter().map(|line| HeadLine::plain(line.clone())));
                }
                let reasons = spec.features.failure_reasons.clone();
                self.report_rejected(creds, lines, error.ending(), reasons).await;
                return;
            }
        };
        let guard = redaction::guard(Some(spec.id), &plan.pod_plan.trace.masks);
        let cluster = match self.cluster_of(&plan.namespace).await {
            Ok(cluster) => cluster,
            Err(error) => {
                let ending = gantry_core::Ending::ClusterUnreachable { message: chain(&error) };
                let lines = vec![HeadLine::plain(banner())];
                self.report_rejected(creds, lines, ending, spec.features.failure_reasons.clone()).await;
                return;
            }
        };
        let (view, seen) = watch::channel(JobView::default());
        let _listed = self.shared.running.add(job_url(&plan), self.labels.clone(), seen);
        let job = spec.id;
        tracing::info!(
            job,
            project = spec.job_info.project_id,
            runner = self.labels.runner,
            "Added job to processing list"
        );
        // The plan has what is needed of them, and a job may last for hours.
        drop((received, context));
        let summary = job::run(JobParts {
            client: self.client.clone(),
            creds,
            info: self.info.clone(),
            cluster,
            helper: Arc::clone(&self.shared.helper),
            plan,
            taken,
            final_tries: self.settings.job_status_final_update_retry_limit.get(),
            strays: Strays::new(self.shared.jobs.clone(), self.shared.stop_jobs.clone(), guard),
            stop: self.shared.stop_jobs.clone(),
            view,
            pace: self.shared.pace,
            asks_events: self.settings.kubernetes.print_pod_warning_events.unwrap_or(true),
        })
        .await;
        self.count_ended(job, &summary);
        tracing::info!(job, runner = self.labels.runner, "Removed job from processing list");
    }

    /// The cluster as seen from the configured namespace.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The cluster as seen from a namespace.
    async fn cluster_of(&self, namespace: &str) -> Result<Cluster, ConnectError> {
        if namespace == self.cluster.namespace() {
            return Ok(self.cluster.clone());
        }
        let mut others = self.other_namespaces.lock().await;
        if let Some(cluster) = others.get(namespace) {
            return Ok(cluster.clone());
        }
        let cluster = connect(&self.shared, &self.settings, namespace.to_owned()).await?;
        others.insert(namespace.to_owned(), cluster.clone());
        Ok(cluster)
    }

    async fn report_rejected(
        &self,
        creds: JobCredentials,
        lines: Vec<HeadLine>,
        ending: gantry_core::Ending,
        failure_reasons: Vec<String>,
    ) {
        let job = creds.id;
        let rejected = Rejected {
            client: self.client.clone(),
            creds,
            info: self.info.clone(),
            lines,
            ending,
            failure_reasons,
            pace: self.shared.pace,
        };
        let verdict = rejected::report(rejected).await;
        let summary = JobSummary {
            end: JobEnd::Reported(None),
            verdict: Some(verdict),
            duration: Duration::ZERO,
            pod_start: None,
        };
        self.count_ended(job, &summary);
    }

    fn context(&self, received: &ReceivedJob, numbers: &JobNumbers) -> Context {
        let (os, arch) = (std::env::consts::OS, go_arch());
        Context {
            name: "gantry".to_owned(),
            version: PROTOCOL_VERSION.to_owned(),
            revision: RunnerInfo::revision().to_owned(),
            git_user_agent: format!("gantry {PROTOCOL_VERSION} {os}/{arch}"),
            executable_arch: format!("{os}/{arch}"),
            manager_host: self.shared.manager_host.clone(),
            system_id: self.shared.system_id.clone(),
            concurrent_id: numbers.among_all,
            concurrent_project_id: numbers.in_project,
            suffix: suffix(),
            correlation_id: received.correlation_id.clone(),
            tls_ca_pem: received.tls_ca_chain_pem.clone(),
            configured_ca_pem: self.client.ca_pem(),
            proxies: proxies(),
            alone: self.shared.alone.clone(),
        }
    }

    fn count_taken(&self, received: &ReceivedJob) {
        let (metrics, labels) = (&self.shared.metrics, of(&self.labels));
        let info = &received.spec.job_info;
        metrics.jobs_total.with_label_values(&labels).inc();
        let [runner, name, system_id] = labels;
        let project_jobs = info.project_jobs_running_on_instance_runners_count.as_str();
        metrics
            .queue_duration
            .with_label_values(&[runner, name, system_id, project_jobs])
            .observe(info.time_in_queue_seconds.max(0.0));
        metrics.queue_size.with_label_values(&labels).set(info.queue_size);
        metrics.queue_depth.with_label_values(&labels).set(info.queue_depth);
    }

    fn count_ended(&self, job: i64, summary: &JobSummary) {
        let RunnerLabels { runner, name, system_id } = &self.labels;
        let metrics = &self.shared.metrics;
        let seconds = summary.duration.as_secs_f64();
        metrics.job_duration.with_label_values(&[runner, name, system_id, "traditional"]).observe(seconds);
        if let Some(pod_start) = summary.pod_start {
            metrics.pod_start.with_label_values(&of(&self.labels)).observe(pod_start.as_secs_f64());
        }
        match &summary.end {
            JobEnd::Reported(_) => {}
            JobEnd::Dropped(reason) => tracing::warn!(job, runner, "the job is no longer ours: {reason}"),
            JobEnd::GivenBack => tracing::info!(job, runner, "the job goes back to GitLab's queue: the runner stops"),
            JobEnd::HandedOver => {
                tracing::info!(job, runner, "the job goes on without this runner: its pod reports by itself");
            }
            JobEnd::Undelivered(message) => {
                tracing::error!(job, runner, "GitLab could not be told how the job ended: {message}");
            }
        }
        let Some(verdict) = &summary.verdict else { return };
        if verdict.success {
            tracing::info!(job, runner, duration_s = seconds, job_status = "success", "Job succeeded");
            return;
        }
        let reason = verdict.reason.map_or("script_failure", gantry_core::FailureReason::as_str);
        metrics.failed_jobs.with_label_values(&[runner, name, reason, "traditional"]).inc();
        let system = if verdict.is_system_failure() { " (system failure)" } else { "" };
        tracing::warn!(
            job,
            runner,
            duration_s = seconds,
            job_status = "failed",
            failure_reason = reason,
            exit_code = verdict.exit_code,
            "Job failed{system}: {}",
            verdict.message
        );
    }
}

/// Does something for a job, but not for much longer than a runner that leaves its jobs waits for them. A job itself keeps that limit and
/// says what becomes of it; this is for what comes before, and for jobs that cannot run.
async fn until_left(mut stop: watch::Receiver<Option<StopJobs>>, work: impl Future<Output = ()>) {
    let left = async {
        if stop.wait_for(|asked| *asked == Some(StopJobs::Leave)).await.is_err() {
            std::future::pending::<()>().await;
        }
        sleep(job::LEAVE + LEAVE_MARGIN).await;
    };
    tokio::select! {
        () = work => {}
        () = left => tracing::warn!("the runner ends before GitLab has taken what it had to say about a job"),
    }
}

fn banner() -> String {
    format!("Running with gantry {PROTOCOL_VERSION} ({})", RunnerInfo::revision())
}

/// A namespace of the configured cluster, with its watch running.
async fn connect(shared: &Shared, settings: &RunnerSettings, namespace: String) -> Result<Cluster, ConnectError> {
    let selector = format!("{}=true", gantry_plan::LABEL_MANAGED);
    let (cluster, driver) = shared.outside.cluster(access(settings), namespace, selector).await?;
    tasks::spawn(driver);
    Ok(cluster)
}

/// The proxies of this process, for agents that have to do without it.
fn proxies() -> Option<ProxyPlan> {
    let proxies = Proxies::from_environment(&|name| std::env::var(name).ok());
    let plan = ProxyPlan {
        http: proxies.http().cloned().unwrap_or_default(),
        https: proxies.https().cloned().unwrap_or_default(),
        no_proxy: proxies.no_proxy().to_owned(),
    };
    (!plan.http.is_empty() || !plan.https.is_empty()).then_some(plan)
}

/// Where the cluster is: as configured, else the one we run in, else the kubeconfig's.
fn access(settings: &RunnerSettings) -> Access {
    let kubernetes = &settings.kubernetes;
    if let Some(host) = kubernetes.host.clone().filter(|host| !host.is_empty()) {
        return Access::Remote(RemoteAccess {
            host,
            ca_file: kubernetes.ca_file.clone(),
            bearer_token: kubernetes.bearer_token.clone(),
            cert_file: kubernetes.cert_file.clone(),
            key_file: kubernetes.key_file.clone(),
        });
    }
    if Path::new(SERVICE_ACCOUNT_TOKEN).exists() {
        return Access::InCluster;
    }
    Access::Kubeconfig { path: None, context: kubernetes.context.clone() }
}

fn job_url(plan: &JobPlan) -> String {
    let annotations = plan.pod.metadata.annotations.as_ref();
    annotations.and_then(|map| map.get("job.runner.gitlab.com/url")).cloned().unwrap_or_default()
}

fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Eight characters that make a pod's name unique.
fn suffix() -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut bits = chance::bits();
    let mut draw = || {
        let drawn = ALPHABET.get(usize::try_from(bits % 36).unwrap_or(0)).copied().unwrap_or(b'0');
        bits /= 36;
        char::from(drawn)
    };
    std::iter::repeat_with(&mut draw).take(8).collect()
}
